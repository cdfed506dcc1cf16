"""What is asked of a network: input boxes, and the set of outputs that counts as unsafe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.core.errors import PropertyError
from verifier.core.exact import fractions, round_down, round_down32, round_up, round_up32


def _exact(values: Iterable[Any], what: str) -> tuple[Fraction, ...]:
    """``fractions`` with the error that a property raises."""
    try:
        return fractions(values)
    except ValueError as problem:
        raise PropertyError(f"{what} is not a number: {problem}") from problem


def _shown(value: Fraction, other: Fraction) -> str:
    """The value as a float where that tells it from the other, else exactly."""
    low, high = round_down(value), round_down(other)
    return repr(low) if low != high and math.isfinite(low) else str(value)


@dataclass(frozen=True)
class Box:
    """The closed box Π [lower_j, upper_j] with rational faces.

    Raises:
        PropertyError: lengths that differ, an empty interval, or a face that is not finite.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "lower", _exact(self.lower, "a bound of a box"))
        object.__setattr__(self, "upper", _exact(self.upper, "a bound of a box"))
        if len(self.lower) != len(self.upper):
            raise PropertyError(
                f"a box needs as many lower as upper bounds, got {len(self.lower)} and "
                f"{len(self.upper)}"
            )
        for j, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            if low > high:
                raise PropertyError(
                    f"the box is empty: input {j} has lower bound {_shown(low, high)} > "
                    f"upper bound {_shown(high, low)}"
                )

    @classmethod
    def ball(
        cls,
        center: Sequence[Any],
        eps: Any,
        clip: tuple[Any, Any] | None = None,
    ) -> Box:
        """The closed ℓ∞ ball of radius eps around center, cut to [clip[0], clip[1]] if given.

        Raises:
            PropertyError: eps below 0, a number that is not finite, or a ball outside the cut.
        """
        (radius,) = _exact([eps], "eps")
        middle = _exact(center, "the center of a ball")
        if radius < 0:
            raise PropertyError(f"eps must be at least 0, got {eps}")
        lower, upper = [c - radius for c in middle], [c + radius for c in middle]
        if clip is not None:
            low, high = _exact(clip, "a face of the clip box")
            lower, upper = [max(v, low) for v in lower], [min(v, high) for v in upper]
        return cls(tuple(lower), tuple(upper))

    def __len__(self) -> int:
        return len(self.lower)

    def contains(self, x: Sequence[Any]) -> bool:
        """Whether the exact point x lies in the box (no tolerance)."""
        point = fractions(x)
        return len(point) == len(self) and all(
            low <= v <= high for low, v, high in zip(self.lower, point, self.upper, strict=True)
        )

    def outward(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest float64 box that contains this one."""
        return (
            np.array([round_down(v) for v in self.lower]),
            np.array([round_up(v) for v in self.upper]),
        )

    def inward32(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest float32 box inside this one; where lower > upper no float32 fits."""
        return (
            np.array([round_up32(v) for v in self.lower], dtype=np.float32),
            np.array([round_down32(v) for v in self.upper], dtype=np.float32),
        )

    def clip(self, x: Sequence[Any] | np.ndarray) -> tuple[Fraction, ...]:
        """The point of the box nearest to x, exactly."""
        return tuple(
            min(max(v, low), high)
            for low, v, high in zip(self.lower, fractions(x), self.upper, strict=True)
        )


@dataclass(frozen=True)
class LinearConstraint:
    """Σ coefficient_i · v_i ≥ bound, or > bound if ``strict``.

    Variables are the outputs 0..n_outputs-1, then (in a property that mixes both) the inputs
    n_outputs..n_outputs+n_inputs-1.
    """

    terms: tuple[tuple[int, Fraction], ...]
    bound: Fraction
    strict: bool = False

    def __post_init__(self) -> None:
        # A float coefficient would make the slack a rounded sum.
        numbers = _exact([c for _, c in self.terms], "a coefficient")
        indices = [int(i) for i, _ in self.terms]
        object.__setattr__(self, "terms", tuple(zip(indices, numbers, strict=True)))
        (bound,) = _exact([self.bound], "the bound of a constraint")
        object.__setattr__(self, "bound", bound)

    def slack(self, values: Sequence[Fraction]) -> Fraction:
        """Σ coefficient_i · values_i − bound, exactly."""
        return sum((c * values[i] for i, c in self.terms), start=-self.bound)

    def holds(self, values: Sequence[Fraction]) -> bool:
        """Whether the exact values satisfy the constraint."""
        slack = self.slack(values)
        return slack > 0 or (slack == 0 and not self.strict)


@dataclass(frozen=True)
class Case:
    """One input box with the unsafe outputs for it: a disjunction of conjunctions.

    The case is violated at x in the box if some clause has all its constraints satisfied. An empty
    clause is always satisfied; no clauses at all means that nothing is unsafe.
    """

    box: Box
    clauses: tuple[tuple[LinearConstraint, ...], ...]


@dataclass(frozen=True)
class Property:
    """The unsafe set: a union of cases. A network is safe if no point of any case is unsafe.

    Args:
        cases: the boxes with their unsafe outputs.
        n_inputs: number of network inputs.
        n_outputs: number of network outputs.
        name: shown in messages.
        mixes_inputs: whether some constraint reads inputs beside outputs.
        label: the class that the property says all points of the box have, if it is of that kind.
    """

    cases: tuple[Case, ...]
    n_inputs: int
    n_outputs: int
    name: str = "property"
    mixes_inputs: bool = False
    label: int | None = None

    def __post_init__(self) -> None:
        variables = self.n_outputs + (self.n_inputs if self.mixes_inputs else 0)
        for case in self.cases:
            if len(case.box) != self.n_inputs:
                raise PropertyError(
                    f"{self.name}: a box has {len(case.box)} inputs, expected {self.n_inputs}"
                )
            for clause in case.clauses:
                for constraint in clause:
                    for i, _ in constraint.terms:
                        if not 0 <= i < variables:
                            raise PropertyError(
                                f"{self.name}: a constraint reads variable {i} of {variables}"
                            )

    @classmethod
    def robustness(cls, box: Box, label: int, n_classes: int, name: str = "robustness") -> Property:
        """Every point of the box has the largest output at ``label``, strictly.

        A tie is unsafe, as in the VNN-COMP robustness benchmarks: unsafe if y_j ≥ y_label, some j.
        """
        if not 0 <= label < n_classes:
            raise PropertyError(
                f"label {label} is not one of the {n_classes} classes 0..{n_classes - 1}"
            )
        one = Fraction(1)
        clauses = tuple(
            (LinearConstraint(((j, one), (label, -one)), Fraction(0)),)
            for j in range(n_classes)
            if j != label
        )
        return cls((Case(box, clauses),), len(box), n_classes, name, label=label)

    @classmethod
    def near(
        cls, box: Box, value: Any, name: str = "value", *, tolerance: Any = Fraction(1, 2)
    ) -> Property:
        """Every point of the box has |y − value| < tolerance, for a network with one output.

        With the tolerance 1/2 and an integer value: the output says this label and no other.

        Raises:
            PropertyError: a number that is not finite, or a tolerance that is not positive.
        """
        middle, allowed = _exact([value, tolerance], "the value or tolerance of an output")
        if allowed <= 0:
            raise PropertyError(f"{name}: the tolerance must be positive, got {tolerance}")
        one = Fraction(1)
        above = LinearConstraint(((0, one),), middle + allowed)
        below = LinearConstraint(((0, -one),), allowed - middle)
        return cls((Case(box, ((above,), (below,))),), len(box), 1, name)

    @classmethod
    def sign(cls, box: Box, positive: bool, name: str = "sign") -> Property:
        """Every point of the box has y > 0 (or y < 0), for a network with one output."""
        unsafe = LinearConstraint(((0, Fraction(-1 if positive else 1)),), Fraction(0))
        return cls((Case(box, ((unsafe,),)),), len(box), 1, name)

    def violation(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> tuple[int, int] | None:
        """(case, clause) that the exact point x with exact outputs y satisfies, or None."""
        values = tuple(y) + (tuple(x) if self.mixes_inputs else ())
        for c, case in enumerate(self.cases):
            if not case.box.contains(x):
                continue
            for k, clause in enumerate(case.clauses):
                if all(constraint.holds(values) for constraint in clause):
                    return c, k
        return None

    def check_fits(self, n_inputs: int, n_outputs: int) -> None:
        """Raise PropertyError unless the property speaks of a network of these sizes."""
        if (self.n_inputs, self.n_outputs) != (n_inputs, n_outputs):
            raise PropertyError(
                f"{self.name} is about {self.n_inputs} inputs and {self.n_outputs} outputs, "
                f"but the network has {n_inputs} and {n_outputs}"
            )
