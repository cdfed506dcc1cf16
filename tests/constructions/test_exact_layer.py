"""Exact layers: float64 exactly where that changes nothing."""

from fractions import Fraction

import pytest

from constructions.exact_layer import exact_layer
from verifier.core.network import Network


@pytest.mark.parametrize("value", [0, -3, Fraction(3, 8), 2**53, Fraction(1, 2**1074)])
def test_floats_are_stored_as_floats(value):
    layer = exact_layer([[value, 1]], [0], relu=True)
    assert layer.is_float
    assert layer.relu.all()
    assert Network((layer,)).exact([1, 0]) == (max(value, 0),)


@pytest.mark.parametrize("value", [Fraction(1, 3), 2**53 + 1, 10**400, Fraction(1, 2**1075)])
@pytest.mark.parametrize("place", ["weight", "bias"])
def test_other_numbers_stay_exact(value, place):
    weight, bias = (value, 0) if place == "weight" else (0, value)
    layer = exact_layer([[1, weight]], [bias], relu=False)
    assert not layer.is_float
    assert not layer.relu.any()
    assert Network((layer,)).exact([0, 1]) == (value,)
