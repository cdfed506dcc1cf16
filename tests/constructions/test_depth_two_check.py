"""Certificates about depth 2 are accepted, and rejected with any part of them changed."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from point_sets import grid_points
from strategies import generators

from constructions.depth_two import critical_radius, pinwheel
from constructions.depth_two_check import (
    Balanced,
    Blocked,
    Blocker,
    Branch,
    check_impossibility,
    check_memorizes,
    check_splits,
)
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
    with pytest.raises(CertificateError, match="no blocker"):
        check_impossibility(wheel.data, wheel.radius, replace(wheel.impossibility, blockers=()))


def corrupted_trees(case, blockers):
    """The tree with each of its places spoilt in turn, by what excludes less than before."""
    if isinstance(case, Branch):
        for point in (-1, 99):
            yield replace(case, point=point)
        for side in ("inside", "outside"):
            for below in corrupted_trees(getattr(case, side), blockers):
                yield replace(case, **{side: below})
        if case.inside != case.outside:
            yield replace(case, inside=case.outside, outside=case.inside)
        yield replace(case, inside=case)
        yield case.inside
        yield case.outside
    elif isinstance(case, Blocked):
        yield Balanced()
        yield from (Blocked(k) for k in (-1, blockers))
    else:
        yield from (Blocked(k) for k in range(blockers))


@pytest.mark.parametrize("labels", [(1, 2, 3, 2), (1, 2, 1, 2)])
def test_corrupted_trees_are_rejected(labels):
    found = critical_radius(pinwheel(Fraction(2, 5), labels))
    claim = found.impossibility
    check_impossibility(found.data, found.radius, claim)
    wrong = list(corrupted_trees(claim.tree, len(claim.blockers)))
    assert len(wrong) >= 10
    for tree in wrong:
        with pytest.raises(CertificateError):
            check_impossibility(found.data, found.radius, replace(claim, tree=tree))
    for first in (-1, 4, *({0, 1, 2, 3} - {claim.first})):
        with pytest.raises(CertificateError):
            check_impossibility(found.data, found.radius, replace(claim, first=first))


@given(generators())
@settings(max_examples=40, deadline=None)
def test_an_accepted_tree_leaves_no_split_that_matters(rng):
    """Against all splits: each is balanced, or separates a blocker."""
    data = grid_points(rng, max_points=8)
    critical = critical_radius(data)
    claim = critical.impossibility
    check_impossibility(data, critical.radius, claim)
    groups = [[{i for i, _ in side} for side in (b.inside, b.outside)] for b in claim.blockers]
    for bits in range(2 ** len(data)):
        members = {i for i in range(len(data)) if bits >> i & 1}
        separated = any(
            (a <= members and not b & members) or (b <= members and not a & members)
            for a, b in groups
        )
        assert separated or sum(claim.direction[i] for i in members) == 0


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
    assert seen >= 9 * len(claim.blockers) > 0


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
