"""Hidden gradients: D.1 on random networks, the laws against simulation, and where they end."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import generators, random_box, random_network, random_point

from constructions.bias import random_network as quarters
from constructions.bias_part import bias_values, signs_at
from constructions.bias_safety import (
    approximate_rate,
    attack_direction,
    attack_rate,
    hidden,
    random_rate,
    sign_probability,
    steepest_gap,
    three_class_rates,
)
from constructions.exact_layer import exact_layer
from verifier.core.errors import CertificateError, NetworkError
from verifier.core.network import Network

X = (Fraction(1, 7), Fraction(-2, 7), Fraction(5, 7))
RHO = Fraction(3, 2)


def generic(seed):
    """A network with three inputs and a point off its kinks."""
    network = quarters(seed, (3, 4, 4, 2))
    return network, X, 0 not in signs_at(network, X)


SEEDS = [seed for seed in range(40) if generic(seed)[2]]


@settings(max_examples=40, deadline=None)
@given(generators())
def test_adding_a_linear_part_keeps_the_bias_part(rng):
    network = random_network(rng)
    x = random_point(rng, random_box(rng, network.n_inputs))
    shape = (network.n_outputs, network.n_inputs)
    rows = [[Fraction(int(v), 3) for v in row] for row in rng.integers(-9, 10, shape)]
    secret = hidden(network, rows)
    added = [sum((a * b for a, b in zip(row, x, strict=True)), Fraction(0)) for row in rows]
    assert secret.exact(x) == tuple(v + w for v, w in zip(network.exact(x), added, strict=True))
    if signs_at(network, x).count(0) <= 4:
        assert bias_values(secret, x) == bias_values(network, x)


@pytest.mark.parametrize("seed", SEEDS[:6])
def test_the_attack_is_as_good_as_chance(seed):
    network, x, _ = generic(seed)
    lam = steepest_gap(network, x) + Fraction(1, 10)
    for label in (0, 1):
        assert attack_rate(network, x, label, RHO, lam) == random_rate(network, x, label, RHO)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        signs = rng.choice([-1, 1], (2, 3))
        sizes = rng.integers([[100], [300]], [[201], [401]], (2, 3))
        rows = [
            [Fraction(int(s * v), 100) * lam for s, v in zip(a, b, strict=True)]
            for a, b in zip(signs, sizes, strict=True)
        ]
        assert attack_direction(hidden(network, rows), x, 0) == tuple(signs[1])
        assert attack_direction(hidden(network, rows), x, 1) == tuple(-signs[1])


def test_a_lambda_that_is_too_small_is_noticed():
    steep = [s for s in SEEDS if steepest_gap(*generic(s)[:2]) > 1]
    assert steep
    for seed in steep[:3]:
        network, x, _ = generic(seed)
        with pytest.raises(CertificateError):
            attack_rate(network, x, 0, RHO, Fraction(1, 100))
        with pytest.raises(CertificateError):
            approximate_rate(network, x, 0, RHO, Fraction(2), Fraction(1, 10))


def test_three_classes_break_it():
    assert three_class_rates() == (Fraction(3, 4), Fraction(3, 4))
    rng = np.random.default_rng(0)
    signs, low = rng.choice([-1, 1], (3, 4000)), np.array([[1], [3], [5]])
    r = signs * (low + rng.random((3, 4000)))
    runner_up = np.maximum(r[1], r[2])
    assert abs((runner_up > r[0]).mean() - 0.75) < 0.05
    gradient = np.exp(r[1]) * (r[1] - r[0]) + np.exp(r[2]) * (r[2] - r[0])
    assert abs((gradient > 0).mean() - 0.75) < 0.05


@given(st.fractions(-2, 2, max_denominator=60), st.fractions(1, 3, max_denominator=9))
def test_the_triangular_law(g, lam):
    """P(T > −g) as an area: a trapezium of the triangle with base 4λ and height 1/(2λ)."""
    cut = abs(g)
    tail = (2 * lam - cut) * (2 * lam - cut) / (4 * lam**2) / 2
    assert sign_probability(g, lam) == (1 - tail if g >= 0 else tail)


@pytest.mark.parametrize("seed", SEEDS[:5])
@pytest.mark.parametrize("epsilon", [Fraction(1, 10), Fraction(1)])
def test_uniform_magnitudes_cost_a_factor_at_most(seed, epsilon):
    network, x, _ = generic(seed)
    lam = 6 * max(steepest_gap(network, x), Fraction(1, 4)) / epsilon
    for label in (0, 1):
        rate = approximate_rate(network, x, label, RHO, lam, epsilon)
        assert rate <= (1 + epsilon) * random_rate(network, x, label, RHO)


def test_what_is_refused():
    network = Network(
        (exact_layer([[1], [1]], [0, 0], relu=True), exact_layer([[1, 0]] * 3, [0] * 3, relu=False))
    )
    with pytest.raises(NetworkError, match="two classes"):
        attack_direction(network, (Fraction(1),), 0)
    with pytest.raises(NetworkError, match="kink"):
        steepest_gap(network, (Fraction(0),))
