"""A network in float32 arithmetic, in one order of summation, computed in integers.

A number is m 2^e with m = 0 or 2^23 ≤ |m| < 2^24. Products of two have 48 bits and sums of two at
most 52 once the smaller is left out where it cannot matter, so that int64 holds them exactly and
one rounding, to the nearest float32 number and to the even one of two, gives what IEEE 754 says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network
from verifier.core.rounding import Rounding
from verifier.core.sparse import sp

#: Bits of a mantissa, exponent of the smallest number, and one that no number reaches.
_BITS, _SMALLEST, _NOTHING = 24, -149, -5000

Numbers = tuple[np.ndarray, np.ndarray]


class Float32Error(CertificateError):
    """Something is no float32 number, or becomes larger than all of them."""


def rounded(network: Network) -> Network:
    """The network meant as what float32 sums can give: each layer names u and η of ``chain``."""
    u = Rounding(2.0**-24, 2.0**_SMALLEST)
    return replace(network, layers=tuple(replace(y, rounding=u) for y in network.layers))


def evaluate(network: Network, x: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """The outputs in float32, with one order of summation and without fused multiply-add.

    Each neuron's products are rounded one by one and added, from the first input to the last, to a
    sum that begins with 0; the bias comes last. Products with weight 0 are left out: adding 0
    changes nothing.

    Args:
        network: weights and biases are float32 numbers.
        x: n_inputs float32 numbers.

    Raises:
        Float32Error: they are not, or a result is beyond the largest float32 number.
    """
    if any(abs(v) >= 2**128 or Fraction(float(v)) != v for v in x):
        raise Float32Error("a coordinate is no float32 number")
    a = _numbers(np.array([float(v) for v in x]))
    for layer in network.layers:
        m, e = _affine(layer, a)
        off = layer.relu & (m < 0)
        a = np.where(off, 0, m), np.where(off, _NOTHING, e)
    return tuple(
        Fraction(m) * Fraction(2) ** e for m, e in zip(a[0].tolist(), a[1].tolist(), strict=True)
    )


def _affine(layer: Layer, a: Numbers) -> Numbers:
    """W a + b."""
    weight = sp.csr_array(layer.weight)
    mantissa, exponent = _numbers(weight.data)
    sizes = np.diff(weight.indptr)
    total = np.zeros(layer.n_out, dtype=np.int64), np.full(layer.n_out, _NOTHING)
    for k in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > k)
        entry = weight.indptr[rows] + k
        column = weight.indices[entry]
        term = _nearest(mantissa[entry] * a[0][column], exponent[entry] + a[1][column])
        part = _sum((total[0][rows], total[1][rows]), term)
        total[0][rows], total[1][rows] = part
    return _sum(total, _numbers(layer.bias))


def _numbers(values: np.ndarray) -> Numbers:
    """Float32 numbers in the form of this file.

    Raises:
        Float32Error: one is none.
    """
    with np.errstate(over="ignore"):
        if not (np.isfinite(values) & (values.astype(np.float32) == values)).all():
            raise Float32Error("a weight, bias or coordinate is no float32 number")
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, _BITS).astype(np.int64)
    return whole, np.where(whole == 0, _NOTHING, exponent.astype(np.int64) - _BITS)


def _nearest(m: np.ndarray, e: np.ndarray) -> Numbers:
    """The float32 number nearest to m 2^e, |m| < 2^53; of two the even one.

    Raises:
        Float32Error: it would be an infinity.
    """
    size = np.abs(m)
    # Beyond 60 dropped bits all of them are less than half a unit.
    drop = np.clip(np.maximum(_length(size) - _BITS, _SMALLEST - e), 0, 60)
    kept = size >> drop
    rest, half = size - (kept << drop), (np.int64(1) << drop) >> 1
    kept += (drop > 0) & ((rest > half) | ((rest == half) & (kept & 1 == 1)))
    length = _length(kept)
    e = e + drop
    if ((kept > 0) & (length + e > 128)).any():
        raise Float32Error("a result is beyond the largest float32 number")
    # A full mantissa again; one bit more, from 2^24, is a 0.
    up, down = np.maximum(_BITS - length, 0), np.maximum(length - _BITS, 0)
    kept = (kept << up) >> down
    return np.sign(m) * kept, np.where(kept == 0, _NOTHING, e - up + down)


def _length(m: np.ndarray) -> np.ndarray:
    """Bits of integers from 0 to 2^53 − 1, which float64 holds."""
    return np.frexp(m.astype(np.float64))[1].astype(np.int64)


def _sum(a: Numbers, b: Numbers) -> Numbers:
    """The float32 number nearest to the sum of two.

    A number that is 28 exponents smaller is less than 1/16 of the other's last bit: the other one
    is the nearest.
    """
    first = a[1] >= b[1]
    (m, e), (n, f) = (
        (np.where(first, u, v), np.where(first, s, t))
        for (u, s), (v, t) in (((a[0], a[1]), (b[0], b[1])), ((b[0], b[1]), (a[0], a[1])))
    )
    near = e - f < 28
    gap = np.where(near, e - f, 0)
    return _nearest((m << gap) + np.where(near, n, 0), e - gap)
