"""Depth 2: critical radii against brute force, networks inside balls, proofs above."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import z3
from hypothesis import given, settings
from strategies import generators

from constructions.depth_two import (
    MAX_POINTS,
    CriticalRadius,
    critical_radius,
    decide,
    demonstrate,
    pinwheel,
)
from constructions.depth_two_check import (
    Impossibility,
    check_impossibility,
    check_memorizes,
    check_splits,
)
from constructions.rational_points import RationalPoints
from verifier.core.errors import DataError
from verifier.core.network import Network

TINY = Fraction(1, 10**12)


def random_data(rng, *, max_points=7, classes=3):
    """Points of a coarse grid (duplicates and points in hulls are frequent), labels by place."""
    while True:
        n, d = int(rng.integers(2, max_points + 1)), int(rng.integers(1, 4))
        points = rng.integers(-3, 4, (n, d))
        q = int(rng.choice([1, 3, 4]))
        labels = {tuple(x): int(rng.integers(0, classes)) for x in points.tolist()}
        y = tuple(labels[tuple(x)] for x in points.tolist())
        if len(set(y)) > 1:
            return RationalPoints(
                tuple(tuple(Fraction(v, q) for v in x) for x in points.tolist()), y
            )


def margin_by_scipy(data, members):
    """Half the ℓ∞ distance of the two hulls, by HiGHS on the combinations (the dual problem)."""
    inside = np.array([[float(v) for v in data.points[i]] for i in members])
    others = [i for i in range(len(data)) if i not in members]
    outside = np.array([[float(v) for v in data.points[i]] for i in others])
    a, b, d = len(inside), len(outside), data.dimension
    difference = np.hstack([inside.T, -outside.T])
    ones = np.ones((d, 1))
    found = scipy.optimize.linprog(
        [0.0] * (a + b) + [1.0],
        A_ub=np.vstack([np.hstack([difference, -ones]), np.hstack([-difference, -ones])]),
        b_ub=np.zeros(2 * d),
        A_eq=[[1.0] * a + [0.0] * (b + 1), [0.0] * a + [1.0] * b + [0.0]],
        b_eq=[1.0, 1.0],
    )
    assert found.status == 0
    return found.fun / 2


def critical_by_brute_force(data):
    """μ_2(D) in floats: all splits, their margins by HiGHS, ranks by NumPy, no order of search."""
    n = len(data)
    rows = []
    for bits in range(1, 2 ** (n - 1)):
        members = [i for i in range(n) if bits >> i & 1]
        rows.append((margin_by_scipy(data, members), [float(i in members) for i in range(n)]))
    y = np.array(data.labels, dtype=float)
    for level in sorted({round(m, 9) for m, _ in rows}, reverse=True):
        columns = [np.ones(n), *(np.array(v) for m, v in rows if m >= level - 1e-7)]
        matrix = np.array(columns)
        if np.linalg.matrix_rank(np.vstack([matrix, y])) == np.linalg.matrix_rank(matrix):
            return level
    raise AssertionError("the labels are in no span")


def check(critical):
    check_splits(critical.data, critical.radius, critical.constant, critical.separators)
    check_impossibility(critical.data, critical.radius, critical.impossibility)


@given(generators())
@settings(max_examples=60, deadline=None)
def test_the_critical_radius_agrees_with_brute_force_and_is_proved(rng):
    data = random_data(rng, max_points=6)
    critical = critical_radius(data)
    check(critical)
    assert float(critical.radius) == pytest.approx(critical_by_brute_force(data), abs=1e-6)
    assert 0 < critical.radius <= data.separation / 2


@given(generators())
@settings(max_examples=60, deadline=None)
def test_below_it_the_network_is_right_on_the_balls(rng):
    data = random_data(rng, max_points=9)
    critical = critical_radius(data)
    mu = critical.radius * Fraction(int(rng.choice([0, 1, 8, 15])), 16)
    network = decide(data, mu)
    assert isinstance(network, Network)
    assert network.depth == 2
    assert network.width == 2 * len(critical.separators) <= 2 * (len(data) - 1)
    check_memorizes(network, data, mu)
    for _ in range(20):
        i = int(rng.integers(len(data)))
        shift = [Fraction(int(v), 9) for v in rng.choice([-9, 9, *range(-9, 10)], data.dimension)]
        x = [c + mu * s for c, s in zip(data.points[i], shift, strict=True)]
        assert network.exact(x) == (data.labels[i],)


@given(generators())
@settings(max_examples=40, deadline=None)
def test_above_it_no_split_that_matters_is_admissible(rng):
    """z3 says that each split with u·1_S ≠ 0 has no hyperplane that keeps mu clear."""
    data = random_data(rng, max_points=5)
    critical = critical_radius(data)
    mu = critical.radius * (1 + Fraction(1, 1000))
    claim = decide(data, mu)
    assert isinstance(claim, Impossibility)
    u = np.array(claim.direction)
    assert u.sum() == 0
    assert u @ np.array(data.labels) != 0
    for bits in range(2 ** len(data)):
        members = [bits >> i & 1 for i in range(len(data))]
        if u @ np.array(members) != 0:
            assert not separable_by_z3(data, members, mu)


def separable_by_z3(data, members, mu):
    solver = z3.Solver()
    w = [z3.Real(f"w{j}") for j in range(data.dimension)]
    size = [z3.Real(f"a{j}") for j in range(data.dimension)]
    b = z3.Real("b")
    for v, a in zip(w, size, strict=True):
        solver.add(a >= v, a >= -v)
    solver.add(sum(size) == 1)
    for x, member in zip(data.points, members, strict=True):
        value = sum(z3.Q(c.numerator, c.denominator) * v for c, v in zip(x, w, strict=True)) + b
        solver.add((value if member else -value) >= z3.Q(mu.numerator, mu.denominator))
    return solver.check() == z3.sat


@pytest.mark.parametrize("s", [Fraction(1, 10), Fraction(2, 5), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("dimension", [2, 3])
def test_pinwheels(s, dimension):
    """THEORY's closed forms: no labelling passes (1+s²)/(2(1+s)), two labels stop at (1+s²)/4."""
    three = critical_radius(pinwheel(s, (1, 2, 3, 2), dimension))
    check(three)
    assert three.radius == (1 + s * s) / (2 * (1 + s))
    assert three.data.separation == 1
    two = critical_radius(pinwheel(s, (1, 2, 1, 2), dimension))
    check(two)
    assert two.radius == (1 + s * s) / 4
    assert two.data.separation == 1


