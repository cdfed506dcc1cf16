"""Exact feasibility against z3, and certificates that are accepted and rejected."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import z3
from flint import fmpq
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.core.exact_lp import Empty, Inequalities, Point, Widest, decide, widest


def never():
    return False


def random_system(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(0, 9))
    q = int(rng.choice([1, 3, 8]))

    def numbers(size, low=-5, high=6):
        return [fmpq(int(v), q) for v in rng.integers(low, high, size)]

    rows = [numbers(n) for _ in range(m)]
    lower = numbers(n)
    upper = [a + w for a, w in zip(lower, numbers(n, 0, 9), strict=True)]
    # Thresholds near the values at one point, so that both answers and ties are frequent.
    point = [
        a + (b - a) * fmpq(int(rng.integers(0, 3)), 2) for a, b in zip(lower, upper, strict=True)
    ]
    bound = [
        sum((c * v for c, v in zip(row, point, strict=True)), fmpq(int(rng.integers(-2, 3)), 2 * q))
        for row in rows
    ]
    return Inequalities(rows, bound, [bool(rng.random() < 0.4) for _ in rows], lower, upper)


def z3_says(system):
    solver = z3.Solver()
    x = [z3.Real(f"x{j}") for j in range(len(system.lower))]

    def real(v):
        return z3.Q(int(v.p), int(v.q))

    for v, low, high in zip(x, system.lower, system.upper, strict=True):
        solver.add(real(low) <= v, v <= real(high))
    for row, b, strict in zip(system.rows, system.bound, system.strict, strict=True):
        left = sum((real(c) * v for c, v in zip(row, x, strict=True)), real(fmpq(0)))
        solver.add(left > real(b) if strict else left >= real(b))
    return solver.check() == z3.sat


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=250)
def test_answers_agree_with_z3_and_carry_their_evidence(seed):
    system = random_system(seed)
    answer = decide(system, never)
    assert isinstance(answer, Point) == z3_says(system)
    if isinstance(answer, Point):
        assert system.contains(answer.x)
    else:
        assert isinstance(answer, Empty)
        assert system.excluded_by(answer.weights)


def test_both_answers_are_frequent():
    answers = [type(decide(random_system(seed), never)) for seed in range(200)]
    assert answers.count(Point) >= 40
    assert answers.count(Empty) >= 40


def square(strict, bound=2):
    """x + y >= bound (or >) on the unit square."""
    zero, one = fmpq(0), fmpq(1)
    return Inequalities([[one, one]], [fmpq(0) + bound], [strict], [zero, zero], [one, one])


def test_a_tie_is_a_solution_unless_strict():
    assert decide(square(False), never) == Point((fmpq(1), fmpq(1)))
    assert decide(square(True), never) == Empty((fmpq(1),))


def test_the_smallest_excess_is_seen():
    tiny = fmpq(1, 3**200)
    assert isinstance(decide(square(False, 2 + tiny), never), Empty)
    assert isinstance(decide(square(True, 2 - tiny), never), Point)


@pytest.mark.parametrize("weights", [(fmpq(0),), (fmpq(-1),)])
def test_wrong_weights_are_rejected(weights):
    assert square(True).excluded_by((fmpq(1),))
    assert not square(True).excluded_by(weights)


def test_weights_that_only_reach_zero_need_a_strict_row():
    assert not square(False).excluded_by((fmpq(1),))


@pytest.mark.parametrize("x", [(Fraction(3, 2), 1), (1, 0), (-1, 3)])
def test_points_outside_are_rejected(x):
    assert square(False).contains((fmpq(1), fmpq(1)))
    assert not square(False).contains(
        [fmpq(Fraction(v).numerator, Fraction(v).denominator) for v in x]
    )


def test_stop_is_obeyed():
    assert decide(square(False), lambda: True) is None


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_margins_agree_with_scipy_and_carry_their_proof(seed):
    system = scaled(random_system(seed))
    if not any(system.strict):
        with pytest.raises(ValueError, match="strict row"):
            widest(system, never)
        return
    answer = widest(system, never)
    seen = scipy_margin(system)
    if isinstance(answer, Empty):
        assert seen is None
        return
    assert isinstance(answer, Widest)
    assert seen == pytest.approx(float(Fraction(int(answer.margin.p), int(answer.margin.q))))
    assert system.proves_widest(answer.x, answer.weights)


def scaled(system):
    """The same system, its rows divided by a number that keeps every margin below 1."""
    rows = [[c / 1000 for c in row] for row in system.rows]
    bound = [b / 1000 for b in system.bound]
    return Inequalities(rows, bound, system.strict, system.lower, system.upper)


def scipy_margin(system):
    """The largest t by HiGHS, or None."""

    def real(v):
        return int(v.p) / int(v.q)

    n = len(system.lower)
    matrix = [
        [*(-real(c) for c in row), float(strict)]
        for row, strict in zip(system.rows, system.strict, strict=True)
    ]
    limits = [(real(a), real(b)) for a, b in zip(system.lower, system.upper, strict=True)]
    found = scipy.optimize.linprog(
        [0.0] * n + [-1.0],
        matrix,
        [-real(b) for b in system.bound],
        bounds=[*limits, (None, None)],
    )
    return -found.fun if found.status == 0 else None


def test_wrong_margins_are_rejected():
    system = square(True)
    answer = widest(system, never)
    assert answer == Widest((fmpq(1), fmpq(1)), fmpq(0), (fmpq(1),))
    assert system.proves_widest(answer.x, answer.weights)
    assert not system.proves_widest((fmpq(1), fmpq(1, 2)), answer.weights)
    assert not system.proves_widest((fmpq(2), fmpq(0)), answer.weights)
    assert not system.proves_widest(answer.x, (fmpq(2),))
    assert not system.proves_widest(answer.x, (fmpq(0),))
    assert not system.proves_widest(answer.x, (fmpq(-1),))


def test_a_margin_of_one_asks_for_another_scale():
    with pytest.raises(ValueError, match="scale"):
        widest(square(True, -7), never)
