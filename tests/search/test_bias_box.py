"""The bias classifier on boxes, against the exact enumeration of all patterns."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from constructions.bias_check import BiasProof, BiasWitness, check_bias_witness
from constructions.bias_part import bias_values
from constructions.bias_regions import decide_bias
from verifier.core.errors import NetworkError, PropertyError
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.search.bias_box import BiasRight, BiasUnknown, BiasWrong, bias_box, bias_lost
from verifier.search.problem import Deadline


def network(rng, sizes, grid=4, last_relu=False):
    """Multiples of 1/grid, so that kinks meet corners and each other."""
    layers = []
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        weight = rng.integers(-2 * grid, 2 * grid + 1, (n_out, n_in)) / grid
        bias = rng.integers(-grid, grid + 1, n_out) / grid
        relu = np.full(n_out, k < len(sizes) - 2 or last_relu)
        layers.append(Layer(weight, bias, relu))
    return Network(tuple(layers))


def question(seed):
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(1, 4)), *rng.integers(2, 5, rng.integers(1, 3)).tolist(), 3]
    net = network(rng, sizes, last_relu=bool(rng.random() < 0.2))
    low = [Fraction(int(v), 4) for v in rng.integers(-4, 4, sizes[0])]
    widths = [Fraction(int(v), 12) for v in rng.integers(0, 7, sizes[0])]
    box = Box(low, [a + w for a, w in zip(low, widths, strict=True)])
    middle = [(a + b) / 2 for a, b in zip(box.lower, box.upper, strict=True)]
    from constructions.bias_part import bias_part

    beta = bias_part(net, middle)
    return net, box, max(range(3), key=lambda k: beta[k])


def test_answers_are_those_of_the_exact_enumeration():
    seen = {BiasRight: 0, BiasWrong: 0}
    for seed in range(300):
        net, box, label = question(seed)
        expected = decide_bias(net, box, label)
        found = bias_box(net, box, label, Deadline(60))
        seen[type(found)] += 1
        assert isinstance(found, BiasRight) == isinstance(expected, BiasProof), seed
        if isinstance(found, BiasWrong):
            witness = BiasWitness(True, found.x, found.pattern, found.other)
            check_bias_witness(net, box, label, witness)
    assert min(seen.values()) >= 60


def test_a_kink_alone_makes_it_wrong():
    # h1 = h2 = relu(x − 1), C = (1/2, h2 − h1): β is (1/2, 0) off x = 1, but (1/2, 1) at a kink.
    net = Network(
        (
            Layer(np.ones((2, 1)), -np.ones(2), np.ones(2, dtype=bool)),
            Layer(np.array([[0.0, 0.0], [-1.0, 1.0]]), np.array([0.5, 0.0]), np.zeros(2, bool)),
        )
    )
    inside = bias_box(net, Box([0], [2]), 0, Deadline(10))
    assert isinstance(inside, BiasWrong)
    assert inside.x == (1,)
    assert inside.pattern == (True, False)
    assert inside.other == 1
    beside = bias_box(net, Box([0], [Fraction(2**60 - 1, 2**60)]), 0, Deadline(10))
    assert isinstance(beside, BiasRight)
    # The kink is at a corner of the box.
    assert isinstance(bias_box(net, Box([1], [2]), 0, Deadline(10)), BiasWrong)


def test_a_tie_is_wrong():
    net = Network((Layer(np.array([[1.0], [2.0]]), np.array([3.0, 3.0]), np.zeros(2, bool)),))
    found = bias_box(net, Box([0], [1]), 0, Deadline(10))
    assert isinstance(found, BiasWrong)
    assert found.other == 1


def test_differences_that_no_float_holds_are_bounded():
    # W_y − W_k = 1 + 2^-80: rounded to 1, which the lead alone must not decide.
    tiny = 2.0**-80
    net = Network(
        (
            Layer(np.ones((1, 1)), np.array([1.0]), np.array([True])),
            Layer(np.array([[1.0], [-tiny]]), np.array([-1.0, tiny]), np.zeros(2, bool)),
        )
    )
    # β = (v − 1, tiny − tiny v) with v = 1: (0, 0), a tie.
    assert isinstance(bias_box(net, Box([0], [1]), 0, Deadline(10)), BiasWrong)
    above = Network(
        (
            net.layers[0],
            Layer(net.layers[1].weight, np.array([-1.0, tiny / 2]), np.zeros(2, bool)),
        )
    )
    assert isinstance(bias_box(above, Box([0], [1]), 0, Deadline(10)), BiasRight)


def test_larger_networks_are_decided_or_left_open_in_time():
    rng = np.random.default_rng(5)
    sizes = (10, 30, 30, 4)
    layers = []
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        weight = rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)
        layers.append(Layer(weight, rng.normal(size=n_out), np.full(n_out, k < 2)))
    net = Network(tuple(layers))
    middle = [Fraction(float(v)) for v in rng.normal(size=10)]
    from constructions.bias_part import bias_part

    beta = bias_part(net, middle)
    label = max(range(4), key=lambda k: beta[k])
    told = []
    small = bias_box(net, Box.ball(middle, Fraction(1, 100)), label, Deadline(30),
                     lambda text, share: told.append(text))  # fmt: skip
    assert isinstance(small, BiasRight)
    assert told
    large = bias_box(net, Box.ball(middle, 1), label, Deadline(0.5))
    assert isinstance(large, BiasWrong | BiasUnknown)
    none = bias_box(net, Box.ball(middle, 1), label, Deadline(0))
    assert none == BiasUnknown(0, 1)


def test_single_points():
    seen = {False: 0, True: 0}
    for seed in range(60):
        net, box, label = question(seed)
        # Quarters meet kinks.
        x = np.array([float(v) for v in box.lower])
        lost = any(
            max(v for k, v in enumerate(beta) if k != label) >= beta[label]
            for beta in bias_values(net, [Fraction(v) for v in x])
        )
        assert bias_lost(net, x, label) == lost
        seen[lost] += 1
    assert min(seen.values()) >= 10


@pytest.mark.parametrize("scale", [1e200, 1e300])
def test_overflow_decides_nothing_that_is_not_true(scale):
    for seed in range(20):
        net, box, label = question(seed)
        layers = tuple(Layer(la.weight * scale, la.bias * scale, la.relu) for la in net.layers)
        huge = Network(layers)
        expected = decide_bias(huge, box, label)
        found = bias_box(huge, box, label, Deadline(20))
        assert isinstance(found, BiasRight) == isinstance(expected, BiasProof)


def test_what_does_not_fit_is_refused():
    net, box, _ = question(0)
    with pytest.raises(PropertyError, match="label 3"):
        bias_box(net, box, 3, Deadline(1))
    with pytest.raises(PropertyError, match="the box has"):
        bias_box(net, Box([0] * 9, [1] * 9), 0, Deadline(1))
    exact = Network(
        (Layer(np.array([[Fraction(1, 3)]] * 2), np.zeros(2, object), np.zeros(2, bool)),)
    )
    with pytest.raises(NetworkError, match="floats"):
        bias_box(exact, Box([0], [1]), 0, Deadline(1))
