"""Passes without dead neurons: the bounds of whole passes, and steps that raise them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exact_bounds import check
from tests.search_networks import cube, network_of, queries_of
from tests.strategies import generators, points_between, wild_box, wild_network
from verifier.bounds.linear import Backward, root_bounds
from verifier.bounds.reduced import Climb, Reduced
from verifier.search.subproblems import Batch, Goals, Units

KINDS = ("dense", "sparse", "partial")
ALWAYS = math.inf


def never():
    return False


def batch_of(network, box, rng, count, inside=None, free=False):
    """Subproblems with random slopes, and random signs and multipliers, which hold at a point."""
    engine, bounds = root_bounds(network, *box)
    rows = rng.normal(size=(count, network.n_outputs))
    if free:
        rows = np.float32(rng.integers(0, 2, rows.shape) * rng.random(rows.shape)).astype(float)
        rows[:, 0] = 1.0
    batch = Batch.root(
        engine, Units(engine, bounds), Goals(network.depth, rows, rng.normal(size=count), free)
    )
    units = batch.units
    batch.alpha[:] = rng.choice([0.0, 1.0, 0.25, 0.7], batch.alpha.shape)
    if inside is not None:
        trace = network.exact_trace(inside)
        z = np.array(
            [float(trace[k][0][i]) for k, i in zip(units.layer, units.neuron, strict=True)]
        )
        chosen = (rng.random(batch.sign.shape) < 0.3) & (z != 0)
        batch.sign[:] = np.where(chosen, np.sign(z), 0)
        batch.mult[:] = batch.sign * rng.exponential(0.2, batch.sign.shape)
    return batch


def ordinary(seed=0, kind="dense", count=40, free=False):
    rng = np.random.default_rng(seed)
    network = network_of(rng, (4, 16, 16, 5), kind)
    box = np.full(4, 0.5), np.full(4, 1.0)
    points = points_between(rng, *box, 8)
    return network, box, points, batch_of(network, box, rng, count, points[-1], free)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_whole_passes(kind, seed):
    network, _, points, batch = ordinary(seed, kind)
    parts = batch.units.passes.parts
    assert sum(len(part.live) for part in parts) < sum(layer.n_out for layer in network.layers)
    assert any(part.unstable < len(part.live) for part in parts)
    q, values = queries_of(batch), batch.units.passes.values(batch.asked())
    np.testing.assert_allclose(values, batch.engine.run(q).value, rtol=1e-12, atol=1e-12)
    assert check(network, q, values, points) >= len(batch)


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_near_the_values(kind):
    *_, batch = ordinary(1, kind)
    passes, asked = batch.units.passes, batch.asked()
    np.testing.assert_allclose(passes.estimates(asked), passes.values(asked), rtol=1e-3, atol=1e-4)
    whole = batch.engine.run(queries_of(batch), keep=True).lam
    coefficients = passes.coefficients(asked)
    for lam, index, columns in zip(whole, batch.units.index, batch.units.columns, strict=True):
        np.testing.assert_allclose(coefficients[:, columns], lam[:, index], rtol=1e-3, atol=1e-4)


@settings(max_examples=60)
@given(generators(), st.sampled_from((2, 30, 300, 1000)))
def test_wild_bounds_stay_below_every_point(rng, exponent):
    """Before and after steps, whatever float32 made of them."""
    network = wild_network(rng, exponent)
    box = wild_box(rng, network.n_inputs, 30)
    points = points_between(rng, *box, 6)
    with np.errstate(all="ignore"):
        engine = Backward(network, *box)
    if not all(np.isfinite(end).all() for pair in engine.bounds for end in pair):
        return
    batch = batch_of(network, box, rng, 3, points[0])
    passes, asked = batch.units.passes, batch.asked()
    check(network, queries_of(batch), passes.values(asked), points)
    passes.climb(asked, Climb(4, enough=ALWAYS), never)
    assert (asked.param[asked.sign == 0] >= 0).all()
    assert (asked.param[asked.sign == 0] <= 1).all()
    assert (asked.param * asked.sign >= 0).all()
    values = passes.values(asked)
    batch.keep(asked, values)
    check(network, queries_of(batch), values, points)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("count", [1, 5, 150])
def test_steps_raise_bounds(count, free):
    """Also those of the threads that share large batches; what is left gives the bound again."""
    network, box, points, batch = ordinary(2, count=count, free=free)
    passes, asked = batch.units.passes, batch.asked()
    before, rows = passes.values(asked), asked.rows.copy()
    corner = passes.climb(asked, Climb(12, enough=ALWAYS), never)
    after = passes.values(asked)
    assert (after >= before - 1e-5).all()
    assert (after > before + 1e-3).mean() > 0.8
    signed = asked.sign != 0
    assert ((asked.param[~signed] >= 0) & (asked.param[~signed] <= 1)).all()
    assert (asked.param[signed] * asked.sign[signed] >= 0).all()
    assert corner.shape == (count, network.n_inputs)
    assert ((corner == box[0]) | (corner == box[1])).all()
    assert (asked.rows != rows).any() == free
    if free:
        assert ((asked.rows > 0) == (rows > 0)).all()
        assert (asked.rows == asked.rows.astype(np.float32)).all()
    batch.keep(asked, after)
    np.testing.assert_allclose(batch.engine.run(queries_of(batch)).value, after, rtol=1e-12)
    assert check(network, queries_of(batch), after, points) > 0


def test_a_batch_is_its_subproblems_one_by_one():
    *_, batch = ordinary(3, count=90)
    passes, asked = batch.units.passes, batch.asked()
    whole = passes.values(asked)
    for i in (0, 44, 45, 89):
        np.testing.assert_allclose(
            passes.values(asked.take(np.array([i]))), whole[i : i + 1], rtol=1e-12
        )


def test_enough_is_enough():
    *_, batch = ordinary(4, count=8)
    passes, asked = batch.units.passes, batch.asked()
    asked.const = np.where(np.arange(8) < 4, 1e3, -1e3)
    before = asked.param.copy()
    passes.climb(asked, Climb(6), never)
    assert (asked.param[:4] == before[:4]).all()
    assert (asked.param[4:] != before[4:]).any(axis=1).all()


def test_stopping_a_climb_keeps_what_was_found():
    *_, batch = ordinary(5)
    passes, asked = batch.units.passes, batch.asked()
    before = asked.param.copy()
    passes.climb(asked, Climb(50, enough=ALWAYS), lambda: True)
    assert (asked.param == before).all()
    first, times = passes.values(asked), itertools.count()
    passes.climb(asked, Climb(50, enough=ALWAYS), lambda: next(times) >= 5)
    assert (passes.values(asked) > first).any()


@pytest.mark.parametrize("seed", range(3))
def test_steps_follow_the_derivative(seed):
    """A first step of Adam goes by its sign; at kinks of the bound either side will do."""
    *_, batch = ordinary(seed, count=3)
    passes, asked = batch.units.passes, batch.asked()
    asked.param[:] = np.where(asked.sign == 0, 0.5, asked.sign * 0.3)
    moved = asked.take(np.arange(3))
    rate, h = 1e-4, 1e-3
    passes.climb(moved, Climb(1, rate=rate, enough=ALWAYS), never)
    moves, seen = moved.param - asked.param, 0
    for unit in range(asked.param.shape[1]):
        sides = []
        for step in (h, -h):
            there = asked.take(np.arange(3))
            there.param[:, unit] += step
            sides.append((passes.values(there) - passes.values(asked)) / step)
        smooth = np.isclose(*sides, rtol=1e-2) & (np.abs(sides[0]) > 1e-2)
        assert (np.sign(moves[smooth, unit]) == np.sign(sides[0][smooth])).all()
        free = smooth & (asked.sign[:, unit] == 0)
        np.testing.assert_allclose(np.abs(moves[free, unit]), rate, rtol=1e-2)
        seen += int(smooth.sum())
    assert seen > 5


def test_what_float32_cannot_hold_is_decided_in_float64():
    """Coefficients up to 1e60: proposals overflow without a warning, the bound is exact."""
    rng = np.random.default_rng(6)
    network, box = network_of(rng, (3, 8, 8, 4)), cube(3)
    batch = batch_of(network, box, rng, 5)
    batch.goals = Goals(network.depth, batch.goals.rows * 1e60, batch.goals.const)
    passes, asked = batch.units.passes, batch.asked()
    passes.climb(asked, Climb(5, enough=ALWAYS), never)
    values = passes.values(asked)
    batch.keep(asked, values)
    np.testing.assert_allclose(values, batch.engine.run(queries_of(batch)).value, rtol=1e-12)


def test_an_overflow_gives_minus_infinity():
    rng = np.random.default_rng(7)
    network, box = network_of(rng, (3, 8, 8, 4)), cube(3)
    batch = batch_of(network, box, rng, 2)
    rows = np.array([[1.0, 1.0, 1.0, 1.0], [1e308, -1e308, 1e308, 1e308]])
    batch.goals = Goals(network.depth, rows, np.zeros(2))
    values = batch.units.passes.values(batch.asked())
    assert math.isfinite(values[0])
    assert values[1] == -math.inf


def test_no_unstable_neuron_at_all():
    """Every ReLU is settled: the bound is exact up to rounding, and steps change nothing."""
    rng = np.random.default_rng(8)
    network = network_of(rng, (3, 8, 4))
    box = np.full(3, 0.3), np.full(3, 0.3 + 1e-9)
    batch = batch_of(network, box, rng, 3)
    assert not len(batch.units)
    asked = batch.asked()
    passes = Reduced(batch.engine, list(batch.engine.bounds))
    passes.climb(asked, Climb(3, enough=ALWAYS), never)
    y = [float(v) for v in network.exact([float(v) for v in box[0]])]
    np.testing.assert_allclose(
        passes.values(asked), batch.goals.rows @ y + batch.goals.const, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_no_proposer_should_give_still_bound(kind):
    """Slopes outside [0, 1] and multipliers of the wrong sign count as the nearest sound ones."""
    network, _, points, batch = ordinary(2, kind)
    passes, wild = batch.units.passes, batch.asked()
    assert (wild.sign != 0).any()
    assert (wild.sign == 0).any()
    rng = np.random.default_rng(3)
    wild.param[...] = 4.0 * rng.normal(size=wild.param.shape).astype(np.float32)
    sound = wild.take(np.arange(len(wild)))
    multipliers = np.where(sound.param * sound.sign >= 0, sound.param, 0)
    sound.param[...] = np.where(sound.sign == 0, sound.param.clip(0, 1), multipliers)
    assert (sound.param != wild.param).any()
    values = passes.values(wild)
    np.testing.assert_array_equal(values, passes.values(sound))
    check(network, queries_of(batch), values, points)
