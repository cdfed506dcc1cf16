"""What a runtime may compute in float32, for any order of summation.

With u = 2^-24, a float32 sum of n products and a bias, in any order, with or without fused
multiply-add, differs from the exact value by at most (Higham, Accuracy and Stability, sections 3.1
and 3.5)

    γ_{n+1} (|W| |a| + |b|) + (n + 1) η,     γ_n = n u / (1 − n u),    η = 2^-149,

as long as nothing overflows; η covers products that underflow. Products with weight 0 are exact and
do not count. ReLU and copying round nothing. The
layers of the network must be those that the runtime computes, one by one, and subnormal numbers
must be kept (the default of onnxruntime's CPU provider).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from verifier.bounds.float_error import gamma
from verifier.bounds.interval import interval_bounds, magnitudes
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network
from verifier.core.rounding import Rounding
from verifier.core.sparse import is_sparse, sp

_UNIT = 2.0**-24
_SMALLEST = 2.0**-149
#: Sums of more terms would need another bound.
LONGEST = 1 << 20


def in_float32(network: Network) -> Network:
    """The network with every layer's float32 rounding.

    Args:
        network: its weights and biases are float32 numbers.

    Raises:
        NetworkError: a weight that is no float32 number, or a sum of more than 2^20 products.
    """
    return replace(network, layers=tuple(_rounded(layer) for layer in network.layers))


def _rounded(layer: Layer) -> Layer:
    weight: Any = layer.weight.data if is_sparse(layer.weight) else layer.weight
    for array in (weight, layer.bias):
        with np.errstate(over="ignore"):
            same = array.dtype == np.float64 and (array.astype(np.float32) == array).all()
        if not same:
            raise NetworkError("float32 semantics needs weights and biases that are float32")
    n = int(np.diff(sp.csr_array(layer.weight).indptr).max(initial=0)) + 2
    if n > LONGEST:
        raise NetworkError(f"float32 semantics allows sums of {LONGEST} products, got {n - 2}")
    relative = n * _UNIT / (1.0 - n * _UNIT) * (1.0 + 2.0**-50)
    return replace(layer, rounding=Rounding(relative, n * _SMALLEST))


def overflows(network: Network, lower: np.ndarray, upper: np.ndarray) -> bool:
    """Whether a partial sum may leave the float32 range on a box, where the error bound ends.

    Args:
        network: from ``in_float32``.
        lower, upper: (n_inputs,) box.
    """
    bounds = interval_bounds(network, lower, upper)
    widest = max(network.n_inputs, *(layer.n_out for layer in network.layers))
    sizes = magnitudes(network, lower, upper, bounds, gamma(widest))
    # A factor that all weights of a neuron share may be applied to the plain sum.
    read = [np.maximum(np.abs(lower), np.abs(upper)).sum()]
    read += [np.maximum(np.abs(low), np.abs(high)).sum() for low, high in bounds[:-1]]
    return not all((2.0 * size < 2.0**127).all() for size in (*sizes, *read))