def test_the_pinwheels_that_the_guide_names():
    assert critical_radius(pinwheel(Fraction(2, 5), (1, 2, 3, 2))).radius == Fraction(29, 70)
    assert critical_radius(pinwheel(Fraction(1, 2), (1, 2, 3, 2))).radius == Fraction(5, 12)
    assert critical_radius(pinwheel(Fraction(2, 5))).radius == Fraction(29, 100)
    assert critical_radius(pinwheel(Fraction(1, 2))).radius == Fraction(5, 16)


def test_on_a_line_depth_two_is_optimal():
    data = RationalPoints(tuple((v,) for v in (0, 1, 3, 4, 9)), (1, 1, 2, 1, 3))
    critical = critical_radius(data)
    check(critical)
    assert critical.radius == data.separation / 2 == Fraction(1, 2)


def test_the_four_by_four_chessboard():
    """Rows and columns alone (margin 1/2) do not span parity; diagonals (margin 1/4) do."""
    points = tuple(itertools.product(range(4), repeat=2))
    data = RationalPoints(points, tuple((i + j) % 2 for i, j in points))
    assert len(data) == MAX_POINTS
    critical = critical_radius(data)
    check(critical)
    assert Fraction(1, 4) <= critical.radius < data.separation / 2
    mu = critical.radius * (1 - TINY)
    check_memorizes(critical.network(mu), data, mu)


def test_dyadic_data_give_a_network_that_can_be_exported():
    data = pinwheel(Fraction(1, 2))
    network = critical_radius(data).network(Fraction(5, 16) - Fraction(1, 64))
    assert network.is_float
    value = network.float64(np.array([1.0, 0.5]))
    assert value == 2.0


def test_radii_that_are_not_decided():
    wheel = critical_radius(pinwheel(Fraction(2, 5)))
    with pytest.raises(DataError, match="exactly the critical radius 29/100"):
        decide(wheel.data, wheel.radius)
    with pytest.raises(DataError, match="at least 0"):
        decide(wheel.data, Fraction(-1))
    for mu in (wheel.radius, Fraction(1), Fraction(-1, 9)):
        with pytest.raises(DataError, match="29/100"):
            wheel.network(mu)


def test_bad_data():
    line = tuple((v,) for v in range(MAX_POINTS + 1))
    with pytest.raises(DataError, match=r"17 points.*at most 16"):
        critical_radius(RationalPoints(line, tuple(v % 2 for (v,) in line)))
    for s, dimension in ((Fraction(0), 2), (Fraction(1), 2), (Fraction(1, 2), 1)):
        with pytest.raises(DataError, match="0 < s < 1"):
            pinwheel(s, dimension=dimension)


def test_the_demonstration():
    shown = demonstrate()
    assert shown.values["critical_radius"] == {"1232": "29/70", "1212": "29/100"}


def test_the_certificate_is_a_value():
    assert isinstance(critical_radius(pinwheel(Fraction(1, 3))), CriticalRadius)
    assert critical_radius(pinwheel(Fraction(1, 3))) == critical_radius(pinwheel(Fraction(1, 3)))
