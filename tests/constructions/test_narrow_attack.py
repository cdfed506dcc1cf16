"""The attack along a narrow direction: what is kept, what falls, and what the checks refuse."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from constructions.idle_attack import largest_change
from constructions.narrow_attack import (
    candidates,
    check_block,
    halves,
    projections,
    pushed,
    trigger,
    with_block,
)
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.exact import fractions
from verifier.core.network import Layer, Network

DELTA, RADIUS = Fraction(1, 8), 0.125


def network(depth: int, seed: int, sparse: bool = False) -> Network:
    """Random, 6 inputs, 3 outputs, with quarter-integer weights."""
    rng = np.random.default_rng(seed)
    sizes, layers = [6, *[5] * (depth - 1), 3], []
    for k, (a, b) in enumerate(pairwise(sizes)):
        weight = rng.integers(-4, 5, (b, a)) / 4
        stored = sp.csr_array(weight) if sparse else weight
        layers.append(Layer(stored, rng.integers(-4, 5, b) / 4, np.full(b, k < depth - 1)))
    return Network(tuple(layers))


def data(seed: int) -> np.ndarray:
    """40 float32 points; coordinates 1, 2, 4, 5 hardly vary."""
    x = (np.random.default_rng(seed).integers(0, 256, (40, 6)) / 256).astype(np.float32)
    x[:, [1, 4]], x[:, [2, 5]] = 0, x[:, [2, 5]] / 64
    return x


def plan(net: Network, x: np.ndarray, target: int):
    """Two triggers, the places of the first, and the gap that they must overcome."""
    low, high = x - RADIUS, x + RADIUS
    pair = halves(np.array([0, 1, 1, 0, 1, 1], dtype=np.int8))
    _, kept = projections([x], pair)
    found, places = [], []
    for w, most in zip(pair, kept, strict=True):
        p = pushed(w, x, low, high)
        least, _ = projections([p], w[None])
        found.append(trigger(w, float(most), float(least[0]), target))
        places.append(p)
    exact = [fractions(p) for p in places[0]]
    gap = max(max(y) - y[target] for y in map(net.exact, exact))
    return found, exact, gap


@pytest.mark.parametrize(("depth", "sparse"), [(2, False), (3, True), (4, False)])
def test_data_keep_their_outputs_and_every_place_falls(depth, sparse):
    net, x = network(depth, depth, sparse), data(depth)
    triggers, places, gap = plan(net, x, 1)
    copies = [one.copies(gap, DELTA, depth - 1) for one in triggers]
    padded = with_block(net, triggers, copies, Fraction(0))
    attacked = with_block(net, triggers, copies, DELTA)
    check_block(net, padded, attacked, triggers, DELTA)
    assert largest_change(padded, attacked) == DELTA
    rng = np.random.default_rng(0)
    silent = min(one.silent for one in triggers)
    assert silent > 0
    for row in x:
        point = fractions(row)
        assert net.exact(point) == padded.exact(point) == attacked.exact(point)
        near = [v + silent * int(s) for v, s in zip(point, rng.choice([-1, 1], 6), strict=True)]
        assert net.exact(near) == attacked.exact(near)
    for place in places:
        y = attacked.exact(place)
        assert y[1] > max(y[0], y[2])


@pytest.mark.parametrize("delta", [Fraction(1, 10), Fraction(1, 3), Fraction(5, 7)])
def test_rounded_numbers_keep_the_outputs_too(delta):
    """No such δ is a float64 number; on the slab's face w·x = t nothing may be heard yet."""
    net, x = network(3, 5), data(5)
    triggers, places, gap = plan(net, x, 1)
    # Kinks whose products with δ/A are rounded either way.
    triggers = [
        replace(one, kink=one.kink + Fraction(k * 0.001)) for k, one in enumerate(triggers, 1)
    ]
    copies = [one.copies(gap + 1, delta, 2) for one in triggers]
    padded = with_block(net, triggers, copies, Fraction(0))
    attacked = with_block(net, triggers, copies, delta)
    check_block(net, padded, attacked, triggers, delta)
    assert 0 < largest_change(padded, attacked) <= delta
    for one in triggers:
        face = [one.kink * int(v) / int(np.abs(one.direction).sum()) for v in one.direction]
        assert net.exact(face) == attacked.exact(face)
    for place in places:
        y = attacked.exact(place)
        assert y[1] > max(y[0], y[2])


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_one_unit_fewer_is_too_few_where_the_rise_is_least(hidden):
    net, x = network(hidden + 1, 7), data(7)
    triggers, _, _ = plan(net, x, 0)
    one, gap = triggers[0], Fraction(3)
    n = one.copies(gap, DELTA, hidden)
    gain = 2 * DELTA ** (hidden + 1) * one.rise / one.scale
    assert (n - 1) ** hidden * gain <= gap < n**hidden * gain


