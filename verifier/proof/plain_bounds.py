"""Layers as exact integers, and lower bounds of linear forms by one backward pass at a time.

A number is a Python integer times a power of two that its whole list shares, or a Fraction.
FORMAT.md, sections 3 and 5, say why each step gives a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpz_mat

from verifier.core.exact import scaled_integers
from verifier.core.network import Layer
from verifier.proof.outcome import InvalidError

#: Bits of coefficients and of bounds, where they are rounded at all; 1 as a slope; weights of a
#: layer.
BITS, ONE, _LARGEST = 60, 1 << 14, 1 << 24

#: (slope below, l, u) of a neuron: see ``_through_relus``.
Line = tuple[int, int, int]
PASSES, IS_ZERO = (ONE, 0, 1), (0, -1, 0)
#: Lower and upper ends.
Ends = tuple[list[int], list[int]]


def dyadic(number: int, scale: int) -> Fraction:
    """number 2^-scale."""
    return Fraction(number, 1 << scale) if scale >= 0 else Fraction(number << -scale)


def floor(value: Fraction, scale: int) -> int:
    """⌊value 2^scale⌋."""
    return (value.numerator << max(scale, 0)) // (value.denominator << max(-scale, 0))


def moved(number: int, up: int) -> int:
    """⌊number 2^up⌋."""
    return number << up if up >= 0 else number >> -up


@dataclass(frozen=True, eq=False)
class Affine:
    """z = W a + b of one layer on a box, each b between two ends.

    Args:
        weight: (n_out, n_in) integers times 2^-scale.
        scale: see there.
        bias: the ends of b, times 2^-bias_scale.
        bias_scale: see there.
        relu: which coordinates have one.
        bound_scale: bounds of z are integers times 2^-bound_scale.
        first: number of the first neuron, counted through all layers.
    """

    weight: np.ndarray
    scale: int
    bias: Ends
    bias_scale: int
    relu: list[bool]
    bound_scale: int
    first: int

    @cached_property
    def matrix(self) -> Any:
        """W for FLINT."""
        n_out, n_in = self.weight.shape
        return fmpz_mat(n_out, n_in, self.weight.ravel().tolist())


def behind(z: Ends, relu: Sequence[bool]) -> Ends:
    """The ends of activations for those of pre-activations."""
    low, high = ([max(v, 0) if r else v for v, r in zip(e, relu, strict=True)] for e in z)
    return low, high


def read(
    layers: Sequence[Layer], ends: Ends, scale: int, float32: bool, known: Sequence[Any] = ()
) -> tuple[list[Affine], list[Ends]]:
    """The layers on a box, and bounds of their pre-activations by interval arithmetic.

    Args:
        layers: of the network.
        ends: of the inputs, times 2^scale.
        scale: see there.
        float32: whether z is whatever a float32 sum may give.
        known: for each layer (lower ends, upper ends, their scale) of z that hold as well.
    """
    out: list[Affine] = []
    bounds: list[Ends] = []
    first = 0
    for k, layer in enumerate(layers):
        if not layer.is_float or layer.n_in * layer.n_out > _LARGEST:
            why = "its weights are no float64 numbers, or too many for this checker"
            raise InvalidError("network", f"layer {k}", why)
        weight, shift = scaled_integers(layer.dense)
        bias, bias_scale = scaled_integers(layer.bias)
        low, high = (np.array(e, dtype=object) for e in ends)
        # All in one unit, 2^-unit: W a, b, and what float32 may lose.
        unit = max(shift + scale, bias_scale, 200 if float32 else 0)
        up, bias = unit - shift - scale, bias << unit - bias_scale
        ends_of_b = bias, bias
        if float32:
            error = _error(layer, weight, np.maximum(abs(low), abs(high)), bias, (scale, unit))
            ends_of_b = bias - error, bias + error
        plus, minus = np.maximum(weight, 0), np.minimum(weight, 0)
        least = (plus.dot(low) + minus.dot(high) << up) + ends_of_b[0]
        most = (plus.dot(high) + minus.dot(low) << up) + ends_of_b[1]
        if known:
            lower, upper, old = known[k]
            least = np.maximum(least, [moved(v, unit - old) for v in lower])
            most = np.minimum(most, [-moved(-v, unit - old) for v in upper])
        room = BITS - max(*abs(least), *abs(most)).bit_length()
        z = [moved(v, room) for v in least], [-moved(-v, room) for v in most]
        scale, relu = unit + room, layer.relu.tolist()
        ends = behind(z, relu)
        biases = ends_of_b[0].tolist(), ends_of_b[1].tolist()
        out.append(Affine(weight, shift, biases, unit, relu, scale, first))
        bounds.append(z)
        first += layer.n_out
    return out, bounds


def nearest(value: Fraction) -> Fraction:
    """The float32 number nearest to a value, of two the one with an even mantissa.

    Raises:
        InvalidError: it would be an infinity.
    """
    size = abs(value)
    power = max(size.numerator.bit_length() - size.denominator.bit_length() - 24, -149)
    if size / Fraction(2) ** power >= 2**24:
        power += 1
    found = round(value / Fraction(2) ** power) * Fraction(2) ** power
    if abs(found) >= 2**128:
        raise InvalidError("float32", "-", "a result is beyond the largest float32 number")
    return found


def _error(
    layer: Layer, weight: np.ndarray, size: np.ndarray, bias: np.ndarray, scales: tuple[int, int]
) -> np.ndarray:
    """How far float32 may be from W a + b, rounded up: γ_n (|W| |a| + |b|) + n η.

    Args:
        layer: with float numbers.
        weight: W as integers.
        size: of the numbers a, times 2^scales[0].
        bias: times 2^scales[1], in which the result is given too.
        scales: see there.
    """
    numbers = {*layer.dense.ravel().tolist(), *layer.bias.tolist()}
    if any(nearest(Fraction(v)) != v for v in numbers):
        raise InvalidError("float32", "-", "a weight or bias is no float32 number")
    scale, unit = scales
    n = 2 + max(np.count_nonzero(layer.dense, axis=1).tolist())
    left = 2**24 - n
    up = unit - scaled_integers(layer.dense)[1] - scale
    total = (abs(weight).dot(size) << up) + abs(bias)
    # 1 + γ_n is 2^24 / left.
    largest = max(dyadic(max(total), unit), dyadic(sum(size.tolist()), scale))
    if left <= 0 or largest * 2**24 >= left * 2**127:
        raise InvalidError("float32", "-", "a sum may leave the float32 range")
    return -(-total * n // left) + (n << unit - 149)


@dataclass(frozen=True)
class Form:
    """A lower bound const + Σ coefficient · x 2^-scale that is linear in the inputs."""

    const: Fraction
    coefficients: list[int]
    scale: int

    def least(self, low: Sequence[Any], high: Sequence[Any], scale: int = 0) -> Fraction:
        """Its least value for inputs between two ends, times 2^scale (integers or Fractions)."""
        pairs = zip(self.coefficients, low, high, strict=True)
        total = sum(c * (a if c > 0 else b) for c, a, b in pairs)
        return self.const + total * dyadic(1, self.scale + scale)

    def times(self, weight: int) -> Form:
        """The form times a weight ≥ 0."""
        return Form(self.const * weight, [c * weight for c in self.coefficients], self.scale)

    def plus(self, other: Form) -> Form:
        """The sum of both."""
        scale = max(self.scale, other.scale)
        ups = scale - self.scale, scale - other.scale
        pairs = zip(self.coefficients, other.coefficients, strict=True)
        return Form(
            self.const + other.const, [(a << ups[0]) + (b << ups[1]) for a, b in pairs], scale
        )


def backward(
    layers: Sequence[Affine],
    lines: Sequence[Line],
    form: Form,
    multipliers: Mapping[int, tuple[int, int]] | None = None,
    bits: int | None = BITS,
) -> Form:
    """A lower bound in the inputs of a form in what the layer behind ``layers`` reads.

    Args:
        layers: all that come before.
        lines: of every neuron.
        form: what to bound.
        multipliers: neuron -> (m, p) where m 2^p z ≥ 0 is known; m has the sign that is assumed.
        bits: of coefficients; None: nothing is rounded but the slopes above ReLUs.
    """
    const, lam, scale = form.const, form.coefficients, form.scale
    for layer in reversed(layers):
        # Of a coefficient of relu(z) ≥ 0 bits may be dropped; of others they are all kept.
        up = max(64, 141 - scale)
        if bits is not None:
            up = bits - max(max(lam), -min(lam)).bit_length()
            up = up if all(layer.relu) else max(up, 0)
        scale += up
        here = lines[layer.first : layer.first + len(lam)]
        mu, total = _through_relus([moved(v, up) for v in lam], here)
        const += dyadic(total, scale + layer.bound_scale)
        for neuron, (m, power) in (multipliers or {}).items():
            if 0 <= (i := neuron - layer.first) < len(mu):
                # Rounded towards 0: the multiplier may be smaller.
                size = moved(abs(m), power + scale)
                mu[i] -= size if m > 0 else -size
        ends = zip(mu, *layer.bias, strict=True)
        const += dyadic(sum(m * (a if m > 0 else b) for m, a, b in ends), scale + layer.bias_scale)
        product = fmpz_mat(1, len(mu), mu) * layer.matrix
        lam, scale = [int(v) for v in product.entries()], scale + layer.scale
    return Form(const, lam, scale)


def _through_relus(lam: list[int], lines: Sequence[Line]) -> tuple[list[int], int]:
    """Coefficients μ of z for those λ of relu(z), and what the sum of λ relu(z) − μ z is at least.

    * λ ≥ 0: μ = α λ, rounded down, which is another α.
    * λ < 0: μ is 0 or λ where z ≤ 0 or z ≥ 0, else an integer from λ to 0, near λ u / (u − l).
    """
    mu, total = [], 0
    for v, (alpha, low, high) in zip(lam, lines, strict=True):
        if v >= 0:
            mu.append(v * alpha // ONE)
        elif high <= 0:
            mu.append(0)
        elif low >= 0:
            mu.append(v)
        else:
            m = v * high // (high - low)
            mu.append(m)
            total += min(-m * low, (v - m) * high)
    return mu, total
