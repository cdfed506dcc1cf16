"""Parameter attacks at full size: accepted, refused with any part changed, counted as in T10.1."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import small_sets

from constructions.dataset import DataSet
from constructions.exact_layer import exact_layer
from constructions.idle_attack import (
    check_attack,
    copies_needed,
    deepened,
    idle_attack,
    largest_change,
)
from constructions.memorize_depth2 import staircase
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.exact import fractions
from verifier.core.network import Layer, Network

# Data in quarters, labels, direction, δ, r and the idle units that another program needed.
KNOWN = [
    (((-2, -4), (0, -2), (1, 4), (3, 1)), [0, 1, 1, 0], (1, 0), "1/4", "3/40", 3424),
    (
        ((-4, -3), (-3, 0), (-3, 2), (-2, -1), (-2, 4)),
        [0, 1, 0, 2, 1],
        (1, 2),
        "1/5",
        "1/40",
        17420,
    ),
    (
        ((-4, -1, 2), (-4, 2, -4), (-3, -4, -3), (2, 3, -2)),
        [0, 1, 0, 1],
        (1, 1, 0),
        "1/10",
        "3/40",
        21072,
    ),
    (((-3,), (-1,), (2,)), [0, 1, 0], (1,), "1/20", "3/20", 32004),
]


def memorized(rows, labels):
    data = DataSet(np.array(rows) / 4, np.array(labels), (len(rows[0]),), max(labels) + 1)
    points = [data.sample(i) for i in range(len(data))]
    return staircase(data, one_hot=True).built.network, points


@pytest.mark.parametrize(("rows", "labels", "direction", "delta", "radius", "idle"), KNOWN[:1])
def test_a_known_case_at_full_size(rows, labels, direction, delta, radius, idle):
    network, points = memorized(rows, labels)
    attack = idle_attack(
        network, points, labels, fractions(direction), Fraction(delta), Fraction(radius)
    )
    assert attack.idle == idle
    check_attack(network, points, labels, attack)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "labels", "direction", "delta", "radius", "idle"), KNOWN[1:])
def test_larger_known_cases_at_full_size(rows, labels, direction, delta, radius, idle):
    test_a_known_case_at_full_size(rows, labels, direction, delta, radius, idle)


@settings(max_examples=10, deadline=None)
@given(small_sets(max_points=4), st.integers(1, 3))
def test_every_small_set_can_be_attacked(data, hidden):
    built = staircase(data, one_hot=True)
    ranks = [built.built.labels.index(int(v)) for v in data.labels]
    points = [data.sample(i) for i in range(len(data))]
    direction = fractions(built.projection.weights)
    network = deepened(built.built.network, hidden)
    norm = sum(map(abs, direction))
    radius = Fraction(built.projection.smallest_gap, 4 * norm)
    delta = Fraction(8)
    while True:
        attack = idle_attack(network, points, ranks, direction, delta, radius)
        if attack.idle < 400:
            break
        delta *= 2
    check_attack(network, points, ranks, attack)
    assert largest_change(attack.padded, attack.attacked) <= delta
    for x, y in zip(points, ranks, strict=True):
        assert attack.attacked.exact(x) == network.exact(x)
        assert network.exact(x)[y] == 1


@given(
    st.fractions(0, 5, max_denominator=20),
    st.fractions(Fraction(1, 9), 2, max_denominator=9),
    st.fractions(Fraction(1, 9), 1, max_denominator=9),
    st.integers(1, 4),
)
def test_no_fewer_copies_are_enough(margin, delta, share, hidden):
    n = copies_needed(margin, delta, share, hidden)
    assert n**hidden * delta ** (hidden + 1) * share > margin
    assert n >= 1
    assert (n - 1) ** hidden * delta ** (hidden + 1) * share <= margin
    if hidden == 1:
        assert n == floor(margin / (share * delta**2)) + 1


def test_the_table_of_deeper_blocks():
    """δ = 1/10, A = 2, h/2 = 1/4, height 1/2: n = 401, 64, 35 for one to three layers (T10.1)."""
    found = [copies_needed(Fraction(1), Fraction(1, 10), Fraction(1, 4), k) for k in (1, 2, 3)]
    assert found == [401, 64, 35]


@pytest.fixture(scope="module")
def attacked():
    rows, labels, direction, *_ = KNOWN[0]
    network, points = memorized(rows, labels)
    attack = idle_attack(
        network, points, labels, fractions(direction), Fraction(2), Fraction(3, 40)
    )
    check_attack(network, points, labels, attack)
    return network, points, labels, attack


def nudged(network, layer, row, column, step):
    """The network with one weight (or, for column None, bias) changed."""
    layers = list(network.layers)
    old = layers[layer]
    weight, bias = old.dense.astype(object), old.bias.astype(object)
    if column is None:
        bias[row] += step
    else:
        weight[row, column] += step
    layers[layer] = Layer(weight, bias, old.relu)
    return Network(tuple(layers))


def test_an_attack_is_refused_with_anything_changed(attacked):
    network, points, labels, attack = attacked
    last = network.layers[0].n_out
    step, small = Fraction(1, 7), Fraction(1, 1000)
    far = tuple(v + 1 for v in attack.adversaries[0])
    for changed in (
        replace(attack, delta=attack.delta / 2),
        replace(attack, radius=attack.radius / 2),
        replace(attack, adversaries=(far, *attack.adversaries[1:])),
        replace(attack, adversaries=(points[0], *attack.adversaries[1:])),
        replace(attack, attacked=attack.padded),
        replace(attack, flat=2 * attack.flat),
        replace(attack, direction=fractions((1, 1))),
        replace(attack, padded=nudged(attack.padded, 0, last, 0, small)),
        replace(attack, attacked=nudged(attack.attacked, 0, 0, 0, small)),
        replace(attack, attacked=nudged(attack.attacked, 0, last, 1, small)),
        replace(attack, attacked=nudged(attack.attacked, 0, last, None, step)),
        replace(attack, attacked=nudged(attack.attacked, 1, 0, last, step)),
        replace(attack, attacked=nudged(attack.attacked, 1, 0, None, small)),
        replace(attack, attacked=network),
    ):
        with pytest.raises(CertificateError):
            check_attack(network, points, labels, changed)
    with pytest.raises(CertificateError):
        check_attack(network, points, [1 - y for y in labels], attack)


def test_what_is_refused():
    network, points = memorized(*KNOWN[0][:2])
    labels, direction = KNOWN[0][1], fractions((1, 0))
    good = (network, points, labels, direction, Fraction(1), Fraction(1, 20))
    idle_attack(*good)
    for place, value in ((4, Fraction(0)), (5, Fraction(-1)), (3, fractions((0, 0)))):
        arguments = list(good)
        arguments[place] = value
        with pytest.raises(DataError):
            idle_attack(*arguments)
    with pytest.raises(DataError, match="scale"):
        idle_attack(*good, scale=Fraction(1, 100))
    affine = Network((exact_layer([[1, 0], [0, 1]], [0, 0], relu=False),))
    with pytest.raises(NetworkError):
        idle_attack(affine, *good[1:])
    with pytest.raises(NetworkError):
        deepened(affine, 2)
    with pytest.raises(NetworkError, match="idle units"):
        idle_attack(*good[:4], Fraction(1, 10**4), good[5])
