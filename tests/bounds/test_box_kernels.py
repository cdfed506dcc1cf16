"""The compiled box passes against exact arithmetic: forms, tightened ranges and split forms."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exact_bounds import exact_minimum, settled_network
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
from verifier.bounds import box_kernels
from verifier.bounds.box_kernels import (
    bound_row,
    bound_split,
    evaluate,
    forms,
    pack,
    set_box,
    tighten,
)
from verifier.bounds.interval import interval_bounds
from verifier.bounds.queries import Queries
from verifier.core.network import Layer, Network

EXPONENTS = (2, 30, 300, 1000)


def prepared(network, outer, inner=None, rows=1):
    """(net, low, high, forms) on the inner box, with the bounds of the outer one."""
    net, low, high = pack(network, *outer, interval_bounds(network, *outer))
    f = forms(net, rows)
    set_box(*(inner or outer), f)
    return net, low, high, f


def inside(rng, outer):
    """A box in the given one: the same, a quarter of it, or one of its points."""
    share = float(rng.choice([1.0, 0.25, 0.0]))
    low = outer[0] + (1 - share) * rng.random() * (0.5 * outer[1] - 0.5 * outer[0])
    low = np.clip(low, *outer)
    return low, np.clip(low + share * (outer[1] - low), low, outer[1])


def padded(net, row):
    out = np.zeros(net.weight.shape[1])
    out[: len(row)] = row
    return out


def random_row(rng, n):
    scale = 2.0 ** float(rng.choice([0, 0, -30, 40, -300, 300]))
    row = scale * rng.integers(-3, 4, n) * float(rng.choice([1.0, 0.1, 1 / 3]))
    return row, scale * float(rng.normal())


def form_at(f, r, x):
    """The exact value of the stored form const + rows . t at the point x; None if it is no form."""
    if not (math.isfinite(f.const[r]) and np.isfinite(f.rows[r]).all()):
        return None
    total = Fraction(float(f.const[r]))
    for c, v, centre, radius in zip(f.rows[r], x, f.centre, f.radius, strict=True):
        t = (v - Fraction(float(centre))) / Fraction(float(radius))
        assert abs(t) <= 1
        total += Fraction(float(c)) * t
    return total


def check_ranges(network, low, high, points):
    for x in points:
        for k, (z, _) in enumerate(network.exact_trace(x)):
            for i, value in enumerate(z):
                assert at_most(low[k, i], value)
                assert at_least(high[k, i], value)


def check_row(network, row, bound, upper, f, points):
    """The slack row . y - bound is below its upper bound and below the stored form."""
    for x in points:
        y = network.exact(x)
        slack = sum((Fraction(w) * v for w, v in zip(row.tolist(), y, strict=True)), Fraction(0))
        slack -= Fraction(bound)
        assert math.isnan(upper) or at_least(upper, slack)  # NaN never closes anything
        form = form_at(f, 0, x)
        assert form is None or slack <= form


@given(generators(), st.sampled_from(EXPONENTS), st.sampled_from(EXPONENTS[:3]))
def test_everything_contains_the_truth(rng, weights, faces):
    network = wild_network(rng, weights)
    outer = wild_box(rng, network.n_inputs, faces)
    inner = inside(rng, outer)
    points = points_between(rng, *inner, 6)
    net, low, high, f = prepared(network, outer, inner)
    first = low.copy(), high.copy()
    assert tighten(net, low, high, f)
    assert (low >= first[0]).all()
    assert (high <= first[1]).all()
    check_ranges(network, low, high, points)
    row, bound = random_row(rng, network.n_outputs)
    upper = bound_row(net, padded(net, row), bound, 0, low, high, f)
    check_row(network, row, bound, upper, f, points)


@given(generators())
def test_ordinary_networks_get_finite_bounds(rng):
    network = random_network(rng)
    box = random_box(rng, network.n_inputs).outward()
    points = points_between(rng, *box, 6)
    net, low, high, f = prepared(network, box)
    assert tighten(net, low, high, f)
    check_ranges(network, low, high, points)
    row, bound = random_row(rng, network.n_outputs)
    upper = bound_row(net, padded(net, row), bound, 0, low, high, f)
    assert math.isfinite(upper)
    check_row(network, row, bound, upper, f, points)


@given(generators(), st.sampled_from((2, 30, 300)))
def test_split_forms_contain_the_truth(rng, exponent):
    network = wild_network(rng, exponent)
    box = wild_box(rng, network.n_inputs, 10)
    points = points_between(rng, *box, 6)
    net, low, high, f = prepared(network, box)
    assert tighten(net, low, high, f)
    for k, layer in enumerate(network.layers):
        i, sign = int(rng.integers(layer.n_out)), float(rng.choice([-1.0, 1.0]))
        upper = bound_split(net, k, i, sign, 0, low, high, f)
        for x in points:
            value = Fraction(sign) * network.exact_trace(x)[k][0][i]
            assert math.isnan(upper) or at_least(upper, value)
            form = form_at(f, 0, x)
            assert form is None or value <= form


@given(generators(), st.sampled_from((2, 30)))
def test_with_a_neuron_split_the_points_of_that_sign_are_contained(rng, exponent):
    """An empty range means that no point has that sign."""
    network = wild_network(rng, exponent)
    box = wild_box(rng, network.n_inputs, 3)
    net, low, high, f = prepared(network, box)
    unstable = [
        (k, i)
        for k, layer in enumerate(network.layers)
        for i in range(layer.n_out)
        if layer.relu[i] and low[k, i] < 0 < high[k, i]
    ]
    points = points_between(rng, *box, 10)
    for k, i in unstable[:2]:
        positive = bool(rng.random() < 0.5)
        if positive:
            low[k, i] = 0.0
        else:
            high[k, i] = 0.0
        points = [
            x for x in points if (v := network.exact_trace(x)[k][0][i]) == 0 or (v > 0) is positive
        ]
    if tighten(net, low, high, f):
        check_ranges(network, low, high, points)
        row, bound = random_row(rng, network.n_outputs)
        upper = bound_row(net, padded(net, row), bound, 0, low, high, f)
        check_row(network, row, bound, upper, f, points)
    else:
        assert not points


def test_ranges_that_contradict_each_other_are_found_empty():
    """Where x <= 0 the second neuron is relu(x) - 1/2 = -1/2, outside [-1/10, 1/2]."""
    layers = (
        Layer(np.eye(1), np.zeros(1), np.ones(1, bool)),
        Layer(np.eye(1), np.array([-0.5]), np.ones(1, bool)),
    )
    network, box = Network(layers), (np.array([-1.0]), np.array([1.0]))
    net, low, high, f = prepared(network, box)
    low[1, 0] = -0.1
    assert tighten(net, low.copy(), high.copy(), f)
    high[0, 0] = 0.0
    assert not tighten(net, low, high, f)


# ----- the exact extremes of affine functions


def affine_cases(count):
    """Networks that are affine on their box, with rows and the exact maximum of their slack."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        exponent = EXPONENTS[seed % 3]
        box = wild_box(rng, int(rng.integers(1, 5)), EXPONENTS[seed // 3 % 3])
        network = settled_network(rng, exponent, box)
        for _ in range(4):
            row, bound = random_row(rng, network.n_outputs)
            q = Queries(network.depth, -row[None], np.array([bound]), [], [], [], box)
            least, size = exact_minimum(network, box, q, 0)
            yield network, box, row, bound, -least, size


def upper_bound(network, box, row, bound, **changes):
    net, low, high, f = prepared(network, box)
    net = net._replace(**changes)
    return bound_row(net, padded(net, row), bound, 0, low, high, f)


def test_never_below_the_exact_maximum_of_an_affine_function():
    """Within a part in 10^12 of the terms where they are of ordinary size."""
    sharp = 0
    for network, box, row, bound, largest, size in affine_cases(250):
        upper = upper_bound(network, box, row, bound)
        assert math.isnan(upper) or at_least(upper, largest)
        if Fraction(1, 2**200) < size < 2**200:
            assert Fraction(upper) - largest <= size / 10**12
            sharp += 1
    assert sharp > 200


def wrong(cases, **changes):
    return sum(
        not at_least(upper_bound(*case[:4], **changes), case[4])
        for case in cases
        if math.isfinite(upper_bound(*case[:4]))
    )


def cancelling_cases(count):
    """Two layers whose product of weights is nearly 0."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        weight, row = rng.normal(size=(6, 1)), rng.normal(size=6)
        row[5] = -(row[:5] @ weight[:5, 0]) / weight[5, 0]
        network = Network((Layer(weight, np.zeros(6), np.zeros(6, bool)),))
        box = np.array([1.0]), np.array([2.0])
        q = Queries(1, -row[None], np.zeros(1), [], [], [], box)
        yield network, box, row, 0.0, -exact_minimum(network, box, q, 0)[0]


def test_the_allowance_for_rounding_is_needed():
    assert wrong(cancelling_cases(60)) == 0
    assert wrong(cancelling_cases(60), error=0.0) > 3


def underflowing_cases():
    """Coefficients that vanish in a pass (2^-600 squared) on an activation that is large."""
    for share in (0.25, 0.5, 1.0):
        layers = [
            Layer(np.array([[share * 2.0**900]]), np.zeros(1), np.zeros(1, bool)),
            Layer(np.array([[2.0**-600]]), np.zeros(1), np.zeros(1, bool)),
            Layer(np.array([[2.0**-600]]), np.zeros(1), np.zeros(1, bool)),
        ]
        network, box = Network(tuple(layers)), (np.array([0.0]), np.array([1.0]))
        largest = network.exact([1])[0]
        assert largest > 0
        yield network, box, np.ones(1), 0.0, largest


def test_products_that_underflow_are_not_forgotten():
    assert wrong(underflowing_cases()) == 0
    assert wrong(underflowing_cases(), underflow=2.0**-1000) == 3


# ----- local coordinates, large numbers, evaluation


@given(generators(), st.sampled_from(EXPONENTS))
def test_the_unit_cube_covers_the_box(rng, exponent):
    lower, upper = wild_box(rng, 4, exponent)
    network = Network((Layer(np.ones((1, 4)), np.zeros(1), np.zeros(1, bool)),))
    f = forms(pack(network, lower, upper, interval_bounds(network, lower, upper))[0], 1)
    set_box(lower, upper, f)
    for low, high, centre, radius in zip(lower, upper, f.centre, f.radius, strict=True):
        c, r = Fraction(float(centre)), Fraction(float(radius))
        assert r > 0
        assert c - r <= Fraction(float(low))
        assert Fraction(float(high)) <= c + r


def test_a_range_that_overflows_has_a_sound_chord():
    layers = (
        Layer(np.array([[1e308]]), np.zeros(1), np.ones(1, bool)),
        Layer(np.array([[-1e-10]]), np.zeros(1), np.zeros(1, bool)),
    )
    network, box = Network(layers), (np.array([-1.0]), np.array([1.0]))
    assert at_least(upper_bound(network, box, -np.ones(1), 0.0), -network.exact([1])[0])


def test_an_overflow_never_closes_anything():
    """The upper bound is infinite or NaN, the ranges stay infinite."""
    rng = np.random.default_rng(0)
    layers = tuple(
        Layer(rng.choice([-1e300, 1e300, 1e200], (2, 2)), np.zeros(2), np.ones(2, bool))
        for _ in range(3)
    )
    network, box = Network(layers), (np.array([-1e10, 3.0]), np.array([1e10, 5.0]))
    net, low, high, f = prepared(network, box)
    assert tighten(net, low, high, f)
    check_ranges(network, low, high, points_between(rng, *box, 4))
    for row in np.eye(2):
        for sign in (1.0, -1.0):
            upper = bound_row(net, padded(net, sign * row), 0.0, 0, low, high, f)
            assert not math.isfinite(upper)
            assert not upper < 0


@given(generators())
def test_evaluation_is_the_network_in_float64(rng):
    network = random_network(rng)
    box = random_box(rng, network.n_inputs).outward()
    net, *_ = prepared(network, box)
    a, z = np.zeros(net.weight.shape[1]), np.zeros(net.weight.shape[1])
    for x in points_between(rng, *box, 4):
        floats = np.array([float(v) for v in x])
        evaluate(net, floats, a, z)
        assert a[: network.n_outputs] == pytest.approx(network.float64(floats), rel=1e-9, abs=1e-9)


def test_packing_keeps_every_number():
    rng = np.random.default_rng(5)
    network = random_network(rng, kinds=("sparse",))
    box = random_box(rng, network.n_inputs).outward()
    net, low, high = pack(network, *box, interval_bounds(network, *box))
    assert net.weight.shape[1] % 8 == 0
    for k, layer in enumerate(network.layers):
        assert (net.weight[k, : layer.n_out, : layer.n_in] == layer.dense).all()
        assert np.count_nonzero(net.weight[k]) == np.count_nonzero(layer.dense)
        assert (net.bias[k, : layer.n_out] == layer.bias).all()
        assert (net.relu[k, : layer.n_out] == layer.relu).all()
    assert net.width.tolist() == [network.n_inputs] + [x.n_out for x in network.layers]
    assert low.shape == high.shape == net.bias.shape
    assert box_kernels.gamma(int(net.width.max())) < net.error
