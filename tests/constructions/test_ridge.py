"""Ridge functions against the network itself, and their radii against sampling both sides of it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constructions.exact_layer import exact_layer
from constructions.ridge import Ridge, tie, winner
from verifier.core.errors import NetworkError
from verifier.core.network import Network

W = (2, -3)


@st.composite
def networks(draw):
    """Depth 2, all hidden neurons relu(2x − 3y + b)."""
    number = st.fractions(-4, 4, max_denominator=3)
    n, m = draw(st.integers(1, 6)), draw(st.integers(2, 3))
    bias = draw(st.lists(number, min_size=n, max_size=n))
    rows = draw(st.lists(st.lists(number, min_size=n, max_size=n), min_size=m, max_size=m))
    start = draw(st.lists(number, min_size=m, max_size=m))
    return Network((exact_layer([W] * n, bias, relu=True), exact_layer(rows, start, relu=False)))


points = st.tuples(*[st.fractions(-3, 3, max_denominator=4)] * 2)


def project(x):
    return sum(w * v for w, v in zip(W, x, strict=True))


@given(network=networks(), x=points)
def test_the_function_is_that_of_the_network(network, x):
    ridge = Ridge.of(network)
    assert ridge.at(project(x)) == network.exact(x)
    for k, kink in enumerate(ridge.kinks):
        assert ridge.values[k] == ridge.at(kink)
    assert ridge.norm == 5


@given(network=networks(), x=points)
def test_the_radius_is_where_the_label_is_lost(network, x):
    ridge = Ridge.of(network)
    label = winner(network.exact(x))
    if label is None:
        return
    breach = ridge.breach(7, project(x), label)
    far = Fraction(50) if breach is None else breach.radius
    for t in range(-20, 20):  # inside, where w·x goes everywhere that the ball goes
        inside = [v + far * Fraction(t, 20) * np.sign(w) for v, w in zip(x, W, strict=True)]
        if t > -20:
            assert winner(network.exact(inside)) == label
    if breach is not None:
        assert breach.sample == 7
        at = [v + breach.side * far * int(np.sign(w)) for v, w in zip(x, W, strict=True)]
        outputs = network.exact(at)
        assert outputs[breach.rival - 1] == max(outputs) == outputs[label - 1]


def test_a_sample_that_is_wrong_has_radius_0():
    layers = (exact_layer([W], [0], relu=True), exact_layer([[1], [0]], [0, 1], relu=False))
    ridge = Ridge.of(Network(layers))
    assert ridge.breach(0, 0, 1).radius == 0
    assert ridge.breach(0, 0, 2).radius == Fraction(1, 5)
    assert ridge.label(1) is None


def test_a_label_that_is_never_lost():
    layers = (exact_layer([W], [0], relu=True), exact_layer([[1], [0]], [1, 0], relu=False))
    assert Ridge.of(Network(layers)).breach(0, 0, 1) is None


def test_ties():
    one, zero = Fraction(1), Fraction(0)
    assert tie([one, zero, zero], [zero, one, 2 * one], 1) == (Fraction(1, 2), 3)
    assert tie([one, zero], [zero, zero], 1) == (0, 0)
    assert tie([zero, zero], [one, zero], 1) == (0, 2)
    assert winner([1, 2, 2]) is None
    assert winner([1, 3, 2]) == 2


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([([[1, 0], [0, 1]], [0, 0], True), ([[1, 1]], [0], False)], "different projections"),
        ([([[1, 0]], [0], False), ([[1]], [0], False)], "hidden layer"),
        ([([[1, 0]], [0], True), ([[1]], [0], True)], "hidden layer"),
        ([([[1, 0]], [0], False)], "hidden layer"),
    ],
)
def test_other_networks_are_refused(layers, words):
    built = [exact_layer(rows, bias, relu=relu) for rows, bias, relu in layers]
    with pytest.raises(NetworkError, match=words):
        Ridge.of(Network(tuple(built)))
