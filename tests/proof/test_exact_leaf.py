"""Leaves without rounding: below the truth at exact points, above what the integers say."""

from fractions import Fraction

import numpy as np
import pytest

from tests.proof.networks import unpleasant_box, unpleasant_network
from tests.proof.test_leaves import columns, unsafe_above
from tests.strategies import random_point
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.proof import exact_leaf
from verifier.proof.case import Case as Checked
from verifier.proof.case import InvalidError
from verifier.proof.exact_leaf import backward_exactly
from verifier.proof.integers import TooWideError
from verifier.proof.leaves import _Assumed, _least, neurons


@pytest.mark.parametrize("kind", ["float64", "spread", "bits"])
def test_bounds_hold_and_are_no_worse_than_those_of_the_integers(kind):
    """Random slopes, multipliers and weights; signs are assumed as they are at the point."""
    better = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network = unpleasant_network(rng, kind)
        box = unpleasant_box(rng, network.n_inputs)
        rows = tuple(
            LinearConstraint(
                tuple((j, Fraction(int(rng.integers(-5, 6)), 4)) for j in range(network.n_outputs)),
                Fraction(int(rng.integers(-9, 10)), 4),
            )
            for _ in range(2)
        )
        prop = Property((Case(box, (rows,)),), network.n_inputs, network.n_outputs)
        try:
            case = Checked(network, prop, 0)
        except TooWideError:
            continue
        (root,) = case.stack
        x = random_point(rng, box)
        trace, y = network.exact_trace(x), network.exact(x)
        z = [v for layer in trace for v in layer[0]]
        weights = rng.integers(0, 9, len(case.clauses.rows)).tolist()
        truth = sum(
            w * (b - sum(Fraction(c) * v for c, v in zip(row, y, strict=True)))
            for w, row, b in zip(
                weights, case.clauses.rows.tolist(), case.clauses.bound, strict=True
            )
        )
        hidden = np.flatnonzero(rng.random(len(case.relu)) < 0.4)
        sign = np.array([1 if z[h] >= 0 else -1 for h in hidden], dtype=np.int64)
        code = (rng.integers(118, 132, len(hidden)) << 15) + rng.integers(0, 1 << 15, len(hidden))
        assumed = _Assumed.of(np.zeros(len(hidden), dtype=np.int64), hidden, sign, code)
        slopes = rng.integers(0, 257, len(case.relu)) / 256
        signs = {
            int(h): (int(s), abs(int(m)) * Fraction(2) ** int(p))
            for h, s, m, p in zip(hidden, sign, assumed.mantissa, assumed.power, strict=True)
        }
        exact = backward_exactly(case, root, 0, weights, slopes.tolist(), signs)
        # At the point the signs hold, so that Σ m σ z ≥ 0 is what the bound may lack.
        assert exact is not None
        assert exact <= truth
        mu, owner = np.array([weights], dtype=np.int64), np.zeros(1, dtype=np.int64)
        units = np.arange(len(case.relu))
        rounded = _least(case, len(case.parts), mu, root, owner, assumed, units, slopes[None])
        value = int(rounded.mantissa[0]) * Fraction(2) ** int(rounded.exponent[0])
        assert value <= truth
        assert exact >= value
        better += exact > value
    assert better >= 10 or kind == "bits"


def test_signs_that_rounded_bounds_leave_open():
    """z = 2^-60 x1 + 2^60 x0 with x0 = 0: beside a neuron of size 2^60 its sign is lost."""
    on, off = np.ones(2, dtype=bool), np.zeros(1, dtype=bool)
    first = Layer(np.array([[2.0**60, 0.0], [0.0, 2.0**-60]]), np.array([0.0, 2.0**-60]), on)
    network = Network((first, Layer(np.array([[0.0, -1.0]]), np.zeros(1), off)))
    leaf = columns("neurons", action=[3], size=[1, 1], digits=[1, 1])
    for low, fine in ((-1, True), (Fraction(-9, 8), False)):
        prop = unsafe_above(network, Box((0, low), (1, 1)), Fraction(1, 4))
        case = Checked(network, prop, 0)
        (root,) = case.stack
        root.low[0, 1], root.high[0, 1] = -1, 1  # as if nothing were known
        if fine:
            assert neurons(case, leaf, "leaf") == 1
            assert not case.stack
        else:
            with pytest.raises(InvalidError, match="not decided"):
                neurons(case, leaf, "leaf")


def test_a_leaf_is_not_bounded_exactly_where_that_is_much_work(monkeypatch):
    """y = x ≥ 1 on [−1, 1 − 2^-70], which needs more bits than the integers have."""
    off = np.zeros(1, dtype=bool)
    network = Network((Layer(np.eye(1), np.zeros(1), off), Layer(np.eye(1), np.zeros(1), off)))
    prop = unsafe_above(network, Box((-1,), (1 - Fraction(1, 2**50),)), 1)
    leaf = columns("neurons", action=[0], units=[0], weight=[1])
    assert neurons(Checked(network, prop, 0), leaf, "leaf") == 1
    monkeypatch.setattr(exact_leaf, "_WORK", 1)
    with pytest.raises(InvalidError, match="not positive"):
        neurons(Checked(network, prop, 0), leaf, "leaf")
