"""Exact numbers as decimals."""

from __future__ import annotations

from fractions import Fraction

from verifier.core.errors import ExportError
from verifier.core.exact import round_down

MAX_DIGITS = 4000
"""Numbers with more are refused; Python itself refuses to print integers of 4300 digits."""


def odd_part(denominator: int) -> tuple[int, int]:
    """(places, rest): the denominator is rest times a divisor of 10^places, the least such."""
    rest, twos, fives = denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives), rest


def finite_decimal(value: Fraction, what: str) -> str:
    """The value with all its decimals.

    Raises:
        ExportError: it has infinitely many, or more than ``MAX_DIGITS``.
    """
    places, rest = odd_part(value.denominator)
    if rest != 1:
        raise ExportError(f"{what} = {nearest(value)!r}... is not a finite decimal")
    if places + value.numerator.bit_length() > MAX_DIGITS:
        raise ExportError(f"{what} = {nearest(value)!r}... has more than {MAX_DIGITS} digits")
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole, fraction = digits[: len(digits) - places], digits[len(digits) - places :]
    return f"{'-' if value < 0 else ''}{whole}.{fraction or '0'}"


def nearest(value: Fraction) -> float:
    """The float64 nearest to the value, or the largest one of its sign."""
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return round_down(abs(value)) * (1 if value > 0 else -1)
