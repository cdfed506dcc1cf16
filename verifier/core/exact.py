"""Exact arithmetic: floats as dyadic rationals, and directed rounding back to floats.

A finite IEEE float *is* the rational number m * 2^e; nothing here rounds unless its name says in
which direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Rational = Fraction | int


def fractions(values: Iterable[Any]) -> tuple[Fraction, ...]:
    """Each value (int, Fraction, finite float, NumPy number) as the exact rational that it is.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    out = []
    for value in values:
        if isinstance(value, Fraction):
            out.append(value)
        elif isinstance(value, (int, np.integer)):
            out.append(Fraction(int(value)))
        else:
            # Some (NumPy's long double, Decimal) have more bits than a float.
            number = value if hasattr(value, "as_integer_ratio") else float(value)
            if not math.isfinite(number):
                raise ValueError(f"{number} is not a finite number")
            out.append(Fraction(*number.as_integer_ratio()))
    return tuple(out)


def round_down(value: Rational) -> float:
    """The largest float64 <= value (minus infinity below the float64 range)."""
    try:
        nearest = value.numerator / value.denominator  # correctly rounded
    except OverflowError:
        return -math.inf if value < 0 else float(np.finfo(np.float64).max)
    if Fraction(nearest) > value:
        nearest = math.nextafter(nearest, -math.inf)
    return nearest


def round_up(value: Rational) -> float:
    """The smallest float64 >= value (infinity above the float64 range)."""
    return -round_down(-value)


def round_down32(value: Rational) -> np.float32:
    """The largest float32 <= value (minus infinity below the float32 range)."""
    with np.errstate(over="ignore"):
        nearest = np.float32(round_down(value))
        if np.isposinf(nearest):
            return np.finfo(np.float32).max
        if np.isfinite(nearest) and Fraction(float(nearest)) > value:
            nearest = np.nextafter(nearest, np.float32(-np.inf))
    return nearest


def round_up32(value: Rational) -> np.float32:
    """The smallest float32 >= value (infinity above the float32 range)."""
    return -round_down32(-value)


def scaled_integers(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Integers n (object array) and one shift s with values == n * 2^-s, exactly.

    Args:
        values: float64 array of finite numbers, any shape.
    """
    mantissa, exponent = np.frexp(values)
    integers = np.ldexp(mantissa, 53).astype(np.int64)
    exponent = exponent.astype(np.int64) - 53
    nonzero = integers != 0
    if not nonzero.any():
        return integers.astype(object), 0
    # Trailing zero bits cost nothing to strip and keep float32 weights small.
    low_bit = integers & -integers
    trailing = np.zeros(integers.shape, dtype=np.int64)
    trailing[nonzero] = np.round(np.log2(low_bit[nonzero].astype(np.float64))).astype(np.int64)
    integers = integers >> trailing
    exponent = exponent + trailing
    lowest = int(exponent[nonzero].min())
    shifts = np.where(nonzero, exponent - lowest, 0)
    return np.left_shift(integers.astype(object), shifts.astype(object)), -lowest


def common_denominator(values: Sequence[Fraction]) -> tuple[list[int], int]:
    """Integers n and one denominator q > 0 with values[i] == n[i] / q."""
    denominator = math.lcm(*(v.denominator for v in values)) if values else 1
    return [v.numerator * (denominator // v.denominator) for v in values], denominator
