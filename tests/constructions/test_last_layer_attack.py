"""Attacks on the last layer: the optimum against HiGHS, certificates refused when changed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import linprog
from strategies import generators

from constructions.exact_layer import exact_layer
from constructions.idle_attack import largest_change
from constructions.last_layer_attack import (
    Direction,
    best_direction,
    check_direction,
    features,
    moved_last_layer,
)
from verifier.core.errors import CertificateError, NetworkError
from verifier.core.network import Network


def vectors(rng, n, width):
    return [tuple(Fraction(int(v), 4) for v in row) for row in rng.integers(-8, 9, (n, width))]


@settings(max_examples=40, deadline=None)
@given(generators())
def test_the_optimum_is_that_of_another_solver(rng):
    width = int(rng.integers(1, 9))
    *kept, target = vectors(rng, int(rng.integers(1, 5)), width)
    found = best_direction(kept, target)
    check_direction(kept, target, found)
    equal = np.array(kept, dtype=float) if kept else None
    right = np.zeros(len(kept)) if kept else None
    cost = -np.array(target, dtype=float)
    solved = linprog(cost, A_eq=equal, b_eq=right, bounds=[(-1, 1)] * width)
    assert abs(-solved.fun - float(found.distance)) < 1e-6


def test_certificates_are_checked():
    rng = np.random.default_rng(0)
    *kept, target = vectors(rng, 4, 9)
    good = best_direction(kept, target)
    assert good.distance > 0
    check_direction(kept, target, good)
    tiny = Fraction(1, 10**9)
    for changed in (
        replace(good, distance=good.distance + tiny),
        replace(good, distance=Fraction(0)),
        replace(good, s=tuple(v * (1 + tiny) for v in good.s)),
        replace(good, s=(Fraction(0),) * 9),
        replace(good, s=good.s[:-1]),
        replace(good, s=(good.s[0] + tiny, *good.s[1:])),
        replace(good, weights=(good.weights[0] + 1, *good.weights[1:])),
        replace(good, weights=good.weights[:-1]),
        Direction((Fraction(0),) * 9, (Fraction(0),) * 3, Fraction(0)),
    ):
        with pytest.raises(CertificateError):
            check_direction(kept, target, changed)


@settings(max_examples=20, deadline=None)
@given(generators())
def test_the_criterion_is_sharp(rng):
    weights, bias, out = (vectors(rng, *shape) for shape in ((12, 2), (1, 12), (2, 12)))
    network = Network(
        (exact_layer(weights, bias[0], relu=True), exact_layer(out, [0, 1], relu=False))
    )
    points = vectors(rng, 3, 2)
    p = tuple(v + Fraction(1, 5) for v in points[0])
    kept, target = [features(network, x) for x in points], features(network, p)
    found = best_direction(kept, target)
    check_direction(kept, target, found)
    first, second = network.exact(p)
    y, margin = int(second > first), abs(second - first)
    if found.distance == 0 or margin == 0:
        return
    delta = margin / (2 * found.distance)
    for share, wins in ((Fraction(99, 100), False), (Fraction(101, 100), True)):
        moved = moved_last_layer(network, [(y, 1 - y, found.s)], share * delta)
        assert all(moved.exact(x) == network.exact(x) for x in points)
        outputs = moved.exact(p)
        assert (outputs[1 - y] > outputs[y]) == wins
        assert largest_change(network, moved) <= share * delta


def test_features_need_a_hidden_layer():
    affine = exact_layer([[1]], [0], relu=False)
    hidden = exact_layer([[1]], [0], relu=True)
    with pytest.raises(NetworkError):
        features(Network((affine,)), (Fraction(1),))
    with pytest.raises(NetworkError):
        features(Network((hidden, hidden)), (Fraction(1),))
    assert features(Network((hidden, affine)), (Fraction(-1),)) == (0,)
