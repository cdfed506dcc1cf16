"""A network on a box in integers, and lower bounds by backward passes through it.

Every number is an integer times a power of two, and every step that drops bits drops them
downwards, which the argument allows where it happens.

**Values.** The inputs are moved so that t ≥ 0 on the box. A pre-activation is z = W a + b with
W = W_int 2^-p rounded down entry by entry, and b in [bias_low, bias_high]; where W was not exact
the interval of b has grown by what was dropped times the range of a. Bounds of z are integers times
2^-B, below 2^50 in size; a pass rounds those that a row needs outwards to 31 bits.

**Coefficients.** A row of coefficients is integers below 2^42 times its own 2^E. Dropping bits of a
coefficient of a ≥ 0 lowers the value: allowed, since lower bounds are wanted. Coordinates without a
ReLU, which may be negative, pay one unit times their lowest value. Coefficients of pre-activations
are never rounded: any integer between 0 and the coefficient behind a ReLU is the slope of some line
below it or, with its intercept computed from the integer, above it.

**Sums.** ``product`` multiplies matrices of integers whose partial sums stay below 2^53, where
float64 adds and multiplies without rounding in any order: a BLAS as an integer multiplier. All else
is int64; the sizes above and the longest sum keep every number below 2^63.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from verifier.core.errors import CertificateError

#: Bits of a limb of a coefficient, of a limb of a weight, of a bound as it is stored and as it is
#: multiplied, of a slope in [0, 1].
HALF, LIMB, STORED, BOUND, SLOPE = 14, 23, 50, 31, 8
#: What ``wide`` drops.
WIDE = 2 * HALF + BOUND - 1
#: Inputs or neurons of a layer: n 2^(HALF + LIMB) ≤ 2^53.
WIDEST = 1 << (53 - HALF - LIMB)
_FULL = 1 << 60
#: Bits dropped of bounds that are added up over a layer.
_COARSE = 10

#: (row, neuron, mantissa, exponent): row's form may be lowered by mantissa 2^exponent z_neuron.
Multipliers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class TooWideError(CertificateError):
    """The network cannot be bounded in 64-bit integers."""


@dataclass(frozen=True, eq=False)
class Affine:
    """z = W a + b of one layer.

    Args:
        limbs: one to three (n_out, n_in) arrays of integers as float64, below 2^LIMB in size and
            ≥ 0 but for the first: W = (first + second 2^-LIMB + third 2^-2 LIMB) 2^-exponent.
        exponent: see there.
        bias_low, bias_high: (n_out,) int64 below 2^60 times 2^-bias_scale.
        bias_scale: of the biases.
        scale: B, of bounds of z.
        relu: (n_out,) bool.
    """

    limbs: tuple[Any, ...]
    exponent: int
    bias_low: np.ndarray
    bias_high: np.ndarray
    bias_scale: int
    scale: int
    relu: np.ndarray


@dataclass(eq=False)
class Rows:
    """Linear forms of one layer's pre-activations that are to be bounded from below.

    Args:
        layer: which layer.
        mu: (Q, n) int64 coefficients below 2^bits; or a pair (neuron, sign) of (Q,) arrays for the
            forms ±z_neuron.
        exponent: (Q,) the form is mu · z 2^exponent (0 for a pair).
        low, high: for each layer before, (Q, n) int64 bounds of its pre-activations, below
            2^STORED.
        slopes: for each layer before, (Q, n) integers 0..2^SLOPE, the slope of the line below an
            unstable ReLU; None: 1 where high > −low, else 0.
        multipliers: for each layer before; the caller knows that mantissa · z ≥ 0.
    """

    layer: int
    mu: np.ndarray | tuple[np.ndarray, np.ndarray]
    exponent: np.ndarray
    low: Sequence[np.ndarray]
    high: Sequence[np.ndarray]
    slopes: Sequence[np.ndarray] | None = None
    multipliers: Sequence[Multipliers] | None = None


def times(rows: np.ndarray, matrix: Any) -> np.ndarray:
    """A product of integers whose every partial sum is below 2^53."""
    if sp.issparse(matrix):
        return np.asarray((matrix.T @ rows.T).T).astype(np.int64)
    return (rows @ matrix).astype(np.int64)


def product(rows: np.ndarray, limbs: Sequence[Any]) -> np.ndarray:
    """At most rows W 2^-(LIMB + HALF), and less than 2 below it; below 2^63 in size.

    Args:
        rows: (Q, n) int64, n · max |rows| ≤ 2^53.
        limbs: of W (n, m), see ``Affine``.
    """
    high = limbs[0]
    upper = rows >> HALF
    bottom = (rows - (upper << HALF)).astype(np.float64)
    top = upper >> HALF
    middle = (upper - (top << HALF)).astype(np.float64)
    first = top.astype(np.float64)
    value = (times(first, high) << HALF) + times(middle, high)
    rest = times(bottom, high) << (LIMB - HALF)  # in units of 2^HALF
    if len(limbs) > 1:
        low = limbs[1]
        rest += (times(first, low) << HALF) + times(middle, low) + (times(bottom, low) >> HALF)
    if len(limbs) > 2:  # of the last limb, the part with the last limb of the rows is left out: ≥ 0
        low = limbs[2]
        rest += ((times(first, low) << HALF) + times(middle, low)) >> LIMB
    return value + (rest >> LIMB)


def scaled(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """⌊x y 2^-(2 HALF)⌋ for |x| < 2^44 and |y| < 2^BOUND, exactly."""
    upper = x >> HALF
    return (upper * y + (((x - (upper << HALF)) * y) >> HALF)) >> HALF


def wide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """At most x y 2^-WIDE and less than 2 below it, for |x| < 2^44 and |y| < 2^60."""
    first = y >> (BOUND - 1)
    rest = scaled(x, y - (first << (BOUND - 1)))
    return scaled(x, first) + (rest >> (BOUND - 1))


class Total:
    """One number a row, mantissa 2^exponent: sums that are rounded down, never up.

    Args:
        count: rows; all start at 0.
    """

    def __init__(self, count: int) -> None:
        self.mantissa = np.zeros(count, dtype=np.int64)
        self.exponent = np.full(count, -(1 << 20), dtype=np.int64)

    def copy(self) -> Total:
        """An independent copy."""
        out = Total(0)
        out.mantissa, out.exponent = self.mantissa.copy(), self.exponent.copy()
        return out

    def add(self, terms: np.ndarray, exponent: np.ndarray) -> None:
        """Add terms 2^exponent, |terms| < 2^61, to each row."""
        unit = np.maximum(self.exponent, exponent)
        here = self.mantissa >> np.minimum(unit - self.exponent, 63)
        self.mantissa = here + (terms >> np.minimum(unit - exponent, 63))
        full = np.abs(self.mantissa) >= _FULL
        self.mantissa = np.where(full, self.mantissa >> 2, self.mantissa)
        self.exponent = np.where(full, unit + 2, unit)

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
        lam, shift = normalised(lam, 3 * HALF - 1)
        return Forms(const, lam, exponent + shift, self.scale)

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


def backward(layers: Sequence[Affine], scale: int, rows: Rows, bits: int) -> Forms:
    """Rigorous lower bounds of linear forms of pre-activations, by one backward pass.

    At layer k the form is μ · z_k + const. With z = W a + b it is (μ W) · a + μ · b + const, and
    for each unstable ReLU with coefficient λ and z in [l, u], l < 0 < u:

    * λ ≥ 0: λ relu(z) ≥ μ z for every integer 0 ≤ μ ≤ λ;
    * λ < 0: for every integer λ ≤ μ ≤ 0, λ relu(z) − μ z is concave, so it is at least its smaller
      value at the ends, min(−μ l, (λ − μ) u).

    Args:
        layers: of the network; rows.layer and those before are used.
        scale: of t.
        rows: the forms.
        bits: coefficients stay below 2^bits.
    """
    total, exponent, mu = Total(len(rows.exponent)), rows.exponent, rows.mu
    for k in range(rows.layer, -1, -1):
        layer = layers[k]
        exact = isinstance(mu, tuple) and len(layer.limbs) < 3
        if isinstance(mu, tuple):
            lam, exponent = _weights(layer, *mu, total)
        else:
            bias = np.where(mu >= 0, layer.bias_low, layer.bias_high)
            total.add(wide(mu, bias).sum(axis=1), exponent - layer.bias_scale + WIDE)
            lam = product(mu, layer.limbs)
            exponent = exponent + HALF - layer.exponent
        whole = lam
        lam, shift = normalised(whole, bits - 1)
        exponent = exponent + shift
        if k == 0:
            break
        before = layers[k - 1]
        if not (before.relu.all() or (exact and np.array_equal(lam << shift[:, None], whole))):
            # What was dropped, less than two units, times a value that may be negative.
            lost = (np.minimum(rows.low[k - 1], 0)[:, ~before.relu] >> _COARSE).sum(axis=1)
            total.add(lost, exponent - before.scale + _COARSE + 1)
        mu, terms, bits_dropped = _through_relu(lam, before.relu, rows, k - 1)
        total.add(terms, exponent - before.scale + bits_dropped)
        if rows.multipliers is not None:
            mu = _lowered(mu, exponent, rows.multipliers[k - 1], bits)
    return Forms(total, lam, exponent, scale)


def _weights(
    layer: Affine, neuron: np.ndarray, sign: np.ndarray, total: Total
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and exponents of ±z_neuron, whose biases go into the total."""
    bias = np.where(sign > 0, layer.bias_low[neuron], -layer.bias_high[neuron])
    total.add(bias, np.full(len(neuron), -layer.bias_scale))
    parts = [p[neuron] for p in layer.limbs[:2]]
    first, *rest = (p.toarray() if sp.issparse(p) else p for p in parts)
    lam = first.astype(np.int64) << LIMB
    if rest:
        lam += rest[0].astype(np.int64)
    # A third limb adds less than one to what stands here; minus it is at least minus one.
    lam = lam * sign[:, None]
    if len(layer.limbs) > 2:
        lam -= sign[:, None] < 0
    return lam, np.full(len(neuron), -LIMB - layer.exponent)


