"""The bias part against its definition C − J x, and what happens on kinks."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import generators, random_box, random_network, random_point

from constructions.bias_part import (
    MAX_FREE,
    bias_part,
    bias_values,
    consistent,
    constant_of,
    forms_of,
    signs_at,
)
from constructions.exact_layer import exact_layer
from verifier.core.errors import NetworkError
from verifier.core.network import Network

ONE = Fraction(1)


@settings(max_examples=60, deadline=None)
@given(generators())
def test_off_the_kinks_it_is_the_value_minus_the_derivative(rng):
    network = random_network(rng)
    x = random_point(rng, random_box(rng, network.n_inputs))
    signs = signs_at(network, x)
    pattern = tuple(sign > 0 for sign in signs)
    units, outputs = forms_of(network, pattern)
    assert constant_of(network, pattern) == tuple(outputs.constant)
    value = network.exact(x)
    assert tuple(outputs.slope.dot(np.array(x, dtype=object)) + outputs.constant) == value
    for (slope, constant), sign in zip(units, signs, strict=True):
        u = sum((a * b for a, b in zip(slope, x, strict=True)), constant)
        assert (u > 0) - (u < 0) == sign
    if 0 in signs:
        assert bias_part(network, x) in bias_values(network, x)
        return
    # A step so small that no sign changes gives the derivative without any chain rule.
    step = Fraction(1)
    for j in range(network.n_inputs):
        while True:
            y = tuple(v + step * (k == j) for k, v in enumerate(x))
            middle = tuple(v + step / 2 * (k == j) for k, v in enumerate(x))
            if signs_at(network, y) == signs == signs_at(network, middle):
                break
            step /= 2
        slope = [(b - a) / step for a, b in zip(value, network.exact(y), strict=True)]
        assert list(outputs.slope[:, j]) == slope
    assert bias_values(network, x) == {bias_part(network, x)}


def test_twin_units_have_three_bias_parts_on_their_kink():
    network = Network(
        (
            exact_layer([[1], [1]], [-1, -1], relu=True),
            exact_layer([[0, 0], [-1, 1]], [0, 0], relu=False),
        )
    )
    assert bias_values(network, (ONE,)) == {(0, 0), (0, 1), (0, -1)}
    assert bias_values(network, (ONE / 2,)) == bias_values(network, (2 * ONE,)) == {(0, 0)}
    assert bias_part(network, (ONE,)) == (0, 0)


def test_consistent_patterns():
    assert consistent((1, 0, -1), (True, False, False))
    assert consistent((1, 0, -1), (True, True, False))
    assert not consistent((1, 0, -1), (False, True, False))
    assert not consistent((1, 0, -1), (True, True, True))
    assert not consistent((1, 0), (True,))


def test_what_is_refused():
    many = Network((exact_layer([[1]] * (MAX_FREE + 1), [0] * (MAX_FREE + 1), relu=True),))
    with pytest.raises(NetworkError, match=str(MAX_FREE)):
        bias_values(many, (Fraction(0),))
    with pytest.raises(NetworkError):
        forms_of(many, (True,) * (MAX_FREE + 2))
    with pytest.raises(NetworkError, match="17 ReLUs"):
        constant_of(many, (True,) * MAX_FREE)
