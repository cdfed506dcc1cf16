"""The count of samples and enemies, on right boxes and on wrong ones."""

import numpy as np
from box_counts import by_definition, grid_of
from hypothesis import given, settings
from hypothesis import strategies as st

from constructions.box_check import Counted, count_boxes
from constructions.boxes import Boxes


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_counts_of_random_boxes(seed):
    """Also of wrong ones, which the count must tell."""
    rng = np.random.default_rng(seed)
    n, d, b = (int(v) for v in rng.integers(1, 7, 3))
    kind = rng.choice([np.uint8, np.int64])
    grid = grid_of(rng.integers(0, 6, (n, d)).astype(kind), int(rng.integers(1, 5)))
    counts = rng.integers(0, 4, b)
    faces = int(counts.sum())
    boxes = Boxes(
        rng.integers(1, 3, b),
        np.concatenate([[0], np.cumsum(counts)]),
        rng.integers(0, d, faces),
        rng.random(faces) < 0.5,
        rng.integers(-1, 7, faces),
    )
    ranks = rng.integers(1, 3, n)
    assert count_boxes(grid, ranks, boxes) == by_definition(grid, ranks, boxes)


def test_a_wrong_face_is_counted():
    cells, ranks = np.array([[0, 0], [9, 1]], dtype=np.uint8), np.array([1, 2])
    grid = grid_of(cells, 9)

    def boxes(cell, label=1):
        return Boxes(
            np.array([label, 2]),
            np.array([0, 1, 2]),
            np.array([0, 0]),
            np.array([True, False]),
            np.array([cell, 9]),
        )

    assert count_boxes(grid, ranks, boxes(0)) == Counted(2, 2, 2)
    assert count_boxes(grid, ranks, boxes(1)) == Counted(2, 1, 2)
    assert count_boxes(grid, ranks, boxes(-1)) == Counted(1, 2, 2)
    assert count_boxes(grid, ranks, boxes(0, label=2)).contained == 1
