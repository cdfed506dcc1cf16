"""Bounds on C, on the bias part B_C and on its slope J_C over a box, in one exact pass (T8 b).

Interval arithmetic, valid for every x in the box and every consistent pattern: u = W h + b is
bounded as usual; v = W β + b from β⁰ = 0; then β = v where u > 0, β = 0 where u < 0 strictly, and
either where u can be 0. J vanishes where a unit is strictly off, or reads only such units.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from constructions.rational_points import Vector
from verifier.core.errors import PropertyError
from verifier.core.exact import common_denominator, fractions
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.core.sparse import sp

_ZERO: Any = Fraction(0)


@dataclass(frozen=True, eq=False)
class BiasBounds:
    """What is certain of the outputs.

    Args:
        values: (lower, upper) of C.
        bias: (lower, upper) of B_C.
        flat: whether J_C = 0, output by output; then B_C = C.
    """

    values: tuple[Vector, Vector]
    bias: tuple[Vector, Vector]
    flat: tuple[bool, ...]

    def shows(self, outputs: Vector) -> bool:
        """Whether C = B_C = these outputs and J_C = 0, at every point and for every pattern."""
        pairs = (self.values, self.bias)
        return all(self.flat) and all(low == high == outputs for low, high in pairs)

    def margin(self, label: int) -> Fraction:
        """A lower bound of β_y − max_{k≠y} β_k."""
        low, high = self.bias
        return low[label] - max(v for k, v in enumerate(high) if k != label)


class BiasIntervals:
    """A network prepared for many boxes.

    Args:
        network: any.
    """

    def __init__(self, network: Network) -> None:
        self._n = network.n_inputs
        self._layers = [(layer, *_signed_parts(layer)) for layer in network.layers]

    def on(self, box: Box) -> BiasBounds:
        """The bounds over a box.

        Raises:
            PropertyError: a box of another dimension.
        """
        if len(box) != self._n:
            raise PropertyError(f"the box has {len(box)} inputs, the network {self._n}")
        low, high = _column(box.lower), _column(box.upper)
        least = most = _column((Fraction(0),) * len(box))
        flat = np.zeros(len(box), dtype=bool)
        for layer, plus, minus in self._layers:
            low, high = _range(plus, minus, low, high)
            least, most = _range(plus, minus, least, most)
            flat = np.asarray(_reads(layer) @ (~flat).astype(np.int64) == 0)
            off, unsure = layer.relu & (high < 0), layer.relu & (low <= 0)
            least = np.where(off, _ZERO, np.where(unsure, np.minimum(least, _ZERO), least))
            most = np.where(off, _ZERO, np.where(unsure, np.maximum(most, _ZERO), most))
            low = np.where(layer.relu, np.maximum(low, _ZERO), low)
            high = np.where(layer.relu, np.maximum(high, _ZERO), high)
            flat |= off
        return BiasBounds(
            (tuple(low), tuple(high)), (tuple(least), tuple(most)), tuple(map(bool, flat))
        )


def _column(values: Vector) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _signed_parts(layer: Layer) -> tuple[Layer, Layer]:
    """max(W, 0) with the bias, and min(W, 0) without."""
    weight = layer.weight
    zero = np.zeros(layer.n_out, dtype=layer.bias.dtype)
    if isinstance(weight, np.ndarray):
        plus, minus = np.where(weight > 0, weight, 0), np.where(weight < 0, weight, 0)
    else:
        plus, minus = weight.maximum(0), weight.minimum(0)
    return Layer(plus, layer.bias, layer.relu), Layer(minus, zero, layer.relu)


def _reads(layer: Layer) -> sp.csr_array:
    """1 where a weight is not 0."""
    return sp.csr_array(layer.weight != 0, dtype=np.int64)


def _range(
    plus: Layer, minus: Layer, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """W⁺ low + W⁻ high + b and W⁺ high + W⁻ low + b."""
    return _affine(plus, low) + _affine(minus, high), _affine(plus, high) + _affine(minus, low)


def _affine(layer: Layer, values: np.ndarray) -> np.ndarray:
    """W a + b, as Fractions."""
    if not layer.is_float:
        return _column(fractions(layer.weight.dot(values) + layer.bias))
    integers, denominator = common_denominator(fractions(values))
    z, q = layer.exact_affine(_column(tuple(integers)), denominator)  # type: ignore[arg-type]
    return _column(tuple(Fraction(v, q) for v in z))
