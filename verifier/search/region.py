"""One linear region of a network, decided exactly.

Once every ReLU's phase is fixed, the network is one affine map. Whether some point of the box has
those phases and unsafe outputs is then a question about a small system of linear inequalities in
the inputs alone, and exact rational arithmetic answers it, ties and strict constraints included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.core.exact_lp import Inequalities, Point, decide
from verifier.core.verdict import Witness
from verifier.search.exact_forms import exact_layer, fraction, rational
from verifier.search.hinted_lp import decide_by_hint
from verifier.search.problem import Clause, Problem

_NONE = Fraction(0)


@dataclass(frozen=True)
class RegionCertificate:
    """No point of the box has these phases and satisfies the clause.

    Args:
        phases: for each unstable neuron, in order, whether it is active.
        weights: w ≥ 0, first for the sign constraints of the unstable neurons (z ≥ 0 if active,
            −z ≥ 0 if not), then for the clause's constraints that have terms, such that
            the maximum over the box of Σ w (left − right) is negative, or 0 with a positive weight
            on a strict constraint.
    """

    phases: tuple[bool, ...]
    weights: tuple[Fraction, ...]


class Regions:
    """The linear regions of one problem.

    Args:
        problem: the question.
        unstable: (k, 2) pairs (layer, index) by layer: the neurons whose phase is not known.
        bounds: per layer (lower, upper): proved pre-activation bounds, which fix all other phases.
    """

    def __init__(
        self,
        problem: Problem,
        unstable: np.ndarray,
        bounds: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self._problem = problem
        self._unstable = [(int(k), int(i)) for k, i in unstable]
        self._dead = [
            layer.relu & (upper <= 0)
            for layer, (_, upper) in zip(problem.network.layers, bounds, strict=True)
        ]
        box = problem.exact_box
        self._box = [rational(v) for v in box.lower], [rational(v) for v in box.upper]

    @cached_property
    def _affine(self) -> list[tuple[fmpq_mat, list[fmpq]]]:
        """Every layer's weight and bias as rationals; most problems never need them."""
        return [exact_layer(layer) for layer in self._problem.network.layers]

    def decide(
        self,
        clause: Clause,
        phases: tuple[bool, ...],
        stop: Callable[[], bool],
        *,
        quickly: bool = False,
    ) -> Witness | RegionCertificate | None:
        """A witness in the region, a proof that the clause has none there, or None if stopped.

        Args:
            clause: a clause of the problem.
            phases: for each unstable neuron whether it is active.
            stop: asked between steps; when it says True the answer is None.
            quickly: only what a float solver finds and exact arithmetic confirms; else None.

        Raises:
            ArithmeticError: the exact results contradict each other (a defect).
        """
        rows, bound = self._signs_and_outputs(phases, stop)
        if stop():
            return None
        outputs = rows[len(self._unstable) :], bound[len(self._unstable) :]
        rows, bound = rows[: len(self._unstable)], bound[: len(self._unstable)]
        strict = [False] * len(rows)
        case = self._problem.source[1].cases[self._problem.case]
        for constraint in case.clauses[clause.index]:
            if not constraint.terms:
                continue
            terms = [(i, rational(c)) for i, c in constraint.terms]
            width = len(self._box[0])
            rows.append(
                [sum((c * outputs[0][i][j] for i, c in terms), fmpq(0)) for j in range(width)]
            )
            bound.append(sum((c * outputs[1][i] for i, c in terms), rational(constraint.bound)))
            strict.append(constraint.strict)
        system = Inequalities(rows, bound, strict, *self._box)
        answer = decide_by_hint(system)
        if answer is None and not quickly:
            answer = decide(system, stop)
        if answer is None:
            return None
        if isinstance(answer, Point):
            x: list[Any] = [fraction(v) for v in answer.x]
            witness = self._problem.candidate(x)
            if witness is None:
                raise ArithmeticError("an exact solution of a region is not a counterexample")
            return witness
        # Most weights are 0: one object for all of them.
        return RegionCertificate(phases, tuple(fraction(w) if w else _NONE for w in answer.weights))

    def _signs_and_outputs(
        self, phases: tuple[bool, ...], stop: Callable[[], bool]
    ) -> tuple[list[list[fmpq]], list[fmpq]]:
        """Rows g, bounds h: g·x ≥ h for each unstable neuron, then y_i = g·x − h for outputs."""
        n = len(self._box[0])
        active = dict(zip(self._unstable, phases, strict=True))
        form = fmpq_mat(n, n + 1, [fmpq(int(i == j)) for i in range(n) for j in range(n + 1)])
        rows: list[list[fmpq]] = []
        bound: list[fmpq] = []
        for k, (weight, bias) in enumerate(self._affine):
            if stop():
                return rows, bound
            form = weight * form
            for i, b in enumerate(bias):
                form[i, n] += b
            for (layer, i), phase in active.items():
                if layer == k:
                    sign = 1 if phase else -1
                    rows.append([sign * form[i, j] for j in range(n)])
                    bound.append(-sign * form[i, n])
            for i in range(len(bias)):
                if self._dead[k][i] or not active.get((k, i), True):
                    for j in range(n + 1):
                        form[i, j] = fmpq(0)
        for i in range(len(self._affine[-1][1])):
            rows.append([form[i, j] for j in range(n)])
            bound.append(-form[i, n])
        return rows, bound
