"""Bounds by small searches: rigorous, better than without, and proved by their leaves."""

import itertools

import numpy as np
import pytest

from tests.search_networks import cube, network_of, queries_of
from tests.strategies import random_box, random_point
from verifier.bounds.interval import interval_bounds
from verifier.bounds.linear import root_bounds
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.search import tighten
from verifier.search.subproblems import Batch
from verifier.search.tighten import tighten_layer


def never():
    return False


def with_leaves(engine, bounds, layer, rounds, stop=never):
    """What ``tighten_layer`` finds, and the batches of leaves that prove it."""
    proofs = []
    found = tighten_layer(
        engine, bounds, layer, rounds, stop, lambda batch, neuron, side: proofs.append(batch)
    )
    return found, proofs


def prepared(network, lower, upper):
    engine, bounds = root_bounds(network, lower, upper)
    return engine, bounds


def width(bounds):
    return (bounds[1] - bounds[0]).sum()


@pytest.mark.parametrize("kind", ["dense", "sparse", "partial"])
@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_exactly_and_get_better_with_rounds(kind, seed):
    rng = np.random.default_rng(seed)
    network = network_of(rng, (4, 8, 8, 6), kind)
    box = random_box(rng, 4)
    lower, upper = box.outward()
    engine, bounds = prepared(network, lower, upper)
    layer = 2
    tightened = [tighten_layer(engine, bounds, layer, rounds, never) for rounds in (0, 2, 8, 32)]
    for low, high in tightened:
        assert (low >= bounds[layer][0]).all()
        assert (high <= bounds[layer][1]).all()
    widths = [width(b) for b in tightened]
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(widths))
    if kind == "dense":
        assert widths[3] < widths[0]
    low, high = tightened[3]
    for _ in range(60):
        z, _ = network.exact_trace(random_point(rng, box))[layer]
        assert all(a <= v <= b for a, v, b in zip(low, z, high, strict=True))


def test_each_leaf_holds_on_its_own_part():
    """At every exact point, each leaf with the point's signs bounds its goal from below."""
    rng = np.random.default_rng(5)
    network = network_of(rng, (4, 8, 8, 6), "partial")
    engine, bounds = prepared(network, *cube(4))
    _, proofs = with_leaves(engine, bounds, 2, 16)
    box, met = Box((-1,) * 4, (1,) * 4), 0
    for _ in range(40):
        trace = network.exact_trace(random_point(rng, box))
        for leaves in proofs:
            units = leaves.units
            z = [trace[k][0][i] for k, i in zip(units.layer, units.neuron, strict=True)]
            a = [float(v) for v in trace[leaves.goals.start - 1][1]]
            value = leaves.goals.rows @ a + leaves.goals.const
            found = set()
            for i in range(len(leaves)):
                if all(s == 0 or s * v >= 0 for s, v in zip(leaves.sign[i], z, strict=True)):
                    found.add(int(leaves.goal[i]))
                    assert value[leaves.goal[i]] >= leaves.value[i] - 1e-9
                    met += 1
            assert found == set(range(len(leaves.goals.const)))
    assert met > 200


def test_leaves_of_a_goal_are_a_partition():
    """Summed over its leaves, 2^-(number of signs) is one; no two agree on all signs they share."""
    engine, bounds = prepared(network_of(np.random.default_rng(1), (4, 10, 10, 6)), *cube(4))
    _, proofs = with_leaves(engine, bounds, 2, 16)
    assert sum(len(leaves) for leaves in proofs) > 40
    for leaves in proofs:
        for goal in range(len(leaves.goals.const)):
            signs = leaves.sign[leaves.goal == goal]
            assert (0.5 ** np.abs(signs).sum(axis=1)).sum() == 1
            for one, other in itertools.combinations(signs, 2):
                assert (one * other < 0).any()


def test_leaves_prove_the_bounds_from_what_is_stored():
    """One pass of Backward.run on the stored slopes and multipliers gives the values again."""
    engine, bounds = prepared(network_of(np.random.default_rng(2), (4, 10, 10, 6)), *cube(4))
    (low, high), proofs = with_leaves(engine, bounds, 2, 16)
    for leaves in proofs:
        again = engine.run(queries_of(leaves)).value
        np.testing.assert_allclose(again, leaves.value, rtol=1e-12, atol=1e-12)
    assert width((low, high)) < width(bounds[2])


