"""Margins of partial splits against HiGHS, grown point by point."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from strategies import generators

from constructions.rational_points import RationalPoints, distance, dot
from constructions.split_margin import SplitSpace


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


@given(generators())
@settings(max_examples=60, deadline=None)
def test_margins_hyperplanes_and_combinations_along_a_random_branch(rng):
    n, d = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    points = rng.permutation(np.unique(rng.integers(-6, 7, (n, d)), axis=0))
    if len(points) < 2:
        return
    exact = tuple(tuple(Fraction(int(v), 3) for v in x) for x in points)
    data = RationalPoints(exact, tuple(i % 2 for i in range(len(exact))))
    space = SplitSpace(data)
    node, wider = space.root, None
    while not node.complete:
        node = space.children(node)[int(rng.integers(2))]
        if not node.outside:
            continue
        margin = space.length(node.margin)
        floats = points / 3.0
        seen = primal_margin(floats[sorted(node.inside)], floats[sorted(node.outside)])
        assert float(margin) == pytest.approx(seen, abs=1e-7)
        assert wider is None or margin <= wider
        wider = margin
        proves(data, space, node, margin)
    assert node.depth == len(data)


def proves(data, space, node, margin):
    """The hyperplane reaches the margin, and the combinations are exactly twice as far apart."""
    plane = space.separator(node, Fraction(1))
    assert sum(map(abs, plane.normal)) <= 1
    for group, sign in ((node.inside, 1), (node.outside, -1)):
        for i in group:
            assert sign * (dot(plane.normal, data.points[i]) + plane.offset) >= margin
    places = []
    blocker = space.blocker(node)
    for group, members in ((blocker.inside, node.inside), (blocker.outside, node.outside)):
        assert {i for i, _ in group} <= members
        assert sum(w for _, w in group) == 1
        assert all(w > 0 for _, w in group)
        columns = zip(*(data.points[i] for i, _ in group), strict=True)
        places.append([dot([w for _, w in group], column) for column in columns])
    assert distance(*places) == 2 * margin
