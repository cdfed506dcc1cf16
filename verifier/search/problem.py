"""One case of a property in the form that the engines work on, and the exact test of a point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from verifier.core.errors import NetworkError, PropertyError
from verifier.core.exact import common_denominator, round_down
from verifier.core.network import Layer, Network
from verifier.core.property import Box, LinearConstraint, Property
from verifier.core.verdict import Witness

Progress = Callable[[str, float], None]
"""Called with what is going on and the fraction of the work known to be done (0..1, or -1)."""


class Deadline:
    """A wall-clock limit, started when it is made.

    Args:
        seconds: how long; ``inf`` for no limit.
    """

    def __init__(self, seconds: float) -> None:
        self.started = time.monotonic()
        self.seconds = seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.elapsed >= self.seconds


@dataclass(frozen=True, eq=False)
class Clause:
    """A conjunction of output constraints in float64: unsafe where rows @ y ≥ bound, every row.

    The float clause contains the exact one: rows are exact (each constraint is scaled by a positive
    integer) and bounds are rounded down. A clause is refuted on a set of outputs by weights w ≥ 0
    with max w·(rows @ y − bound) < 0, or ≤ 0 where a constraint with positive weight is strict.

    Args:
        rows: (k, n_outputs).
        bound: (k,).
        strict: (k,) bool.
        index: position of the clause in its case.
    """

    rows: np.ndarray
    bound: np.ndarray
    strict: np.ndarray
    index: int


@dataclass(frozen=True, eq=False)
class Problem:
    """Is some point of one box unsafe? Everything in float64, enclosing the exact question.

    Args:
        network: the network, extended by its inputs if the property mixes both.
        exact_box: the box as asked.
        clauses: at least one, none of them trivial.
        case: index of the case in the property.
        source: the property and the network as given, for the exact test.
    """

    network: Network
    exact_box: Box
    clauses: tuple[Clause, ...]
    case: int
    source: tuple[Network, Property]

    @cached_property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Float64 (lower, upper) that contain the exact box."""
        return self.exact_box.outward()

    @cached_property
    def slacks(self) -> Network:
        """The network with one more layer: minus the slack of every constraint, clause by clause.

        A clause is excluded wherever a combination of its outputs with weights >= 0 is positive.
        """
        rows = np.concatenate([clause.rows for clause in self.clauses])
        bound = np.concatenate([clause.bound for clause in self.clauses])
        layer = Layer(-rows, bound, np.zeros(len(bound), dtype=bool))
        return Network((*self.network.layers, layer), self.network.input_shape, self.network.name)

    def candidate(self, x: Sequence[Any] | np.ndarray) -> Witness | None:
        """The exact witness at x clipped into the exact box, or None if it is not unsafe.

        A point that overflow spoilt (NaN or infinite coordinates) is no witness either.
        """
        if not all(isinstance(v, (int, Fraction)) or math.isfinite(v) for v in x):
            return None
        network, prop = self.source
        point = self.exact_box.clip(x)
        y = network.exact(point)
        where = prop.violation(point, y)
        return None if where is None else Witness(point, y, *where)

    def margins(self, y: np.ndarray) -> np.ndarray:
        """For each output vector and clause the smallest slack of its constraints, in float64.

        Args:
            y: (batch, n_outputs) of the problem's network.

        Returns:
            (batch, n_clauses); a candidate counterexample has an entry ≥ 0.
        """
        return np.stack(
            [(y @ clause.rows.T - clause.bound).min(axis=1) for clause in self.clauses], axis=1
        )


def problems(network: Network, prop: Property) -> Iterator[Problem | Witness]:
    """The problems that together decide the property; a trivially unsafe case comes as its witness.

    Raises:
        PropertyError: sizes do not fit, or a number is too large for a float64.
        NetworkError: the network has no float64 form.
    """
    prop.check_fits(network.n_inputs, network.n_outputs)
    if not network.is_float:
        raise NetworkError(
            "the network's weights need more bits than a float64 has: "
            "only exact evaluation is possible"
        )
    extended = network.with_inputs_as_outputs() if prop.mixes_inputs else network
    for index, case in enumerate(prop.cases):
        _check_range("an input bound", (*case.box.lower, *case.box.upper))
        clauses = []
        for k, constraints in enumerate(case.clauses):
            kept = [c for c in constraints if c.terms]
            if any(not c.terms and not c.holds(()) for c in constraints):
                continue
            if not kept:
                point = tuple(
                    (a + b) / 2 for a, b in zip(case.box.lower, case.box.upper, strict=True)
                )
                yield Witness(point, network.exact(point), index, k)
                break
            clauses.append(_float_clause(kept, extended.n_outputs, k))
        else:
            if clauses:
                yield Problem(extended, case.box, tuple(clauses), index, (network, prop))


def _float_clause(constraints: list[LinearConstraint], n: int, index: int) -> Clause:
    """The clause in float64; see ``Clause`` for the direction of rounding."""
    rows, bound = np.zeros((len(constraints), n)), np.zeros(len(constraints))
    for r, constraint in enumerate(constraints):
        merged: dict[int, Fraction] = {}
        for i, c in constraint.terms:
            merged[i] = merged.get(i, Fraction(0)) + c
        scale = _float_scale(list(merged.values()))
        for i, c in merged.items():
            rows[r, i] = float(c * scale)
        _check_range("the bound of an output constraint", [constraint.bound * scale])
        bound[r] = round_down(constraint.bound * scale)
    return Clause(rows, bound, np.array([c.strict for c in constraints]), index)


def _float_scale(coefficients: list[Fraction]) -> Fraction:
    """A positive factor that makes every coefficient exactly representable in float64."""
    if all(c.denominator & (c.denominator - 1) == 0 and _fits(c) for c in coefficients):
        return Fraction(1)
    integers, denominator = common_denominator(coefficients)
    if not all(_fits(Fraction(i)) for i in integers):
        raise PropertyError(
            "the coefficients of a constraint have no common scale in float64: "
            + ", ".join(str(c) for c in coefficients)
        )
    return Fraction(denominator)


def _check_range(name: str, values: Iterable[Fraction]) -> None:
    """Raise PropertyError for a number beyond the float64 range."""
    largest = Fraction(float(np.finfo(np.float64).max))
    if any(abs(v) > largest for v in values):
        raise PropertyError(f"{name} lies beyond the float64 range")


def _fits(value: Fraction) -> bool:
    """Whether a float64 holds the value exactly."""
    try:
        return Fraction(float(value)) == value
    except OverflowError:
        return False
