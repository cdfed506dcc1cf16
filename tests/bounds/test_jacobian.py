"""Bounds on Jacobians hold for exact ones at points, on kinks, and for every consistent pattern."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp

from constructions.bias_part import forms_of, signs_at
from tests.bounds.test_bias import network
from verifier.bounds.interval import interval_bounds
from verifier.bounds.jacobian import jacobian_bounds, magnitude
from verifier.bounds.linear import root_bounds
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network


def patterns(net, x):
    """All that are consistent with a point."""
    choices = [(True, False) if s == 0 else (s > 0,) for s in signs_at(net, x)]
    return product(*choices)


@pytest.mark.parametrize("seed", range(25))
def test_every_jacobian_at_points_of_a_box_lies_within(seed):
    net = network(seed)
    rng = np.random.default_rng(seed + 200)
    lower = rng.integers(-4, 4, 2) / 4
    upper = lower + rng.integers(0, 4, 2) / 4
    rows = rng.integers(-3, 4, (2, 3)).astype(float)
    found = [
        jacobian_bounds(net, bounds, given)
        for bounds in (None, interval_bounds(net, lower, upper), root_bounds(net, lower, upper)[1])
        for given in (None, rows)
    ]
    for _ in range(8):
        point = [Fraction(int(k), 8) for k in rng.integers(lower * 8, upper * 8 + 1)]
        for pattern in patterns(net, point):
            slope = forms_of(net, pattern)[1].slope
            mixed = np.array([[Fraction(v) for v in row] for row in rows]).dot(slope)
            for (low, high), exact in zip(found, 3 * [slope, mixed], strict=True):
                for a, v, b in zip(low.ravel(), exact.ravel(), high.ravel(), strict=True):
                    assert Fraction(a) <= v <= Fraction(b)


def test_at_a_point_off_the_kinks_they_are_tight():
    net = network(3)
    point = np.array([0.3, -0.7])
    x = [Fraction(v) for v in point]
    assert 0 not in signs_at(net, x)
    low, high = jacobian_bounds(net, interval_bounds(net, point, point))
    (pattern,) = patterns(net, x)
    slope = forms_of(net, pattern)[1].slope.astype(float)
    assert low == pytest.approx(slope, abs=1e-12)
    assert high == pytest.approx(slope, abs=1e-12)


def test_a_kink_counts_with_both_bits():
    layers = (
        Layer(np.array([[1.0]]), np.zeros(1), np.array([True])),
        Layer(np.array([[3.0]]), np.zeros(1), np.array([False])),
    )
    net = Network(layers)
    at = jacobian_bounds(net, interval_bounds(net, np.zeros(1), np.zeros(1)))
    assert at[0][0, 0] <= 0
    assert at[1][0, 0] >= 3
    assert magnitude(at)[0, 0] >= 3


def test_numbers_of_very_different_size_and_sparse_weights():
    rng = np.random.default_rng(7)
    layers = []
    for k, (n, m) in enumerate(((3, 6), (6, 6), (6, 2))):
        weight = rng.normal(size=(m, n)) * 10.0 ** rng.integers(-12, 12, (m, n))
        weight[rng.random((m, n)) < 0.3] = 0.0
        layers.append(Layer(sp.csr_array(weight), rng.normal(size=m), np.full(m, k < 2)))
    net = Network(tuple(layers))
    for _ in range(20):
        point = rng.normal(size=3)
        x = [Fraction(v) for v in point]
        low, high = jacobian_bounds(net, interval_bounds(net, point, point))
        for pattern in patterns(net, x):
            exact = forms_of(net, pattern)[1].slope.ravel()
            for a, v, b in zip(low.ravel(), exact, high.ravel(), strict=True):
                assert Fraction(a) <= v <= Fraction(b)


def test_overflow_is_infinite_and_exact_numbers_are_refused():
    one, relu = np.zeros(1), np.array([True])
    huge = Network(tuple(Layer(np.array([[1e200]]), one, relu) for _ in range(2)))
    assert np.isinf(magnitude(jacobian_bounds(huge))).all()
    exact = Network((Layer(np.array([[Fraction(1, 3)]]), np.zeros(1, object), np.zeros(1, bool)),))
    with pytest.raises(NetworkError, match="floats"):
        jacobian_bounds(exact)
