"""Small systems of linear inequalities, decided in exact rational arithmetic.

A bounded dual simplex method over FLINT rationals. Because every variable starts at a finite bound,
the starting basis is dual feasible and no first phase is needed; Bland's rule makes it end. Both
answers carry evidence that is checked against the system itself before it is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flint import fmpq

_ZERO, _ONE = fmpq(0), fmpq(1)


@dataclass(frozen=True, eq=False)
class Inequalities:
    """{ x : rows_i · x ≥ bound_i (> where strict_i), lower ≤ x ≤ upper }, all rational.

    Args:
        rows: m rows of n numbers.
        bound: m numbers.
        strict: m flags.
        lower: n numbers.
        upper: n numbers, each at least its lower.
    """

    rows: Sequence[Sequence[fmpq]]
    bound: Sequence[fmpq]
    strict: Sequence[bool]
    lower: Sequence[fmpq]
    upper: Sequence[fmpq]

    def contains(self, x: Sequence[fmpq]) -> bool:
        """Whether the exact point satisfies everything."""
        return self._holds_weakly(x) and (not any(self.strict) or self.margin(x) > 0)

    def excluded_by(self, weights: Sequence[fmpq]) -> bool:
        """Whether the weights are ≥ 0 and prove the set empty.

        They do if the maximum of Σ w_i (rows_i·x − bound_i) over lower ≤ x ≤ upper is negative, or
        is 0 and a strict row has positive weight.
        """
        if any(w < 0 for w in weights):
            return False
        total = self.ceiling(weights)
        used = any(strict and w != 0 for strict, w in zip(self.strict, weights, strict=True))
        return bool(total < 0 or (total == 0 and used))

    def ceiling(self, weights: Sequence[fmpq]) -> fmpq:
        """The maximum of Σ w_i (rows_i·x − bound_i) over lower ≤ x ≤ upper."""
        used = [(w, i) for i, w in enumerate(weights) if w != 0]
        total = -sum((w * self.bound[i] for w, i in used), _ZERO)
        for j, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            slope = sum((w * self.rows[i][j] for w, i in used), _ZERO)
            total += slope * (high if slope > 0 else low)
        return total

    def margin(self, x: Sequence[fmpq]) -> fmpq:
        """The smallest rows_i·x − bound_i of the strict rows, of which there must be one."""
        return min(s for s, strict in zip(self._slacks(x), self.strict, strict=True) if strict)

    def _holds_weakly(self, x: Sequence[fmpq]) -> bool:
        """Whether x lies in the box and satisfies the rows that are not strict."""
        inside = all(a <= v <= b for a, v, b in zip(self.lower, x, self.upper, strict=True))
        slacks = zip(self._slacks(x), self.strict, strict=True)
        return inside and all(strict or slack >= 0 for slack, strict in slacks)

    def proves_widest(self, x: Sequence[fmpq], weights: Sequence[fmpq]) -> bool:
        """Whether the point reaches its margin and the weights prove that no point exceeds it."""
        total = sum((w for w, strict in zip(weights, self.strict, strict=True) if strict), _ZERO)
        bounded = all(w >= 0 for w in weights) and total == 1
        return self._holds_weakly(x) and bounded and self.ceiling(weights) == self.margin(x)

    def _slacks(self, x: Sequence[fmpq]) -> list[fmpq]:
        return [
            sum((c * v for c, v in zip(row, x, strict=True)), -b)
            for row, b in zip(self.rows, self.bound, strict=True)
        ]


@dataclass(frozen=True)
class Point:
    """An exact solution."""

    x: tuple[fmpq, ...]


@dataclass(frozen=True)
class Empty:
    """Weights that ``Inequalities.excluded_by`` accepts."""

    weights: tuple[fmpq, ...]


@dataclass(frozen=True)
class Widest:
    """The largest margin t ≤ 1, where it is reached, and why it is not larger.

    Args:
        x: rows_i · x ≥ bound_i, + t in the strict rows.
        margin: t.
        weights: ≥ 0, with sum 1 over the strict rows; ``Inequalities.ceiling`` of them is t.
    """

    x: tuple[fmpq, ...]
    margin: fmpq
    weights: tuple[fmpq, ...]


def decide(system: Inequalities, stop: Callable[[], bool]) -> Point | Empty | None:
    """A solution of the system, or weights that prove that there is none.

    The strict rows get a common margin t ≤ 1 that is maximised: s_i = rows_i·x − t ≥ bound_i.

    Args:
        system: the inequalities.
        stop: asked before every pivot; when it says True the answer is None.

    Raises:
        ArithmeticError: the result does not pass its own exact check (a defect of this module).
    """
    tableau = _optimum(system, stop)
    if not isinstance(tableau, _Tableau):
        return tableau
    x = tableau.point()
    if system.contains(x):
        return Point(tuple(x))
    return _checked_empty(system, tableau.cost_weights())


def widest(system: Inequalities, stop: Callable[[], bool]) -> Widest | Empty | None:
    """The largest t ≤ 1 by which all strict rows can hold together, with its proof.

    The system is scaled by the caller so that t < 1; a margin of 1 would need no proof here and
    have none. Negative margins are found, too.

    Args:
        system: with at least one strict row.
        stop: asked before every pivot; when it says True the answer is None.

    Returns:
        The margin, or weights that prove that the other rows have no solution at all.

    Raises:
        ValueError: there is no strict row, or the margin is not below 1.
        ArithmeticError: the result does not pass its own exact check (a defect of this module).
    """
    if not any(system.strict):
        raise ValueError("a margin needs at least one strict row")
    tableau = _optimum(system, stop)
    if not isinstance(tableau, _Tableau):
        return tableau
    x, weights = tableau.point(), tableau.cost_weights()
    margin = system.margin(x)
    if margin >= 1:
        raise ValueError("the margin reaches 1: scale the system down")
    if not system.proves_widest(x, weights):
        raise ArithmeticError("the exact linear program ended without equal primal and dual values")
    return Widest(tuple(x), margin, tuple(weights))


def _optimum(system: Inequalities, stop: Callable[[], bool]) -> _Tableau | Empty | None:
    """The final tableau, weights that prove the weak form of the system empty, or a stop."""
    tableau = _Tableau(system)
    while True:
        if stop():
            return None
        leaving = tableau.violated()
        if leaving is None:
            return tableau
        entering = tableau.entering(leaving)
        if entering is None:
            return _checked_empty(system, tableau.row_weights(leaving))
        tableau.pivot(leaving, entering)


def _checked_empty(system: Inequalities, weights: list[fmpq]) -> Empty:
    if not system.excluded_by(weights):
        raise ArithmeticError("the exact linear program ended without a valid certificate")
    return Empty(tuple(weights))


class _Tableau:
    """Basic variables as exact linear forms in the nonbasic ones.

    Variables 0..n-1 are x, n is the margin t, n+1+i is s_i. ``bounds[v]`` is (lower, upper) with
    None for an absent one. ``cost`` holds the reduced costs d of maximising t: d ≤ 0 at a lower
    bound, d ≥ 0 at an upper one, always.
    """

    def __init__(self, system: Inequalities) -> None:
        self.n = len(system.lower)
        self.has_strict = any(system.strict)
        self.bounds: list[tuple[fmpq | None, fmpq | None]] = [
            *zip(system.lower, system.upper, strict=True),
            (None, _ONE) if self.has_strict else (_ZERO, _ZERO),
            *((b, None) for b in system.bound),
        ]
        self.free = list(range(self.n + 1))
        self.at_upper = [False] * self.n + [self.has_strict]
        self.cost = [_ZERO] * self.n + [_ONE]
        self.basic = [self.n + 1 + i for i in range(len(system.rows))]
        self.rows = [
            [*row, -_ONE if strict else _ZERO]
            for row, strict in zip(system.rows, system.strict, strict=True)
        ]
        self.m = len(self.rows)

    def free_values(self) -> list[fmpq]:
        """The bound at which each nonbasic variable stands."""
        values = []
        for v, high in zip(self.free, self.at_upper, strict=True):
            value = self.bounds[v][1 if high else 0]
            values.append(_ZERO if value is None else value)
        return values

    def basic_values(self) -> list[fmpq]:
        """The value of each basic variable."""
        values = [(j, v) for j, v in enumerate(self.free_values()) if v != 0]
        return [sum((row[j] * v for j, v in values), _ZERO) for row in self.rows]

    def violated(self) -> tuple[int, bool] | None:
        """(row, whether it is below its lower bound) of the smallest violated variable."""
        best: tuple[int, bool] | None = None
        for r, value in enumerate(self.basic_values()):
            low, high = self.bounds[self.basic[r]]
            below = low is not None and value < low
            above = high is not None and value > high
            if (below or above) and (best is None or self.basic[r] < self.basic[best[0]]):
                best = (r, below)
        return best

    def entering(self, leaving: tuple[int, bool]) -> int | None:
        """The nonbasic variable that may replace the leaving one and keeps d of the right sign."""
        r, below = leaving
        best: tuple[fmpq, int, int] | None = None
        for j, entry in enumerate(self.rows[r]):
            low, high = self.bounds[self.free[j]]
            if entry == 0 or (low is not None and low == high):
                continue
            rises = (entry > 0) == below
            if rises == self.at_upper[j]:
                continue
            key = (abs(self.cost[j] / entry), self.free[j], j)
            if best is None or key[:2] < best[:2]:
                best = key
        return None if best is None else best[2]

    def pivot(self, leaving: tuple[int, bool], entering: int) -> None:
        """Exchange the two; the leaving variable stops at the bound that it violated."""
        r, below = leaving
        inverse = 1 / self.rows[r][entering]
        new = [-c * inverse for c in self.rows[r]]
        new[entering] = inverse
        for i, row in enumerate(self.rows):
            if i != r and row[entering] != 0:
                self.rows[i] = _substituted(row, new, entering)
        self.cost = _substituted(self.cost, new, entering)
        self.rows[r] = new
        self.basic[r], self.free[entering] = self.free[entering], self.basic[r]
        self.at_upper[entering] = not below

    def point(self) -> list[fmpq]:
        """The values of x."""
        values = dict(zip(self.free, self.free_values(), strict=True))
        values.update(zip(self.basic, self.basic_values(), strict=True))
        return [values[j] for j in range(self.n)]

    def row_weights(self, leaving: tuple[int, bool]) -> list[fmpq]:
        """Weights on the s from a row x_r = Σ D_rj x_j that no nonbasic variable can repair."""
        r, below = leaving
        sign = _ONE if below else -_ONE
        weights = self._weights([-sign * c for c in self.rows[r]])
        if self.basic[r] > self.n:
            weights[self.basic[r] - self.n - 1] += sign
        return weights

    def cost_weights(self) -> list[fmpq]:
        """Weights on the s at the optimum: t − Σ d_j s_j is a form in x alone."""
        return self._weights([-d for d in self.cost])

    def _weights(self, coefficients: list[fmpq]) -> list[fmpq]:
        weights = [_ZERO] * self.m
        for v, c in zip(self.free, coefficients, strict=True):
            if v > self.n:
                weights[v - self.n - 1] = c
        return weights


def _substituted(row: list[fmpq], new: list[fmpq], entering: int) -> list[fmpq]:
    """The form ``row`` with its variable ``entering`` replaced by the form ``new``."""
    factor = row[entering]
    if factor == 0:
        return row
    out = [c if d == 0 else c + factor * d for c, d in zip(row, new, strict=True)]
    out[entering] = factor * new[entering]
    return out
