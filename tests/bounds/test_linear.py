"""Backward bounds against exact arithmetic: never above the truth, near it where that is easy.

Points of the box are evaluated exactly; where the network is affine on the box its exact minimum is
computed in Fractions. No tolerance is used for soundness.
"""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.exact_bounds import (
    check,
    escapes,
    exact_minimum,
    random_queries,
    settled_network,
    slope_queries,
    wide_case,
)
from tests.strategies import (
    at_least,
    at_most,
    generators,
    points_between,
    random_box,
    random_network,
    wild_box,
    wild_network,
)
from verifier.bounds import linear
from verifier.bounds.interval import interval_bounds
from verifier.bounds.linear import Backward, layer_bounds, root_bounds
from verifier.bounds.queries import Queries
from verifier.core.network import Layer, Network

EXPONENTS = (2, 30, 300, 1000)
exponents = st.sampled_from(EXPONENTS)


# ----- one pass


@given(generators(), exponents, exponents)
def test_a_pass_is_below_every_point(rng, weights, faces):
    network = wild_network(rng, weights)
    box = wild_box(rng, network.n_inputs, faces)
    engine = Backward(network, *box)
    q = random_queries(rng, network, engine.bounds, box, 6)
    result = engine.run(q)
    corners = [tuple(map(Fraction, p)) for p in result.point.tolist()]
    check(network, q, result.value, points_between(rng, *box, 6) + corners)


@given(generators(), st.sampled_from((2, 30, 300)), st.sampled_from((2, 30, 300)))
def test_a_pass_with_splits_is_below_every_point_that_satisfies_them(rng, weights, faces):
    network = wild_network(rng, weights)
    box = wild_box(rng, network.n_inputs, faces)
    points = points_between(rng, *box, 8)
    engine = Backward(network, *box)
    q = random_queries(rng, network, engine.bounds, box, 6, points[0])
    result = engine.run(q)
    corners = [tuple(map(Fraction, p)) for p in result.point.tolist()]
    compared = check(network, q, result.value, points + corners)
    assert compared >= np.isfinite(result.value).sum()  # points[0] satisfies all


@given(generators())
def test_ordinary_networks_get_finite_bounds(rng):
    network = random_network(rng)
    box = random_box(rng, network.n_inputs).outward()
    points = points_between(rng, *box, 8)
    engine, bounds = root_bounds(network, *box)
    assert escapes(network, bounds, points) == 0
    for inside in (None, points[0]):
        q = random_queries(rng, network, bounds, box, 6, inside)
        assert check(network, q, engine.run(q).value, points) >= len(q)


@given(generators())
def test_a_part_of_the_outermost_box(rng):
    """The engine of a large box, queries on a small one inside."""
    network = wild_network(rng, 10)
    outer = wild_box(rng, network.n_inputs, 5)
    centre, radius = 0.5 * outer[0] + 0.5 * outer[1], 0.25 * (outer[1] - outer[0])
    inner = np.maximum(outer[0], centre - radius), np.minimum(outer[1], centre + radius)
    engine, bounds = root_bounds(network, *outer)
    points = points_between(rng, *inner, 8)
    for k in range(network.depth):
        bounds[k] = layer_bounds(engine, k, bounds, inner)
    assert escapes(network, bounds, points) == 0
    q = random_queries(rng, network, bounds, inner, 4, points[1])
    check(network, q, engine.run(q).value, points)


