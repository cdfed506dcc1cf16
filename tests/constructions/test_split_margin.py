"""Margins of partial splits against HiGHS, grown point by point."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from strategies import generators

from constructions.rational_points import RationalPoints, distance, dot
from constructions.split_margin import SplitSpace, blocker


def primal_margin(inside, outside):
    """max t with w·x + b ≥ t, ≤ −t, ‖w‖₁ ≤ 1, by HiGHS."""
    d = inside.shape[1]
    rows = [np.r_[-x, x, -1.0, 1.0] for x in inside] + [np.r_[x, -x, 1.0, 1.0] for x in outside]
    rows.append(np.r_[np.ones(2 * d), 0.0, 0.0])
    limits = [(0, None)] * (2 * d) + [(None, None)] * 2
    limit = np.r_[np.zeros(len(rows) - 1), 1.0]
    found = scipy.optimize.linprog(np.r_[np.zeros(2 * d + 1), -1.0], rows, limit, bounds=limits)
    assert found.status == 0
    return -found.fun


def random_points(rng):
    """Distinct points of a coarse grid, in thirds; None if there is only one."""
    n, d = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    points = rng.permutation(np.unique(rng.integers(-6, 7, (n, d)), axis=0))
    if len(points) < 2:
        return None
    exact = tuple(tuple(Fraction(int(v), 3) for v in x) for x in points)
    return RationalPoints(exact, tuple(i % 2 for i in range(len(exact))))


@given(generators())
@settings(max_examples=60, deadline=None)
def test_margins_hyperplanes_and_combinations_as_points_are_added(rng):
    data = random_points(rng)
    if data is None:
        return
    space, found = SplitSpace(data), None
    floats = np.array([[float(v) for v in x] for x in data.points])
    inside, outside = frozenset([0]), frozenset()
    for i in range(1, len(data)):
        member = bool(rng.integers(2)) and i > 1
        inside, outside = (inside | {i}, outside) if member else (inside, outside | {i})
        start = found if rng.integers(2) else None
        wider, found = found, space.margin(inside, outside, start)
        assert found.value == space.margin(inside, outside).value
        margin = space.length(found.value)
        seen = primal_margin(floats[sorted(inside)], floats[sorted(outside)])
        assert float(margin) == pytest.approx(seen, abs=1e-7)
        assert wider is None or found.value <= wider.value
        proves(data, space, found, (inside, outside))
    plane = space.separator(inside, found, Fraction(1))
    assert plane.margin == margin


def proves(data, space, found, sides):
    """The hyperplane reaches the margin, and the combinations are exactly twice as far apart."""
    plane, margin = space.separator(sides[0], found, Fraction(1)), space.length(found.value)
    assert sum(map(abs, plane.normal)) <= 1
    for i, x in enumerate(data.points):
        value = dot(plane.normal, x) + plane.offset
        assert value == space.length(found.sides[i])
        if i in sides[0] | sides[1]:
            assert (value if i in sides[0] else -value) >= margin
    places = []
    pair = blocker(found)
    for group, members in zip((pair.inside, pair.outside), sides, strict=True):
        assert {i for i, _ in group} <= members
        assert sum(w for _, w in group) == 1
        assert all(w > 0 for _, w in group)
        columns = zip(*(data.points[i] for i, _ in group), strict=True)
        places.append([dot([w for _, w in group], column) for column in columns])
    assert distance(*places) == 2 * margin
