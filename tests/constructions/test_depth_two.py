"""Depth 2: critical radii against brute force, networks inside balls, proofs above."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import z3
from flint import fmpq_mat
from hypothesis import given, settings
from point_sets import grid_points, scattered_points
from strategies import generators

from constructions.depth_two import (
    MAX_POINTS,
    CriticalRadius,
    chessboard,
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
from constructions.split_margin import SplitSpace
from verifier.core.errors import DataError
from verifier.core.network import Network

TINY = Fraction(1, 10**12)


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


def critical_by_enumeration(data):
    """μ_2(D) exactly: splits of HiGHS' margins, widest first, by exact ranks and exact margins."""
    n, space = len(data), SplitSpace(data)
    everyone = frozenset(range(n))
    splits = [frozenset(i for i in range(n) if bits >> i & 1) for bits in range(1, 2 ** (n - 1))]
    margins = {s: margin_by_scipy(data, sorted(s)) for s in splits}
    columns = [fmpq_mat([[1] for _ in range(n)])]
    y = fmpq_mat([[v] for v in data.labels])
    rank = 1
    for split in sorted(splits, key=lambda s: -margins[s]):
        wider = [*columns, fmpq_mat([[int(i in split)] for i in range(n)])]
        if joined(wider).rank() == rank:
            continue
        columns, rank = wider, rank + 1
        if joined([*columns, y]).rank() == rank:
            return space.length(space.margin(split, everyone - split).value)
    raise AssertionError("the labels are in no span")


def joined(columns):
    return fmpq_mat([list(row) for row in zip(*(c.entries() for c in columns), strict=True)])


def check(critical):
    check_splits(critical.data, critical.radius, critical.constant, critical.separators)
    check_impossibility(critical.data, critical.radius, critical.impossibility)


@given(generators())
@settings(max_examples=60, deadline=None)
def test_the_critical_radius_agrees_with_brute_force_and_is_proved(rng):
    data = grid_points(rng, max_points=6)
    critical = critical_radius(data)
    check(critical)
    assert float(critical.radius) == pytest.approx(critical_by_brute_force(data), abs=1e-6)
    assert 0 < critical.radius <= data.separation / 2


@given(generators())
@settings(max_examples=60, deadline=None)
def test_below_it_the_network_is_right_on_the_balls(rng):
    data = grid_points(rng, max_points=9)
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
    data = grid_points(rng, max_points=5)
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


@pytest.mark.parametrize(("n", "d"), [(9, 1), (10, 2), (11, 3), (12, 2)])
def test_the_search_agrees_with_enumeration(n, d):
    data = scattered_points(np.random.default_rng(n), n, d)
    critical = critical_radius(data)
    check(critical)
    assert critical.radius == critical_by_enumeration(data)


@pytest.mark.parametrize(("n", "d"), [(40, 2), (30, 3), (20, 5), (60, 2)])
def test_more_points_than_could_be_enumerated(n, d):
    data = scattered_points(np.random.default_rng(10 * n + d), n, d)
    critical = critical_radius(data)
    check(critical)
    assert 0 < critical.radius <= data.separation / 2
    mu = critical.radius * Fraction(99, 100)
    check_memorizes(critical.network(mu), data, mu)
    assert isinstance(decide(data, critical.radius * Fraction(101, 100)), Impossibility)


@pytest.mark.parametrize("dimension", [2, 5])
def test_pinwheels_among_other_points(dimension):
    """Far points of further classes add splits but do not help the four at the centre."""
    s, rng = Fraction(2, 5), np.random.default_rng(3)
    wheel = pinwheel(s, (1, 2, 3, 2), dimension)
    far = [tuple(Fraction(int(v)) for v in 40 + rng.integers(0, 30, dimension)) for _ in range(16)]
    far = list(dict.fromkeys(far))
    data = RationalPoints((*wheel.points, *far), (*wheel.labels, *range(4, 4 + len(far))))
    critical = critical_radius(data)
    check(critical)
    assert critical.radius == Fraction(29, 70)


def test_a_search_that_takes_too_long_says_what_is_known():
    data = scattered_points(np.random.default_rng(205), 20, 5)
    with pytest.raises(DataError, match=r"20 points: gave up after 3 partial.*at most") as refusal:
        critical_radius(data, limit=3)
    bound = Fraction(str(refusal.value).split("at most ")[1].split(",")[0])
    assert critical_radius(data).radius <= bound <= data.separation / 2


def test_progress_rises():
    seen = []
    critical_radius(scattered_points(np.random.default_rng(1), 12, 2), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] < 1


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


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_chessboards(size):
    """Rows and columns alone (margin 1/2) do not span parity; diagonals (margin 1/4) do."""
    critical = critical_radius(chessboard(size))
    check(critical)
    assert critical.data.separation == 1
    assert critical.radius == Fraction(1, 4)
    mu = critical.radius * (1 - TINY)
    check_memorizes(critical.network(mu), critical.data, mu)


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
    with pytest.raises(DataError, match=r"201 points.*at most 200"):
        critical_radius(RationalPoints(line, tuple(v % 2 for (v,) in line)))
    with pytest.raises(DataError, match="at least 2 rows"):
        chessboard(1)
    for s, dimension in ((Fraction(0), 2), (Fraction(1), 2), (Fraction(1, 2), 1)):
        with pytest.raises(DataError, match="0 < s < 1"):
            pinwheel(s, dimension=dimension)


def test_the_demonstration():
    shown = demonstrate()
    assert shown.values["critical_radius"] == {
        "pinwheel, labels 1, 2, 3, 2": "29/70",
        "pinwheel, labels 1, 2, 1, 2": "29/100",
        "chessboard": "1/4",
    }


def test_the_certificate_is_a_value():
    assert isinstance(critical_radius(pinwheel(Fraction(1, 3))), CriticalRadius)
    assert critical_radius(pinwheel(Fraction(1, 3))) == critical_radius(pinwheel(Fraction(1, 3)))
