"""Bounds on the bias part contain every sampled value, on kinks too."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import generators, random_box, random_network, random_point

from constructions.bias_bounds import BiasIntervals
from constructions.bias_part import bias_values, forms_of, signs_at
from constructions.exact_layer import exact_layer
from verifier.core.errors import PropertyError
from verifier.core.network import Layer, Network
from verifier.core.property import Box


def with_exact_weights(network):
    """The same network with Python numbers as weights."""
    return Network(
        tuple(
            Layer(part.dense.astype(object), part.bias.astype(object), part.relu)
            for part in network.layers
        )
    )


@settings(max_examples=60, deadline=None)
@given(generators())
def test_samples_lie_inside(rng):
    network = random_network(rng)
    box = random_box(rng, network.n_inputs)
    bounds = BiasIntervals(network).on(box)
    again = BiasIntervals(with_exact_weights(network)).on(box)
    assert (bounds.values, bounds.bias, bounds.flat) == (again.values, again.bias, again.flat)
    for _ in range(6):
        x = random_point(rng, box)
        values, signs = network.exact(x), signs_at(network, x)
        slope = forms_of(network, tuple(sign > 0 for sign in signs))[1].slope
        assert not np.any(slope[list(bounds.flat)])
        found = [(bounds.values, values)]
        if signs.count(0) <= 5:
            found += [(bounds.bias, beta) for beta in bias_values(network, x)]
            for beta in bias_values(network, x):
                for label in range(len(beta) if len(beta) > 1 else 0):
                    lead = beta[label] - max(v for k, v in enumerate(beta) if k != label)
                    assert bounds.margin(label) <= lead
        for (low, high), seen in found:
            assert all(a <= v <= b for a, v, b in zip(low, seen, high, strict=True))


def test_a_kink_on_the_face_of_a_box_counts():
    step = Network((exact_layer([[1]], [-1], relu=True), exact_layer([[1]], [0], relu=False)))
    up_to_kink = BiasIntervals(step).on(Box((Fraction(0),), (Fraction(1),)))
    assert up_to_kink.values == ((0,), (0,))
    assert up_to_kink.bias == ((-1,), (0,))
    assert not up_to_kink.shows((Fraction(0),))
    below = BiasIntervals(step).on(Box((Fraction(0),), (Fraction(99, 100),)))
    assert below.shows((Fraction(0),))
    assert not below.shows((Fraction(1),))


def test_the_dimension_must_fit():
    network = Network((exact_layer([[1, 2]], [0], relu=False),))
    with pytest.raises(PropertyError):
        BiasIntervals(network).on(Box.ball((0,), 1))
