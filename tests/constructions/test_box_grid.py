"""Cells, δ and candidate faces, against their definitions."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import separation, small_sets

from constructions.box_grid import box_grid, face_codes
from constructions.dataset import DataSet
from verifier.core.errors import DataError

ratios = st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(9, 10), Fraction(999, 1000)])


@given(data=small_sets(), ratio=ratios, every=st.booleans())
def test_cells_contain_the_points(data, ratio, every):
    lam = separation(data)
    grid = box_grid(data, ratio * lam / 2, lam, every=every)
    assert grid.slack in (0, 1)
    for i, row in enumerate(grid.cells.tolist()):
        for x, cell in zip(data.sample(i), row, strict=True):
            assert grid.lower(cell) <= x <= grid.upper(cell)
            assert grid.upper(cell) - grid.lower(cell) == grid.slack * grid.step


@given(data=small_sets(), ratio=ratios, every=st.booleans())
def test_delta_separates_all_enemies_and_serves_the_radius(data, ratio, every):
    lam = separation(data)
    grid = box_grid(data, ratio * lam / 2, lam, every=every)
    assert 2 * ratio * lam / 2 < grid.distance <= lam
    cells = grid.cells.astype(np.int64)
    for i, j in itertools.combinations(range(len(data)), 2):
        if data.labels[i] != data.labels[j]:
            assert np.abs(cells[i] - cells[j]).max() >= grid.delta


def test_delta_of_pixels():
    points = np.array([[0, 10], [200, 0], [7, 255]], dtype=np.uint8)
    data = DataSet(points, np.array([0, 1, 0]), (2,), 2, scale=Fraction(1, 255))
    lam = separation(data)
    every = box_grid(data, Fraction(1, 10), lam, every=True)
    assert (every.delta, every.step, every.slack, every.origin) == (200, Fraction(1, 255), 0, 0)
    # 2μ = 51 pixels, which must be exceeded.
    assert box_grid(data, Fraction(1, 10), lam, every=False).delta == 52
    assert box_grid(data, Fraction(1, 10) - Fraction(1, 1000), lam, every=False).delta == 51


def test_tiny_negative_floats_lie_in_the_cell_below_zero():
    """2^-1074 times a large step underflows; what is below 0 still is."""
    points = np.array([[-5e-324], [5e-324], [1e9 + 0.1], [0.0]])
    data = DataSet(points, np.array([0, 0, 1, 0]), (1,), 2)
    grid = box_grid(data, Fraction(1, 3), separation(data), every=True)
    assert grid.step > 1
    for i, (cell,) in enumerate(grid.cells.tolist()):
        assert grid.lower(cell) <= data.sample(i)[0] <= grid.upper(cell)


def test_a_grid_too_fine_is_refused():
    data = DataSet(np.array([[0.1], [0.3], [1e20]]), np.array([0, 1, 1]), (1,), 2)
    with pytest.raises(DataError, match="too fine"):
        box_grid(data, Fraction(1, 100), separation(data), every=True)


@given(seed=st.integers(0, 999), delta=st.integers(1, 9), levels=st.integers(1, 6))
def test_codes_say_where_points_stand(seed, delta, levels):
    rng = np.random.default_rng(seed)
    kind = rng.choice(["uint8", "int64"])
    cells = rng.integers(0, rng.choice([3, 12, 250]), (20, 3)).astype(kind)
    codes = face_codes(cells, delta, levels)
    assert codes.levels == levels
    assert np.array_equal(codes.inside, codes.inside_t.T)
    assert np.array_equal(codes.outside, codes.outside_t.T)
    for c in range(6):
        values = cells[:, c % 3].astype(int) * (1 if c < 3 else -1)
        least, most = values.min(), values.max()
        candidates = sorted({v for v in values.tolist() if v <= most - delta})
        assert bool(candidates) == (most - least >= delta)
        n = min(len(candidates), levels)
        faces = codes.cells[c, :n] * (1 if c < 3 else -1)
        assert (np.diff(faces) > 0).all()
        assert set(faces.tolist()) <= set(candidates)
        for k in range(n):
            holds = values <= faces[k]
            excludes = values >= faces[k] + delta
            assert np.array_equal(codes.inside_t[c] <= k, holds)
            assert np.array_equal(codes.outside_t[c] > k, excludes)
        assert (codes.outside_t[c] <= n).all()
