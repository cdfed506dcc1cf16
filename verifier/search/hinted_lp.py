"""Small systems of inequalities decided by a floating-point solver, as far as exact checks confirm.

HiGHS maximises a common margin of all rows, then of the strict ones alone. Where it is not 0, its
point or its multipliers, read as rationals, usually decide; where it is 0 or nearly, the equations
that its solution makes tight are solved exactly. Whatever is proposed is checked against the system
in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.core.exact_lp import Empty, Inequalities, Point
from verifier.core.sparse import sp
from verifier.search.exact_forms import nearest, rational

#: Iterations of the float solver, seconds of one run.
_ITERATIONS, _SECONDS = 20_000, 5.0
#: Multipliers below this share of the largest are taken for 0, coordinates as near for faces.
_SMALL = 1e-9
_ZERO, _ONE = fmpq(0), fmpq(1)


def decide_by_hint(system: Inequalities) -> Point | Empty | None:
    """A solution of the system, or weights that prove that there is none; None if it stays open.

    Args:
        system: the inequalities.
    """
    unit = _Unit(system)
    if not unit.finite:
        return None
    strict = np.array(system.strict)
    mixed = strict.any() and not strict.all()
    for margin in (np.ones(len(strict), dtype=bool), strict)[: 2 if mixed else 1]:
        found = unit.solve(margin)
        if found is not None:
            t, weights = found
            answer = unit.point(t) or unit.empty(weights) or unit.vertex(t, weights, margin)
            if answer is not None:
                return answer
    return None


class _Unit:
    """The system in t with x = lower + (upper − lower) t, every row divided by its largest size.

    Args:
        system: the inequalities.
    """

    def __init__(self, system: Inequalities) -> None:
        self.system = system
        self.sides = [b - a for a, b in zip(system.lower, system.upper, strict=True)]
        self.rows = [[c * s for c, s in zip(row, self.sides, strict=True)] for row in system.rows]
        self.bound = [
            b - sum((c * v for c, v in zip(row, system.lower, strict=True)), _ZERO)
            for row, b in zip(system.rows, system.bound, strict=True)
        ]
        self.size = [
            max(map(abs, (*row, b))) or _ONE for row, b in zip(self.rows, self.bound, strict=True)
        ]
        floats = [
            [nearest(v / size) for v in (*row, b)]
            for row, b, size in zip(self.rows, self.bound, self.size, strict=True)
        ]
        self.floats = np.array(floats).reshape(len(floats), len(self.sides) + 1)
        self.finite = bool(np.isfinite(self.floats).all()) and len(floats) > 0

    def solve(self, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """A float t and float multipliers of the rows that belong to the largest margin.

        Args:
            margin: (rows,) bool: which of them have it.
        """
        from verifier.solvers.highs import LinearProgram

        m, n = len(self.bound), len(self.sides)
        # Columns t and the margin, which is at least what every t has.
        matrix = sp.csr_array(np.concatenate([self.floats[:, :-1], -1.0 * margin[:, None]], axis=1))
        columns = np.append(np.zeros(n), -(n + 1.0)), np.ones(n + 1)
        program = LinearProgram(
            matrix, np.append(np.zeros(n), -1.0), columns,
            (self.floats[:, -1], np.full(m, np.inf)),
        )  # fmt: skip
        hint = program.solve(_SECONDS, _ITERATIONS)
        if hint.primal is None or hint.multipliers is None:
            return None
        weights = np.maximum(hint.multipliers, 0.0)
        if not (np.isfinite(hint.primal).all() and np.isfinite(weights).all()):
            return None
        weights[weights < _SMALL * weights.max(initial=0.0)] = 0.0
        return np.clip(hint.primal[:n], 0.0, 1.0), weights

    def point(self, t: np.ndarray) -> Point | None:
        """The point at t, if it solves the system."""
        return self._point([rational(Fraction(v)) for v in t.tolist()])

    def _point(self, t: Sequence[fmpq]) -> Point | None:
        x = [a + s * v for a, s, v in zip(self.system.lower, self.sides, t, strict=True)]
        return Point(tuple(x)) if self.system.contains(x) else None

    def empty(self, weights: np.ndarray) -> Empty | None:
        """These multipliers, if they prove the system empty."""
        return self._empty([rational(Fraction(v)) for v in weights.tolist()])

    def _empty(self, weights: Sequence[fmpq]) -> Empty | None:
        """The same for multipliers of the rows divided by their sizes."""
        given = [w / size for w, size in zip(weights, self.size, strict=True)]
        return Empty(tuple(given)) if self.system.excluded_by(given) else None

    def vertex(
        self, t: np.ndarray, weights: np.ndarray, margin: np.ndarray
    ) -> Point | Empty | None:
        """From the vertex that the float solution is near: its tight rows and its faces.

        With tight rows A and coordinates J that lie on no face, t_J and the margin s solve
        rows_A,J t_J − s = bound_A − rows_A,rest t_rest (without s in rows that have no margin), and
        the multipliers of A solve the transposed equations, those of rows with a margin adding up
        to 1. Both are square at a vertex that is not degenerate.
        """
        tight = np.flatnonzero(weights)
        free = np.flatnonzero((t > _SMALL) & (t < 1.0 - _SMALL))
        if not 0 < len(tight) == len(free) + 1:
            return None
        entries: list[fmpq] = []
        for i in tight.tolist():
            entries += [self.rows[i][j] / self.size[i] for j in free.tolist()]
            entries.append(-_ONE if margin[i] else _ZERO)
        matrix = fmpq_mat(len(tight), len(tight), entries)
        at = [_ONE if v > 0.5 else _ZERO for v in t.tolist()]
        fixed = [j for j in range(len(at)) if j not in set(free.tolist())]
        right = [
            (self.bound[i] - sum((self.rows[i][j] for j in fixed if at[j]), _ZERO)) / self.size[i]
            for i in tight.tolist()
        ]
        try:
            values = matrix.solve(fmpq_mat(len(tight), 1, right))
            sums = [_ZERO] * len(free) + [-_ONE]
            exact = matrix.transpose().solve(fmpq_mat(len(tight), 1, sums))
        except ZeroDivisionError:  # the equations have no single solution
            return None
        for k, j in enumerate(free.tolist()):
            at[j] = values[k, 0]
        full = [_ZERO] * len(self.bound)
        for k, i in enumerate(tight.tolist()):
            full[i] = exact[k, 0]
        return self._point(at) or self._empty(full)
