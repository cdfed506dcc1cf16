"""The end of every attack: the point is moved into the exact ball and evaluated exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from torchbridge.attacks.regions import Point, Region
from verifier.core.decision import Decision
from verifier.core.property import Box, Property
from verifier.core.verdict import Witness

Exact = Callable[[Sequence[Fraction]], tuple[Fraction, ...]]
"""A classifier's outputs without any rounding."""


@dataclass(frozen=True, eq=False)
class Question:
    """What counts as a success at one input.

    Args:
        exact: the classifier in exact arithmetic.
        decision: how its outputs mean a class.
        position: the class that the input has.
        n_outputs: number of outputs.
        region: where the point must lie.
    """

    exact: Exact
    decision: Decision
    position: int
    n_outputs: int
    region: Region

    def prop(self, point: Point, name: str = "robustness") -> Property:
        """The label at this one point: violated there, ties included, is what a success is."""
        return self.decision.property(Box(point, point), self.position, self.n_outputs, name)

    def at(self, point: Point) -> Witness | None:
        """The witness at an exact point, or None if it is none or lies outside of the region."""
        if not self.region.contains(point):
            return None
        y = self.exact(point)
        where = self.prop(point).violation(point, y)
        return None if where is None else Witness(point, y, *where)

    def verified(self, x: np.ndarray) -> Witness | None:
        """The witness near a point that an attack returned: float32 inputs, inside the region.

        Args:
            x: (d,) floats; where some are not finite, there is none.
        """
        if not np.isfinite(x).all():
            return None
        point = self.region.inward(x)
        return None if point is None else self.at(point)
