"""Kinks along a segment: between them the network is affine, and the margin is exact."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import generators, random_box, random_network, random_point

from constructions.exact_layer import exact_layer
from constructions.segment import at, kinks, smallest_margin
from verifier.core.network import Network


@settings(max_examples=50, deadline=None)
@given(generators())
def test_the_network_is_affine_between_the_kinks(rng):
    network = random_network(rng)
    box = random_box(rng, network.n_inputs)
    p, q = random_point(rng, box), random_point(rng, box)
    found = kinks(network, p, q)
    assert found[0] == 0
    assert found[-1] == 1
    for s, t in pairwise(found):
        low, high = (np.array(network.exact(at(p, q, v)), dtype=object) for v in (s, t))
        for share in (Fraction(1, 3), Fraction(1, 2)):
            between = np.array(network.exact(at(p, q, s + share * (t - s))), dtype=object)
            assert (between == low + share * (high - low)).all()


@settings(max_examples=40, deadline=None)
@given(generators())
def test_no_sample_has_a_smaller_margin(rng):
    network = random_network(rng)
    while network.n_outputs < 2:
        network = random_network(rng)
    box = random_box(rng, network.n_inputs)
    p, q = random_point(rng, box), random_point(rng, box)
    label = int(rng.integers(network.n_outputs))

    def margin(x):
        z = network.exact(x)
        return z[label] - max(v for k, v in enumerate(z) if k != label)

    smallest, where = smallest_margin(network, label, p, q)
    assert margin(where) == smallest
    for k in range(17):
        assert margin(at(p, q, Fraction(k, 16))) >= smallest


def test_a_point_and_a_tent():
    tent = Network(
        (
            exact_layer([[1], [1]], [0, -1], relu=True),
            exact_layer([[0, 0], [1, -2]], [0, Fraction(1, 3)], relu=False),
        )
    )
    assert kinks(tent, (Fraction(-1),), (Fraction(3),)) == [0, Fraction(1, 4), Fraction(1, 2), 1]
    assert smallest_margin(tent, 0, (Fraction(-1),), (Fraction(3),)) == (Fraction(-4, 3), (1,))
    assert smallest_margin(tent, 1, (Fraction(2),), (Fraction(2),))[0] == pytest.approx(1 / 3)
