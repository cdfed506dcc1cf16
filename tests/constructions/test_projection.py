"""Lemma P against its definition, pair by pair."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import small_sets

from constructions.dataset import DataSet, load_dataset
from constructions.projection import GridPoints, grid_points, project
from verifier.core.errors import DataError


def smallest_by_pairs(points: GridPoints) -> list[int]:
    """Lemma P with every pair's forbidden value written out."""
    rows = [[int(v) for v in row] for row in points.rows]
    sums, a = [0] * len(rows), []
    for k in range(points.dimension):
        forbidden = {
            Fraction(sums[j] - sums[i], rows[i][k] - rows[j][k])
            for i, j in combinations(range(len(rows)), 2)
            if rows[i][k] != rows[j][k]
        }
        v = next(v for t in range(10**6) for v in (t, -t) if v not in forbidden)
        a.append(v)
        sums = [s + v * row[k] for s, row in zip(sums, rows, strict=True)]
    return a


@given(data=small_sets(max_points=12), fast=st.booleans())
def test_points_stay_apart(data, fast):
    points = grid_points(data)
    n = len(points)
    found = project(points, fast=fast)
    expected = [
        sum(w * v for w, v in zip(found.weights, points.point(i), strict=True)) for i in range(n)
    ]
    assert list(found.values) == expected
    assert len(set(expected)) == n
    bound = max(4 * n * n - 1, 4) if fast else -(-n * (n - 1) // 4)
    assert max(map(abs, found.a)) <= bound
    assert found.smallest_gap == min(abs(p - q) for p, q in combinations(expected, 2))


@given(data=small_sets(max_points=12))
def test_the_smallest_numbers_are_those_of_the_pairs(data):
    points = grid_points(data)
    assert list(project(points, fast=False).a) == smallest_by_pairs(points)


@given(data=small_sets())
def test_points_of_the_grid_are_those_of_the_set(data):
    points = grid_points(data)
    assert all(points.point(k) == data.sample(int(i)) for k, i in enumerate(points.index))
    assert [points.labels[r - 1] for r in points.ranks] == list(data.labels[points.index])


def test_equal_points_count_once():
    data = DataSet(np.array([[0.0], [-0.0], [2.5], [2.5]]), np.array([0, 0, 1, 1]), (1,), 2)
    points = grid_points(data)
    assert list(points.index) == [0, 2]
    assert points.denominator == 2
    assert [points.point(k) for k in range(2)] == [(0,), (Fraction(5, 2),)]


def test_numbers_that_machine_words_do_not_hold():
    big = np.array([[2.0**70, 0.0], [2.0**70, 2.0**-70], [0.0, 1.0], [1.0, 2.0**90]])
    points = grid_points(DataSet(big, np.array([0, 1, 0, 1]), (2,), 2))
    assert points.rows.dtype == object
    for fast in (True, False):
        assert len(set(project(points, fast=fast).values)) == 4


def test_few_passes_on_many_points():
    points = grid_points(load_dataset("digits"))
    found = project(points)
    assert found.passes < 20 * points.dimension
    assert len(set(found.values)) == len(points) == 1797
    product = points.rows.astype(object) @ np.array(found.a, dtype=object)
    assert list(product) == list(found.values)


def test_one_class_is_refused():
    with pytest.raises(DataError, match="two classes"):
        grid_points(DataSet(np.array([[1], [2]]), np.array([1, 1]), (1,), 2))
