"""Interval bounds contain what exact arithmetic finds, and hardly more."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from tests.exact_bounds import escapes
from tests.strategies import (
    at_least,
    generators,
    points_between,
    random_network,
    wild_box,
    wild_network,
)
from verifier.bounds import interval
from verifier.bounds.float_error import gamma
from verifier.bounds.interval import (
    affine_interval,
    interval_bounds,
    magnitudes,
    relu_interval,
    underflow_allowance,
)
from verifier.core.network import Layer, Network

EXPONENTS = (2, 30, 300, 1000)


@given(generators(), st.sampled_from(EXPONENTS), st.sampled_from(EXPONENTS))
def test_exact_values_lie_inside(rng, weights, faces):
    network = wild_network(rng, weights)
    box = wild_box(rng, network.n_inputs, faces)
    bounds = interval_bounds(network, *box)
    assert escapes(network, bounds, points_between(rng, *box, 8)) == 0


@given(generators())
def test_ordinary_networks(rng):
    network = random_network(rng)
    box = wild_box(rng, network.n_inputs, 3)
    bounds = interval_bounds(network, *box)
    assert all(np.isfinite(end).all() for pair in bounds for end in pair)
    assert escapes(network, bounds, points_between(rng, *box, 8)) == 0


def exact_range(layer, lower, upper):
    """For each row the exact least and largest value over the box, and the size of its sum."""
    for row, b in zip(layer.dense.tolist(), layer.bias.tolist(), strict=True):
        least, largest, size = Fraction(b), Fraction(b), abs(Fraction(b))
        for w, low, high in zip(row, lower.tolist(), upper.tolist(), strict=True):
            ends = Fraction(w) * Fraction(low), Fraction(w) * Fraction(high)
            least, largest = least + min(ends), largest + max(ends)
            size += max(map(abs, ends))
        yield least, largest, size


@given(generators(), st.sampled_from([2, 30, 300]))
def test_one_layer_is_bounded_sharply(rng, exponent):
    """Outside the exact range, by a part in 10^13 of the terms at most."""
    layer = wild_network(rng, exponent).layers[0]
    box = wild_box(rng, layer.n_in, exponent)
    low, high = affine_interval(layer, *box)
    for a, b, (least, largest, size) in zip(low, high, exact_range(layer, *box), strict=True):
        allowed = size * Fraction(1, 10**13) + Fraction(2) ** (-1000 + exponent + 8)
        assert least - allowed <= Fraction(a) <= least
        assert largest <= Fraction(b) <= largest + allowed


def wild_cases(count):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        network = wild_network(rng, EXPONENTS[seed % 3])
        yield rng, network, wild_box(rng, network.n_inputs, EXPONENTS[seed % 2])


@pytest.mark.parametrize(("name", "value"), [("gamma", lambda n: 0.0), ("TINY", 0.0)])
def test_every_allowance_is_needed(monkeypatch, name, value):
    """Without it some exact value escapes; with it none does, on the same cases."""
    count = 120
    if name == "TINY":

        def cases():
            for seed in range(count):
                rng = np.random.default_rng(seed)
                weight = rng.normal(size=(3, 3)) * 2.0**-540
                network = Network((Layer(weight, np.zeros(3), np.zeros(3, bool)),))
                side = rng.normal(size=3) * 2.0**-530
                yield rng, network, (side, side)
    else:

        def cases():
            return wild_cases(count)

    def total():
        return sum(
            escapes(network, interval_bounds(network, *box), points_between(rng, *box, 4))
            for rng, network, box in cases()
        )

    assert total() == 0
    monkeypatch.setattr(interval, name, value)
    assert total() > 0


@given(generators())
def test_dense_and_sparse_agree(rng):
    network = wild_network(rng, 30)
    box = wild_box(rng, network.n_inputs, 5)
    for layer in network.layers[:1]:
        dense = affine_interval(Layer(layer.dense, layer.bias, layer.relu), *box)
        sparse = affine_interval(Layer(sp.csr_array(layer.dense), layer.bias, layer.relu), *box)
        for (least, largest, size), *ends in zip(
            exact_range(layer, *box), *dense, *sparse, strict=True
        ):
            low, high, low2, high2 = map(Fraction, ends)
            assert max(low, low2) <= least
            assert largest <= min(high, high2)
            assert abs(low - low2) + abs(high - high2) <= size / 10**13 + Fraction(1, 2**900)


def test_a_partial_relu_is_exact():
    layer = Layer(np.eye(4), np.zeros(4), np.array([True, False, True, True]))
    low, high = relu_interval(layer, np.array([-1.0, -1, -3, 2]), np.array([1.0, 1, -2, 3]))
    assert low.tolist() == [0, -1, 0, 2]
    assert high.tolist() == [1, 1, 0, 3]


HUGE = float(np.finfo(np.float64).max)


@pytest.mark.parametrize("make", [np.array, lambda w: sp.csr_array(np.array(w))])
def test_an_overflow_gives_infinite_bounds(make):
    """Also where infinities of both signs meet; pytest turns a warning into a failure."""
    relu = np.ones(2, bool)
    first = Layer(make([[1e308, 1e308], [1.0, 0.0]]), np.zeros(2), relu)
    second = Layer(make([[1.0, -1.0], [0.0, 1.0]]), np.zeros(2), relu)
    third = Layer(make([[1e308, 1e308]]), np.array([-1e308]), relu[:1])
    network = Network((first, second, third))
    for box in (
        (np.array([-5.0, 3.0]), np.array([-4.0, 5.0])),
        (np.array([-HUGE, -HUGE]), np.array([HUGE, HUGE])),
        (np.array([HUGE, -HUGE]), np.array([HUGE, -HUGE])),
    ):
        bounds = interval_bounds(network, *box)
        assert not any(np.isnan(end).any() for pair in bounds for end in pair)
        assert (
            escapes(network, bounds, list(itertools.product(*zip(*map(list, box), strict=True))))
            == 0
        )
        assert bounds[2][1].tolist() == [math.inf]


@given(generators(), st.sampled_from(EXPONENTS))
def test_magnitudes_cover_every_term(rng, exponent):
    network = wild_network(rng, exponent)
    box = wild_box(rng, network.n_inputs, 300)
    bounds = interval_bounds(network, *box)
    sizes = magnitudes(network, *box, bounds, gamma(20))
    # 2^60 products, each losing half of the least float64 at most.
    allowance, lost = underflow_allowance(*box, sizes), Fraction(2) ** (60 - 1075)
    for x in points_between(rng, *box, 3):
        a, activations = x, sum(map(abs, x))
        for layer, size, (_, after) in zip(
            network.layers, sizes, network.exact_trace(x), strict=True
        ):
            for row, b, s in zip(layer.dense.tolist(), layer.bias.tolist(), size, strict=True):
                terms = [abs(Fraction(w) * v) for w, v in zip(row, a, strict=True)]
                assert math.isnan(s) or at_least(s, sum(terms) + abs(Fraction(b)))
            a = after
            activations += sum(map(abs, a))
        assert math.isnan(allowance) or at_least(allowance, activations * lost)
        assert not allowance <= 0
