"""Numbers as people type and read them."""

from __future__ import annotations

import math
import re
from decimal import ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?\Z|[+-]?\d+/0*[1-9]\d*\Z", re.ASCII)


def rational(text: str, option: str) -> Fraction:
    """A decimal (0.03, 1e-3) or a ratio (8/255) as the exact rational that it denotes.

    Raises:
        typer.BadParameter: neither of them, or hundreds of digits.
    """
    if not _NUMBER.match(text.lower()) or len(text) > 100:
        import typer

        raise typer.BadParameter(
            f"{option}: expected a decimal such as 0.03 or a ratio such as 8/255, got {text[:40]!r}"
        )
    return Fraction(text)


def approximate(value: Fraction, digits: int = 6) -> str:
    """The value for reading, with ``≈`` if it was rounded."""
    number = nearest(value)
    if math.isinf(number) or (number == 0 and value):
        # Beyond float64: an exact rational may be as large or as small as it likes.
        with localcontext(prec=digits + 2):
            return f"≈{Decimal(value.numerator) / Decimal(value.denominator):.{digits}g}"
    text = f"{number:.{digits}g}"
    return text if Fraction(text) == value else f"≈{text}"


def below(value: Fraction, digits: int = 4) -> float:
    """The largest number of so many significant digits that is at most the value: for a table."""
    rounding = Context(prec=digits, rounding=ROUND_FLOOR)
    return float(rounding.divide(Decimal(value.numerator), Decimal(value.denominator)))


def above(value: Fraction, digits: int = 4) -> float:
    """The smallest number of so many significant digits that is at least the value."""
    return 0.0 - below(-value, digits)  # not −0


def nearest(value: Fraction) -> float:
    """The nearest float64 (infinite beyond its range)."""
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf
