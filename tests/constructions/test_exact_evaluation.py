"""Batches against single exact evaluations, and walks along a ray against points of it."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constructions.exact_evaluation import ExactEvaluator, largest_bits
from constructions.exact_layer import exact_layer
from constructions.ridge import winner
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network


@st.composite
def networks(draw):
    """2 inputs, up to 3 hidden layers with some ReLUs, 2 or 3 outputs; rational weights."""
    number = st.fractions(-3, 3, max_denominator=4)
    sizes = [2, *draw(st.lists(st.integers(1, 4), max_size=3)), draw(st.integers(2, 3))]
    layers = []
    for n, m in pairwise(sizes):
        rows = draw(st.lists(st.lists(number, min_size=n, max_size=n), min_size=m, max_size=m))
        layer = exact_layer(rows, draw(st.lists(number, min_size=m, max_size=m)), relu=False)
        relu = draw(st.lists(st.booleans(), min_size=m, max_size=m))
        layers.append(Layer(layer.weight, layer.bias, np.array(relu)))
    return Network(tuple(layers))


@given(
    network=networks(),
    rows=st.lists(st.tuples(*[st.integers(-20, 20)] * 2), min_size=1, max_size=5),
    denominator=st.integers(1, 7),
)
def test_a_batch_is_many_points(network, rows, denominator):
    outputs, common = ExactEvaluator.of(network).batch(np.array(rows), denominator)
    assert outputs.shape == (len(rows), network.n_outputs)
    for row, found in zip(rows, outputs, strict=True):
        expected = network.exact([Fraction(v, denominator) for v in row])
        assert tuple(Fraction(int(v), common) for v in found) == expected


@settings(max_examples=200)
@given(
    network=networks(),
    x=st.tuples(*[st.fractions(-2, 2, max_denominator=3)] * 2),
    direction=st.tuples(*[st.integers(-2, 2)] * 2).filter(any),
)
def test_the_first_tie_on_a_ray(network, x, direction):
    label = winner(network.exact(x))
    if label is None:
        return
    found = ExactEvaluator.of(network).first_tie(x, direction, label, 500)
    far = Fraction(8) if found is None else found[0]

    def outputs(t):
        return network.exact([v + t * u for v, u in zip(x, direction, strict=True)])

    assert all(winner(outputs(far * Fraction(t, 40))) == label for t in range(40))
    if found is not None:
        at = outputs(far)
        assert at[found[1] - 1] == at[label - 1] == max(at)
        assert found[1] != label


def test_too_few_pieces_say_nothing():
    # |x| − 1 beside 0, in two pieces from x = −3: the tie at x = 1 is on the second.
    hidden = exact_layer([[1], [-1]], [0, 0], relu=True)
    network = Network((hidden, exact_layer([[-1, -1], [0, 0]], [1, 0], relu=False)))
    walk = ExactEvaluator.of(network)
    start = [Fraction(-1, 2)]
    assert walk.first_tie(start, [1], 1, 1) is None
    assert walk.first_tie(start, [1], 1, 2) == (Fraction(3, 2), 2)
    assert walk.first_tie([Fraction(-3)], [1], 1, 1) == (0, 2)
    assert walk.first_tie([Fraction(2)], [1], 2, 9) is None


def test_bits():
    assert largest_bits(Network((exact_layer([[5, 0]], [-8], relu=False),))) == 4
    assert largest_bits(Network((exact_layer([[5, 0]], [Fraction(1, 64)], relu=False),))) == 6
    assert largest_bits(Network((exact_layer([[2**90]], [0], relu=False),))) == 91


def test_points_of_another_dimension():
    network = Network((exact_layer([[1, 2]], [0], relu=False),))
    with pytest.raises(NetworkError, match="2"):
        ExactEvaluator.of(network).batch(np.array([[1]]), 1)
