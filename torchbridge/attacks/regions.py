"""Which points count: balls with a rational radius around a rational centre, tested exactly.

An attack ends at a float32 point close to a ball. ``inward`` moves it to a float32 point that lies
in the ball exactly; rounding to nearest would leave it by one ulp on nearly every point.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from verifier.core.errors import DataError, PropertyError
from verifier.core.exact import fractions, round_down
from verifier.core.property import Box

Point = tuple[Fraction, ...]

_LARGEST32 = Fraction(float(np.finfo(np.float32).max))


def nearest(value: Fraction) -> float:
    """The float64 below, or at most the largest one: enough for steps of a search."""
    return min(round_down(value), float(np.finfo(np.float64).max))


@dataclass(frozen=True, eq=False)
class Region(ABC):
    """A ball around a point, cut to what an input may be.

    Args:
        center: the middle.
        size: its radius, or a number of pixels.
        clip: lowest and highest value of a coordinate, or None.

    Raises:
        PropertyError: a negative size, or a middle outside of the clip range.
    """

    center: Point
    size: Fraction
    clip: tuple[Fraction, Fraction] | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise PropertyError(f"the size of a ball must be at least 0, got {self.size}")
        if self.clip is not None and not all(
            self.clip[0] <= v <= self.clip[1] for v in self.center
        ):
            raise PropertyError(
                f"the middle of a ball lies outside of [{self.clip[0]}, {self.clip[1]}]"
            )

    @property
    def box(self) -> Box:
        """The smallest box around the region; all that lies in float32 if nothing else bounds it.

        For a number of pixels that is everything an input may be.
        """
        return Box.ball(self.center, self.size, self.clip)

    @property
    def span(self) -> tuple[float, float]:
        """The clip range as floats inside of it; infinite if there is none."""
        if self.clip is None:
            return -math.inf, math.inf
        return -nearest(-self.clip[0]), nearest(self.clip[1])

    @cached_property
    def search_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Faces (d,) of the largest float32 box in ``box``.

        Where no float32 lies between a coordinate's faces both are the float32 nearest to the
        centre, so that the search has somewhere to be.
        """
        lower, upper = self.faces
        empty = lower > upper
        nearest = self.center32
        return np.where(empty, nearest, lower), np.where(empty, nearest, upper)

    @cached_property
    def faces(self) -> tuple[np.ndarray, np.ndarray]:
        """Faces (d,) of the largest float32 box in ``box``; lower > upper where there is none."""
        return self.box.inward32()

    def rounded(self, x: np.ndarray) -> np.ndarray | None:
        """The float32 point of ``box`` nearest to x, or None if the box holds no float32 point."""
        lower, upper = self.faces
        if np.any(lower > upper):
            return None
        with np.errstate(over="ignore"):
            return np.asarray(np.minimum(np.maximum(x.astype(np.float32), lower), upper))

    @cached_property
    def center32(self) -> np.ndarray:
        """The float32 nearest to the centre, (d,)."""
        return np.array([round_down(v) for v in self.center]).astype(np.float32)

    @abstractmethod
    def inward(self, x: np.ndarray) -> Point | None:
        """A point of the region close to x, or None if there is no float32 point.

        Args:
            x: (d,) finite floats.
        """

    @abstractmethod
    def contains(self, x: Point) -> bool:
        """Whether the exact point lies in the region."""


class LinfBall(Region):
    """max_j |x_j − c_j| ≤ size."""

    def inward(self, x: np.ndarray) -> Point | None:
        """Every coordinate cut to the largest float32 interval inside."""
        point = self.rounded(np.asarray(x))
        return None if point is None else fractions(point)

    def contains(self, x: Point) -> bool:
        """By the faces of the box."""
        return self.box.contains(x)


class L2Ball(Region):
    """Σ_j (x_j − c_j)² ≤ size²."""

    def inward(self, x: np.ndarray) -> Point | None:
        """x drawn towards the centre until its exact distance fits, each coordinate rounded to it.

        The middle must be float32 itself for very small balls to hold a float32 point.
        """
        middle = np.array([round_down(v) for v in self.center])
        change = np.asarray(x, dtype=np.float64) - middle
        length = float(np.sqrt((change * change).sum()))
        share = min(1.0, round_down(self.size) / length) if length > 0 else 1.0
        for shrink in (0.0, 2.0**-40, 2.0**-20, 2.0**-10, 0.5, 1.0):
            moved = self.rounded(middle + (share * (1.0 - shrink)) * change)
            if moved is not None and self.contains(point := fractions(moved)):
                return point
        return None

    def contains(self, x: Point) -> bool:
        """By the exact sum of squares."""
        if not self.box.contains(x):
            return False
        squares = sum(
            ((a - c) ** 2 for a, c in zip(x, self.center, strict=True)), start=Fraction(0)
        )
        return squares <= self.size**2


@dataclass(frozen=True, eq=False)
class PixelBall(Region):
    """At most ``size`` pixels differ from the centre, by any change within the clip range.

    Args:
        channels: coordinates of a pixel; coordinate j belongs to pixel j mod (d / channels).

    Raises:
        DataError: no clip range: a pixel could have any value at all.
    """

    channels: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip is None:
            raise DataError(
                "an attack on pixels needs a range for their values: pictures with values in "
                "[0, 1], or --clip LOW HIGH"
            )

    @property
    def box(self) -> Box:
        """Everything that an input may be."""
        low, high = self.clip if self.clip is not None else (-_LARGEST32, _LARGEST32)
        count = len(self.center)
        return Box((low,) * count, (high,) * count)

    def _pixel(self) -> np.ndarray:
        """The pixel of each coordinate."""
        return np.arange(len(self.center)) % (len(self.center) // self.channels)

    def inward(self, x: np.ndarray) -> Point | None:
        """The pixels that change most; all others keep their exact value."""
        point = self.rounded(np.asarray(x))
        if point is None:
            return None
        change = np.abs(point.astype(np.float64) - self.center32)
        pixel = self._pixel()
        largest = np.zeros(int(pixel.max()) + 1)
        np.maximum.at(largest, pixel, change)
        order = np.argsort(-largest, kind="stable")
        chosen = order[: min(int(self.size), len(order))]
        moved = np.isin(pixel, chosen[largest[chosen] > 0])
        return tuple(
            Fraction(float(v)) if go else c
            for v, go, c in zip(point, moved, self.center, strict=True)
        )

    def changed(self, x: Point) -> int:
        """How many pixels differ from the centre."""
        differs = [a != c for a, c in zip(x, self.center, strict=True)]
        return len(set(self._pixel()[differs]))

    def contains(self, x: Point) -> bool:
        """By counting pixels that are not exactly equal."""
        return self.box.contains(x) and self.changed(x) <= self.size
