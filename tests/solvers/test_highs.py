"""The incremental linear program: what HiGHS says, in the signs that the rest relies on."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.solvers.highs import LinearProgram, LpStatus

INF = math.inf


def program(matrix, cost, columns, rows):
    as_floats = [tuple(np.array(end, float) for end in pair) for pair in (columns, rows)]
    return LinearProgram(sp.csr_array(np.array(matrix, float)), np.array(cost, float), *as_floats)


def test_optimum_and_duals_of_a_hand_solved_program():
    # min -x - 2y on x + y <= 3, x - y >= -1, 0 <= x, y <= 10: optimum at (1, 2).
    lp = program([[1, 1], [1, -1]], [-1, -2], ([0, 0], [10, 10]), ([-INF, -1], [3, INF]))
    hint = lp.solve()
    assert hint.status is LpStatus.OPTIMAL
    assert hint.objective == pytest.approx(-5)
    assert hint.primal == pytest.approx([1, 2])
    # c = A'y with y <= 0 on the upper side of row 0, y >= 0 on the lower side of row 1.
    assert hint.multipliers == pytest.approx([-1.5, 0.5])


def test_farkas_ray_has_the_same_signs():
    # x + y >= 3 and x - y <= 0 and y <= 1, x <= 1.5 (x + y <= 2 follows).
    lp = program([[1, 1], [1, -1]], [0, 0], ([0, 0], [1.5, 1]), ([3, -INF], [INF, 0]))
    hint = lp.solve()
    assert hint.status is LpStatus.INFEASIBLE
    y = hint.multipliers
    reduced = -np.array([[1, 1], [1, -1]]).T @ y
    bound = 3 * max(y[0], 0) + sum(min(0, r * u) for r, u in zip(reduced, (1.5, 1), strict=True))
    assert y[0] > 0
    assert y[1] <= 0
    assert bound > 0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_two_dimensional_programs_agree_with_their_vertices(seed):
    rng = np.random.default_rng(seed)
    matrix, rhs = rng.integers(-4, 5, (4, 2)), rng.integers(-6, 7, 4)
    cost = rng.integers(-3, 4, 2)
    lp = program(matrix, cost, ([-2, -2], [2, 2]), ([-INF] * 4, rhs))
    hint = lp.solve()
    lines = [*zip(matrix, rhs, strict=True)]
    lines += [(np.array(g), 2) for g in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    values = []
    for (g, b), (h, c) in itertools.combinations(lines, 2):
        determinant = g[0] * h[1] - g[1] * h[0]
        if determinant != 0:
            x = (b * h[1] - c * g[1]) / determinant, (g[0] * c - h[0] * b) / determinant
            if all(f @ x <= d + 1e-9 for f, d in lines):
                values.append(cost @ x)
    if values:
        assert hint.status is LpStatus.OPTIMAL
        assert hint.objective == pytest.approx(min(values), abs=1e-6)
    else:
        assert hint.status is LpStatus.INFEASIBLE


def test_warm_changes_equal_a_fresh_program():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(12, 8))
    cost, low, high = rng.normal(size=8), -np.ones(8), np.ones(8)
    below, above = np.full(12, -INF), np.abs(rng.normal(size=12))
    warm = program(matrix, cost, (low, high), (below, above))
    warm.solve()
    for _ in range(30):
        j, i = rng.integers(0, 8, 1), rng.integers(0, 12, 1)
        low[j], high[j] = -rng.random(1), rng.random(1)
        above[i] = np.abs(rng.normal(size=1))
        cost[j] = rng.normal(size=1)
        warm.set_columns(j, low[j], high[j])
        warm.set_rows(i, below[i], above[i])
        warm.set_cost(j, cost[j])
        cold = program(matrix, cost, (low, high), (below, above)).solve()
        assert warm.solve().objective == pytest.approx(cold.objective, abs=1e-7)


def hard_program():
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(150, 150))
    rows = np.full(150, -INF), 1 + rng.random(150)
    return program(matrix, rng.normal(size=150), (np.full(150, -9.0), np.full(150, 9.0)), rows)


def test_iteration_limit_is_per_run_and_reported():
    lp = hard_program()
    limited = lp.solve(iterations=3)
    assert limited.status is LpStatus.LIMIT
    assert lp.solve().status is LpStatus.OPTIMAL


def test_time_limit_is_per_run_and_reported():
    lp = hard_program()
    assert lp.solve(0.0).status is LpStatus.LIMIT
    assert lp.solve(60.0).status is LpStatus.OPTIMAL


def test_refused_model_gives_no_hint():
    hint = program([[1.0]], [1], ([INF], [INF]), ([0], [INF])).solve()
    assert hint.status is LpStatus.FAILED
    assert hint.primal is None
    assert hint.multipliers is None


def test_entries_beyond_the_default_range_of_highs_are_kept():
    lp = program([[2.0**60, -1.0]], [1, 0], ([-1, 1], [1, 1]), ([0], [0]))
    assert lp.solve().status is not LpStatus.FAILED
