"""Layers as integers, whatever the box: what all cases of a network share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from verifier.core.exact import scaled_integers
from verifier.core.network import Layer
from verifier.core.sparse import is_sparse, sp
from verifier.proof.integers import INPUT, LIMB, Affine, TooWideError

#: Layers with at most so many numbers (twice as many as weights, if dense) are kept as integers.
_KEPT = 1 << 24
_LAYERS: WeakKeyDictionary[Layer, Quantised] = WeakKeyDictionary()


def quantised(layer: Layer) -> Quantised:
    """A layer as integers, computed once.

    Raises:
        TooWideError: numbers that are no floats, or beyond 2^±900.
    """
    found = _LAYERS.get(layer)
    if found is None:
        if not layer.is_float:
            raise TooWideError("a layer has weights that float64 cannot hold")
        bias, shift = scaled_integers(layer.bias)
        found = Quantised.of(layer.weight, (bias, bias), shift, layer.relu)
        if found.signed[0].size <= _KEPT:
            _LAYERS[layer] = found
    return found


@dataclass(frozen=True, eq=False)
class Quantised:
    """W a + b.

    Args:
        limbs: one or two (n_out, n_in) arrays of integers as float64, see ``Affine``.
        exponent: W is first + second 2^-LIMB, times 2^-exponent, rounded down entry by entry.
        exact: whether nothing was dropped.
        signed: the same limbs with the weights ≥ 0 in the first n_in columns, the others in n_in
            more.
        bias: lower and upper b, (n_out,) Python integers, times 2^-shift.
        shift: see there.
        relu: (n_out,) bool.
    """

    limbs: tuple[Any, ...]
    exponent: int
    exact: bool
    signed: tuple[Any, ...]
    bias: tuple[np.ndarray, np.ndarray]
    shift: int
    relu: np.ndarray

    @classmethod
    def of(
        cls, weight: Any, bias: tuple[np.ndarray, np.ndarray], shift: int, relu: np.ndarray
    ) -> Quantised:
        """From a float weight, dense or sparse."""
        parts, exponent, exact = limbs(weight)
        return cls(parts, exponent, exact, _signed(parts), bias, shift, relu)

    @cached_property
    def affine(self) -> Affine:
        """The layer without a scale of its bounds, if b is all that is added."""
        return self.with_bias(*self.bias, self.shift)

    def with_bias(self, below: np.ndarray, above: np.ndarray, shift: int) -> Affine:
        """The layer with a bias in an interval; without a scale of its bounds.

        Args:
            below, above: (n_out,) Python integers, times 2^-shift.
            shift: see there.
        """
        largest = max(map(abs, (*below.tolist(), *above.tolist())), default=0)
        bias_scale = INPUT - 1 - fits(largest, -shift)
        low = at_scale(below, shift, bias_scale)
        high = -at_scale(-above, shift, bias_scale)
        columns, dropped = _bias_limbs(low, high)
        wide = high - ((columns[0] << LIMB) + columns[1] << dropped)
        more = max(0, int(wide.max(initial=0)).bit_length() - LIMB + 1)
        return Affine(
            _joined(self.limbs, columns), self.exponent, bias_scale - dropped - LIMB,
            low, high, bias_scale, (-(-wide >> more)).astype(np.float64), bias_scale - more,
            0, self.relu,
        )  # fmt: skip


def fits(number: int, exponent: int) -> int:
    """A k ≥ -600 with number 2^exponent < 2^k, and at most twice as large if k > -600.

    Raises:
        TooWideError: k would be above 900.
    """
    bits = number.bit_length() + exponent if number else -600
    if bits > 900:
        raise TooWideError("numbers beyond 2^±900")
    return max(bits, -600)


def at_scale(values: np.ndarray, shift: int, scale: int) -> np.ndarray:
    """⌊values 2^(scale - shift)⌋ of Python integers as int64, in which they must fit."""
    moved = values << (scale - shift) if scale >= shift else values >> (shift - scale)
    return np.asarray(moved.astype(np.int64))


def limbs(weight: Any) -> tuple[tuple[Any, ...], int, bool]:
    """The limbs of W with their exponent, and whether they are all of it (else rounded down)."""
    values = weight.data if is_sparse(weight) else weight
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
        if not is_sparse(weight):
            return np.ascontiguousarray(numbers)
        return sp.csr_array((numbers, weight.indices, weight.indptr), shape=weight.shape)

    return (
        tuple(stored(p) for p in ((first, second) if second.any() else (first,))),
        exponent,
        exact,
    )


def _signed(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """(n_out, 2 n_in): the numbers >= 0, then the others, by the sign of the first limb."""
    first = parts[0]
    n_out, n_in = first.shape
    if not is_sparse(first):
        below = first < 0
        return tuple(
            np.concatenate([np.where(below, 0.0, p), np.where(below, p, 0.0)], axis=1)
            for p in parts
        )
    columns = first.indices + n_in * (first.data < 0)
    return tuple(sp.csr_array((p.data, columns, p.indptr), shape=(n_out, 2 * n_in)) for p in parts)


def _bias_limbs(low: np.ndarray, high: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """(first, second) and k with first 2^LIMB + second = ⌊low 2^-k⌋, |first| < 2^(LIMB − 1).

    2^k is so large that high − low has no more bits than they.
    """
    shift = max(0, int(np.abs((low, high)).max(initial=0)).bit_length() - 2 * LIMB + 2)
    whole = low >> shift
    first = whole >> LIMB
    return (first, whole - (first << LIMB)), shift


def _joined(parts: tuple[Any, ...], columns: tuple[np.ndarray, np.ndarray]) -> tuple[Any, ...]:
    """The limbs of W with those of b as their last column."""
    shape = parts[0].shape
    empty = sp.csr_array(shape) if is_sparse(parts[0]) else np.zeros(shape)
    pairs = zip((*parts, empty)[:2], columns, strict=True)
    out = tuple(_with_column(part, column.astype(np.float64)) for part, column in pairs)
    return out[:1] if len(parts) == 1 and not columns[1].any() else out


def _with_column(matrix: Any, column: np.ndarray) -> Any:
    """One more column, behind the others."""
    if not is_sparse(matrix):
        return np.concatenate([matrix, column[:, None]], axis=1)
    kept = column != 0
    starts = matrix.indptr + np.concatenate([[0], np.cumsum(kept)])
    at = starts[1:][kept] - 1
    old = np.ones(starts[-1], dtype=bool)
    old[at] = False
    data, indices = np.empty(len(old)), np.empty(len(old), dtype=matrix.indices.dtype)
    data[old], data[at] = matrix.data, column[kept]
    indices[old], indices[at] = matrix.indices, matrix.shape[1]
    return sp.csr_array((data, indices, starts), shape=(len(column), matrix.shape[1] + 1))
