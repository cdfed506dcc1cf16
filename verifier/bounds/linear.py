"""Backward linear bounds (CROWN / DeepPoly) with slopes and split multipliers to choose.

A query asks for a lower bound of  c · a_k + d  over a box and, possibly, over the part of it where
some pre-activations have a given sign. Going back from layer k to the input, each ReLU is replaced
by a line below (slope alpha in [0, 1], free) or the chord above, whichever the sign of its
coefficient asks for (Zhang et al. 2018; Singh et al. 2019; multipliers: Wang et al. 2021). Many
queries run as one batch.

**Why a float64 result is rigorous.** The coefficients that the pass computes are taken as the
exact definition of the next inequality. If lam' is the rounded lam W, then for every a with
|a| <= A, lam W a >= lam' a - gamma_n |lam| (|W| A), and likewise for slopes, biases and the final
sum. So one number per layer and neuron, size = |W| A + |b|, bounds the error of a whole pass as
gamma · sum over layers of |lam| · size; that sum (``mag``) is carried along, one dot product a
layer. A and size come from the bounds of the outermost box, and hold in every part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from verifier.bounds import kernels
from verifier.bounds.float_error import UNIT, gamma
from verifier.bounds.interval import (
    Bounds,
    interval_bounds,
    magnitudes,
    own_error,
    underflow_allowance,
)
from verifier.bounds.queries import Queries, Result
from verifier.bounds.threads import cores, workers
from verifier.core.network import Network
from verifier.core.sparse import is_sparse

_NO_MULTIPLIERS = np.zeros((0, 0))
#: Numbers in one array of a batch's coefficients; some ten such arrays exist at a time.
_CHUNK_NUMBERS = 2_000_000
#: Queries from which on a batch is shared among the cores.
_WORTH_SHARING = 64


class Backward:
    """Backward passes through one network on one outermost box.

    Args:
        network: a float network.
        lower, upper: the outermost box, float64 (n_inputs,).
        bounds: rigorous pre-activation bounds of every layer on that box; interval bounds if they
            are not given.
        room: share of a pass's magnitudes by which bounds are lowered beyond the rounding error.
    """

    def __init__(
        self,
        network: Network,
        lower: np.ndarray,
        upper: np.ndarray,
        bounds: list[Bounds] | None = None,
        room: float = 0.0,
    ) -> None:
        self.network = network
        self.lower, self.upper = lower, upper
        self.weights = [layer.weight for layer in network.layers]
        self.relu = [layer.relu for layer in network.layers]
        self.bias = [layer.bias for layer in network.layers]
        widest = max(network.n_inputs, *(layer.n_out for layer in network.layers))
        self._float64 = gamma(widest + 4 * network.depth)
        self._gamma = self._float64 + max(layer.rounding.relative for layer in network.layers)
        self._room = room
        self.set_bounds(bounds or interval_bounds(network, lower, upper))

    def set_bounds(self, bounds: list[Bounds]) -> None:
        """Use these pre-activation bounds of the outermost box for the rounding-error terms."""
        self.bounds = list(bounds)
        self.input_size = np.maximum(np.abs(self.lower), np.abs(self.upper))
        sizes = magnitudes(self.network, self.lower, self.upper, self.bounds, self._float64)
        self._underflow = underflow_allowance(self.lower, self.upper, sizes)
        pairs = list(zip(self.network.layers, sizes, strict=True))
        self.own = [own_error(layer, size) for layer, size in pairs]
        # So that gamma times this is at least both errors together, whichever is rounded.
        share = (1.0 + 2.0**-40) / self._gamma
        both = zip(sizes, self.own, strict=True)
        self.size = [(self._float64 * size + own) * share for size, own in both]

    def less_rounding(self, value: np.ndarray, layer: int, index: np.ndarray) -> np.ndarray:
        """Lower bounds of exact W a + b made bounds of what the layer's rounding lets it be.

        Args:
            value: (n,) bounds from ``run`` for ± pre-activations of a layer.
            layer: which layer.
            index: (n,) its neurons.
        """
        if not self.network.layers[layer].rounding:
            return value
        lower = value - self.own[layer][index]
        return lower - np.abs(lower) * (4 * UNIT)

    def values(self, q: Queries) -> np.ndarray:
        """The bounds of one backward pass, (N,), on all cores."""
        if len(q) < _WORTH_SHARING:
            return self.run(q).value
        parts = np.array_split(np.arange(len(q)), cores())
        results = workers().map(lambda index: self.run(q.take(index)).value, parts)
        return np.concatenate(list(results))

    def run(self, q: Queries, keep: bool = False) -> Result:
        """One backward pass, in the calling thread.

        Args:
            q: the queries.
            keep: whether to keep every layer's coefficients at its activations.

        Returns:
            rigorous lower bounds; -inf where an overflow made a bound meaningless.
        """
        lam = q.rows
        const, mag = q.const.copy(), np.abs(q.const)
        kept: list[np.ndarray] = []
        for j in range(q.start - 1, -1, -1):
            lam = lam.copy() if (keep or lam is q.rows) else lam
            if keep:
                kept.append(lam.copy())
            mult = _NO_MULTIPLIERS if q.mult is None else q.mult[j]
            kernels.relu_backward(
                lam, self.relu[j], q.low[j], q.high[j], q.alpha[j], mult, self.bias[j],
                self.size[j], const, mag,
            )  # fmt: skip
            lam = times(lam, self.weights[j])
        return Result(*self.conclude(lam, q.box, const, mag), kept[::-1])

    def conclude(
        self,
        lam: np.ndarray,
        box: tuple[np.ndarray, np.ndarray],
        const: np.ndarray,
        mag: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rigorous bounds at the end of backward passes, and the minimising corners.

        Args:
            lam: (N, n_inputs) coefficients at the input.
            box: two arrays (1 | N, n_inputs).
            const, mag: (N,) running constants and magnitudes; the latter are updated.
        """
        value, point = np.empty(len(lam)), np.empty(lam.shape)
        kernels.concretise(lam, *box, self.input_size, const, mag, value, point)
        with np.errstate(over="ignore", invalid="ignore"):  # handled in the last line
            value -= (self._gamma + self._room) * mag + self._underflow
            value -= np.abs(value) * (4 * UNIT)
        value[~np.isfinite(value)] = -np.inf
        return value, point


