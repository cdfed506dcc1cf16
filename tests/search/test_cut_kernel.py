"""Cutting a box never cuts off a point at which all forms are nonnegative."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.linear_forms import random_forms, scratch
from verifier.bounds.box_kernels import set_box
from verifier.search import input_split_kernel as kernel
from verifier.search.cut_kernel import CUT_ABOVE, CUT_BELOW, MARGIN, contract, widen_hull


def emptied(w):
    """An empty hull, as the search starts with."""
    w.start[:], w.stop[:] = 1.0, -1.0


def hull(w):
    return w.start.copy(), w.stop.copy()


def exact(values):
    return [Fraction(float(v)) for v in values]


def nonnegative(const, rows, t):
    """Whether every form is nonnegative at the exact point t."""
    return all(
        c + sum((g * v for g, v in zip(row, t, strict=True)), Fraction(0)) >= 0
        for c, row in zip(exact(const), map(exact, rows), strict=True)
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-8, 1.0, 1e8]))
@settings(max_examples=150)
def test_the_hull_holds_every_point_that_some_clause_allows(seed, scale):
    rng = np.random.default_rng(seed)
    clauses = [random_forms(rng, scale)]
    d = clauses[0][1].shape[1]
    other = scale * rng.normal(size=(2, d))
    clauses.append((scale * rng.normal(size=2), other))
    _, w = scratch(max(len(c) for c, _ in clauses), d)
    emptied(w)
    for const, rows in clauses:
        widen_hull(const, rows, w)
    start, stop = hull(w)
    # Points where one form is exactly zero along a coordinate are the ones at stake.
    points = [exact(t) for t in rng.uniform(-1, 1, size=(40, d)).round(6)]
    points += [[Fraction(v) for v in np.sign(t)] for t in rng.normal(size=(10, d))]
    for const, rows in clauses:
        for t in list(points[:10]):
            q, j = int(rng.integers(len(const))), int(rng.integers(d))
            g = exact(rows[q])
            if g[j]:
                rest = sum((g[i] * t[i] for i in range(d) if i != j), exact(const)[q])
                points.append([*t[:j], max(min(-rest / g[j], 1), -1), *t[j + 1 :]])
    for t in points:
        if any(nonnegative(const, rows, t) for const, rows in clauses):
            assert all(a <= v <= b for a, v, b in zip(exact(start), t, exact(stop), strict=True))


def test_one_form_is_cut_where_it_ends():
    _, w = scratch(1, 2)
    emptied(w)
    widen_hull(np.array([-0.5]), np.array([[1.0, 0.25]]), w)
    start, stop = hull(w)
    np.testing.assert_allclose(start, [0.25 - MARGIN, -1.0], atol=1e-14)
    np.testing.assert_array_equal(stop, [1.0, 1.0])
    emptied(w)
    widen_hull(np.array([-0.5]), np.array([[-1.0, 0.25]]), w)
    start, stop = hull(w)
    np.testing.assert_allclose(stop, [-0.25 + MARGIN, 1.0], atol=1e-14)


def test_a_clause_that_leaves_nothing_widens_nothing():
    _, w = scratch(2, 1)
    emptied(w)
    widen_hull(np.array([-0.5, -0.5]), np.array([[1.0], [-1.0]]), w)
    assert w.start[0] > w.stop[0]


def test_the_hull_of_each_form_alone_is_tight():
    """Against SciPy: the smallest and largest t_j where the form is nonnegative."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        const, rows = rng.normal(size=1) - 1, rng.normal(size=(1, 3))
        _, w = scratch(1, 3)
        emptied(w)
        widen_hull(const, rows, w)
        for j in range(3):
            for sign, found in ((1, w.start[j]), (-1, w.stop[j])):
                c = np.zeros(3)
                c[j] = sign
                result = linprog(c, -rows, const, bounds=[(-1, 1)] * 3)
                if result.status == 0:
                    # A little more is left standing, for checkers with coarser numbers.
                    wider = max(result.fun - MARGIN, -1.0)
                    assert found == pytest.approx(sign * wider, abs=1e-9)
                else:
                    assert (w.start > w.stop).any()


def contracted(lower, upper, start, stop):
    """(cuts in the log, kept, new lower, new upper, f) after one call."""
    d = len(lower)
    f, w = scratch(1, d)
    lower, upper = lower.copy(), upper.copy()
    set_box(lower, upper, f)
    w.start[:], w.stop[:] = start, stop
    log = kernel.Log(
        np.zeros(2 * d, dtype=np.int64), np.zeros(2 * d, dtype=np.int8),
        np.zeros(2 * d, dtype=np.int32), np.zeros(2 * d), np.zeros(2 * d, dtype=np.int64),
        np.zeros((0, 0), dtype=np.float32),
    )  # fmt: skip
    cuts, kept = contract(lower, upper, 7, log, 0, f, w)
    rows = [(int(log.kind[r]), int(log.axis[r]), float(log.at[r])) for r in range(cuts)]
    assert all(log.node[:cuts] == 7)
    return rows, kept, lower, upper, f


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-12, 1.0, 1e9]), st.sampled_from([0, 1, 1e6]))
@settings(max_examples=150)
def test_contracting_keeps_what_the_hull_keeps(seed, width, offset):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 5))
    lower = offset * rng.normal(size=d)
    upper = lower + width * rng.random(d) * (rng.random(d) < 0.9)
    start, stop = np.sort(rng.uniform(-1.3, 1.3, size=(2, d)).clip(-1, 1), axis=0)
    rows, kept, low, high, f = contracted(lower, upper, start, stop)
    assert (lower <= low).all()
    assert (high <= upper).all()
    for t in rng.uniform(size=(20, d)):
        share = exact(t)
        local = [a + (b - a) * s for a, b, s in zip(exact(start), exact(stop), share, strict=True)]
        x = [c + r * v for c, r, v in zip(exact(f.centre), exact(f.radius), local, strict=True)]
        if all(a <= v <= b for a, v, b in zip(exact(lower), x, exact(upper), strict=True)):
            assert kept > 0
            assert all(a <= v <= b for a, v, b in zip(exact(low), x, exact(high), strict=True))
    # The log says exactly what was done.
    if kept > 0:
        again = lower.copy(), upper.copy()
        for kind, axis, at in rows:
            assert kind in (CUT_BELOW, CUT_ABOVE)
            again[kind == CUT_ABOVE][axis] = at
        np.testing.assert_array_equal(again[0], low)
        np.testing.assert_array_equal(again[1], high)
        sides = upper > lower
        volume = ((high - low)[sides] / (upper - lower)[sides]).clip(1e-3).prod()
        assert kept == pytest.approx(volume)


def test_an_empty_hull_keeps_nothing():
    rows, kept, _, _, _ = contracted(np.zeros(2), np.ones(2), np.ones(2), -np.ones(2))
    assert kept == 0
    assert rows == []


def test_a_full_hull_cuts_nothing():
    rows, kept, low, high, _ = contracted(np.zeros(2), np.ones(2), -np.ones(2), np.ones(2))
    assert (kept, rows) == (1, [])
    assert low.tolist() == [0, 0]
    assert high.tolist() == [1, 1]