def test_the_forms_of_a_network_that_it_must_handle():
    """Dense and sparse, partial ReLU, ReLU on the last layer: bounds equal those worked by hand."""
    for make in (np.array, lambda w: sp.csr_array(np.array(w))):
        first = Layer(make([[1.0], [1.0]]), np.array([0.0, -1.0]), np.array([True, False]))
        last = Layer(make([[1.0, -1.0]]), np.array([-1.0]), np.array([True]))
        network = Network((first, last))
        box = np.array([-1.0]), np.array([1.5])
        engine, bounds = root_bounds(network, *box)
        # The output before its ReLU is max(x, 0) minus x: at least 0 by the line x below, at most 1
        # by the chord above, at -1.
        assert bounds[1][0] == pytest.approx([0.0], abs=1e-12)
        assert bounds[1][1] == pytest.approx([1.0], abs=1e-12)
        one = np.ones((1, 1))
        q = Queries(
            2, one, np.zeros(1), [np.ones((1, 2)), np.zeros((1, 1))],
            [b[0][None] for b in bounds], [b[1][None] for b in bounds],
            (box[0][None], box[1][None]),
        )  # fmt: skip
        assert engine.run(q).value == pytest.approx([0.0], abs=1e-12)
        # Its negative is at least minus the chord of [0, 1].
        q.rows = -one
        assert engine.run(q).value == pytest.approx([-1.0], abs=1e-12)


def test_a_multiplier_sharpens_a_split():
    """min -relu(x) where x <= 0 over [-1, 1]: 0, with the signed multiplier -1/2 on the chord."""
    network = Network((Layer(np.eye(1), np.zeros(1), np.ones(1, bool)),))
    box = np.array([-1.0]), np.array([1.0])
    engine = Backward(network, *box)
    one = np.ones((1, 1))
    q = Queries(
        1, -one, np.zeros(1), [one], [-one], [one], (-one, one), [np.zeros((1, 1))],
        [np.full((1, 1), -1, np.int8)],
    )  # fmt: skip
    assert engine.run(q).value == pytest.approx([-1.0])
    q.mult = [np.full((1, 1), -0.5)]
    assert engine.run(q).value == pytest.approx([-0.5])
    q.high = [np.zeros((1, 1))]  # the sign cut off the positive part
    q.mult = [np.zeros((1, 1))]
    assert engine.run(q).value == pytest.approx([0.0], abs=1e-200)


def test_a_pass_leaves_its_queries_alone():
    rng = np.random.default_rng(3)
    network = random_network(rng)
    box = random_box(rng, network.n_inputs).outward()
    engine = Backward(network, *box)
    q = random_queries(rng, network, engine.bounds, box, 5, points_between(rng, *box, 2)[0])
    before = q.take(np.arange(5))
    first = engine.run(q).value
    for name in ("rows", "const"):
        assert (getattr(q, name) == getattr(before, name)).all()
    for name in ("alpha", "low", "high", "mult", "sign"):
        for mine, old in zip(getattr(q, name), getattr(before, name), strict=True):
            assert (mine == old).all()
    assert (engine.run(q, keep=True).value == first).all()


# ----- the exact minimum of affine functions, and why rounding errors must be allowed for


def affine_cases(count, weights=EXPONENTS[:3], faces=EXPONENTS[:3]):
    """Engines of networks that are affine on their box, with queries and their exact minima."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 5))
        box = wild_box(rng, n, faces[seed % len(faces)])
        network = settled_network(rng, weights[seed // 3 % len(weights)], box)
        engine = Backward(network, *box)
        q = random_queries(rng, network, engine.bounds, box, 5)
        yield engine, q, [exact_minimum(network, box, q, i) for i in range(len(q))]


def above(engine, q, minima):
    """How many bounds are above the exact minimum."""
    values = engine.run(q).value.tolist()
    return sum(not at_most(v, least) for v, (least, _) in zip(values, minima, strict=True))


def test_never_above_the_exact_minimum_of_an_affine_function():
    """3000 bounds; where numbers are of ordinary size, within a part in 10^12 of their terms."""
    finite = sharp = 0
    for engine, q, minima in affine_cases(600):
        assert above(engine, q, minima) == 0
        for value, (least, size) in zip(engine.run(q).value.tolist(), minima, strict=True):
            finite += math.isfinite(value)
            if Fraction(1, 2**200) < size < 2**200:
                assert least - Fraction(value) <= size / 10**12
                sharp += 1
    assert finite > 2500
    assert sharp > 800


@pytest.mark.parametrize("what", ["gamma", "all"])
def test_the_allowance_for_rounding_is_needed(what):
    """Without it some of these bounds are wrong: the test above can fail."""
    wrong = 0
    for engine, q, minima in affine_cases(150):
        engine._gamma = 0.0
        if what == "all":
            engine._underflow = 0.0
        wrong += above(engine, q, minima)
    assert wrong > 3


def deep_underflow(seed):
    """z = W x with |W| |x| below the subnormals, and rows so large that their sum is not small."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, 1)) * 2.0**-700
    network = Network((Layer(weight, np.zeros(6), np.zeros(6, bool)),))
    box = np.array([-(2.0**-460)]), np.array([2.0**-460])
    engine = Backward(network, *box)
    rows = rng.normal(size=(8, 6)) * 2.0**1010
    rows[:, 5] = -(rows[:, :5] @ weight[:5, 0]) / weight[5, 0]  # they nearly cancel
    ends = ([b[None]] for b in engine.bounds[0])
    q = Queries(1, rows, np.zeros(8), [np.ones((1, 6))], *ends, tuple(b[None] for b in box))
    return engine, q, [exact_minimum(network, box, q, i) for i in range(len(q))]


