"""Depth 2 and Lipschitz constants: exact values, and a steep pair for every network of depth 2."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq, fmpq_mat
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import generators, random_weights

from constructions.depth_two_check import check_memorizes
from constructions.exact_layer import exact_layer
from constructions.lipschitz_depth_two import (
    MAX_KINKS,
    check_steep,
    demonstrate,
    exact_lipschitz,
    plane_network,
    ramp_network,
    refute,
    separable_lipschitz,
    teaching_data,
)
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.network import Layer, Network


def memorizing_network(rng, d):
    """Random hidden neurons, many on {x_1 = x_2}; output weights solved so that F(x_i) = y_i."""
    width = int(rng.integers(d + 2, d + 12))
    weight = rng.integers(-4, 5, (width, d))
    bias = rng.integers(-3, 4, width)
    for row in range(0, width, 3):
        weight[row] = 0
        weight[row, :2] = rng.choice([(1, -1), (-2, 2), (1, -1)])
        bias[row] = rng.choice([0, 0, 1])
    points = [[0] * d, *([int(j == k) for j in range(d)] for k in range(d))]
    relu = rng.random(width) < 0.9
    columns = []
    for x in points:
        z = weight @ np.array(x) + bias
        columns.append([*(int(v) for v in np.where(relu, np.maximum(z, 0), z)), 1])
    system = fmpq_mat([[*row, y] for row, y in zip(columns, [-1] + [1] * d, strict=True)])
    reduced, rank = system.rref()
    solution = [Fraction(int(v), 3) for v in rng.integers(-3, 4, width + 1)]
    pivots = [next(j for j in range(width + 2) if reduced[i, j] != 0) for i in range(rank)]
    if width + 1 in pivots:
        return None
    for i in reversed(range(rank)):
        tail = sum(
            (fraction(reduced[i, j]) * solution[j] for j in range(pivots[i] + 1, width + 1)),
            Fraction(0),
        )
        solution[pivots[i]] = fraction(reduced[i, width + 1]) - tail
    first = Layer(weight.astype(float), bias.astype(float), relu)
    last = exact_layer([solution[:-1]], solution[-1:], relu=False)
    return Network((first, last))


def fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))


@given(generators(), st.integers(3, 6))
@settings(max_examples=150, deadline=None)
def test_every_memorization_of_depth_two_is_steeper_than_two(rng, d):
    network = memorizing_network(rng, d)
    if network is None:
        return
    steep = refute(network)
    check_steep(network, steep)
    rise = abs(network.exact(steep.p)[0] - network.exact(steep.q)[0])
    assert rise > 2 * max(abs(a - b) for a, b in zip(steep.p, steep.q, strict=True))


def test_memorizing_networks_are_frequent():
    made = [memorizing_network(np.random.default_rng(s), 3) for s in range(50)]
    assert sum(network is not None for network in made) >= 25


def test_networks_that_are_right_on_the_segments_are_caught_at_the_hyperplane():
    """−1 + |x_i + x_j|/2 + |x_i − x_j|/2 + ... is −1 + 2t on the axes, and not 2-Lipschitz."""
    d = 3
    for pair in itertools.combinations(range(d), 2):
        i, j = pair
        rest = next(k for k in range(d) if k not in pair)
        rows = [[0] * d for _ in range(4)]
        rows[0][i], rows[0][j] = 1, 1
        rows[1][i], rows[1][j] = 1, -1
        rows[2][i], rows[2][j] = -1, 1
        rows[3][rest] = 1
        layers = (
            exact_layer(rows, [0] * 4, relu=True),
            exact_layer([[1, 1, 1, 2]], [-1], relu=False),
        )
        network = Network(layers)
        check_steep(network, refute(network))


@pytest.mark.parametrize("d", [1, 2, 3, 7])
@pytest.mark.parametrize("mu", [Fraction(0), Fraction(2, 5), Fraction(7, 16), Fraction(499, 1000)])
def test_ramps(d, mu):
    network = ramp_network(d, mu)
    assert (network.depth, network.width) == (2, 2 * d)
    check_memorizes(network, teaching_data(d), mu)
    assert separable_lipschitz(network) == Fraction(2 * d) / (1 - 2 * mu)
    # The constant is attained: from all kinks to all others along the diagonal.
    low, high = network.exact([mu] * d)[0], network.exact([1 - mu] * d)[0]
    assert (high - low) / (1 - 2 * mu) == Fraction(2 * d) / (1 - 2 * mu)
    if d >= 3:
        check_steep(network, refute(network))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_both_lipschitz_constants_of_ramps_agree(d):
    network = ramp_network(d, Fraction(1, 4))
    assert exact_lipschitz(network) == separable_lipschitz(network) == 4 * d


def test_the_exception_in_the_plane():
    network = plane_network()
    assert (network.depth, network.width, network.n_inputs) == (2, 4, 2)
    assert exact_lipschitz(network) == 2
    check_memorizes(network, teaching_data(2), Fraction(0))
    with pytest.raises(DataError, match="d = 2"):
        refute(network)
    with pytest.raises(NetworkError, match="2 coordinates"):
        separable_lipschitz(network)


@given(generators())
@settings(max_examples=60, deadline=None)
def test_exact_lipschitz_constants_against_gradients_at_many_points(rng):
    """Never below a gradient seen; equal to the largest on a line, where all are seen."""
    d, width = int(rng.integers(1, 3)), int(rng.integers(1, 5))
    weight, bias = rng.integers(-3, 4, (width, d)), rng.integers(-2, 3, width)
    out = random_weights(rng, (1, width), "bits")
    relu = rng.random(width) < 0.85
    network = Network(
        (
            Layer(weight.astype(float), bias.astype(float), relu),
            Layer(out, np.zeros(1), np.zeros(1, dtype=bool)),
        )
    )
    places = np.linspace(-7, 7, 113) + np.sqrt(2) / 1000
    grid = np.array(list(itertools.product(places, repeat=d)))
    far = rng.normal(size=(4000, d)) * 1000
    near = rng.normal(size=(8000, d)) * 0.02 + rng.choice(places, (8000, d))
    best = 0.0
    for x in (grid, far, near):
        on = (x @ weight.T + bias > 0) | ~relu
        best = max(best, np.abs((on * out[0]) @ weight).sum(axis=1).max())
    exact = exact_lipschitz(network)
    assert exact >= Fraction(best)
    if d == 1:
        assert exact == Fraction(best) == separable_lipschitz(network)


@given(generators())
@settings(max_examples=60, deadline=None)
def test_separable_constants_against_all_regions(rng):
    d = 2
    columns = rng.integers(0, d, 5)
    weight = np.zeros((5, d))
    weight[np.arange(5), columns] = rng.integers(-3, 4, 5)
    network = Network(
        (
            Layer(weight, rng.integers(-2, 3, 5).astype(float), rng.random(5) < 0.8),
            Layer(random_weights(rng, (1, 5), "bits"), np.zeros(1), np.zeros(1, dtype=bool)),
        )
    )
    assert separable_lipschitz(network) == exact_lipschitz(network)


def test_corrupted_pairs_are_rejected():
    network = ramp_network(3, Fraction(2, 5))
    steep = refute(network)
    check_steep(network, steep)
    zero = (Fraction(0),) * 3
    wrong = [
        replace(steep, p=steep.q),
        replace(steep, p=zero, q=(Fraction(1, 8), *zero[1:])),
        replace(steep, slope=steep.slope + Fraction(1, 10**9)),
        replace(steep, p=steep.p[:2]),
        replace(steep, q=steep.q[:2]),
        replace(steep, p=(steep.p[0] + 1, *steep.p[1:])),
    ]
    for claim in wrong:
        with pytest.raises(CertificateError):
            check_steep(network, claim)
    # A true slope of 2 is not steeper than 2.
    flat = plane_network()
    with pytest.raises(CertificateError):
        check_steep(
            flat, replace(steep, p=zero[:2], q=(Fraction(1), Fraction(0)), slope=Fraction(2))
        )


def test_networks_that_the_theorem_does_not_speak_of_are_refused():
    network = ramp_network(3, Fraction(1, 4))
    first, last = network.layers
    with pytest.raises(NetworkError, match="expected -1"):
        refute(Network((first, Layer(last.weight, last.bias + 0.5, last.relu))))
    with pytest.raises(CertificateError, match="depth 2"):
        refute(Network((first,)))
    with pytest.raises(CertificateError, match="depth 2"):
        refute(Network((first, Layer(last.weight, last.bias, np.ones(1, dtype=bool)))))
    with pytest.raises(DataError, match="d = 2"):
        refute(ramp_network(2, Fraction(1, 4)))
    for d, mu in ((0, Fraction(0)), (3, Fraction(1, 2)), (3, Fraction(-1, 2))):
        with pytest.raises(DataError):
            ramp_network(d, mu)
    with pytest.raises(NetworkError, match=f"{2 * MAX_KINKS} kinks"):
        exact_lipschitz(ramp_network(MAX_KINKS, Fraction(1, 4)))


def test_the_demonstration():
    values = demonstrate().values
    assert (values["lipschitz"], values["plane_lipschitz"]) == ("30", "2")
    assert Fraction(values["slope"]) > 2
