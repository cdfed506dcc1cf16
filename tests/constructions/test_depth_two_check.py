"""Certificates about depth 2 are accepted, and rejected with any part of them changed."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from constructions.depth_two import critical_radius, pinwheel
from constructions.depth_two_check import (
    Blocker,
    check_impossibility,
    check_memorizes,
    check_splits,
)
from constructions.rational_points import RationalPoints
from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network

TINY = Fraction(1, 10**12)


@pytest.fixture(scope="module")
def wheel():
    return critical_radius(pinwheel(Fraction(2, 5)))


@pytest.mark.parametrize(
    "direction",
    [(0, 0, 0, 0), (1, 1, 1, 1), (1, 1, -1, -1), (1, 0, 0, 0), (-1, 1, -1), (-1, 1, -1, 2)],
)
def test_other_directions_are_rejected(wheel, direction):
    claim = replace(wheel.impossibility, direction=direction)
    with pytest.raises(CertificateError):
        check_impossibility(wheel.data, wheel.radius, claim)


def test_without_blockers_nothing_is_excluded(wheel):
    with pytest.raises(CertificateError, match="neither orthogonal"):
        check_impossibility(wheel.data, wheel.radius, replace(wheel.impossibility, blockers=()))


def corrupted(blocker: Blocker):
    """The blocker with each of its fields spoilt in turn."""
    (i, w), *rest = blocker.inside
    yield replace(blocker, inside=((i, w + TINY), *rest))
    yield replace(blocker, inside=((i, -w), (i + 1, 1 + w), *rest))
    yield replace(blocker, inside=((9, w), *rest))
    yield replace(blocker, inside=((-1, w), *rest))
    yield replace(blocker, inside=((i, w / 2), (i, w / 2), *rest))
    yield replace(blocker, inside=())
    yield replace(blocker, outside=())
    yield replace(blocker, inside=blocker.outside)
    yield replace(blocker, outside=blocker.inside)


def test_corrupted_blockers_are_rejected(wheel):
    claim = wheel.impossibility
    check_impossibility(wheel.data, wheel.radius, claim)
    seen = 0
    for k, blocker in enumerate(claim.blockers):
        for wrong in corrupted(blocker):
            blockers = (*claim.blockers[:k], wrong, *claim.blockers[k + 1 :])
            with pytest.raises(CertificateError):
                check_impossibility(wheel.data, wheel.radius, replace(claim, blockers=blockers))
            seen += 1
    assert seen >= 27


def test_the_impossibility_proves_nothing_below_the_critical_radius(wheel):
    with pytest.raises(CertificateError, match="apart"):
        check_impossibility(wheel.data, wheel.radius - TINY, wheel.impossibility)


def test_corrupted_separators_are_rejected(wheel):
    check_splits(wheel.data, wheel.radius, wheel.constant, wheel.separators)
    everyone = frozenset(range(4))
    for k, s in enumerate(wheel.separators):
        wrong = [
            replace(s, members=everyone - s.members),
            replace(s, members=s.members ^ {2}),
            replace(s, normal=tuple(2 * v for v in s.normal), offset=2 * s.offset),
            replace(s, normal=s.normal[:1]),
            replace(s, offset=s.offset + TINY),
            replace(s, offset=s.offset - TINY),
            replace(s, margin=s.margin - 1),
            replace(s, margin=s.margin + TINY),
            replace(s, step=s.step + 1),
        ]
        for changed in wrong:
            separators = (*wheel.separators[:k], changed, *wheel.separators[k + 1 :])
            with pytest.raises(CertificateError):
                check_splits(wheel.data, wheel.radius, wheel.constant, separators)
    with pytest.raises(CertificateError):
        check_splits(wheel.data, wheel.radius, wheel.constant + 1, wheel.separators)
    with pytest.raises(CertificateError, match="below"):
        check_splits(wheel.data, wheel.radius + TINY, wheel.constant, wheel.separators)


def test_changed_networks_are_rejected(wheel):
    mu = wheel.radius * Fraction(9, 10)
    network = wheel.network(mu)
    check_memorizes(network, wheel.data, mu)
    changed = 0
    for k, layer in enumerate(network.layers):
        for i, j in itertools.product(range(layer.n_out), range(layer.n_in + 1)):
            weight, bias = layer.dense.astype(object), layer.bias.astype(object)
            if j < layer.n_in:
                weight[i, j] += 3
            else:
                bias[i] += 3
            layers = list(network.layers)
            layers[k] = Layer(weight, bias, layer.relu)
            with pytest.raises(CertificateError):
                check_memorizes(Network(tuple(layers)), wheel.data, mu)
            changed += 1
    assert changed == network.width * 4 + 1


def test_other_forms_of_network_are_rejected(wheel):
    mu = wheel.radius / 2
    network = wheel.network(mu)
    first, last = network.layers
    linear = Layer(first.weight, first.bias, np.zeros(first.n_out, dtype=bool))
    clipped = Layer(last.weight, last.bias, np.ones(1, dtype=bool))
    third = Layer(np.eye(1), np.zeros(1), np.zeros(1, dtype=bool))
    for layers in ((first,), (linear, last), (first, clipped), (first, last, third)):
        with pytest.raises(CertificateError):
            check_memorizes(Network(layers), wheel.data, mu)
    with pytest.raises(CertificateError, match="inputs"):
        check_memorizes(network, pinwheel(Fraction(2, 5), dimension=3), mu)
    with pytest.raises(CertificateError, match="switches"):
        check_memorizes(network, wheel.data, Fraction(1, 2))


def test_more_points_than_can_be_enumerated_are_not_accepted(wheel):
    line = RationalPoints(tuple((v,) for v in range(21)), tuple(v % 2 for v in range(21)))
    with pytest.raises(CertificateError, match="up to 20"):
        check_impossibility(line, Fraction(1), wheel.impossibility)