def test_terms_that_underflow_are_not_forgotten():
    assert sum(above(*deep_underflow(seed)) for seed in range(20)) == 0
    wrong = 0
    for seed in range(20):
        engine, q, minima = deep_underflow(seed)
        engine.size = [np.zeros(6)]  # what |W| |x| comes to in float64
        wrong += above(engine, q, minima)
    assert wrong > 0


@pytest.mark.parametrize("exponent", range(20, 61, 5))
def test_cancellation_of_large_weights(exponent):
    """ω relu(x) - ω x on [1, 2] is 0; ω relu(1) + x - ω is x: bounds are below, never above."""
    big = 2.0**exponent
    first = Layer(np.array([[1.0], [1.0], [0.0]]), np.array([0.0, 0.0, 1.0]), np.ones(3, bool))
    second = Layer(
        np.array([[big, -big, 0.0], [0.1, 0.0, big]]), np.array([0.0, -big]), np.zeros(2, bool)
    )
    network = Network((first, second))
    box = np.array([1.0]), np.array([2.0])
    _, bounds = root_bounds(network, *box)
    assert at_most(bounds[1][0][0], Fraction(0))
    assert at_least(bounds[1][1][0], Fraction(0))
    assert at_most(bounds[1][0][1], Fraction(0.1))
    assert at_least(bounds[1][1][1], 2 * Fraction(0.1))
    assert bounds[1][1][0] - bounds[1][0][0] <= big * 2.0**-40


# ----- the largest and the smallest numbers


def test_a_range_that_overflows_has_a_sound_chord():
    """hi - lo is infinite: minus relu(1e308 x), scaled, is -1e298 at x = 1."""
    layers = (
        Layer(np.array([[1e308]]), np.zeros(1), np.ones(1, bool)),
        Layer(np.array([[-1e-10]]), np.zeros(1), np.zeros(1, bool)),
    )
    _, bounds = root_bounds(Network(layers), np.array([-1.0]), np.array([1.0]))
    assert at_most(bounds[1][0][0], Network(layers).exact([1])[0])


@pytest.mark.parametrize("sparse", [False, True])
def test_an_overflow_gives_minus_infinity(sparse):
    """Never NaN and never a number; a warning would fail the test."""
    rng = np.random.default_rng(0)
    layers = []
    for n_in, n_out in itertools.pairwise((2, 3, 3, 2)):
        weight = rng.choice([-1e300, 1e300, 1e200], (n_out, n_in))
        layers.append(
            Layer(sp.csr_array(weight) if sparse else weight, np.zeros(n_out), np.ones(n_out, bool))
        )
    network = Network(tuple(layers))
    box = np.array([-1e10, 3.0]), np.array([1e10, 5.0])
    engine, bounds = root_bounds(network, *box)
    assert not any(np.isnan(end).any() for pair in bounds for end in pair)
    assert escapes(network, bounds, points_between(rng, *box, 4)) == 0
    q = linear.queries(3, np.eye(2), np.zeros(2), bounds, box)
    assert engine.run(q).value.tolist() == [-math.inf] * 2


