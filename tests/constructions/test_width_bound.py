"""The width bound: every narrow network is refuted, and below the threshold one is robust."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import generators, random_weights

from constructions.exact_layer import exact_layer
from constructions.rational_points import origin_and_units
from constructions.width_bound import (
    check_collision,
    check_narrow_network,
    demonstrate,
    kernel_vector,
    narrow_network,
    refute,
)
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.network import Layer, Network

QUARTER = Fraction(1, 4)


def low_rank_network(rng, d):
    """A first layer of rank < d, of any width, dense or sparse, with float or rational weights."""
    rank = int(rng.integers(0, d))
    left = random_weights(rng, (int(rng.integers(1, 2 * d + 1)), rank), "bits")
    weight = left @ random_weights(rng, (rank, d), "bits")
    width = len(weight)
    bias = random_weights(rng, (width,), "float32")
    if rng.random() < 0.3:
        rows = [[Fraction(v) / 3 for v in row] for row in weight.tolist()]
        first = exact_layer(rows, [Fraction(v) for v in bias.tolist()], relu=True)
    else:
        sparse = sp.csr_array(weight) if rng.random() < 0.5 else weight
        first = Layer(sparse, bias, rng.random(width) < 0.8)
    rest = [
        Layer(random_weights(rng, (4, width), "float32"), np.ones(4), np.ones(4, dtype=bool)),
        Layer(random_weights(rng, (2, 4), "float32"), np.zeros(2), np.zeros(2, dtype=bool)),
    ]
    return Network((first, *rest))


@given(generators(), st.fractions(QUARTER, 2, max_denominator=50))
@settings(max_examples=120, deadline=None)
def test_any_network_of_low_rank_is_refuted(rng, mu):
    d = int(rng.integers(1, 8))
    network = low_rank_network(rng, d)
    found = refute(network, mu)
    # Said again in the theorem's words.
    unit = [int(j == found.k) for j in range(d)]
    assert max(abs(v) for v in found.p) <= mu
    assert max(abs(v - c) for v, c in zip(found.q, unit, strict=True)) <= mu
    assert network.exact(found.p) == network.exact(found.q) == check_collision(network, found)


@given(generators())
@settings(max_examples=60, deadline=None)
def test_full_rank_is_not_refuted(rng):
    d = int(rng.integers(1, 6))
    weight = np.eye(d) + np.triu(random_weights(rng, (d, d), "float32"), 1)
    layers = (Layer(weight, np.zeros(d), np.ones(d, dtype=bool)),)
    with pytest.raises(NetworkError, match=f"rank {d}"):
        refute(Network(layers), QUARTER)


def test_rank_is_exact():
    """The last row differs from the sum of the others by one unit in the last place."""
    almost = np.array([[0.1, 0.2], [0.1, np.nextafter(0.2, 1)]])
    assert kernel_vector(almost) is None
    second = -Fraction(0.1) / Fraction(0.2)
    assert kernel_vector(np.array([[0.1, 0.2], [0.1, 0.2]])) == (1, second)


def test_kernel_of_the_zero_layer():
    assert kernel_vector(np.zeros((3, 2))) == (1, 0)


@pytest.mark.parametrize("mu", [Fraction(0), Fraction(249, 1000)])
def test_smaller_radii_are_not_the_theorems_matter(mu):
    network = low_rank_network(np.random.default_rng(0), 3)
    with pytest.raises(DataError, match="1/4"):
        refute(network, mu)


def test_corrupted_collisions_are_rejected():
    network = low_rank_network(np.random.default_rng(5), 4)
    found = refute(network, QUARTER)
    check_collision(network, found)
    wide = (*(v for v in found.p[:-1]), Fraction(9))
    wrong = [
        replace(found, p=wide),
        replace(found, q=found.p),
        replace(found, k=(found.k + 1) % 4),
        replace(found, k=4),
        replace(found, p=found.p[:-1]),
        replace(found, mu=found.mu - Fraction(1, 10**9)),
    ]
    for claim in wrong:
        with pytest.raises(CertificateError):
            check_collision(network, claim)


def test_points_that_the_network_tells_apart_are_no_collision():
    d = 3
    network = low_rank_network(np.random.default_rng(1), d)
    found = refute(network, QUARTER)
    identity = Network((Layer(np.eye(d), np.zeros(d), np.zeros(d, dtype=bool)),))
    with pytest.raises(CertificateError, match="differ"):
        check_collision(identity, found)


@pytest.mark.parametrize("d", [2, 3, 6])
@pytest.mark.parametrize("mu", [Fraction(0), Fraction(3, 16), Fraction(249, 1000)])
def test_below_the_threshold_rank_d_minus_1_is_enough(d, mu):
    network = narrow_network(d, mu, origin=3, units=-2)
    assert check_narrow_network(network, mu, origin=3, units=-2) == d - 1
    assert network.layers[0].n_out == d - 1
    assert np.linalg.matrix_rank(network.layers[0].dense.astype(float)) == d - 1
    rng = np.random.default_rng(d)
    data = origin_and_units(d, origin=3, units=-2)
    for _ in range(40):
        i = int(rng.integers(d + 1))
        shift = [mu * Fraction(int(v), 8) for v in rng.choice([-8, 8, *range(-8, 9)], d)]
        x = [c + s for c, s in zip(data.points[i], shift, strict=True)]
        assert network.exact(x) == (data.labels[i],)


def test_a_dyadic_radius_gives_a_network_that_can_be_exported():
    assert narrow_network(4, Fraction(3, 16)).is_float
    assert not narrow_network(4, Fraction(1, 5)).is_float


@pytest.mark.parametrize(("layer", "entry"), [(k, e) for k in range(4) for e in ("weight", "bias")])
def test_the_narrow_check_rejects_another_number_anywhere(layer, entry):
    mu = Fraction(15, 64)
    network = narrow_network(3, mu)
    check_narrow_network(network, mu, origin=1, units=2)
    old = network.layers[layer]
    weight, bias = old.dense.copy(), old.bias.copy()
    if entry == "weight":
        weight[0] = weight[0] * 0.25 + (layer < 2) * 3
    else:
        bias[0] += 0.5 if layer else -3
    layers = list(network.layers)
    layers[layer] = Layer(weight, bias, old.relu)
    with pytest.raises(CertificateError):
        check_narrow_network(Network(tuple(layers)), mu, origin=1, units=2)


def test_the_narrow_check_rejects_a_larger_radius_other_labels_and_missing_relus():
    mu = Fraction(3, 16)
    network = narrow_network(3, mu)
    with pytest.raises(CertificateError):
        check_narrow_network(network, mu + Fraction(1, 32), origin=1, units=2)
    with pytest.raises(CertificateError):
        check_narrow_network(network, mu, origin=2, units=1)
    for k in range(3):
        layers = list(network.layers)
        old = layers[k]
        layers[k] = Layer(old.weight, old.bias, np.zeros(old.n_out, dtype=bool))
        with pytest.raises(CertificateError):
            check_narrow_network(Network(tuple(layers)), mu, origin=1, units=2)
    with pytest.raises(CertificateError):
        check_narrow_network(Network(network.layers[:3]), mu, origin=1, units=2)


@pytest.mark.parametrize(("d", "mu"), [(1, Fraction(0)), (3, QUARTER), (3, Fraction(-1))])
def test_the_narrow_network_refuses_what_it_cannot_do(d, mu):
    with pytest.raises(DataError):
        narrow_network(d, mu)


def test_the_demonstration():
    shown = demonstrate()
    assert shown.values["sharp_rank"] == shown.values["d"] - 1
    assert shown.values["mu"] == "1/4"
