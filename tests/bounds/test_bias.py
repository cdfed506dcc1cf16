"""Bounds on the bias part hold for exact values at points and for every consistent pattern."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from constructions.bias_bounds import BiasIntervals
from constructions.bias_part import bias_values
from verifier.bounds.bias import bias_bounds, strongly_right, strongly_wrong
from verifier.bounds.linear import root_bounds
from verifier.core.network import Layer, Network
from verifier.core.property import Box


def network(seed, sizes=(2, 4, 4, 3), grid=4):
    """Quarter-integer weights, so that points of the grid lie on kinks now and then."""
    rng = np.random.default_rng(seed)
    layers = []
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        weight = rng.integers(-2 * grid, 2 * grid + 1, (n_out, n_in)) / grid
        bias = rng.integers(-grid, grid + 1, n_out) / grid
        layers.append(Layer(weight, bias, np.full(n_out, k < len(sizes) - 2)))
    return Network(tuple(layers))


@pytest.mark.parametrize("seed", range(30))
def test_every_value_at_points_of_a_box_lies_within(seed):
    net = network(seed)
    rng = np.random.default_rng(seed + 100)
    lower = rng.integers(-4, 4, 2) / 4
    upper = lower + rng.integers(0, 5, 2) / 4
    both = [bias_bounds(net, lower, upper)]
    both.append(bias_bounds(net, lower, upper, root_bounds(net, lower, upper)[1]))
    for _ in range(25):
        point = [Fraction(int(k), 8) for k in rng.integers(lower * 8, upper * 8 + 1)]
        for low, high in both:
            for value in bias_values(net, point):
                assert all(Fraction(a) <= v <= Fraction(b) for a, v, b in
                           zip(low, value, high, strict=True))  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_they_are_the_exact_pass_up_to_rounding(seed):
    net = network(seed, (3, 5, 4, 2))
    box = Box((Fraction(-1, 3),) * 3, (Fraction(1, 7),) * 3)
    exact = BiasIntervals(net).on(box).bias
    lower = np.array([-1 / 3] * 3)
    upper = np.array([1 / 7] * 3)
    low, high = bias_bounds(net, np.nextafter(lower, -1), np.nextafter(upper, 1))
    for mine, theirs, sign in ((low, exact[0], 1), (high, exact[1], -1)):
        for a, b in zip(mine, theirs, strict=True):
            assert sign * Fraction(a) <= sign * b
            assert float(b) == pytest.approx(a, abs=1e-9)


def test_a_point_off_the_kinks_has_one_value_and_a_kink_has_several():
    # h1 = h2 = relu(x − 1), C = (0, h2 − h1): B_C is 0 off x = 1, and −1, 0 or 1 there (T8 a).
    net = Network(
        (
            Layer(np.ones((2, 1)), -np.ones(2), np.ones(2, dtype=bool)),
            Layer(np.array([[0.0, 0.0], [-1.0, 1.0]]), np.zeros(2), np.zeros(2, dtype=bool)),
        )
    )
    low, high = bias_bounds(net, np.array([1.0]), np.array([1.0]))
    assert low[1] <= -1 <= 1 <= high[1]
    low, high = bias_bounds(net, np.array([2.0]), np.array([2.0]))
    assert abs(low[1]) < 1e-12 > abs(high[1])


def test_what_bounds_decide():
    low, high = np.array([0.0, 2.0, 1.0]), np.array([1.0, 3.0, 2.5])
    assert strongly_wrong((low, high), 0)
    assert not strongly_right((low, high), 1)
    assert not strongly_wrong((low, high), 1)
    assert strongly_right((low, np.array([1.0, 3.0, 1.5])), 1)
    # Equal ends are ties, which decide nothing.
    assert not strongly_right((low, np.array([1.0, 3.0, 2.0])), 1)
    assert not strongly_wrong((np.array([0.0, 1.0]), np.array([1.0, 1.0])), 0)
