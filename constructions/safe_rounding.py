"""Balls around samples with faces that floats hold exactly, rounded so that no proof suffers.

The face x_ij + μ may be moved up and x_ij − μ down: the ball stays inside. If every face moves by
less than 2^-g ≤ (λ − 2μ)/2, a point of an enemy's ball still lies at least
λ − 2μ − 2^-g ≥ (λ − 2μ)/2 > 0 beyond some face (THEORY: safe rounding). So all numbers of a
construction are integers times 2^-g, and no weight is ever rounded in a direction that matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from verifier.core.errors import DataError

BITS = 53


@dataclass(frozen=True, eq=False)
class Faces:
    """Boxes low ≤ x ≤ high around the samples, in units of 2^-grid.

    Args:
        low, high: (n, d) int64.
        shift: σ; x + σ ≥ 0 on every ball.
        grid: the exponent g, which may be negative.
        gap: every point of an enemy's ball is at least so far beyond some face.
    """

    low: np.ndarray
    high: np.ndarray
    shift: int
    grid: int
    gap: Fraction

    def value(self, units: np.ndarray | int) -> np.ndarray:
        """Integers in units of the grid as float64, exactly."""
        return np.ldexp(np.asarray(units, dtype=np.float64), -self.grid)


def robust_faces(data: DataSet, radius: Fraction, separation: Fraction) -> Faces:
    """The balls of a radius below λ/2, with as few bits as the theorem allows.

    Raises:
        DataError: the numbers need more than 53 bits (λ − 2μ is tiny beside the data's range).
    """
    room = separation - 2 * radius
    grid = ceil_log2(2 / room)
    low, high = _rounded(data, radius, grid)
    shift = -int(low.min())
    _require_bits(data, low, high, shift, grid, BITS)
    return Faces(low, high, shift, grid, room - unit(grid))


def sample_faces(data: DataSet, separation: Fraction, *, bits: int) -> Faces:
    """The samples themselves (boxes of radius 0), as fine as the bits allow.

    Samples that are multiples of the finest unit keep low = high and gap = λ. The shift is good
    for every ball of radius below λ/2.

    Raises:
        DataError: the unit is not below λ.
    """
    values = _distinct(data)[0]
    reach = max(abs(values[0]), abs(values[-1]), values[-1] - values[0]) + separation
    finest = bits - 1 - ceil_log2(reach)
    denominators = {v.denominator for v in values}
    grid = max(denominators).bit_length() - 1
    if grid > finest or any(q & (q - 1) for q in denominators):
        grid = finest
    low, high = _rounded(data, Fraction(0), grid)
    shift = -int(low.min()) + math.ceil(separation / 2 / unit(grid))
    _require_bits(data, low, high, shift, grid, bits)
    gap = separation if np.array_equal(low, high) else separation - unit(grid)
    if gap <= 0:
        raise DataError(
            f"{data.name}: points {separation} apart cannot be told apart with {bits} bits"
        )
    return Faces(low, high, shift, grid, gap)


def unit(grid: int) -> Fraction:
    """2^-grid."""
    return Fraction(1, 2**grid) if grid >= 0 else Fraction(2**-grid)


def ceil_log2(value: Fraction) -> int:
    """The smallest integer e with 2^e ≥ value, for a positive value."""
    e = value.numerator.bit_length() - value.denominator.bit_length() - 1
    while Fraction(2) ** e < value:
        e += 1
    return e


def _distinct(data: DataSet) -> tuple[list[Fraction], np.ndarray]:
    """The coordinates' distinct values, ascending and exact, and which one each coordinate has."""
    found, inverse = np.unique(data.points, return_inverse=True)
    if found.dtype.kind == "f":
        values = [Fraction(float(v)) for v in found]
    else:
        values = [int(v) * data.scale for v in found]
    return values, inverse.reshape(data.points.shape)


def _rounded(data: DataSet, radius: Fraction, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """⌊(x − μ) 2^g⌋ and ⌈(x + μ) 2^g⌉ of every coordinate."""
    values, which = _distinct(data)
    step = unit(grid)
    low = [math.floor((v - radius) / step) for v in values]
    high = [math.ceil((v + radius) / step) for v in values]
    if max(abs(low[0]), abs(high[-1])) >= 2**BITS:
        raise _too_fine(data, max(abs(low[0]), abs(high[-1])), BITS)
    return np.array(low, dtype=np.int64)[which], np.array(high, dtype=np.int64)[which]


def _require_bits(
    data: DataSet, low: np.ndarray, high: np.ndarray, shift: int, grid: int, bits: int
) -> None:
    """All weights that a construction makes of the faces have at most so many bits."""
    top = max(abs(shift), abs(int(low.min())), abs(int(high.max())), shift + int(high.max()))
    if top > 2**bits:
        raise _too_fine(data, top, bits)
    if not -900 <= grid <= 900:
        raise DataError(
            f"{data.name}: numbers of the size 2^{-grid} lie beyond what float64 networks bear"
        )


def _too_fine(data: DataSet, top: int, bits: int) -> DataError:
    return DataError(
        f"{data.name}: the thresholds need {top.bit_length()} bits beside the data's range, and "
        f"there are {bits}; choose a smaller radius"
    )
