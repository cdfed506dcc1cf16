"""What is known of a Lipschitz constant, and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

#: Phases of a coordinate: a pass-through coordinate is always active.
INACTIVE, ACTIVE, OPEN = 0, 1, -1


@dataclass(frozen=True)
class Attained:
    """A point inside a linear region, and the steepest row of the gradient there.

    Args:
        x: exact input; every ReLU that is not constantly 0 around it is on or off there.
        slope: the largest ℓ1 norm of a row of the Jacobian, in the domain's free coordinates.
        row: which of the rows it is.
        gradient: that row, one number an input; 0 at coordinates that are not free.
        pattern: per layer, which coordinates are active (pass-through ones are).
    """

    x: tuple[Fraction, ...]
    slope: Fraction
    row: int
    gradient: tuple[Fraction, ...]
    pattern: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class Split:
    """Two cells: one neuron's pre-activation negative, or positive. Positions in the tree."""

    layer: int
    index: int
    negative: int
    positive: int


@dataclass(frozen=True)
class Void:
    """No open set has these signs: weights on the cell's forms, in the order of the splits.

    In all of R^d the first weight belongs to s > 0 (see ``lipschitz_domain``).
    """

    weights: tuple[Fraction, ...]


@dataclass(frozen=True)
class Capped:
    """No gradient in this cell is larger, whatever the phases that are still open."""

    slope: Fraction


Step = Split | Void | Capped


@dataclass(frozen=True, eq=False)
class LipschitzEvidence:
    """What proves the upper bound.

    Args:
        phases: per layer what rigorous pre-activation bounds say of every coordinate on the whole
            domain: ``ACTIVE``, ``INACTIVE`` or ``OPEN``.
        steps: the tree; 0 is its root.
    """

    phases: tuple[np.ndarray, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """lower ≤ Lip ≤ upper, both proved.

    Args:
        lower: the slope of ``attained``; 0 without it.
        upper: the largest cap in the tree of ``evidence``.
        attained: an exact point with that slope, or None if the time was too short for one.
        evidence: why nothing is steeper than ``upper``.
        reason: why the bounds differ; None if they are equal.
        statistics: counts for people (cells, linear programs).
    """

    lower: Fraction
    upper: Fraction
    attained: Attained | None
    evidence: LipschitzEvidence
    reason: str | None
    statistics: dict[str, float] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether the constant is known."""
        return self.lower == self.upper
