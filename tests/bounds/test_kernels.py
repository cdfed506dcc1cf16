"""The line above a ReLU, and the gradients that the ascent steps follow."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exact_bounds import slope_queries
from verifier.bounds import kernels, linear

finite = st.floats(min_value=2.0**-1074, max_value=float(np.finfo(np.float64).max))


@given(finite, finite)
def test_the_chord_is_above_the_relu(minus_lower, upper):
    slope, intercept = kernels.chord_above(-minus_lower, upper)
    if math.isfinite(intercept):
        s, t = Fraction(slope), Fraction(intercept)
        assert 0 <= s <= 1
        assert s * Fraction(-minus_lower) + t >= 0
        assert s * Fraction(upper) + t >= Fraction(upper)
        height = Fraction(minus_lower) * Fraction(upper) / (Fraction(minus_lower) + Fraction(upper))
        if minus_lower + upper < math.inf and upper / minus_lower > 2.0**-900:
            assert t <= height + Fraction(upper) / 2**48 + Fraction(1, 2**999)


def numeric_slopes(engine, q, arrays, j, h=1e-6):
    """One-sided difference quotients of the bounds in each entry of arrays[j]: (left, right)."""
    left, right = np.zeros(arrays[j].shape), np.zeros(arrays[j].shape)
    base, centre = engine.run(q).value, arrays[j].copy()
    for n in range(centre.shape[1]):
        for out, step in ((right, h), (left, -h)):
            arrays[j][:, n] = centre[:, n] + step
            out[:, n] = (engine.run(q).value - base) / step
            arrays[j][:, n] = centre[:, n]
    return left, right


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_gradient_is_the_derivative(seed):
    """Of the bound by every slope and multiplier, except at kinks of the bound."""
    *_, engine, q = slope_queries(seed)
    part = q.take(np.arange(len(q)))
    moments = linear._Moments(part)
    engine._ascend(part, engine.run(q, keep=True), moments, 0.1, 1)
    smooth = nonzero = 0
    for kind, arrays in (("alpha", q.alpha), ("mult", q.mult)):
        for j in range(q.start):
            gradient = getattr(moments, kind)[j][0] / 0.1
            left, right = numeric_slopes(engine, q, arrays, j)
            moved = np.ones_like(left, bool) if kind == "alpha" else q.sign[j] != 0
            same = np.isclose(left, right, rtol=1e-5, atol=1e-7) & moved
            assert np.allclose(gradient[same], right[same], rtol=1e-4, atol=1e-6)
            # Where the bound has a kink the gradient is one of the two sides or between them.
            kink = moved & ~same
            assert (gradient[kink] >= np.minimum(left, right)[kink] - 1e-6).all()
            assert (gradient[kink] <= np.maximum(left, right)[kink] + 1e-6).all()
            smooth += int(same.sum())
            nonzero += int((np.abs(gradient) > 1e-6).sum())
    assert smooth > 100
    assert nonzero > 50


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_small_step_raises_every_bound(seed):
    *_, engine, q = slope_queries(seed)
    before = engine.run(q).value
    best, _ = engine.optimise(q, 1, rate=1e-5)
    assert (best > before).all()
