"""Labelled points with rational coordinates: what the theorems about small data sets speak of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Any

from verifier.core.errors import DataError
from verifier.core.exact import fractions

Vector = tuple[Fraction, ...]


@dataclass(frozen=True)
class RationalPoints:
    """D = {(x_i, y_i)}, i = 0..n-1, in at least two classes, equal points with equal labels.

    Args:
        points: n points of d ≥ 1 coordinates (int, Fraction, finite float; floats mean their exact
            value).
        labels: n integers.

    Raises:
        DataError: sizes that do not fit, a coordinate that is not a finite number, one class only,
            or two equal points with different labels (separation 0), which are named.
    """

    points: tuple[Vector, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        try:
            points = tuple(fractions(x) for x in self.points)
        except (TypeError, ValueError) as problem:
            raise DataError(f"a coordinate is not a number: {problem}") from problem
        labels = tuple(int(y) for y in self.labels)
        if len(points) != len(labels):
            raise DataError(f"{len(points)} points but {len(labels)} labels")
        sizes = sorted({len(x) for x in points})
        if len(sizes) != 1 or sizes[0] == 0:
            raise DataError(f"points must have the same number of coordinates, at least 1: {sizes}")
        if len(set(labels)) < 2:
            raise DataError(f"all {len(labels)} points have the same label: nothing to separate")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", labels)
        i, j = self.closest_enemies
        if points[i] == points[j]:
            raise DataError(
                f"points {i} and {j} are equal but have labels {labels[i]} and {labels[j]}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dimension(self) -> int:
        """Coordinates of a point."""
        return len(self.points[0])

    @cached_property
    def closest_enemies(self) -> tuple[int, int]:
        """The first pair with different labels at the smallest ℓ∞ distance."""
        enemies = (
            pair for pair in combinations(range(len(self)), 2) if len({*self._labels(pair)}) == 2
        )
        return min(enemies, key=lambda pair: distance(*(self.points[i] for i in pair)))

    @property
    def separation(self) -> Fraction:
        """λ(D): the smallest ℓ∞ distance of two points with different labels; > 0."""
        i, j = self.closest_enemies
        return distance(self.points[i], self.points[j])

    def _labels(self, pair: tuple[int, ...]) -> list[int]:
        return [self.labels[i] for i in pair]


def distance(p: Sequence[Fraction], q: Sequence[Fraction]) -> Fraction:
    """‖p − q‖∞."""
    return max(abs(a - b) for a, b in zip(p, q, strict=True))


def midpoint(p: Sequence[Fraction], q: Sequence[Fraction]) -> Vector:
    """(p + q)/2, which is ½ ‖p − q‖∞ away from both."""
    return tuple((a + b) / 2 for a, b in zip(p, q, strict=True))


def dot(p: Iterable[Fraction], q: Iterable[Fraction]) -> Fraction:
    """p · q."""
    return sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0))


def in_ball(p: Sequence[Fraction], centre: Sequence[Fraction], radius: Fraction) -> bool:
    """Whether p lies in the closed ℓ∞ ball."""
    return distance(p, centre) <= radius


def origin_and_units(d: int, *, origin: int, units: int) -> RationalPoints:
    """{(0, origin)} ∪ {(e_k, units) : k < d}; separation 1.

    Raises:
        DataError: d < 1, or equal labels.
    """
    if d < 1:
        raise DataError(f"the dimension must be at least 1, got {d}")
    rows: list[Any] = [[0] * d, *([int(j == k) for j in range(d)] for k in range(d))]
    return RationalPoints(tuple(rows), (origin, *[units] * d))