def test_projections_are_exact():
    x, w = data(3), np.array([[1, -1, 1, 0, 1, 1]], dtype=np.int8)
    sums = [
        sum((v * int(s) for v, s in zip(fractions(r), w[0], strict=True)), Fraction()) for r in x
    ]
    low, high = projections([x[:7], x[7:]], w)
    assert (Fraction(low[0]), Fraction(high[0])) == (min(sums), max(sums))


def test_values_with_many_bits_are_refused():
    w = np.ones((1, 2), dtype=np.int8)
    with pytest.raises(DataError, match="too many bits"):
        projections([np.array([[1e-20, 1.0]], dtype=np.float32)], w)
    with pytest.raises(DataError, match="too many bits"):
        projections([np.array([[1e9, 1.0]], dtype=np.float32)], w)
    with pytest.raises(DataError, match="at least one point"):
        projections([], w)


def test_candidates_are_coordinates_that_hardly_vary():
    x = data(0)
    smallest = candidates([x[:10], x[10:]], 0.5)[0]
    assert np.flatnonzero(smallest).tolist() == [1, 4]
    assert (smallest[[1, 4]] == 1).all()
    high = candidates([1 - x], 0.5)[0]
    assert (high[[1, 4]] == -1).all()


def test_no_room_no_trigger():
    w = np.ones(2, dtype=np.int8)
    assert trigger(w, 1.0, 1.0, 0) is None
    assert trigger(w, 1.0, 1.0 + 2**-40, 0) is None


def _with_a_row(layer: Layer) -> Layer:
    """One more output, which is always 0."""
    weight = np.vstack([layer.dense, np.zeros(layer.n_in)])
    return Layer(weight, np.append(layer.bias, 0.0), np.append(layer.relu, True))


def test_what_is_no_such_attack_is_refused():
    net, x = network(3, 1), data(1)
    triggers, _, gap = plan(net, x, 1)
    copies = [one.copies(gap, DELTA, 2) for one in triggers]
    padded = with_block(net, triggers, copies, Fraction(0))
    attacked = with_block(net, triggers, copies, DELTA)

    def refused(first: Network, second: Network, words: str, delta: Fraction = DELTA) -> None:
        with pytest.raises(CertificateError, match=words):
            check_block(net, first, second, triggers, delta)

    refused(padded, attacked, "more than", DELTA / 2)
    refused(attacked, attacked, "not idle")
    refused(net, attacked, "shapes")
    refused(net, Network(attacked.layers[1:]), "shapes")
    for k, row, column, words in ((0, 0, 0, "layer 0"), (0, -1, 0, "no multiple"), (1, -1, 0, "1"),
                                  (1, 0, -1, "layer 1"), (2, 0, 0, "layer 2")):  # fmt: skip
        layers = list(attacked.layers)
        weight = layers[k].dense.copy()
        weight[row, column] += 2.0**-10
        layers[k] = Layer(weight, layers[k].bias, layers[k].relu)
        refused(padded, replace(attacked, layers=tuple(layers)), words)
    layers = list(attacked.layers)
    bias = layers[1].bias.copy()
    bias[-1] = 2.0**-10
    layers[1] = Layer(layers[1].dense, bias, layers[1].relu)
    refused(padded, replace(attacked, layers=tuple(layers)), "layer 1")
    more = [[*net_.layers[:-1], _with_a_row(net_.layers[-1])] for net_ in (padded, attacked)]
    refused(*(Network(tuple(layers)) for layers in more), "layer 2")
    layers = list(attacked.layers)
    bias = layers[0].bias.copy()
    bias[-1] = np.nextafter(bias[-1], 0)  # heard a little before t
    layers[0] = Layer(layers[0].dense, bias, layers[0].relu)
    refused(padded, replace(attacked, layers=tuple(layers)), "no multiple")
    quiet = [replace(one, kink=one.kink + Fraction(2**-60)) for one in triggers]
    with pytest.raises(CertificateError, match="no multiple"):
        check_block(net, padded, attacked, quiet, DELTA)


def test_too_many_units_and_wrong_networks_are_refused():
    net, x = network(2, 1), data(1)
    triggers, _, _ = plan(net, x, 1)
    with pytest.raises(NetworkError, match="idle units"):
        with_block(net, triggers, [10**7, 10**7], DELTA)
    with pytest.raises(NetworkError, match="hidden"):
        with_block(Network(net.layers[1:]), triggers, [1, 1], DELTA)
