"""The compiled simplex method against SciPy's linear programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.linear_forms import random_forms, scratch
from verifier.search.combine_kernel import combine


def combined(const, rows):
    """(weights, what they prove, the point, what it reaches)."""
    _, w = scratch(*rows.shape)
    combine(const, rows, w)
    weights, point = w.weights[: len(const)].copy(), w.point.copy()
    proved = weights @ const + np.abs(weights @ rows).sum()
    return weights, proved, point, (const + rows @ point).min()


def optimum(const, rows):
    """max over t in [-1, 1]^d of min_q const_q + rows_q . t."""
    d = rows.shape[1]
    # SciPy's tolerances are absolute.
    scale = max(np.abs(const).max(), np.abs(rows).max(), 1e-300)
    result = linprog(
        np.r_[np.zeros(d), -1.0], np.c_[-rows / scale, np.ones(len(rows))], const / scale,
        bounds=[(-1, 1)] * d + [(None, None)],
    )  # fmt: skip
    assert result.status == 0
    return -result.fun * scale


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=200)
def test_weights_and_point_are_optimal(seed, scale):
    const, rows = random_forms(np.random.default_rng(seed), scale)
    weights, proved, point, reached = combined(const, rows)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    assert (np.abs(point) <= 1).all()
    best, noise = optimum(const, rows), 1e-6 * scale
    assert reached <= best + noise
    assert proved >= best - noise
    assert proved - reached < noise


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_any_weights_are_sound(seed):
    """What the weights prove is no less than what any point reaches, far from well-scaled too."""
    rng = np.random.default_rng(seed)
    const, rows = random_forms(rng, 1.0)
    rows *= 10.0 ** rng.integers(-12, 13, rows.shape)
    const *= 10.0 ** rng.integers(-12, 13, const.shape)
    weights, proved, _, _ = combined(const, rows)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    t = rng.uniform(-1, 1, size=(200, rows.shape[1]))
    values = const + t @ rows.T
    size = (np.abs(const) + np.abs(rows).sum(axis=1)) @ weights
    assert (values.min(axis=1) <= proved + 1e-9 * size).all()


@pytest.mark.parametrize(
    ("const", "rows"),
    [
        ([0.0, 0.0], [[0.0], [0.0]]),
        ([-1.0, -1.0], [[1.0], [-1.0]]),
        ([1.0, 1.0, 1.0], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]),
        ([-5.0], [[2.0, 2.0]]),
    ],
)
def test_degenerate_systems(const, rows):
    const, rows = np.array(const), np.array(rows)
    weights, proved, _, reached = combined(const, rows)
    assert weights.sum() == pytest.approx(1)
    assert proved == pytest.approx(optimum(const, rows))
    assert reached == pytest.approx(proved)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_forms_that_overflow_spoilt_prove_nothing(bad):
    for place in range(2):
        const, rows = np.array([-3.0, -2.0]), np.array([[1.0, 0.5], [-1.0, 0.5]])
        (const if place else rows.ravel())[0] = bad
        with np.errstate(invalid="ignore"):
            _, proved, _, _ = combined(const, rows)
        assert not proved < 0
