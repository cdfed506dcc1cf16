"""The triangle relaxation contains the network's graph; safe bounds never exceed the exact ones."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.strategies import generators, random_box, random_network, random_point
from verifier.bounds.interval import interval_bounds
from verifier.bounds.lp import System, relax, safe_lower_bound, triangle
from verifier.core.network import Layer, Network
from verifier.solvers.highs import LinearProgram, LpStatus

finite = st.floats(min_value=2.0**-1074, max_value=2.0**1020)


@given(finite, finite, st.fractions(0, 1))
def test_the_triangle_lies_above_the_relu(minus_lower, upper, share):
    lower = -minus_lower
    slope, intercept = triangle(np.array([lower]), np.array([upper]))
    assert 0 <= slope[0] <= 1
    assume(np.isfinite(intercept[0]))
    s, t = Fraction(float(slope[0])), Fraction(float(intercept[0]))
    for z in (
        Fraction(lower),
        Fraction(upper),
        Fraction(lower) * (1 - share) + Fraction(upper) * share,
    ):
        assert s * z + t >= max(z, 0)


def test_the_triangle_is_tight_for_ordinary_numbers():
    slope, intercept = triangle(np.array([-1.0, -3.0]), np.array([1.0, 1.0]))
    assert slope == pytest.approx([0.5, 0.25])
    assert intercept == pytest.approx([0.5, 0.75], rel=1e-14)


def relaxed(rng, **kwargs):
    network = random_network(rng, **kwargs)
    box = random_box(rng, network.n_inputs)
    outward = box.outward()
    return network, box, relax(network, outward, interval_bounds(network, *outward))


def column_values(relaxation, network, x):
    """The exact value of every column at the input x."""
    values = [Fraction(0)] * relaxation.system.matrix.shape[1]
    values[: network.n_inputs] = x
    for pre, post, (z, a) in zip(
        relaxation.pre, relaxation.post, network.exact_trace(x), strict=True
    ):
        for columns, numbers in ((pre, z), (post, a)):
            for column, value in zip(columns, numbers, strict=True):
                if column >= 0:
                    values[column] = value
        assert all(v == 0 for c, v in zip(post, a, strict=True) if c < 0)
    return values


def exactly_inside(system, values):
    ends = [*zip(*system.columns, strict=True)]
    if not all(low <= v <= high for v, (low, high) in zip(values, ends, strict=True)):
        return False
    matrix = system.matrix
    for i, (low, high) in enumerate(zip(*system.rows, strict=True)):
        entries = slice(matrix.indptr[i], matrix.indptr[i + 1])
        total = sum(
            Fraction(float(c)) * values[j]
            for j, c in zip(matrix.indices[entries], matrix.data[entries], strict=True)
        )
        if not low <= total <= high:
            return False
    return True


@given(generators())
@settings(max_examples=80)
def test_the_relaxation_contains_the_exact_graph(rng):
    network, box, relaxation = relaxed(rng)
    for _ in range(6):
        x = random_point(rng, box)
        assert exactly_inside(relaxation.system, column_values(relaxation, network, x))


@given(generators())
@settings(max_examples=40)
def test_a_wrong_output_is_outside(rng):
    network, box, relaxation = relaxed(rng)
    values = column_values(relaxation, network, random_point(rng, box))
    column = next((c for c in relaxation.pre[-1] if c >= 0), None)
    assume(column is not None)
    values[column] += Fraction(1, 2**80)
    assert not exactly_inside(relaxation.system, values)


def test_unstable_neurons_and_their_columns():
    weight = np.array([[1.0], [1.0], [1.0], [1.0]])
    layer = Layer(weight, np.array([0.0, 2.0, -2.0, 0.0]), np.array([True, True, True, False]))
    network = Network((layer, Layer(np.ones((1, 4)), np.zeros(1), np.array([False]))))
    box = np.array([-1.0]), np.array([1.0])
    relaxation = relax(network, box, interval_bounds(network, *box))
    assert relaxation.unstable.tolist() == [[0, 0]]
    # One input; z of neurons 0, 1, 3; a of neuron 0; the output. Neuron 2 is always cut off.
    assert relaxation.system.matrix.shape == (6, 6)
    assert relaxation.post[0].tolist() == [4, 2, -1, 3]


def test_bounds_beyond_float64_are_an_error():
    network = Network((Layer(np.array([[1e300]]), np.zeros(1), np.array([True])),))
    box = np.array([0.0]), np.array([1e300])
    with np.errstate(all="ignore"):
        bounds = interval_bounds(network, *box)
    with pytest.raises(OverflowError, match="float64 range"):
        relax(network, box, bounds)


def exact_dual_bound(system, cost, multipliers):
    """The formula of Neumaier and Shcherbina in Fractions."""
    lows, highs = system.rows
    y = [
        Fraction(0)
        if (v > 0 and low == -np.inf) or (v < 0 and high == np.inf)
        else Fraction(float(v))
        for v, low, high in zip(multipliers, lows, highs, strict=True)
    ]
    total = sum(
        (
            v * Fraction(float(low if v > 0 else high))
            for v, low, high in zip(y, lows, highs, strict=True)
            if v
        ),
        start=Fraction(0),
    )
    matrix = system.matrix.toarray()
    for j, (low, high) in enumerate(zip(*system.columns, strict=True)):
        reduced = Fraction(float(cost[j])) - sum(
            (v * Fraction(float(c)) for v, c in zip(y, matrix[:, j], strict=True) if v and c),
            start=Fraction(0),
        )
        total += reduced * Fraction(float(low if reduced > 0 else high))
    return total


@given(generators(), st.sampled_from([1.0, 1e-150, 1e150, 2.0**60]))
@settings(max_examples=80)
def test_safe_bounds_are_below_the_exact_dual_bound_for_any_multipliers(rng, scale):
    _, _, relaxation = relaxed(rng)
    system = relaxation.system
    m, n = system.matrix.shape
    cost, y = rng.normal(size=n), rng.normal(size=m) * scale * (rng.random(m) < 0.7)
    exact = exact_dual_bound(system, cost, y)
    assert Fraction(safe_lower_bound(system, cost, y)) <= exact


@given(generators())
@settings(max_examples=60)
def test_safe_bounds_from_the_solver_are_tight_and_below_every_value(rng):
    network, box, relaxation = relaxed(rng)
    system = relaxation.system
    cost = rng.normal(size=system.matrix.shape[1])
    hint = LinearProgram(system.matrix, cost, system.columns, system.rows).solve()
    assert hint.status is LpStatus.OPTIMAL
    bound = safe_lower_bound(system, cost, hint.multipliers)
    assert bound == pytest.approx(hint.objective, abs=1e-5 * (1 + abs(hint.objective)))
    for _ in range(4):
        values = column_values(relaxation, network, random_point(rng, box))
        assert sum(Fraction(float(c)) * v for c, v in zip(cost, values, strict=True)) >= bound


def test_the_loss_to_rounding_is_small():
    rng = np.random.default_rng(5)
    _, _, relaxation = relaxed(rng, max_width=5)
    system = relaxation.system
    m, n = system.matrix.shape
    cost, y = rng.normal(size=n), rng.normal(size=m)
    exact = exact_dual_bound(system, cost, y)
    assert 0 <= exact - Fraction(safe_lower_bound(system, cost, y)) < Fraction(1, 10**10)


def test_multipliers_on_an_absent_side_count_as_zero():
    system = System(
        sp.csr_array(np.array([[1.0]])),
        (np.array([0.0]), np.array([1.0])),
        (np.array([-np.inf]), np.array([0.25])),
    )
    cost = np.array([-1.0])
    assert safe_lower_bound(system, cost, np.array([-1.0])) == pytest.approx(-0.25)
    assert safe_lower_bound(system, cost, np.array([1.0])) == pytest.approx(-1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e308])
def test_useless_multipliers_give_no_bound(bad):
    system = System(
        sp.csr_array(np.array([[2.0]])),
        (np.array([-4.0]), np.array([4.0])),
        (np.array([-1.0]), np.array([1.0])),
    )
    assert safe_lower_bound(system, np.array([1.0]), np.array([bad])) == -np.inf


def test_an_empty_system_is_proved_empty_and_a_touching_one_is_not():
    # x + y >= 2 (1 + e) on the unit square: empty for e > 0, one point for e = 0.
    def system(bound):
        return System(
            sp.csr_array(np.array([[1.0, 1.0]])),
            (np.zeros(2), np.ones(2)),
            (np.array([bound]), np.array([np.inf])),
        )

    y, zero = np.array([1.0]), np.zeros(2)
    assert safe_lower_bound(system(2.0 + 2.0**-40), zero, y) > 0
    assert safe_lower_bound(system(2.0), zero, y) <= 0


def test_added_rows_read_the_outputs():
    rng = np.random.default_rng(3)
    network, box, relaxation = relaxed(rng)
    x = random_point(rng, box)
    values, y = column_values(relaxation, network, x), network.exact(x)
    row = np.ones((1, network.n_outputs))
    at = float(sum(y))
    for bound, inside in ((at - 1e-3, True), (at + 1e-3, False)):
        system = relaxation.with_rows(row, np.array([bound]))
        assert exactly_inside(system, values) is inside


def test_cancelled_reduced_costs_are_paid_for():
    # 1 - 10 · 0.1 is 0 in float64, but not for the 0.1 that a float64 is; the column is huge.
    system = System(
        sp.csr_array(np.array([[0.1]])),
        (np.array([-(2.0**60)]), np.array([2.0**60])),
        (np.array([0.0]), np.array([np.inf])),
    )
    cost, y = np.array([1.0]), np.array([10.0])
    exact = exact_dual_bound(system, cost, y)
    assert exact < -60
    assert Fraction(safe_lower_bound(system, cost, y)) <= exact


def test_the_sum_of_the_terms_is_paid_for():
    # (2^53 + 2) + 1 - 2^53 is 3, and 4 in float64 from left to right.
    system = System(
        sp.csr_array((3, 1)),
        (np.array([0.0]), np.array([0.0])),
        (np.array([2.0**53 + 2, 1.0, -(2.0**53)]), np.full(3, np.inf)),
    )
    cost, y = np.zeros(1), np.ones(3)
    assert exact_dual_bound(system, cost, y) == 3
    assert safe_lower_bound(system, cost, y) <= 3
