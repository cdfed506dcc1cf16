"""Whatever a device proposes, bounds stay bounds and verdicts stay right."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.engines import decide
from tests.strategies import at_most, generators, points_between, random_instance, random_network
from verifier.bounds.interval import interval_bounds
from verifier.bounds.linear import Backward
from verifier.bounds.passes import Lent, Proposal, accept, larger, made_by, passes
from verifier.bounds.reduced import Asked, Climb, Reduced
from verifier.core.verdict import Proved, Refuted

KINDS = ("random", "huge", "nan", "infinite", "negative")


def wild(rng, shape, kind):
    """Numbers that no device should give."""
    values = rng.normal(size=shape).astype(np.float32)
    if kind == "huge":
        values *= np.float32(1e30)
    elif kind in ("nan", "infinite"):
        values[rng.random(shape) < 0.5] = np.nan if kind == "nan" else np.inf
    elif kind == "negative":
        values = -np.abs(values)
    return values


class Mad(Lent):
    """A device that has lost its mind."""

    rng = np.random.default_rng(1)
    kind = "random"

    def propose(self, q, how, stop):
        shape = (len(q), self.engine.network.n_inputs)
        return Proposal(
            wild(self.rng, q.param.shape, self.kind),
            wild(self.rng, q.rows.shape, self.kind) if q.free else None,
            wild(self.rng, shape, self.kind) > 0,
        )

    def estimates(self, q):
        return wild(self.rng, len(q), self.kind).astype(np.float64)

    def coefficients(self, q):
        return wild(self.rng, q.param.shape, self.kind)


class Maker:
    """Makes mad passes."""

    larger = 7

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, engine, bounds):
        made = Mad(engine, bounds)
        made.kind = self.kind
        return made


def asked(rng, network, bounds, count=6):
    """Random forms of the last activations on random sides of some unstable neurons."""
    pairs = zip(network.layers, bounds, strict=True)
    unstable = sum(int((layer.relu & (lo < 0) & (hi > 0)).sum()) for layer, (lo, hi) in pairs)
    sign = rng.choice([-1, 0, 0, 1], (count, unstable)).astype(np.int8)
    param = np.where(sign == 0, rng.random(sign.shape), rng.random(sign.shape) * sign)
    rows = np.abs(rng.normal(size=(count, network.n_outputs)))
    rows = rows.astype(np.float32).astype(np.float64)
    return Asked(rows, rng.normal(size=count), sign, param.astype(np.float32), True)


@given(generators(), st.sampled_from(KINDS))
def test_bounds_after_any_proposal_are_bounds(rng, kind):
    network = random_network(rng)
    centre = rng.integers(-8, 9, network.n_inputs) / 8.0
    lower, upper = centre - 0.5, centre + 0.5
    bounds = interval_bounds(network, lower, upper)
    made = Maker(kind)(Backward(network, lower, upper, bounds), bounds)
    q = asked(rng, network, bounds)
    point = made.climb(q, Climb(3), lambda: False)
    assert np.isfinite(point).all()
    assert ((q.param >= 0) & (q.param <= 1))[q.sign == 0].all()
    assert (q.param * q.sign >= 0).all()
    assert np.isfinite(q.param).all()
    assert (np.isfinite(q.rows) & (q.rows >= 0)).all()
    value = made.values(q)
    for x in points_between(rng, lower, upper, 8):
        trace = network.exact_trace(x)
        signs = []
        for (z, _), layer, (low, high) in zip(trace, network.layers, bounds, strict=True):
            index = np.flatnonzero(layer.relu & (low < 0) & (high > 0))
            signs.append(np.array([1 if z[j] >= 0 else -1 for j in index], dtype=int))
        here = np.concatenate(signs) if signs else np.zeros(0, int)
        for i in range(len(q)):
            zero = q.sign[i] == 0
            if (zero | (q.sign[i] == here)).all():
                rows = [Fraction(v) for v in q.rows[i].tolist()]
                form = sum((r * a for r, a in zip(rows, trace[-1][1], strict=True)), Fraction(0))
                assert at_most(value[i], form + Fraction(float(q.const[i])))


def test_numbers_that_are_sound_are_taken_over_and_others_are_not():
    sign = np.array([[0, 0, 1, 1, -1, 0]], dtype=np.int8)
    param = np.full((1, 6), 0.25, dtype=np.float32) * np.where(sign < 0, -1, 1)
    q = Asked(np.array([[0.5, 0.0, 0.5]]), np.zeros(1), sign, param.astype(np.float32), True)
    given_param = np.array([[0.75, 2.0, 3.0, -3.0, np.nan, -1.0]])
    accept(q, Proposal(given_param, np.array([[0.125, 0.5, -1.0]]), np.zeros((1, 1))))
    assert q.param.tolist() == [[0.75, 1.0, 3.0, 0.0, -0.25, 0.0]]
    assert q.rows.tolist() == [[0.125, 0.0, 0.5]]


def test_who_is_in_charge_changes_for_a_while_only():
    network = random_network(np.random.default_rng(3))
    box = (-np.ones(network.n_inputs), np.ones(network.n_inputs))
    engine = Backward(network, *box)
    assert (larger(), type(passes(engine, engine.bounds))) == (1, Reduced)
    with made_by(Maker("random")):
        assert (larger(), type(passes(engine, engine.bounds))) == (7, Mad)
    assert (larger(), type(passes(engine, engine.bounds))) == (1, Reduced)


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_of_a_mad_device_are_right(kind):
    for seed in range(30):
        network, prop = random_instance(seed)
        with made_by(Maker(kind)):
            verdict = decide("branch_and_bound", network, prop)
        violated = oracle.violated(network, prop)
        assert isinstance(verdict, Refuted if violated else Proved)
