"""Which radius a data set allows: μ < λ/2, and the witness when it is not."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from verifier.core.errors import DataError
from verifier.core.exact import scaled_integers

_SHOWN = 8


@dataclass(frozen=True)
class ClosestEnemies:
    """The closest two samples of different labels.

    Args:
        separation: λ(D), their ℓ∞ distance.
        first, second: their indices.
    """

    separation: Fraction
    first: int
    second: int


class RadiusError(DataError):
    """μ ≥ λ/2: one point lies in the balls of two samples of different labels.

    Args:
        message: the one line for the user.
        midpoint: that point, exactly.
        pair: the indices of the two samples.
    """

    def __init__(self, message: str, midpoint: tuple[Fraction, ...], pair: tuple[int, int]) -> None:
        super().__init__(message)
        self.midpoint, self.pair = midpoint, pair


def closest_enemies(data: DataSet) -> ClosestEnemies:
    """λ(D) exactly, with the pair that attains it.

    Raises:
        DataError: λ = 0 (equal points with different labels), or one class only.
    """
    points, scale = _integers(data)
    best: tuple[int, int, int] | None = None
    for i in range(len(data)):
        others = np.flatnonzero(data.labels[i + 1 :] != data.labels[i]) + i + 1
        if not len(others):
            continue
        distances = abs(points[others] - points[i]).max(axis=1)
        k = int(distances.argmin())
        if best is None or int(distances[k]) < best[0]:
            best = int(distances[k]), i, int(others[k])
    if best is None:
        raise DataError(f"{data.name}: all points have the same label, there is no separation")
    if best[0] == 0:
        raise DataError(
            f"{data.name}: points {best[1]} and {best[2]} are equal but labelled "
            f"{data.label_name(int(data.labels[best[1]]))} and "
            f"{data.label_name(int(data.labels[best[2]]))}: λ = 0, no network memorizes both"
        )
    return ClosestEnemies(best[0] * scale, best[1], best[2])


def _integers(data: DataSet) -> tuple[np.ndarray, Fraction]:
    """The points as integers times one scale; int64 where their differences fit."""
    if data.points.dtype.kind == "f":
        integers, shift = scaled_integers(data.points)
        scale = Fraction(2) ** -shift
    else:
        integers, scale = data.points, data.scale
    top = max(abs(int(integers.min())), abs(int(integers.max())))
    return integers.astype(np.int64 if top < 2**62 else object), scale


def require_radius(data: DataSet, radius: Fraction, closest: ClosestEnemies) -> None:
    """Refuse a radius that no network can have.

    Raises:
        DataError: a negative radius.
        RadiusError: radius ≥ λ/2.
    """
    if radius < 0:
        raise DataError(f"{data.name}: the radius must be at least 0, got {radius}")
    half = closest.separation / 2
    if radius < half:
        return
    i, j = closest.first, closest.second
    midpoint = tuple((a + b) / 2 for a, b in zip(data.sample(i), data.sample(j), strict=True))
    shown = f" ({', '.join(str(v) for v in midpoint)})" if len(midpoint) <= _SHOWN else ""
    raise RadiusError(
        f"{data.name}: radius {radius} is not below λ/2 = {half}: the midpoint{shown} of points "
        f"{i} (label {data.label_name(int(data.labels[i]))}) and "
        f"{j} (label {data.label_name(int(data.labels[j]))}) lies in both balls",
        midpoint,
        (i, j),
    )
