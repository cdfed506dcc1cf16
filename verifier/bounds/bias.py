"""Bounds on the bias part B_C of a network over a box, in float64, rounded outwards (T8 b).

C(x) = J_z x + β_z for every activation pattern z that is consistent with x. The recursion
v = W β + b, β = z ∘ v, from β = 0 at the input, is bounded by intervals beside that of the
pre-activations u = W h + b: β = v where u > 0 everywhere, β = 0 where u < 0 everywhere, and either
where u can be 0. So the bounds hold for every point of the box, every consistent pattern, and every
choice of relu'(0) in [0, 1]: what they decide holds in the strong sense, on kinks too.
"""

from __future__ import annotations

import numpy as np

from verifier.bounds.interval import Bounds, affine_interval, interval_bounds
from verifier.core.network import Network


def bias_bounds(
    network: Network, lower: np.ndarray, upper: np.ndarray, bounds: list[Bounds] | None = None
) -> Bounds:
    """Bounds (n_outputs,) on β_z over all points of a box and all patterns consistent with them.

    Args:
        network: a float network.
        lower, upper: (n_inputs,) finite; the same for a single point.
        bounds: rigorous pre-activation bounds of every layer on the box; by default intervals.
    """
    bounds = interval_bounds(network, lower, upper) if bounds is None else bounds
    low = high = np.zeros(network.n_inputs)
    for layer, (least, most) in zip(network.layers, bounds, strict=True):
        low, high = affine_interval(layer, low, high)
        off, unsure = layer.relu & (most < 0), layer.relu & (least <= 0)
        low = np.where(off, 0.0, np.where(unsure, np.minimum(low, 0.0), low))
        high = np.where(off, 0.0, np.where(unsure, np.maximum(high, 0.0), high))
    return low, high


def strongly_right(bounds: Bounds, label: int) -> bool:
    """Whether these bounds prove that the label's output is larger than every other one."""
    low, high = bounds
    return bool(low[label] > np.delete(high, label).max(initial=-np.inf))


def strongly_wrong(bounds: Bounds, label: int) -> bool:
    """Whether these bounds prove that some one output is larger than the label's, always."""
    low, high = bounds
    return bool((np.delete(low, label) > high[label]).any())