# ----- bounds of all layers


@given(generators(), exponents)
def test_root_bounds_contain_the_truth_and_lie_inside_intervals(rng, exponent):
    network = wild_network(rng, exponent)
    box = wild_box(rng, network.n_inputs, 30)
    engine, bounds = root_bounds(network, *box)
    assert escapes(network, bounds, points_between(rng, *box, 6)) == 0
    for (low, high), (first, last) in zip(bounds, interval_bounds(network, *box), strict=True):
        assert (low >= first).all()
        assert (high <= last).all()
    assert engine.bounds == bounds


@settings(max_examples=12)
@given(generators())
def test_root_bounds_against_the_exact_range(rng):
    """Also the bounds are attained where the network is affine on the box."""
    network = random_network(rng, max_inputs=2, max_layers=2, max_width=3, kinds=("bits",))
    network = Network((*network.layers[:-1], linear_part(network.layers[-1])))
    box = random_box(rng, network.n_inputs)
    _, bounds = root_bounds(network, *box.outward())
    for i in range(network.n_outputs):
        weights = [Fraction(int(i == j)) for j in range(network.n_outputs)]
        largest = oracle.maximum(network, box, weights)
        least = -oracle.maximum(network, box, [-w for w in weights])
        assert at_most(bounds[-1][0][i], least)
        assert at_least(bounds[-1][1][i], largest)


def linear_part(layer):
    return Layer(layer.weight, layer.bias, np.zeros(layer.n_out, bool))


def test_intervals_are_looser():
    _, network, box = wide_case()
    interval = interval_bounds(network, *box)
    _, plain = root_bounds(network, *box)
    widths = [float((b[-1][1] - b[-1][0]).sum()) for b in (interval, plain)]
    assert widths[1] < 0.7 * widths[0]


def test_stopping_keeps_sound_bounds():
    rng, network, box = wide_case()
    points = points_between(rng, *box, 3)
    for limit in (0, 1, 3, 10):
        asked = itertools.count()
        _, bounds = root_bounds(
            network, *box, stop=lambda limit=limit, asked=asked: next(asked) >= limit
        )
        assert escapes(network, bounds, points) == 0
    kept = root_bounds(network, *box, stop=lambda: True)[1]
    for mine, first in zip(kept, interval_bounds(network, *box), strict=True):
        assert (mine[0] == first[0]).all()
        assert (mine[1] == first[1]).all()


# ----- batches


def test_a_batch_is_its_queries_one_by_one():
    """Also through the threads that share large batches."""
    *_, engine, q = slope_queries(count=200)
    whole = engine.values(q)
    for i in (0, 63, 64, 199):
        alone = engine.run(q.take(np.array([i]))).value
        assert alone == pytest.approx(whole[i : i + 1], rel=1e-12, abs=1e-12)
    assert engine.run(q).value == pytest.approx(whole, rel=1e-12, abs=1e-12)


def test_shared_and_own_arrays_give_the_same():
    rng, network, box = wide_case(2, (3, 8, 8, 4))
    engine, bounds = root_bounds(network, *box)
    shared = linear.queries(3, rng.normal(size=(7, 4)), rng.normal(size=7), bounds, box)
    own = replace(shared, alpha=[np.repeat(a, 7, axis=0) for a in shared.alpha])
    assert [len(a) for a in shared.alpha] == [1, 1, 1]
    assert engine.run(shared).value == pytest.approx(engine.run(own).value, rel=1e-14)
    some = np.array([5, 1])
    assert [len(a) for a in shared.take(some).alpha] == [1, 1, 1]
    assert [len(a) for a in own.take(some).alpha] == [2, 2, 2]
