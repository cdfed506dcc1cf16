"""A network on a box in integers, and lower bounds by backward passes through it.

Every number is an integer times a power of two, and every step that drops bits drops them
downwards, which the argument allows where it happens.

**Values.** The inputs are moved so that t ≥ 0 on the box. A pre-activation is z = W a + b with
W = W_int 2^-p rounded down entry by entry, and b in [bias_low, bias_high]; where W was not exact
the interval of b has grown by what was dropped times the range of a. Bounds of z are integers times
2^-B, below 2^STORED in size.

**Coefficients.** A row of coefficients is integers of at most 2^bits in size times its own 2^E.
Dropping bits of a coefficient of a ≥ 0 lowers the value: allowed, since lower bounds are wanted.
Coordinates without a ReLU, which may be negative, pay what was dropped times their lowest value.
Coefficients of pre-activations are integers between 0 and the coefficient behind the ReLU, and the
intercept is computed from the integer.

**Integers in float64.** Matrices, coefficients and their sums are integers below 2^53 that are
stored as float64, where sums, products and multiplications by powers of two are exact in any order:
a BLAS as an integer multiplier. A coefficient is cut in two halves of bits / 2 bits, a weight in
two limbs of LIMB bits, so that n 2^(bits / 2) 2^LIMB ≤ 2^53 for the longest sum. Everything that is
added up over layers is int64; the sizes keep every number below 2^63.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verifier.core.errors import CertificateError
from verifier.core.sparse import is_sparse
from verifier.proof.forms import Forms, Total

#: Bits of a limb of a weight, of a bound as it is stored, of the inputs t; largest half of a
#: coefficient.
LIMB, STORED, INPUT, HALF = 23, 50, 60, 21
#: Inputs or neurons of a layer: their coefficients still have 28 bits.
WIDEST = 1 << 16
#: Bits dropped of bounds that are added up over a layer.
_COARSE = 10

#: (row, neuron, mantissa, exponent): row's form may be lowered by mantissa 2^exponent z_neuron.
Multipliers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class TooWideError(CertificateError):
    """The network cannot be bounded in 64-bit integers."""


def half_bits(widest: int) -> int:
    """Half of a coefficient's bits, for sums of so many terms."""
    return min(HALF, 53 - LIMB - (widest - 1).bit_length())


@dataclass(frozen=True, eq=False)
class Affine:
    """z = W a + b of one layer.

    Args:
        limbs: one or two (n_out, n_in + 1) arrays of integers as float64, at most 2^LIMB in size
            and ≥ 0 in the second: (W, b) = first + second 2^-LIMB, times 2^-exponent for W and
            2^-bias_exponent for b, which is rounded down.
        exponent, bias_exponent: see there.
        bias_low, bias_high: (n_out,) int64 below 2^60 times 2^-bias_scale.
        bias_scale: of the biases.
        width: (n_out,) integers as float64, at most 2^LIMB, at least bias_high minus the b of
            ``limbs`` times 2^width_scale.
        width_scale: see there.
        scale: B, of bounds of z.
        relu: (n_out,) bool.
    """

    limbs: tuple[Any, ...]
    exponent: int
    bias_exponent: int
    bias_low: np.ndarray
    bias_high: np.ndarray
    bias_scale: int
    width: np.ndarray
    width_scale: int
    scale: int
    relu: np.ndarray


