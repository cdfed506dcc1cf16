"""Sums that are rounded down, and lower bounds that are linear in the inputs, in int64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: What ``wide`` drops.
WIDE = 58
#: The exponent of 0.
_NOTHING = -(1 << 20)


def scaled(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """⌊x y 2^-28⌋ for |x| < 2^44 and |y| < 2^31, exactly."""
    upper = x >> 14
    return (upper * y + (((x - (upper << 14)) * y) >> 14)) >> 14


def wide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """At most x y 2^-WIDE and less than 2 below it, for |x| < 2^44 and |y| < 2^60."""
    first = y >> 30
    rest = scaled(x, y - (first << 30))
    return scaled(x, first) + (rest >> 30)


def _top(mantissa: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """A k with |mantissa| 2^exponent ≤ 2^k, one too large at most; tiny for 0."""
    # From the exponent of the float; that of 0 is −1023.
    bits = ((mantissa.astype(np.float64).view(np.int64) >> 52) & 2047) - 1022
    return np.where(bits > -1022, exponent + bits, _NOTHING)


def _moved(mantissa: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """⌊mantissa 2^shift⌋, for results below 2^63."""
    left = np.minimum(np.maximum(shift, 0), 63)
    return (mantissa >> np.minimum(left - shift, 63)) << left


class Total:
    """One number a row, mantissa 2^exponent: sums that are rounded down, never up.

    Args:
        count: rows; all start at 0.
    """

    def __init__(self, count: int) -> None:
        self.mantissa = np.zeros(count, dtype=np.int64)
        self.exponent = np.full(count, _NOTHING, dtype=np.int64)

    def add(self, terms: np.ndarray, exponent: np.ndarray) -> None:
        """Add terms 2^exponent, |terms| < 2^61, to each row."""
        # In units in which the larger of both has 60 bits: whatever is far below it is dropped.
        unit = np.maximum(_top(self.mantissa, self.exponent), _top(terms, exponent)) - 60
        self.mantissa = _moved(self.mantissa, self.exponent - unit) + _moved(terms, exponent - unit)
        self.exponent = unit

    def shown(self, row: int) -> str:
        """One of the numbers, for a person."""
        return f"{int(self.mantissa[row])} * 2^{int(self.exponent[row])}"

    def at_scale(self, scale: int) -> np.ndarray:
        """⌊value 2^scale⌋, or ±2^62 beyond that size."""
        shift = self.exponent + scale
        down = self.mantissa >> np.clip(-shift, 0, 63)
        limit = np.int64(1 << 62)
        fits = np.abs(down) < (limit >> np.clip(shift, 0, 62))
        up = np.where(fits, down, 0) << np.clip(shift, 0, 62)
        return np.where(fits | (shift <= 0), up, np.sign(self.mantissa) * limit)


@dataclass(eq=False)
class Forms:
    """Lower bounds const + lam · t 2^exponent that are linear in the inputs, one a row.

    Args:
        const: (Q,).
        lam: (Q, d) int64.
        exponent: (Q,).
        scale: inputs are t 2^-scale.
    """

    const: Total
    lam: np.ndarray
    exponent: np.ndarray
    scale: int

    def take(self, index: np.ndarray) -> Forms:
        """Some of them."""
        const = Total(0)
        const.mantissa, const.exponent = self.const.mantissa[index], self.const.exponent[index]
        return Forms(const, self.lam[index], self.exponent[index], self.scale)

    @staticmethod
    def join(parts: Sequence[Forms]) -> Forms:
        """All of them."""
        const = Total(0)
        const.mantissa = np.concatenate([p.const.mantissa for p in parts])
        const.exponent = np.concatenate([p.const.exponent for p in parts])
        lam = np.concatenate([p.lam for p in parts])
        return Forms(const, lam, np.concatenate([p.exponent for p in parts]), parts[0].scale)

    def combined(self, index: np.ndarray, weight: np.ndarray, start: np.ndarray) -> Forms:
        """Sums of some of them times integers 0 ≤ weight < 2^16.

        Args:
            index, weight: (E,) of the summands.
            start: (S,) sum s has the summands start[s] to start[s + 1] − 1, at least one.
        """
        sizes = np.diff(np.append(start, len(index)))
        room = 16 + np.frexp(sizes.astype(np.float64))[1].astype(np.int64)
        some, of = self.take(index), np.repeat(np.arange(len(start)), sizes)

        def added(values: np.ndarray, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Of (E, m) numbers: to one exponent a sum, rounded down to 62 bits with the weight."""
            unit = np.maximum.reduceat(exponent, start)
            values = values >> np.minimum(unit[of] - exponent, 63)[:, None]
            most = np.maximum.reduceat(np.abs(values).max(axis=1, initial=0), start)
            drop = np.maximum(np.frexp(most.astype(np.float64))[1] + room - 60, 0).astype(np.int64)
            values = (values >> drop[of][:, None]) * weight[:, None]
            return np.add.reduceat(values, start), unit + drop

        const = Total(len(start))
        mantissa, exponent = added(some.const.mantissa[:, None], some.const.exponent)
        const.add(mantissa[:, 0], exponent)
        lam, exponent = added(some.lam, some.exponent)
        top = np.frexp(np.abs(lam).max(axis=1, initial=0).astype(np.float64))[1].astype(np.int64)
        shift = np.maximum(top - 42, 0)
        return Forms(const, lam >> shift[:, None], exponent + shift, self.scale)

    def value(self, terms: np.ndarray, index: np.ndarray) -> Total:
        """Lower bounds of some of them on boxes, from the sums of ``wide`` of their terms."""
        total = Total(0)
        total.mantissa, total.exponent = self.const.mantissa[index], self.const.exponent[index]
        total.add(terms, self.exponent[index] - self.scale + WIDE)
        return total

    def least(self, low: np.ndarray, high: np.ndarray) -> Total:
        """Their least values on boxes of t, (Q, d) or (d,), rounded down."""
        ends = np.where(self.lam >= 0, low, high)
        return self.value(wide(self.lam, ends).sum(axis=1), np.arange(len(self.lam)))
