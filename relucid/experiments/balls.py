"""Inputs with the balls around them, as attacks move them and as the verifier decides them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from torchbridge.attacks.regions import LinfBall
from verifier.core.property import Box


@dataclass(frozen=True, eq=False)
class Balls:
    """n float32 inputs, each with the largest float32 box in its exact ball.

    Args:
        x, lower, upper: (n, d) float32.
        labels: (n,).
        radius: of the ℓ∞ balls around the float32 inputs.
        clip: lowest and highest value of a coordinate, where balls are cut.
    """

    x: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    labels: np.ndarray
    radius: Fraction
    clip: tuple[Fraction, Fraction] | None

    @classmethod
    def around(cls, data: DataSet, indices: Sequence[int], radius: Fraction) -> Balls:
        """Around some points of a data set, as float32 has them; pictures stay in [0, 1]."""
        clip = (Fraction(0), Fraction(1)) if data.is_image else None
        x = np.stack([data.float32(i) for i in indices])
        boxes = [
            LinfBall(tuple(Fraction(v) for v in row.tolist()), radius, clip).search_box for row in x
        ]
        lower, upper = (np.stack([box[side] for box in boxes]) for side in (0, 1))
        return cls(x, lower, upper, data.labels[list(indices)], radius, clip)

    def __len__(self) -> int:
        return len(self.x)

    def corners(self, signs: np.ndarray) -> np.ndarray:
        """x + radius · signs, (n, d) float32, inside the balls: a face for ±1, x for 0.

        Args:
            signs: (n, d) or (d,) of −1, 0, 1.
        """
        return np.where(signs > 0, self.upper, np.where(signs < 0, self.lower, self.x))

    def box(self, i: int) -> Box:
        """The whole ball around input i, exactly."""
        return Box.ball(self.x[i].tolist(), self.radius, self.clip)
