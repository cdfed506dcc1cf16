"""A network on a box as integers: layers, moved inputs, and bounds by interval arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from verifier.core.network import Layer
from verifier.core.property import Box
from verifier.core.sparse import sp
from verifier.proof.integers import (
    INPUT,
    LIMB,
    STORED,
    WIDEST,
    Affine,
    TooWideError,
    half_bits,
    halves,
    product,
    times,
)
from verifier.proof.quantised import Quantised, fits, quantised

Interval = tuple[np.ndarray, np.ndarray]
#: Bits of an interval bound that are kept until its two summands are added up.
_GUARD = 12


@dataclass(frozen=True, eq=False)
class Chain:
    """The layers on one box.

    Args:
        layers: in integers.
        scale: inputs are x = corner + t 2^-scale with integers t ≥ 0.
        origin: (d,) the corner times 2^scale: lower ends of the box, rounded down.
        box: lower and upper t, rounded outwards.
        bounds: interval bounds of every layer's pre-activations, times 2^-(the layer's scale).
        bits: coefficients in backward passes are at most 2^bits in size.
    """

    layers: tuple[Affine, ...]
    scale: int
    origin: tuple[int, ...]
    box: Interval
    bounds: tuple[Interval, ...]
    bits: int

    @cached_property
    def corner(self) -> tuple[Fraction, ...]:
        """(d,) exact lower ends of the box, rounded down to the scale."""
        unit = Fraction(1) / Fraction(2) ** self.scale
        return tuple(v * unit for v in self.origin)


@dataclass(frozen=True, eq=False)
class _Read:
    """What a layer reads: numbers (origin + a) 2^-scale with a between two ends.

    Args:
        low, high: (n,) int64.
        scale: see there.
        origin: n integers, or nothing where all are 0.
    """

    low: np.ndarray
    high: np.ndarray
    scale: int
    origin: tuple[int, ...] = ()

    def ends(self) -> tuple[list[int], list[int]]:
        """The least and the greatest numbers, times 2^scale."""
        low, high = self.low.tolist(), self.high.tolist()
        if not self.origin:
            return low, high
        low, high = ([a + b for a, b in zip(self.origin, e, strict=True)] for e in (low, high))
        return low, high


#: Integers times 2^-shift.
_Scaled = tuple[Any, int]


def chain(
    layers: Sequence[Layer],
    box: Box,
    last: tuple[np.ndarray, Sequence[Fraction]] | None = None,
    *,
    float32: bool = False,
    known: tuple[Chain, Sequence[Interval]] | None = None,
) -> Chain:
    """A network's layers on a box.

    Args:
        layers: float layers, dense or sparse.
        box: the exact box.
        last: weight (integers below 2^53 as float64) and exact bias of one more affine layer.
        float32: whether a pre-activation is anything that a float32 sum of its terms can give, in
            any order; the last layer stays exact.
        known: the same chain as it was, and bounds of its hidden layers that hold on the whole box
            and are at least as good; what depends on ranges is computed from them.

    Raises:
        TooWideError: a layer with more than ``WIDEST`` inputs or neurons, numbers beyond 2^±900,
            or weights that are no floats.
    """
    widest = max(len(box.lower), *(layer.n_out for layer in layers), len(last[0]) if last else 0)
    if widest > WIDEST:
        raise TooWideError(f"a layer has {widest} neurons; the checker's integers allow {WIDEST}")
    bits = 2 * half_bits(widest)
    scale = _box_scale(box)
    origin = tuple(_floor(v, scale) for v in box.lower)
    high = [-_floor(-v, scale) - c for v, c in zip(box.upper, origin, strict=True)]
    ends: Interval = (np.zeros(len(high), dtype=np.int64), np.array(high, dtype=np.int64))
    read = _Read(*ends, scale, origin if any(origin) else ())
    out: list[Affine] = []
    bounds: list[Interval] = []
    for k in range(len(layers) + (last is not None)):
        whole = quantised(layers[k]) if k < len(layers) else _rows(*last)  # type: ignore[misc]
        rounded = float32 and k < len(layers)
        if known is not None and k == 0:  # its range is the box
            affine = known[0].layers[0]
        elif whole.exact and not read.origin and not rounded:
            affine = whole.affine
        else:
            error = _float32_error(layers[k], whole, read, bits) if rounded else (0, 0)
            affine = whole.with_bias(*_bias(whole, read, error, bits // 2))
        affine, (low, up) = _bounded(affine, whole, read, bits)
        if known is not None and k < len(known[1]):
            low, up = _better((low, up), known[1][k], affine.scale - known[0].layers[k].scale)
        out.append(affine)
        bounds.append((low, up))
        relu = affine.relu
        read = _Read(
            np.where(relu, np.maximum(low, 0), low), np.where(relu, np.maximum(up, 0), up),
            affine.scale,
        )  # fmt: skip
    return Chain(tuple(out), scale, origin, ends, tuple(bounds), bits)


def _box_scale(box: Box) -> int:
    """The scale of t: 60 bits for the longest side, or for the coordinates of a single point."""
    size = max((b - a for a, b in zip(box.lower, box.upper, strict=True)), default=Fraction(0))
    if not size:
        size = max(map(abs, (*box.lower, *box.upper, Fraction(1))))
    if not Fraction(2) ** -900 < size < Fraction(2) ** 900:
        raise TooWideError("numbers beyond 2^±900")
    return INPUT - 2 - size.numerator.bit_length() + size.denominator.bit_length()


def _floor(value: Fraction, scale: int) -> int:
    """⌊value 2^scale⌋."""
    return (value.numerator << max(scale, 0)) // (value.denominator << max(-scale, 0))


def _rows(weight: np.ndarray, bias: Sequence[Fraction]) -> Quantised:
    """Constraints as a layer without a ReLU; biases that are not dyadic keep 64 bits."""
    shift = 64 + max((b.denominator.bit_length() for b in bias), default=0)
    low, high = np.empty(len(bias), dtype=object), np.empty(len(bias), dtype=object)
    low[:], high[:] = [_floor(b, shift) for b in bias], [-_floor(-b, shift) for b in bias]
    return Quantised.of(weight, (low, high), shift, np.zeros(len(bias), dtype=bool))


def _bounded(affine: Affine, whole: Quantised, read: _Read, bits: int) -> tuple[Affine, Interval]:
    """A layer with the scale of its bounds, and these."""
    bottom, top, power = _product(whole, read.low, read.high, read.scale, bits)
    size = max(abs(int(bottom.min(initial=0))), abs(int(top.max(initial=0))))
    largest = max(abs(int(affine.bias_low.min(initial=0))), int(affine.bias_high.max(initial=0)))
    # Both summands are below 2^(STORED - 2), in units of 2^-_GUARD below 2^60.
    scale = STORED - 2 - max(fits(size, power), fits(largest, -affine.bias_scale))
    up, bias_up = scale + power + _GUARD, scale - affine.bias_scale + _GUARD
    low = _moved_by(bottom, up) + _moved_by(affine.bias_low, bias_up) >> _GUARD
    high = -(_moved_by(-top, up) + _moved_by(-affine.bias_high, bias_up) >> _GUARD)
    return replace(affine, scale=scale), (low, high)


def _moved_by(values: np.ndarray, shift: int) -> np.ndarray:
    """⌊values 2^shift⌋ of int64, where that fits."""
    return values << min(shift, 62) if shift > 0 else values >> min(-shift, 63)


def _better(new: Interval, old: Interval, shift: int) -> Interval:
    """The better ends of two intervals, the old ones in units that are 2^shift times larger."""
    # What is cut off here is no better than the new ends, which are below 2^STORED.
    most = 1 << max(STORED - shift, 0) if shift > 0 else 1 << STORED
    low, high = (np.clip(end, -most, most) for end in old)
    return (
        np.maximum(new[0], _moved_by(low, shift)),
        np.minimum(new[1], -_moved_by(-high, shift)),
    )


def _product(
    whole: Quantised, low: np.ndarray, high: np.ndarray, scale: int, bits: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """The range of W a over a in [low, high] 2^-scale: two ends and k, in units of 2^k."""
    half = bits // 2
    # The range of a in as many bits as a product takes, rounded outwards.
    most = max(abs(int(low.min(initial=0))), abs(int(high.max(initial=0))))
    drop = max(0, most.bit_length() - bits)
    a, b = low >> drop, -(-high >> drop)
    rows = np.stack([np.concatenate([a, b]), np.concatenate([-b, -a])]).astype(np.float64)
    value = product(*halves(rows, half), [limb.T for limb in whole.signed], half).astype(np.int64)
    return value[0], -value[1], half - whole.exponent - scale + drop


def _aligned(*numbers: _Scaled) -> tuple[list[Any], int]:
    """The same numbers as integers times one power of two 2^-shift, and that shift."""
    shift = max(s for _, s in numbers)
    return [v << (shift - s) for v, s in numbers], shift


def _bias(
    whole: Quantised, read: _Read, error: _Scaled, half: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """What is added to W a: b, W origin, what was dropped of W times what is read, and an error.

    Returns:
        lower and upper ends, Python integers times 2^-shift; shift.
    """
    moved: _Scaled = (0, 0)
    if read.origin:
        moved = _moved(whole, read.origin, half), whole.exponent + LIMB + read.scale
    lost, lost_shift = _lost(whole, read)
    (low, high, more, below, above, wrong), shift = _aligned(
        *((b, whole.shift) for b in whole.bias), moved, *((v, lost_shift) for v in lost), error
    )
    return low + more + below - wrong, high + more + above + wrong, shift


def _moved(whole: Quantised, origin: Sequence[int], half: int) -> np.ndarray:
    """The product of the limbs and some integers, times 2^LIMB, exactly: in pieces of few bits."""
    numbers = np.array(origin, dtype=object)
    count = max(map(abs, origin)).bit_length() // half + 1
    pieces = [numbers >> (half * i) & (1 << half) - 1 for i in range(count - 1)]
    pieces.append(numbers >> (half * (count - 1)))
    rows = np.array(pieces, dtype=np.float64)
    first, *rest = (times(rows, limb.T).astype(np.int64).astype(object) for limb in whole.limbs)
    values = sum(rest, first << LIMB)
    return np.asarray(sum(row << (half * i) for i, row in enumerate(values)), dtype=object)


def _lost(whole: Quantised, read: _Read) -> tuple[tuple[int, int], int]:
    """Σ_j e_j x_j for unknown 0 ≤ e_j < 2^-(exponent + LIMB): its least and greatest value."""
    if whole.exact:
        return (0, 0), 0
    low, high = read.ends()
    sums = sum(min(v, 0) for v in low), sum(max(v, 0) for v in high)
    return sums, whole.exponent + LIMB + read.scale


def _float32_error(layer: Layer, whole: Quantised, read: _Read, bits: int) -> _Scaled:
    """How far float32 may be from W a + b: γ_n (|W| |a| + |b|) + n η, n = most weights a row + 2.

    γ_n = n u / (1 − n u) with u = 2^-24, for every order of summation, with fused multiply-add or
    without; η = 2^-149 for products that underflow. Products with weight 0 round nothing.

    Raises:
        TooWideError: a number that is no float32, or a sum that may leave the float32 range.
    """
    weight: Any = layer.weight
    for values in (weight.data if layer.is_sparse else weight, layer.bias):
        with np.errstate(over="ignore"):
            if not (values.astype(np.float32) == values).all():
                raise TooWideError("float32 semantics needs weights and biases that are float32")
    # |W| |a| is the upper end of W a over all a that are no larger; few bits are enough of them.
    largest = [max(abs(a), abs(b)) for a, b in zip(*read.ends(), strict=True)]
    drop = max(0, max(largest, default=0).bit_length() - INPUT)
    most = np.array([-(-v >> drop) for v in largest], dtype=np.int64)
    _, top, power = _product(whole, -most, most, read.scale - drop, bits)
    lost = 0 if whole.exact else sum(largest)
    (size, bias, extra, tiny), shift = _aligned(
        (top.astype(object), -power), (abs(whole.bias[0]), whole.shift),
        (lost, whole.exponent + LIMB + read.scale), (1, 149),
    )  # fmt: skip
    n = int(np.diff(sp.csr_array(weight).indptr).max(initial=0)) + 2
    size, left = size + bias + extra, 2**24 - n
    # A factor that all weights of a row share may be applied to the plain sum.
    plain = Fraction(sum(largest)) / Fraction(2) ** read.scale
    if plain * (1 + Fraction(n, left)) >= 2**127 or any(
        v * 2**24 >= left << 127 + shift for v in size
    ):
        raise TooWideError("a sum may leave the float32 range")
    return -(-size * n // left) + n * tiny, shift
