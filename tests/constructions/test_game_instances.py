"""Closed-form margins against the networks, and against sampled moves of the adversary."""

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constructions.game_instances import (
    DistanceGame,
    balanced,
    instance_a,
    instance_a_prime,
    instance_b,
)
from verifier.core.errors import CertificateError, DataError

unit = st.fractions(-1, 1, max_denominator=40)
double = st.fractions(-2, 2, max_denominator=40)


@settings(max_examples=30, deadline=None)
@given(st.tuples(double, double), st.tuples(double, unit, unit, double), st.fractions(-2, 4))
def test_margins_are_those_of_the_networks(affine, hinge, theta):
    for game, parameters in (
        (instance_a(), affine),
        (instance_a_prime(), hinge),
        (balanced(), (theta,)),
        (instance_b(), (theta,)),
    ):
        margins = game.checked_margins(parameters)
        network = game.network(parameters)
        plain = game.margins(parameters, Fraction(0))
        for x, y, t, without in zip(game.points, game.labels, margins, plain, strict=True):
            values = []
            for k in range(-8, 9):
                z = network.exact((x + game.eps * Fraction(k, 8),))
                values.append((2 * y - 3) * (z[1] - z[0]))
            assert min(values) >= t
            assert values[8] == without >= t


@given(st.tuples(double, double), st.tuples(double, unit, unit, double))
def test_the_weights_stay_in_their_box(affine, hinge):
    for network in (instance_a().network(affine), instance_a_prime().network(hinge)):
        for layer in network.layers:
            assert abs(layer.dense).max() <= 1
            assert abs(layer.bias).max() <= 1


def test_a_wrong_formula_is_noticed():
    @dataclass(frozen=True)
    class Wrong(DistanceGame):
        def margins(self, theta, eps=None):
            return tuple(t + Fraction(1, 100) for t in super().margins(theta, eps))

    right = instance_b()
    with pytest.raises(CertificateError):
        Wrong(right.points, right.labels, right.eps).checked_margins((Fraction(1),))


@pytest.mark.parametrize("labels", [(1,), (1, 3)])
def test_labels_are_1_and_2(labels):
    with pytest.raises(DataError):
        DistanceGame((Fraction(0), Fraction(1)), labels, Fraction(1))