def normalised(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows shifted right until they are below 2^bits, rounded down, and by how much."""
    # Converting to float64 may round up to the next power of two: one more bit is dropped then.
    top = np.frexp(np.abs(values).max(axis=1, initial=1).astype(np.float64))[1]
    shift = np.maximum(top - bits, 0).astype(np.int64)
    return values >> shift[:, None], shift


def _through_relu(
    lam: np.ndarray, relu: np.ndarray, rows: Rows, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of z for those of a = relu(z), and the intercepts' sums, (Q,) times 2^(Q,)."""
    low, high = rows.low[k], rows.high[k]
    mu = np.where(relu & (high <= 0), 0, lam)
    where = np.nonzero(relu & (low < 0) & (high > 0) & (lam != 0))
    value, lo, hi = lam[where], low[where], high[where]
    # One unit a row for its bounds, so that the largest has BOUND bits; rounded outwards.
    unit = np.zeros(len(lam), dtype=np.int64)
    size = np.frexp(np.maximum(hi, -lo).astype(np.float64))[1].astype(np.int64)
    np.maximum.at(unit, where[0], size - BOUND)
    shift = unit[where[0]]
    lo, hi = lo >> shift, -(-hi >> shift)
    slope = (hi > -lo) << SLOPE if rows.slopes is None else rows.slopes[k][where].astype(np.int64)
    # Integers between 0 and the coefficient; the chord's intercept follows from the integer.
    chord = -(scaled(-value, (hi << (BOUND - 1)) // (hi - lo)) >> (BOUND - 1 - 2 * HALF))
    slope = np.where(value > 0, (value >> SLOPE) * slope, np.maximum(chord, value))
    mu[where] = slope
    ends = np.minimum(scaled(-slope, lo), scaled(value - slope, hi))
    intercepts = np.zeros_like(lam)
    intercepts[where] = np.where(value < 0, ends, 0)
    return mu, intercepts.sum(axis=1), unit + 2 * HALF


def _lowered(
    mu: np.ndarray, exponent: np.ndarray, multipliers: Multipliers, bits: int
) -> np.ndarray:
    """The forms without their multiples of pre-activations whose sign is known."""
    row, neuron, mantissa, power = multipliers
    if len(np.unique(row * mu.shape[1] + neuron)) != len(row):
        raise CertificateError("two multipliers of one neuron in one backward pass")
    # Any multiplier of this sign is allowed, so it may be rounded and cut.
    shift = power - exponent[row]
    size = np.abs(mantissa) >> np.clip(-shift, 0, 63) << np.clip(shift, 0, bits)
    size = np.minimum(size, (1 << (bits - 2)) - 1)
    np.subtract.at(mu, (row, neuron), np.sign(mantissa) * size)
    return mu
