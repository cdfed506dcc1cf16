"""The interval pass for many boxes contains what exact arithmetic finds, pairs or no pairs."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import (
    at_least,
    at_most,
    generators,
    points_between,
    wild_box,
    wild_network,
)
from verifier.bounds.ball_batch import output_bounds, plan
from verifier.bounds.interval import interval_bounds, relu_interval
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network


def bounds_of(network, lower, upper):
    """(low, high, known) over all boxes."""
    parts = list(output_bounds(plan(network), lower, upper))
    assert [p.start for p, *_ in parts] == sorted(p.start for p, *_ in parts)
    return [np.concatenate([part[k] for part in parts]) for k in (1, 2, 3)]


def assert_inside(network, lower, upper, points):
    (low,), (high,), (known,) = bounds_of(network, lower[None], upper[None])
    assert known
    for x in points:
        for y, a, b in zip(network.exact(x), low.tolist(), high.tolist(), strict=True):
            assert at_most(a, y)
            assert at_least(b, y)


@given(generators(), st.sampled_from((2, 30, 60)))
def test_exact_values_lie_inside(rng, exponent):
    network = wild_network(rng, exponent)
    lower, upper = wild_box(rng, network.n_inputs, exponent)
    assert_inside(network, lower, upper, points_between(rng, lower, upper, 8))


def gadget_network(rng, scale=1.0):
    """Layers full of pairs: p, r = ∓p + more, read together, with other terms beside them."""
    n_in, layers = int(rng.integers(1, 4)), []
    sizes = n_in
    for _ in range(int(rng.integers(1, 4))):
        p = rng.integers(-2, 3, (int(rng.integers(1, 4)), sizes)) * (rng.random(sizes) < 0.6)
        more = rng.integers(-2, 3, p.shape) * (p == 0)
        t = rng.choice([-1, 1], (len(p), 1))
        weight = np.vstack([p, -t * p + more]).astype(float) * scale
        bias = rng.integers(-4, 5, len(weight)) / 4 * rng.choice([1.0, 1 / 3])
        relu = np.concatenate([rng.random(len(p)) < 0.7, np.ones(len(p), bool)])
        layers.append(Layer(sp.csr_array(weight), bias, relu))
        c = rng.integers(-2, 3, (2, len(p))).astype(float)
        reader = np.hstack([c, c * t.T])
        reader[:, int(rng.integers(len(weight)))] += rng.integers(0, 2)  # spoils some pairs
        layers.append(Layer(reader, rng.integers(-2, 3, 2), rng.random(2) < 0.5))
        sizes = 2
    return Network(tuple(layers))


@given(generators())
def test_pairs_beside_other_terms(rng):
    network = gadget_network(rng, float(rng.choice([1.0, 0.1, 2.0**40])))
    lower, upper = wild_box(rng, network.n_inputs, 2)
    points = points_between(rng, lower, upper, 30)
    assert_inside(network, lower, upper, points)


def test_random_gadgets_have_pairs():
    pairs = [plan(gadget_network(np.random.default_rng(k))).n_pairs for k in range(50)]
    assert sum(n > 0 for n in pairs) > 30


def two(first, bias, relu, second):
    """c_1 a_1 + c_2 a_2 of two neurons."""
    return Network(
        (
            Layer(np.array(first, float), np.array(bias, float), np.array(relu)),
            Layer(np.array([second], float), np.zeros(1), np.zeros(1, bool)),
        )
    )


@pytest.mark.parametrize(
    ("first", "bias", "relu", "second", "lower", "upper", "expected"),
    [
        # v + relu(w − v) = max(v, w) with v in [1, 2], w in [0, 3]
        ([[1, 0], [-1, 1]], [0, 0], [1, 1], [1, 1], [1, 0], [2, 3], (1, 3)),
        # the same without ReLU on v, which is negative: max(v, w) in [−2, 0]
        ([[1, 0], [-1, 1]], [0, 0], [0, 1], [1, 1], [-3, -2], [-1, 0], (-2, 0)),
        # −3 max(v, w)
        ([[1, 0], [-1, 1]], [0, 0], [1, 1], [-3, -3], [1, 0], [2, 3], (-9, -3)),
        # v − relu(v − w) = min(v, w)
        ([[1, 0], [1, -1]], [0, 0], [1, 1], [1, -1], [1, 0], [2, 3], (0, 2)),
        # |x| on [−1, 1] is at most 1, not 2
        ([[1], [-1]], [0, 0], [1, 1], [1, 1], [-1], [1], (0, 1)),
        # relu(x) − relu(x − 1) is in [0, 1], wherever x is
        ([[1], [1]], [0, -1], [1, 1], [1, -1], [-5], [9], (0, 1)),
        # relu(b) − relu(b + c) with b in [−1, 1], c in [2, 3]: −3 ≤ … ≤ −1
        ([[1, 0], [1, 1]], [0, 0], [1, 1], [1, -1], [-1, 2], [1, 3], (-3, -1)),
        # relu(b) + relu(c − b), b in [−2, −1], c in [0, 1]: that is c − b
        ([[1, 0], [-1, 1]], [0, 0], [1, 1], [1, 1], [-2, 0], [-1, 1], (1, 3)),
    ],
)
def test_pairs_have_the_range_of_their_maximum(first, bias, relu, second, lower, upper, expected):
    network = two(first, bias, np.array(relu, bool), second)
    assert plan(network).n_pairs == 1
    lower, upper = np.array(lower, float), np.array(upper, float)
    (low,), (high,), _ = bounds_of(network, lower[None], upper[None])
    assert (low[0], high[0]) == pytest.approx(expected, abs=1e-12)
    assert low[0] <= expected[0]
    assert high[0] >= expected[1]


@given(generators())
def test_never_worse_than_plain_intervals(rng):
    network = gadget_network(rng)
    lower, upper = wild_box(rng, network.n_inputs, 2)
    (low,), (high,), _ = bounds_of(network, lower[None], upper[None])
    plain = relu_interval(network.layers[-1], *interval_bounds(network, lower, upper)[-1])
    size = 1 + max(float(np.abs(end).max()) for end in plain)
    assert (low >= plain[0] - 1e-9 * size).all()
    assert (high <= plain[1] + 1e-9 * size).all()


@given(generators())
def test_the_other_boxes_of_a_batch_change_only_the_rounding(rng):
    network = gadget_network(rng)
    boxes = [wild_box(rng, network.n_inputs, 2) for _ in range(150)]
    lower, upper = (np.array([box[k] for box in boxes]) for k in (0, 1))
    low, high, known = bounds_of(network, lower, upper)
    assert len(low) == len(known) == 150
    for i in (0, 77, 149):
        (a,), (b,), _ = bounds_of(network, lower[i : i + 1], upper[i : i + 1])
        assert low[i] == pytest.approx(a, abs=1e-9)
        assert high[i] == pytest.approx(b, abs=1e-9)


def test_a_box_that_overflows_is_unknown():
    layer = Layer(np.array([[1e200]]), np.zeros(1), np.zeros(1, bool))
    network = Network((layer, layer, Layer(np.array([[1e-300]]), np.zeros(1), np.zeros(1, bool))))
    ends = np.full((70, 1), 1e-130)
    ends[66] = 1.0
    low, high, known = bounds_of(network, -ends, ends)
    assert known[:64].all()  # the batch before
    assert not known[66]
    exact = Fraction(1e200) ** 2 * Fraction(1e-300) * Fraction(1e-130)
    assert at_most(low[1, 0], -exact)
    assert at_least(high[1, 0], exact)
    assert high[1, 0] < 1e-29


def test_nothing_is_lost_along_carried_values():
    depth, value = 2000, 0.1
    carry = Layer(np.eye(1), np.zeros(1), np.ones(1, bool))
    network = Network((carry,) * depth)
    low, high, _ = bounds_of(network, np.array([[value]]), np.array([[value]]))
    assert low[0, 0] == high[0, 0] == value


def test_a_stopped_pass_leaves_the_rest_out():
    network = Network((Layer(np.eye(1), np.zeros(1), np.ones(1, bool)),))
    assert list(output_bounds(plan(network), np.zeros((9, 1)), np.ones((9, 1)), lambda: True)) == []


def test_exact_weights_have_no_plan():
    layer = Layer(np.array([[Fraction(1, 3)]]), np.zeros(1, dtype=object), np.zeros(1, bool))
    with pytest.raises(NetworkError, match="float64"):
        plan(Network((layer,)))


def test_a_plan_is_made_once():
    network = gadget_network(np.random.default_rng(1))
    assert plan(network) is plan(network)