@pytest.mark.parametrize("rounds", [0, 4])
def test_stop_leaves_valid_bounds(rounds):
    rng = np.random.default_rng(3)
    network = network_of(rng, (4, 10, 10, 6))
    engine, bounds = prepared(network, *cube(4))
    box = Box((-1,) * 4, (1,) * 4)
    for calls in (0, 1, 2, 5, 20):
        left = iter([False] * calls)
        low, high = tighten_layer(engine, bounds, 2, rounds, lambda left=left: next(left, True))
        assert (low >= bounds[2][0]).all()
        assert (high <= bounds[2][1]).all()
        for _ in range(10):
            z, _ = network.exact_trace(random_point(rng, box))[2]
            assert all(a <= v <= b for a, v, b in zip(low, z, high, strict=True))


def test_small_chunks_give_the_same_bounds(monkeypatch):
    engine, bounds = prepared(network_of(np.random.default_rng(4), (4, 10, 10, 12)), *cube(4))
    whole, proofs = with_leaves(engine, bounds, 2, 4)
    monkeypatch.setattr(tighten, "_CHUNK_NUMBERS", 1)
    parts, more = with_leaves(engine, bounds, 2, 4)
    assert len(more) > len(proofs)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-6, atol=1e-7)


def test_nothing_to_do():
    rng = np.random.default_rng(0)
    # No unstable neuron before: x + 10 is positive.
    stable = Layer(np.eye(3), np.full(3, 10.0), np.ones(3, bool))
    after = Layer(rng.normal(size=(4, 3)), np.zeros(4), np.ones(4, bool))
    engine, bounds = prepared(Network((stable, after, after_last(4))), *cube(3))
    found, proofs = with_leaves(engine, bounds, 1, 10)
    assert proofs == []
    np.testing.assert_array_equal(found, bounds[1])
    # No unstable neuron in the layer itself.
    first = Layer(rng.normal(size=(3, 3)), np.zeros(3), np.ones(3, bool))
    second = Layer(np.eye(3), np.full(3, 10.0), np.ones(3, bool))
    engine, bounds = prepared(Network((first, second, after_last(3))), *cube(3))
    found, proofs = with_leaves(engine, bounds, 1, 10)
    assert proofs == []
    np.testing.assert_array_equal(found, bounds[1])


def after_last(n):
    return Layer(np.ones((1, n)), np.zeros(1), np.zeros(1, bool))


def test_enough_rounds_find_the_exact_minimum():
    """z = relu(x) - relu(x - 1/2) - relu(-x) - 3/8 on [-1, 1]: from -11/8 to 1/8, not triangles."""
    first = Layer(np.array([[1.0], [1.0], [-1.0]]), np.array([0, -0.5, 0]), np.ones(3, bool))
    second = Layer(np.array([[1.0, -1.0, -1.0]]), np.array([-0.375]), np.ones(1, bool))
    network = Network((first, second, after_last(1)))
    lower, upper = cube(1)
    engine, bounds = prepared(network, lower, upper)
    assert interval_bounds(network, lower, upper)[1][1][0] > 0.6
    low, high = tighten_layer(engine, bounds, 1, 8, never)
    assert -1.375 - 1e-6 <= low[0] <= -1.375
    assert 0.125 <= high[0] <= 0.125 + 1e-3


def test_leaves_fit_into_the_memory_they_are_given(monkeypatch):
    """Few goals at a time give the bounds that all give together."""
    rng = np.random.default_rng(7)
    network = network_of(rng, (6, 20, 20, 20), "dense")
    engine, bounds = prepared(network, *cube(6))
    sizes: list[int] = []
    split = tighten.split_goals

    def watched(batch, rounds, stop):
        leaves = split(batch, rounds, stop)
        sizes.append(len(leaves) * Batch.unit_bytes() * len(leaves.units))
        return leaves

    monkeypatch.setattr(tighten, "split_goals", watched)
    together = tighten_layer(engine, bounds, 2, 20, never)
    monkeypatch.setattr(tighten, "_CHUNK_BYTES", max(sizes) / 3)
    before = len(sizes)
    apart = tighten_layer(engine, bounds, 2, 20, never)
    assert len(sizes) > before + 1
    assert max(sizes[before:]) <= max(sizes[:before]) / 2
    for few, all_ in zip(apart, together, strict=True):
        assert np.allclose(few, all_, rtol=1e-3, atol=1e-3)
