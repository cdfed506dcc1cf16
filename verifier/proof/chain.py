"""A network on a box as integers: layers, moved inputs, and bounds by interval arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse as sp

from verifier.core.network import Layer
from verifier.core.property import Box
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
)

Interval = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Chain:
    """The layers on one box.

    Args:
        layers: in integers.
        scale: inputs are x = corner + t 2^-scale with integers t ≥ 0.
        corner: (d,) exact lower ends of the box, rounded down to the scale.
        box: lower and upper t, rounded outwards.
        bounds: interval bounds of every layer's pre-activations, times 2^-(the layer's scale).
        bits: coefficients in backward passes are at most 2^bits in size.
    """

    layers: tuple[Affine, ...]
    scale: int
    corner: tuple[Fraction, ...]
    box: Interval
    bounds: tuple[Interval, ...]
    bits: int


def chain(
    layers: Sequence[Layer],
    box: Box,
    last: tuple[np.ndarray, Sequence[Fraction]] | None = None,
    *,
    float32: bool = False,
) -> Chain:
    """A network's layers on a box.

    Args:
        layers: float layers, dense or sparse.
        box: the exact box.
        last: weight (integers below 2^53 as float64) and exact bias of one more affine layer.
        float32: whether a pre-activation is anything that a float32 sum of its terms can give, in
            any order; the last layer stays exact.

    Raises:
        TooWideError: a layer with more than ``WIDEST`` inputs or neurons, numbers beyond 2^±900,
            or weights that are no floats.
    """
    if not all(layer.is_float for layer in layers):
        raise TooWideError("a layer has weights that float64 cannot hold")
    widest = max(len(box.lower), *(layer.n_out for layer in layers), len(last[0]) if last else 0)
    if widest > WIDEST:
        raise TooWideError(f"a layer has {widest} neurons; the checker's integers allow {WIDEST}")
    bits = 2 * half_bits(widest)
    reach = max((b - a for a, b in zip(box.lower, box.upper, strict=True)), default=Fraction(0))
    size = max(map(abs, (*box.lower, *box.upper)), default=Fraction(0))
    scale = _scale(reach if reach else max(size, Fraction(1)), INPUT)
    unit = Fraction(2) ** scale
    corner = tuple(Fraction(math.floor(v * unit)) / unit for v in box.lower)
    high = np.array(
        [math.ceil((v - c) * unit) for v, c in zip(box.upper, corner, strict=True)], dtype=np.int64
    )
    ends: Interval = (np.zeros(len(high), dtype=np.int64), high)
    a, a_scale, moved = ends, scale, corner
    out: list[Affine] = []
    bounds: list[Interval] = []
    parts = [(layer.weight, _exact(layer.bias), np.asarray(layer.relu)) for layer in layers]
    if last is not None:
        parts.append((last[0], list(last[1]), np.zeros(len(last[0]), dtype=bool)))
    for k, (weight, bias, relu) in enumerate(parts):
        error = [Fraction(0)] * len(bias)
        if float32 and k < len(layers):
            error = _float32_error(weight, bias, _largest(a, a_scale, moved))
        affine, (low, up) = _affine(weight, bias, error, relu, a, a_scale, bits, moved)
        out.append(affine)
        bounds.append((low, up))
        a = (np.where(relu, np.maximum(low, 0), low), np.where(relu, np.maximum(up, 0), up))
        a_scale, moved = affine.scale, ()
    return Chain(tuple(out), scale, corner, ends, tuple(bounds), bits)


def _scale(size: Fraction, bits: int) -> int:
    """A B with size 2^B < 2^bits, at most two too small (size > 0)."""
    if not Fraction(2) ** -900 < size < Fraction(2) ** 900:
        raise TooWideError("numbers beyond 2^±900")
    return bits - 1 - (size.numerator.bit_length() - size.denominator.bit_length() + 1)


def _exact(values: np.ndarray) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


def _affine(
    weight: Any,
    bias: list[Fraction],
    error: list[Fraction],
    relu: np.ndarray,
    a: Interval,
    a_scale: int,
    bits: int,
    corner: Sequence[Fraction],
) -> tuple[Affine, Interval]:
    """One layer in integers and interval bounds of its pre-activations.

    Args:
        weight, bias, relu: of the layer.
        error: how far each pre-activation may be from W a + b.
        a: bounds of what it reads, times 2^-a_scale.
        corner: what is added to what it reads (the box's corner, or nothing).
    """
    limbs, exponent, exact = _limbs(weight)
    parts, half = _signed(limbs), bits // 2
    # The range of a in as many bits as a product takes, rounded outwards.
    drop = max(0, int(np.abs(a).max(initial=0)).bit_length() - bits)
    inner = (a[0] >> drop, -((-a[1]) >> drop))
    bottom = _product(inner[0], parts[0], half) + _product(inner[1], parts[1], half)
    top = -(_product(-inner[1], parts[0], half) + _product(-inner[0], parts[1], half))
    factor = Fraction(2) ** (half - exponent - a_scale + drop)
    if corner:
        bias = [b + m for b, m in zip(bias, _moved(weight, corner), strict=True)]
    lost = (Fraction(0), Fraction(0)) if exact else _lost(a, a_scale, exponent)
    below = [b + lost[0] - e for b, e in zip(bias, error, strict=True)]
    above = [b + lost[1] + e for b, e in zip(bias, error, strict=True)]
    largest = max([*map(abs, below), *map(abs, above), Fraction(1, 2**600)])
    bias_scale = _scale(2 * largest, INPUT)
    power = Fraction(2) ** bias_scale
    bias_low = np.array([math.floor(b * power) for b in below], dtype=np.int64)
    bias_high = np.array([math.ceil(b * power) for b in above], dtype=np.int64)
    size = max(abs(int(bottom.min(initial=0))), abs(int(top.max(initial=0)))) * factor
    scale = _scale(4 * max(size, largest), STORED)
    step, bias_step = factor * Fraction(2) ** scale, Fraction(2) ** (scale - bias_scale)
    low_z = [
        math.floor(int(v) * step + int(b) * bias_step)
        for v, b in zip(bottom, bias_low, strict=True)
    ]
    high_z = [
        math.ceil(int(v) * step + int(b) * bias_step) for v, b in zip(top, bias_high, strict=True)
    ]
    columns, shift = _bias_limbs(bias_low, bias_high)
    wide = bias_high - ((columns[0] << LIMB) + columns[1] << shift)
    more = max(0, int(wide.max(initial=0)).bit_length() - LIMB + 1)
    affine = Affine(
        _joined(limbs, columns), exponent, bias_scale - shift - LIMB,
        bias_low, bias_high, bias_scale,
        (-(-wide >> more)).astype(np.float64), bias_scale - more, scale, relu,
    )  # fmt: skip
    return affine, (np.array(low_z, dtype=np.int64), np.array(high_z, dtype=np.int64))


def _largest(a: Interval, a_scale: int, corner: Sequence[Fraction]) -> list[Fraction]:
    """The largest size of each number that a layer reads."""
    unit = Fraction(1) / Fraction(2) ** a_scale
    low, high = ([int(v) * unit for v in end] for end in a)
    if corner:
        low, high = ([v + c for v, c in zip(end, corner, strict=True)] for end in (low, high))
    return [max(abs(u), abs(v)) for u, v in zip(low, high, strict=True)]


def _float32_error(
    weight: Any, bias: list[Fraction], largest: Sequence[Fraction]
) -> list[Fraction]:
    """How far float32 may be from W a + b: γ_n (|W| |a| + |b|) + n η, n = inputs + 2.

    γ_n = n u / (1 − n u) with u = 2^-24, for every order of summation, with fused multiply-add or
    without; η = 2^-149 for products that underflow.

    Raises:
        TooWideError: a number that is no float32, or a sum that may leave the float32 range.
    """
    values = weight.data if sp.issparse(weight) else weight
    with np.errstate(over="ignore"):
        kept = (values.astype(np.float32) == values).all()
    if not kept or any(Fraction(float(np.float32(float(b)))) != b for b in bias):
        raise TooWideError("float32 semantics needs weights and biases that are float32")
    n = weight.shape[1] + 2
    gamma = Fraction(n, 2**24 - n)
    sizes = [s + abs(b) for s, b in zip(_moved(abs(weight), largest), bias, strict=True)]
    if max(sizes, default=Fraction(0)) * (1 + gamma) >= 2**127:
        raise TooWideError("a sum may leave the float32 range")
    return [gamma * size + Fraction(n, 2**149) for size in sizes]


def _product(row: np.ndarray, limbs: Sequence[Any], half: int) -> np.ndarray:
    """One row times Wᵀ, see ``product``."""
    high, low = halves(row[None].astype(np.float64), half)
    return product(high, low, [limb.T for limb in limbs], half)[0].astype(np.int64)


def _limbs(weight: Any) -> tuple[tuple[Any, ...], int, bool]:
    """The limbs of W with their exponent, and whether they are all of it (else rounded down)."""
    values = weight.data if sp.issparse(weight) else weight
    mantissa, power = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    top = int(max(power[whole != 0].max(initial=-1000), -1000))
    exponent = LIMB - 1 - top
    # Each number is whole 2^(power - 53); in units of the last limb it is whole 2^-shift.
    shift = np.clip(53 - power.astype(np.int64) - exponent - LIMB, 0, 63)
    kept = whole >> shift
    exact = bool(((kept << shift) == whole).all())
    first = kept >> LIMB
    second = kept - (first << LIMB)

    def stored(part: np.ndarray) -> Any:
        numbers = part.astype(np.float64)
        if not sp.issparse(weight):
            return np.ascontiguousarray(numbers)
        return sp.csr_array((numbers, weight.indices, weight.indptr), shape=weight.shape)

    return (
        tuple(stored(p) for p in ((first, second) if second.any() else (first,))),
        exponent,
        exact,
    )


def _bias_limbs(low: np.ndarray, high: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """(first, second) and k with first 2^LIMB + second = ⌊low 2^-k⌋, |first| < 2^(LIMB − 1).

    2^k is so large that high − low has no more bits than they.
    """
    shift = max(0, int(np.abs((low, high)).max(initial=0)).bit_length() - 2 * LIMB + 2)
    whole = low >> shift
    first = whole >> LIMB
    return (first, whole - (first << LIMB)), shift


def _joined(limbs: Sequence[Any], columns: tuple[np.ndarray, np.ndarray]) -> tuple[Any, ...]:
    """The limbs of W with those of b as their last column."""
    out = []
    for k, column in enumerate(columns):
        part = column[:, None].astype(np.float64)
        if sp.issparse(limbs[0]):
            empty = sp.csr_array(limbs[0].shape)
            out.append(sp.hstack([limbs[k] if k < len(limbs) else empty, part], format="csr"))
        else:
            matrix = limbs[k] if k < len(limbs) else np.zeros_like(limbs[0])
            out.append(np.concatenate([matrix, part], axis=1))
    return tuple(out[:1] if len(limbs) == 1 and not columns[1].any() else out)


def _signed(limbs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The limbs of the numbers ≥ 0 and of the others."""
    first = limbs[0]
    positive = (first.data if sp.issparse(first) else first) >= 0

    def part(matrix: Any, mask: np.ndarray) -> Any:
        if not sp.issparse(matrix):
            return np.where(mask, matrix, 0.0)
        data = np.where(mask, matrix.data, 0.0)
        return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)

    return [part(m, positive) for m in limbs], [part(m, ~positive) for m in limbs]


def _moved(weight: Any, corner: Sequence[Fraction]) -> list[Fraction]:
    """W corner, exactly."""
    if sp.issparse(weight):
        bounds = zip(weight.indptr[:-1], weight.indptr[1:], strict=True)
        return [
            sum(
                (
                    Fraction(float(v)) * corner[j]
                    for v, j in zip(weight.data[a:b], weight.indices[a:b], strict=True)
                ),
                Fraction(0),
            )
            for a, b in bounds
        ]
    from verifier.core.exact import common_denominator, scaled_integers

    integers, q = common_denominator(corner)
    scaled, bits = scaled_integers(weight)
    column = np.empty(len(integers), dtype=object)
    column[:] = integers
    return [Fraction(int(v), q) / Fraction(2) ** bits for v in scaled.dot(column)]


def _lost(a: Interval, a_scale: int, exponent: int) -> tuple[Fraction, Fraction]:
    """Σ_j e_j a_j for unknown 0 ≤ e_j < 2^-(exponent + LIMB): its least and greatest value."""
    unit = Fraction(2) ** (-exponent - LIMB - a_scale)
    low, high = (sum(map(int, end), 0) for end in (np.minimum(a[0], 0), np.maximum(a[1], 0)))
    return low * unit, high * unit