@np.errstate(over="ignore", invalid="ignore")  # the bound becomes -inf
def times(lam: np.ndarray, weight: Any) -> np.ndarray:
    """lam W for dense or sparse W, as a C-contiguous array."""
    if is_sparse(weight):
        return np.ascontiguousarray((weight.T @ lam.T).T)
    return np.asarray(lam @ weight)


def default_slopes(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The usual first choice of lower slope: 1 where the upper end is the larger, else 0."""
    return (high > -low).astype(np.float64)


def layer_bounds(
    engine: Backward,
    layer: int,
    bounds: list[Bounds],
    box: tuple[np.ndarray, np.ndarray],
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Bounds:
    """Tighter pre-activation bounds of the neurons of one layer that may still be unstable.

    By default slopes; ``verifier.search.tighten`` does better.

    Args:
        engine: backward engine of an outermost box that contains ``box``.
        layer: index of the layer (0-based) whose pre-activations are bounded.
        bounds: bounds of the layers before it, and present bounds of this one.
        box: input box (n_inputs,), (n_inputs,).
        stop: asked between batches; what is not tightened by then keeps its bounds.

    Returns:
        (lower, upper) for the layer, never looser than ``bounds[layer]``.
    """
    low, high = (b.copy() for b in bounds[layer])
    relu = engine.relu[layer]
    wanted = np.flatnonzero(~relu | ((low < 0) & (high > 0)))
    weight: Any = engine.weights[layer]
    bias = engine.bias[layer]
    previous = bounds[:layer]
    touched = engine.network.n_inputs + sum(len(b[0]) for b in previous)
    chunk = int(np.clip(_CHUNK_NUMBERS / touched, 16, 512))
    for side, target in ((1.0, low), (-1.0, high)):
        for first in range(0, len(wanted), chunk):
            index = wanted[first : first + chunk]
            # A neuron settled by the first side needs no second.
            index = index[~relu[index] | ((low[index] < 0) & (high[index] > 0))]
            if not len(index) or stop():
                continue
            rows = weight[index]
            rows = side * (rows.toarray() if is_sparse(rows) else rows)
            q = queries(layer, rows, side * bias[index], previous, box)
            value = engine.less_rounding(engine.values(q), layer, index)
            target[index] = (
                np.maximum(target[index], value) if side > 0 else np.minimum(target[index], -value)
            )
    return low, high


def queries(
    start: int,
    rows: np.ndarray,
    const: np.ndarray,
    bounds: list[Bounds],
    box: tuple[np.ndarray, np.ndarray],
) -> Queries:
    """Queries that share the bounds of one box, and the default slopes."""
    low = [b[0][None, :] for b in bounds[:start]]
    high = [b[1][None, :] for b in bounds[:start]]
    alpha = [default_slopes(lo, hi) for lo, hi in zip(low, high, strict=True)]
    return Queries(
        start, np.ascontiguousarray(rows), np.array(const, dtype=np.float64), alpha, low, high,
        (box[0][None, :], box[1][None, :]),
    )  # fmt: skip


def root_bounds(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    bounds: list[Bounds] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Backward, list[Bounds]]:
    """Pre-activation bounds of every layer on a box: intervals, then backward bounds.

    Args:
        network: a float network.
        lower, upper: (n_inputs,) box.
        bounds: rigorous bounds to start from, instead of intervals.
        stop: asked between batches; later layers then keep the bounds they have.

    Returns:
        the engine, and rigorous bounds for every layer.
    """
    bounds = list(bounds or interval_bounds(network, lower, upper))
    engine = Backward(network, lower, upper, bounds)
    for k in range(1, network.depth):
        bounds[k] = layer_bounds(engine, k, bounds, (lower, upper), stop=stop)
    engine.set_bounds(bounds)
    return engine, bounds
