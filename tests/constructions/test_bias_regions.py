"""Bias classifiers on boxes: every decision against z3, its evidence against its checker."""

from fractions import Fraction
from itertools import pairwise

import pytest
from bias_oracle import wrong_somewhere
from hypothesis import given, settings
from strategies import generators, random_box, random_network, random_point

from constructions.bias_check import BiasProof, check_bias_proof, check_bias_witness
from constructions.bias_part import bias_values, consistent, signs_at
from constructions.bias_regions import Regions, constant_on, decide_bias
from constructions.exact_layer import exact_layer
from verifier.core.errors import NetworkError, PropertyError
from verifier.core.network import Network
from verifier.core.property import Box


def quarter_network(rng):
    """Weights that are quarters, so that kinks meet in corners; two classes."""
    sizes = [
        int(rng.integers(1, 4)),
        *(int(n) for n in rng.integers(2, 4, int(rng.integers(1, 3)))),
        2,
    ]
    layers = []
    for k, (n, m) in enumerate(pairwise(sizes)):
        rows = [[Fraction(int(v), 4) for v in rng.integers(-4, 5, n)] for _ in range(m)]
        bias = [Fraction(int(v), 4) for v in rng.integers(-4, 5, m)]
        layers.append(exact_layer(rows, bias, relu=k < len(sizes) - 2))
    return Network(tuple(layers))


def quarter_box(rng, d):
    low = [Fraction(int(v), 4) for v in rng.integers(-8, 5, d)]
    return Box(
        tuple(low),
        tuple(v + Fraction(int(w), 4) for v, w in zip(low, rng.integers(0, 6, d), strict=True)),
    )


@settings(max_examples=40, deadline=None)
@given(generators())
def test_decisions_are_those_of_z3(rng):
    network = quarter_network(rng)
    box = quarter_box(rng, network.n_inputs)
    for strong in (True, False):
        found = decide_bias(network, box, 0, strong=strong)
        wrong = wrong_somewhere(network, box, 0, strong=strong)
        assert isinstance(found, BiasProof) != wrong
        if wrong:
            check_bias_witness(network, box, 0, found)
        else:
            check_bias_proof(network, box, 0, found)


@settings(max_examples=40, deadline=None)
@given(generators())
def test_every_value_at_a_sample_belongs_to_a_region(rng):
    network = random_network(rng, max_inputs=3, max_width=3)
    box = random_box(rng, network.n_inputs)
    found = list(Regions(network, box))
    betas = {tuple(region.outputs.constant) for region in found}
    for region in found:
        assert box.contains(region.x)
        assert consistent(signs_at(network, region.x), region.pattern)
    for _ in range(10):
        assert bias_values(network, random_point(rng, box)) <= betas
    inner = {region.pattern for region in Regions(network, box, strong=False)}
    assert inner <= {region.pattern for region in found}


def test_a_point_on_a_kink_is_weakly_right_whatever_the_label():
    last = exact_layer([[1], [0]], [0, 0], relu=False)
    step = Network((exact_layer([[1]], [-1], relu=True), last))
    point = Box.ball((1,), 0)
    for label in (0, 1):
        weak = decide_bias(step, point, label, strong=False)
        assert isinstance(weak, BiasProof)
        assert (weak.regions, weak.margin) == (0, None)
        check_bias_proof(step, point, label, weak)
        assert not wrong_somewhere(step, point, label, strong=False)
        assert not isinstance(decide_bias(step, point, label), BiasProof)


def test_constant_on_a_box():
    step = Network(
        (exact_layer([[1]], [-1], relu=True), exact_layer([[2], [0]], [5, 1], relu=False))
    )
    assert constant_on(step, Box((Fraction(0),), (Fraction(99, 100),))) == (5, 1)
    assert constant_on(step, Box((Fraction(0),), (Fraction(1),))) is None
    assert constant_on(step, Box((Fraction(2),), (Fraction(3),))) is None


def test_the_number_of_prefixes_is_limited():
    network = Network(
        (
            exact_layer([[1, 2], [2, 1], [1, -1]], [0, 0, 0], relu=True),
            exact_layer([[1] * 3, [0] * 3], [1, 0], relu=False),
        )
    )
    with pytest.raises(NetworkError, match="more than 3"):
        decide_bias(network, Box.ball((0, 0), 1), 0, max_nodes=3)


@pytest.mark.parametrize(("box", "label"), [(Box.ball((0,), 1), 0), (Box.ball((0, 0), 1), 2)])
def test_what_does_not_fit_is_refused(box, label):
    network = Network((exact_layer([[1, 2], [2, 1]], [0, 0], relu=False),))
    with pytest.raises(PropertyError):
        decide_bias(network, box, label)