@dataclass(eq=False)
class Lines:
    """The lines below and above the ReLUs of one layer in some nodes.

    Args:
        below: (M, n) slope of the line below, in [0, 1].
        above: (M, n) slope of the line above.
        first, second: (M, n) limbs of −l where the neuron is unstable, else 0, rounded up:
            −l 2^-unit ≤ first 2^limb + second.
        limb, unit: see there.
        spread: (M,) at least Σ (u − l) 2^-_COARSE over the unstable neurons.
        lowest: (M,) at most Σ min(l, 0) 2^-_COARSE over the coordinates without a ReLU.
    """

    below: np.ndarray
    above: np.ndarray
    first: np.ndarray
    second: np.ndarray
    limb: int
    unit: int
    spread: np.ndarray
    lowest: np.ndarray

    @staticmethod
    def of(
        relu: np.ndarray, low: np.ndarray, high: np.ndarray, slopes: np.ndarray | None, bits: int
    ) -> Lines:
        """From bounds.

        Args:
            relu: (n,) which coordinates have one.
            low, high: (M, n) int64 bounds below 2^STORED where low < 0 < high.
            slopes: (M, n) integers 0..256, 256 times the slope of the line below an unstable ReLU;
                None: 1 where 1024 high > 1023 (−low), else 0.
            bits: of coefficients.
        """
        limb = min(25, 53 - bits // 2 - (low.shape[1] - 1).bit_length())
        unit = max(0, STORED - 2 * limb)
        unstable = relu & (low < 0) & (high > 0)
        lo, hi = np.where(unstable, low, 0), np.where(unstable, high, 0)
        if slopes is None:
            # Not at hi = −lo, where many networks are exactly and a rounding would decide.
            chosen = (1024 * hi > 1023 * -lo).astype(np.float64)
        else:
            chosen = np.clip(slopes, 0, 256) / 256.0
        stable = np.where(relu & (high <= 0), 0.0, 1.0)
        above = hi / np.maximum(hi - lo, 1)
        depth = -(lo >> unit)
        first = depth >> limb
        spread = ((hi - lo + (1 << _COARSE) - 1) >> _COARSE).sum(axis=1)
        lowest = (np.minimum(low, 0)[:, ~relu] >> _COARSE).sum(axis=1)
        return Lines(
            np.where(unstable, chosen, stable), np.where(unstable, above, stable),
            first.astype(np.float64), (depth - (first << limb)).astype(np.float64),
            limb, unit, spread, lowest,
        )  # fmt: skip


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
        slopes: for each layer before, (Q, n) integers 0..256; see ``Lines.of``.
        multipliers: for each layer before; the caller knows that mantissa · z ≥ 0, and names no
            neuron twice in a row.
        lines: instead of low, high and slopes; row q uses those of node owner[q].
        owner: see there.
    """

    layer: int
    mu: np.ndarray | tuple[np.ndarray, np.ndarray]
    exponent: np.ndarray
    low: Sequence[np.ndarray] = ()
    high: Sequence[np.ndarray] = ()
    slopes: Sequence[np.ndarray] | None = None
    multipliers: Sequence[Multipliers] | None = None
    lines: Sequence[Lines] | None = None
    owner: np.ndarray | None = None


def times(rows: np.ndarray, matrix: Any) -> np.ndarray:
    """A product of integers whose every partial sum is at most 2^53."""
    if is_sparse(matrix):
        return np.ascontiguousarray((matrix.T @ rows.T).T)
    return np.asarray(rows @ matrix)


def product(high: np.ndarray, low: np.ndarray, limbs: Sequence[Any], half: int) -> np.ndarray:
    """At most (high 2^half + low) W 2^-half, and less than 2 below it, for W in ``limbs``.

    All are integers as float64; the result is below 2^53 in size.

    Args:
        high, low: (Q, n), |high| ≤ 2^half, 0 ≤ low < 2^half, n 2^half 2^LIMB ≤ 2^53.
        limbs: of W (n, m), see ``Affine``.
        half: see there.
    """
    value = times(low, limbs[0])
    if len(limbs) > 1:
        for part, unit in ((high, half - LIMB), (low, -LIMB)):
            rest = times(part, limbs[1])
            rest *= 2.0**unit
            value += np.floor(rest, out=rest)
    value *= 2.0**-half
    np.floor(value, out=value)
    value += times(high, limbs[0])
    return value


def backward(layers: Sequence[Affine], scale: int, rows: Rows, bits: int) -> Forms:
    """Rigorous lower bounds of linear forms of pre-activations, by one backward pass.

    At layer k the form is μ · z_k + const. With z = W a + b it is (μ W) · a + μ · b + const, and
    for each unstable ReLU with coefficient λ and z in [l, u], l < 0 < u:

    * λ ≥ 0: λ relu(z) ≥ μ z for every integer 0 ≤ μ ≤ λ;
    * λ < 0: for every integer λ ≤ μ ≤ 0, λ relu(z) − μ z is concave, so it is at least its smaller
      value at the ends, min(−μ l, (λ − μ) u); see ``_through_relu``.

    Args:
        layers: of the network; rows.layer and those before are used.
        scale: of t.
        rows: the forms.
        bits: coefficients are at most 2^bits in size.
    """
    total, exponent = Total(len(rows.exponent)), rows.exponent
    lines = rows.lines
    if lines is None:
        lines = [
            Lines.of(
                layers[k].relu,
                rows.low[k],
                rows.high[k],
                None if rows.slopes is None else rows.slopes[k],
                bits,
            )
            for k in range(rows.layer)
        ]
    owner = np.arange(len(exponent)) if rows.owner is None else rows.owner
    # Whether a layer's inputs may be negative, so that it matters what was dropped.
    signed = [False, *(not layer.relu.all() for layer in layers)]
    if isinstance(rows.mu, tuple):
        told = signed[rows.layer]
        lam, exponent, lost = _weights(layers[rows.layer], rows.mu, total, bits, told)
    else:
        mu = rows.mu.astype(np.float64)
        if np.abs(mu).max(initial=0) > 1 << bits:
            raise CertificateError(f"coefficients of more than {bits} bits")
        told = signed[rows.layer]
        lam, exponent, lost = _through_layer(layers[rows.layer], mu, exponent, total, bits, told)
    for k in range(rows.layer - 1, -1, -1):
        before = layers[k]
        if rows.multipliers is not None:
            lam, exponent, lost = _room_for(rows.multipliers[k], lam, exponent, lost, bits)
        if signed[k + 1]:
            # What was dropped, at most 2^lost units, times a value that may be negative.
            size = np.where(lost < 0, 0, lines[k].lowest[owner])
            total.add(size, exponent - before.scale + _COARSE + np.maximum(lost, 0))
        mu = _through_relu(lam, lines[k], owner, exponent - before.scale, total, bits)
        if rows.multipliers is not None:
            _lower(mu, exponent, rows.multipliers[k], bits)
        lam, exponent, lost = _through_layer(before, mu, exponent, total, bits, signed[k])
    return Forms(total, lam.astype(np.int64), exponent, scale)


_Step = tuple[np.ndarray, np.ndarray, np.ndarray]


def _weights(
    layer: Affine, mu: tuple[np.ndarray, np.ndarray], total: Total, bits: int, told: bool
) -> _Step:
    """As ``_through_layer``, for the forms ±z_neuron; ``told``: −1 where nothing was dropped."""
    neuron, sign = mu
    bias = np.where(sign > 0, layer.bias_low[neuron], -layer.bias_high[neuron])
    total.add(bias, np.full(len(neuron), -layer.bias_scale))
    lam, *rest = (
        np.asarray(p.toarray() if is_sparse(p) else p)[:, :-1]
        for p in (limb[neuron] for limb in layer.limbs)
    )
    lam = lam * 2.0**LIMB
    for part in rest:
        lam += part
    lam *= sign[:, None]
    whole = lam.copy() if told else lam
    shift = normalise(lam, bits - 1)
    lost = np.zeros(len(lam), dtype=np.int64)
    if told:
        lost -= (lam * np.ldexp(1.0, shift)[:, None] == whole).all(axis=1)
    return lam, shift - LIMB - layer.exponent, lost


def _through_layer(
    layer: Affine, mu: np.ndarray, exponent: np.ndarray, total: Total, bits: int, told: bool
) -> _Step:
    """Coefficients and exponents of a for those of z, whose biases go into the total.

    Returns:
        coefficients at most 2^(bits − 1) in size; exponents; k for each row: less than 2^k units
        were dropped of each coefficient (k < 0: none, if ``told``).
    """
    half = bits // 2
    high, low = halves(mu, half)
    value = product(high, low, layer.limbs, half)
    total.add(value[:, -1].astype(np.int64), exponent + half - layer.bias_exponent)
    if layer.width.any():
        # Where the coefficient is negative the upper end of b counts.
        rest = negative(high) @ layer.width
        total.add(rest.astype(np.int64), exponent + half - layer.width_scale)
    lam = np.ascontiguousarray(value[:, :-1])
    shift = normalise(lam, bits - 1)
    # One unit, and the two that ``product`` may drop.
    lost = 1 + np.maximum(1 - shift, 0)
    if told:
        lost = np.where(mu.any(axis=1), lost, -1)
    return lam, exponent + half - layer.exponent + shift, lost


def halves(values: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """(high, low) with values = high 2^half + low and 0 ≤ low < 2^half; integers as float64."""
    high = values * 2.0**-half
    np.floor(high, out=high)
    low = high * -(2.0**half)
    low += values
    return high, low


def negative(values: np.ndarray) -> np.ndarray:
    """min(values, 0), exactly for integers below 2^52 (and faster than NumPy's minimum)."""
    out = np.abs(values)
    np.subtract(values, out, out=out)
    out *= 0.5
    return out


def normalise(values: np.ndarray, bits: int) -> np.ndarray:
    """Multiply rows by powers of two until their length is near 2^bits, rounding down, in place.

    Returns:
        for each row the k of the factor 2^-k; no number is above 2^bits in size then.
    """
    # At least the largest in size, whatever the rounding of the sum of squares.
    most = np.sqrt(np.einsum("ij,ij->i", values, values)) * (1 + 2.0**-20)
    shift = np.frexp(np.maximum(most, 1.0))[1].astype(np.int64) - bits
    values *= np.ldexp(1.0, -shift)[:, None]
    np.floor(values, out=values)
    return shift


def _through_relu(
    lam: np.ndarray, lines: Lines, owner: np.ndarray, exponent: np.ndarray, total: Total, bits: int
) -> np.ndarray:
    """Coefficients of z for those of a = relu(z); the intercepts go into the total.

    For λ < 0 let s be u / (u − l) and λ s rounded to float64; μ is the integer below λ s. Then
    λ ≤ μ ≤ 0 and |λ u − μ (u − l)| < 2 (u − l), so that (λ − μ) u ≥ −μ l − 2 (u − l).

    Args:
        exponent: of coefficients times bounds.
    """
    half = bits // 2
    below = negative(lam)
    mu = lam - below
    mu *= lines.below.take(owner, axis=0)
    np.floor(mu, out=mu)
    below *= lines.above.take(owner, axis=0)
    np.floor(below, out=below)
    mu += below
    high, low = halves(below, half)
    first, second = lines.first.take(owner, axis=0), lines.second.take(owner, axis=0)
    sums, more, rest = (
        np.einsum("ij,ij->i", a, b).astype(np.int64)
        for a, b in ((high, first), (low, first), (high, second))
    )
    # In units of 2^(half + limb − 7): what is dropped are three of them.
    # An unstable neuron with λ < 0 makes one of these negative; without any nothing is lost.
    spread = np.where((sums < 0) | (rest < 0), lines.spread[owner], 0)
    sums = (sums << 7) + (more >> (half - 7)) + (rest >> (lines.limb - 7))
    unit = half + lines.limb - 7 + lines.unit
    total.add(sums + (-spread >> (unit - _COARSE - 1)), exponent + unit)
    return mu


def _room_for(
    multipliers: Multipliers, lam: np.ndarray, exponent: np.ndarray, lost: np.ndarray, bits: int
) -> _Step:
    """The coefficients of a rounded down to units in which the multipliers have bits − 1 bits."""
    row, _, mantissa, power = multipliers
    top = np.full(len(lam), -(1 << 20))
    size = np.frexp(np.abs(mantissa).astype(np.float64))[1] + power
    np.maximum.at(top, row, np.where(mantissa == 0, -(1 << 20), size))
    drop = np.maximum(top - exponent - (bits - 1), 0)
    # Beyond 2 bits positions all is −1 or 0 anyway.
    lam = np.floor(lam * np.ldexp(1.0, -np.minimum(drop, 2 * bits))[:, None])
    lost = np.where(drop > 0, 1 + np.maximum(lost - drop, 0), lost)
    return lam, exponent + drop, lost


def _lower(mu: np.ndarray, exponent: np.ndarray, multipliers: Multipliers, bits: int) -> None:
    """Take their multiples of pre-activations whose sign is known from the forms."""
    row, neuron, mantissa, power = multipliers
    if len(np.unique(row * mu.shape[1] + neuron)) != len(row):
        raise CertificateError("two multipliers of one neuron in one backward pass")
    # Any multiplier of this sign is allowed, so it may be rounded and cut.
    shift = power - exponent[row]
    size = np.abs(mantissa) >> np.clip(-shift, 0, 63) << np.clip(shift, 0, bits)
    size = np.minimum(size, (1 << (bits - 1)) - 1)
    np.subtract.at(mu, (row, neuron), (np.sign(mantissa) * size).astype(np.float64))
