"""Bounds on the Jacobian J_z of a network over a set of inputs, in float64, rounded outwards.

C(x) = J_z x + β_z for every activation pattern z that is consistent with x. Going back from the
outputs, a row y of derivatives with respect to a layer's activations becomes z ∘ y with respect to
its pre-activations, and (z ∘ y) W with respect to the activations before. Where a bit of z is not
known, z ∘ y is anything between 0 and y. So the bounds hold for every consistent pattern, on kinks
too, and for every choice of relu'(0) in [0, 1].
"""

from __future__ import annotations

import numpy as np

from verifier.bounds.float_error import TINY, gamma
from verifier.bounds.interval import Bounds, absolute
from verifier.bounds.linear import times
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network


def jacobian_bounds(
    network: Network, bounds: list[Bounds] | None = None, rows: np.ndarray | None = None
) -> Bounds:
    """Bounds (K, n_inputs) on rows · J_z, entry by entry.

    Args:
        network: a float network; what rounding its layers allow does not count.
        bounds: rigorous pre-activation bounds of every layer on the set of inputs, for instance
            ``interval_bounds`` at a point; None for all of R^d.
        rows: (K, n_outputs) float64, exact; every output by default.

    Returns:
        (lower, upper), valid in exact arithmetic; infinite where the numbers leave the float64
        range.

    Raises:
        NetworkError: numbers that are no floats.
    """
    if not network.is_float:
        raise NetworkError("the Jacobian is bounded for networks of floats only")
    low = np.eye(network.n_outputs) if rows is None else np.array(rows, dtype=np.float64)
    high = low
    for k in reversed(range(network.depth)):
        layer = network.layers[k]
        if bounds is None:
            off, unsure = np.zeros(layer.n_out, dtype=bool), layer.relu
        else:
            least, most = bounds[k]
            off, unsure = layer.relu & (most < 0), layer.relu & (least <= 0)
        low = np.where(off, 0.0, np.where(unsure, np.minimum(low, 0.0), low))
        high = np.where(off, 0.0, np.where(unsure, np.maximum(high, 0.0), high))
        low, high = _before(layer, low, high)
    return low, high


def _before(layer: Layer, low: np.ndarray, high: np.ndarray) -> Bounds:
    """Bounds on y W for all rows y in [low, high]: those of ``affine_interval``, transposed."""
    with np.errstate(over="ignore", invalid="ignore"):
        centre = 0.5 * low + 0.5 * high
        radius = np.maximum(high - centre, centre - low)
        radius = radius + np.abs(radius) * gamma(2) + TINY
        sizes = absolute(layer.weight)
        middle, spread = times(centre, layer.weight), times(radius, sizes)
        size = times(np.abs(centre) + radius, sizes)
        error = gamma(layer.n_out + 2) * size + TINY
        least, most = middle - spread - 2.0 * error, middle + spread + 2.0 * error
    return np.where(np.isnan(least), -np.inf, least), np.where(np.isnan(most), np.inf, most)


def magnitude(bounds: Bounds) -> np.ndarray:
    """The largest absolute value between the two, entry by entry: exact."""
    low, high = bounds
    return np.maximum(np.abs(low), np.abs(high))
