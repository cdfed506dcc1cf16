"""Interval arithmetic through a network, rounded outwards.

For z = W a + b with a in [l, u]: the centre form W c + b ± |W| r with c = (l+u)/2, r = (u−l)/2,
both computed in float64 and widened by a rigorous bound on their rounding error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from verifier.bounds.float_error import TINY, gamma
from verifier.core.network import Layer, Network

Bounds = tuple[np.ndarray, np.ndarray]


def absolute(weight: Any) -> Any:
    """|W| in the storage of W."""
    return abs(weight)


def affine_interval(layer: Layer, lower: np.ndarray, upper: np.ndarray) -> Bounds:
    """Float64 bounds on W a + b, as the layer's rounding lets it be, for all a in [lower, upper].

    Args:
        layer: a float layer.
        lower: (n_in,) finite.
        upper: (n_in,) finite.

    Returns:
        (lower, upper), each (n_out,), valid in exact arithmetic; infinite where the numbers leave
        the float64 range.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = _centred(layer, lower, upper)
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def _centred(layer: Layer, lower: np.ndarray, upper: np.ndarray) -> Bounds:
    """The bounds of ``affine_interval``, NaN where an overflow made them meaningless."""
    centre = 0.5 * lower + 0.5 * upper
    # The radius must cover both ends although the centre was rounded.
    radius = np.maximum(upper - centre, centre - lower)
    radius = radius + np.abs(radius) * gamma(2) + TINY
    magnitude = absolute(layer.weight)
    middle = layer.weight @ centre + layer.bias
    spread = magnitude @ radius
    size = magnitude @ (np.abs(centre) + radius) + np.abs(layer.bias)
    error = gamma(layer.n_in + 2) * size + TINY
    spread = spread + error
    if layer.rounding:
        spread = spread + own_error(layer, size)
    return middle - spread - error, middle + spread + error


def own_error(layer: Layer, size: np.ndarray) -> np.ndarray:
    """What the layer's own rounding can add, for sizes |W| |a| + |b| rounded either way: (n_out,).

    A little more than it is, so that no rounding here matters.
    """
    if not layer.rounding:
        return np.zeros(layer.n_out)
    return (layer.rounding.relative * size + layer.rounding.absolute) * (1.0 + 2.0**-30)


def relu_interval(layer: Layer, lower: np.ndarray, upper: np.ndarray) -> Bounds:
    """Bounds after the layer's partial ReLU (exact: no rounding)."""
    return (
        np.where(layer.relu, np.maximum(lower, 0.0), lower),
        np.where(layer.relu, np.maximum(upper, 0.0), upper),
    )


def interval_bounds(network: Network, lower: np.ndarray, upper: np.ndarray) -> list[Bounds]:
    """Pre-activation bounds of every layer on the box [lower, upper]."""
    out = []
    for layer in network.layers:
        lower, upper = affine_interval(layer, lower, upper)
        out.append((lower, upper))
        lower, upper = relu_interval(layer, lower, upper)
    return out


def magnitudes(
    network: Network, lower: np.ndarray, upper: np.ndarray, bounds: list[Bounds], error: float
) -> list[np.ndarray]:
    """For each layer a bound on |W| |a| + |b| over the box: what a rounding error is relative to.

    Args:
        network: a float network.
        lower, upper: (n_inputs,) box.
        bounds: rigorous pre-activation bounds of every layer on it.
        error: ``gamma`` of at least the longest sum.

    Returns:
        arrays (n_out,); infinite or NaN where the numbers leave the float64 range.
    """
    largest, out = np.maximum(np.abs(lower), np.abs(upper)), []
    for layer, pair in zip(network.layers, bounds, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            size = absolute(layer.weight) @ largest + np.abs(layer.bias)
            # Products that underflow are missing in the sum, however large what they multiply.
            out.append(size * (1 + 2 * error) + TINY)
        low, high = relu_interval(layer, *pair)
        largest = np.maximum(np.abs(low), np.abs(high))
    return out


def underflow_allowance(lower: np.ndarray, upper: np.ndarray, sizes: list[np.ndarray]) -> float:
    """More than the products that underflow in one backward pass can lose altogether.

    Each loses at most 2^-1074 times an activation, and there are far fewer than 2^60 of them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.maximum(np.abs(lower), np.abs(upper)).sum())
        return TINY * (1.0 + total + sum(float(size.sum()) for size in sizes))
