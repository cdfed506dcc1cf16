"""The search for boxes: right on any set, few on a real one."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from box_counts import by_definition, grid_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import separation, small_sets

from constructions.box_check import Counted, count_boxes
from constructions.box_grid import box_grid
from constructions.boxes import find_boxes
from constructions.construction import ranked_labels
from constructions.dataset import load_dataset
from verifier.core.errors import DataError


@settings(max_examples=80)
@given(
    data=small_sets(max_points=14),
    ratio=st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(99, 100)]),
    every=st.booleans(),
    levels=st.integers(1, 4),
    tries=st.integers(1, 3),
)
def test_boxes_of_small_sets(data, ratio, every, levels, tries):
    ranks, labels = ranked_labels(data)
    lam = separation(data)
    grid = box_grid(data, ratio * lam / 2, lam, every=every)
    boxes = find_boxes(grid, ranks, levels=levels, tries=tries)
    found = by_definition(grid, ranks, boxes)
    assert found == count_boxes(grid, ranks, boxes)
    assert found.contained == len(data)
    assert found.excluded == found.enemies
    assert set(boxes.label.tolist()) == set(range(1, len(labels) + 1))
    assert len(boxes) <= len(data)


def test_points_on_a_line_need_as_many_boxes_as_runs():
    """Runs 0 | 1 | 0 | 1 of labels: four boxes, and no fewer are possible."""
    cells = np.array([[0], [1], [10], [11], [12], [20], [31]], dtype=np.int64)
    ranks = np.array([1, 1, 2, 2, 2, 1, 2])
    boxes = find_boxes(grid_of(cells, 8), ranks)
    assert sorted(boxes.label.tolist()) == [1, 1, 2, 2]


def test_pairs_that_no_candidate_face_separates():
    """One candidate a column, and enemies exactly δ apart at many places."""
    cells = np.array([[10 * k] for k in range(40)], dtype=np.int64)
    ranks = np.arange(40) % 2 + 1
    grid = grid_of(cells, 10)
    boxes = find_boxes(grid, ranks, levels=1)
    assert count_boxes(grid, ranks, boxes) == Counted(40, len(boxes) * 20, len(boxes) * 20)


@pytest.fixture(scope="module")
def digits():
    data = load_dataset("digits")
    return data, box_grid(data, Fraction(1, 5), Fraction(7, 16), every=True), ranked_labels(data)[0]


def test_digits(digits):
    _, grid, ranks = digits
    shares: list[float] = []
    boxes = find_boxes(grid, ranks, progress=shares.append)
    found = count_boxes(grid, ranks, boxes)
    assert found.contained == 1797
    assert found.excluded == found.enemies
    assert len(boxes) <= 200
    assert boxes.faces <= 15 * len(boxes)
    assert max(shares) == pytest.approx(1)
    again = find_boxes(grid, ranks)
    assert all(
        np.array_equal(a, b)
        for a, b in itertools.zip_longest(vars(boxes).values(), vars(again).values())
    )


def test_no_face_and_no_box_is_superfluous(digits):
    _, grid, ranks = digits
    boxes = find_boxes(grid, ranks)
    cells = grid.cells.astype(int)
    inside = np.ones((len(boxes), len(ranks)), dtype=bool)
    for q in range(len(boxes)):
        part = boxes.of(q)
        columns = cells[:, boxes.coordinate[part]] * np.where(boxes.upper[part], 1, -1)
        bounds = boxes.cell[part] * np.where(boxes.upper[part], 1, -1)
        inside[q] = (columns <= bounds).all(axis=1) & (ranks == boxes.label[q])
        beyond = (columns >= bounds + grid.delta)[ranks != boxes.label[q]]
        alone = beyond[beyond.sum(axis=1) == 1]
        assert alone.any(axis=0).all()
    counts = inside.sum(axis=0)
    assert all((counts[inside[q]] == 1).any() for q in range(len(boxes)))


def test_too_much_memory_is_said_first(digits):
    _, grid, ranks = digits
    with pytest.raises(DataError, match=r"digits: .*; the limit is 0.0 GiB"):
        find_boxes(grid, ranks, memory=1000, name="digits")


@pytest.mark.slow
def test_more_coordinates_than_a_short_count_holds():
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 200, (40, 20_000)).astype(np.uint8)
    ranks = np.arange(40) % 2 + 1
    grid = grid_of(cells, 20)
    boxes = find_boxes(grid, ranks)
    found = count_boxes(grid, ranks, boxes)
    assert (found.contained, found.excluded) == (40, found.enemies)
