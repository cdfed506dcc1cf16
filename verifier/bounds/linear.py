"""Backward linear bounds (CROWN / DeepPoly) with optimised slopes and split multipliers.

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

import copy
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
            keep: whether to keep every layer's coefficients at its activations (for gradients).

        Returns:
            rigorous lower bounds; -inf where an overflow made a bound meaningless.
        """
        n = len(q)
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
            lam = _times(lam, self.weights[j])
        value, point = np.empty(n), np.empty((n, self.network.n_inputs))
        kernels.concretise(lam, *q.box, self.input_size, const, mag, value, point)
        with np.errstate(over="ignore", invalid="ignore"):  # handled in the last line
            value -= (self._gamma + self._room) * mag + self._underflow
            value -= np.abs(value) * (4 * UNIT)
        value[~np.isfinite(value)] = -np.inf
        return Result(value, point, kept[::-1])

    def optimise(
        self,
        q: Queries,
        iterations: int,
        *,
        rate: float = 0.25,
        decay: float = 0.9,
        enough: np.ndarray | float = np.inf,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Raise the bounds by projected Adam steps on slopes and multipliers.

        The queries' ``alpha`` (which must have N rows) and ``mult`` are moved to the best values
        found.

        Args:
            q: the queries.
            iterations: number of steps.
            rate: first step size; multiplied by ``decay`` each step.
            enough: (N,) or scalar; a query is left alone once its bound exceeds this.
            stop: asked between steps; the bounds found so far are then returned.

        Returns:
            (best bounds (N,), the minimising corner of each query's last pass (N, n_inputs)).
        """

        def one(part: Queries, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._optimise(part, iterations, rate, decay, limit, stop)

        limit = np.broadcast_to(np.asarray(enough, dtype=np.float64), (len(q),))
        parts = np.array_split(np.arange(len(q)), cores() if len(q) >= _WORTH_SHARING else 1)
        if len(parts) == 1:
            return one(q, limit)
        pieces = [q.take(index) for index in parts]
        results = list(workers().map(one, pieces, [limit[index] for index in parts]))
        for index, piece in zip(parts, pieces, strict=True):
            q.put(index, piece, np.arange(len(index)))
        return np.concatenate([r[0] for r in results]), np.concatenate([r[1] for r in results])

    def _optimise(
        self,
        q: Queries,
        iterations: int,
        rate: float,
        decay: float,
        enough: np.ndarray,
        stop: Callable[[], bool],
    ) -> tuple[np.ndarray, np.ndarray]:
        """``optimise`` in the calling thread."""
        best = np.full(len(q), -np.inf)
        point = np.empty((len(q), self.network.n_inputs))
        alive, part = np.arange(len(q)), q.take(np.arange(len(q)))
        moments = _Moments(part)
        for step in range(1, iterations + 2):
            result = self.run(part, keep=step <= iterations)
            point[alive] = result.point
            better = np.flatnonzero(result.value > best[alive])
            best[alive[better]] = result.value[better]
            q.put(alive[better], part, better)
            if step > iterations or stop():
                break
            keep = np.flatnonzero(best[alive] <= enough[alive])
            if not len(keep):
                break
            if len(keep) < 0.75 * len(alive):
                alive, part, moments = alive[keep], part.take(keep), moments.take(keep)
                result = Result(
                    result.value[keep], result.point[keep], [v[keep] for v in result.lam]
                )
            self._ascend(part, result, moments, rate, step)
            rate *= decay
        return best, point

    def _ascend(
        self, q: Queries, result: Result, moments: _Moments, rate: float, step: int
    ) -> None:
        """One gradient step: forward through the chosen lines from the minimiser."""
        a = result.point
        for j in range(q.start):
            z = _forward(a, self.weights[j], self.bias[j])
            if j + 1 < q.start or q.free_weights:
                a = np.empty_like(z)
                kernels.relu_forward(
                    z, result.lam[j], self.relu[j], q.low[j], q.high[j], q.alpha[j], a
                )
            kernels.adam_slopes(
                z, result.lam[j], self.relu[j], q.low[j], q.high[j], q.alpha[j], *moments.alpha[j],
                rate, step,
            )  # fmt: skip
            if q.mult is not None and q.sign is not None:
                kernels.adam_multipliers(z, q.sign[j], q.mult[j], *moments.mult[j], rate, step)
        if q.free_weights:
            _shift_weights(q.rows, a, rate)


def _shift_weights(weights: np.ndarray, a: np.ndarray, rate: float) -> None:
    """Multiply each positive weight by exp(step), the more the larger its form is at the minimiser.

    The bound is sum of weight_i a_i there, so a_i is its gradient. The weights of a row add up to
    about 1, and stay float32 numbers above a small floor.

    Args:
        weights: (N, n), updated.
        a: (N, n) activations at the minimiser.
        rate: step size.
    """
    used = weights > 0
    size = np.max(np.abs(a), axis=1, keepdims=True, where=used, initial=1e-300)
    moved = np.where(used, weights * np.exp(8.0 * rate * np.clip(a / size, -1.0, 1.0)), 0.0)
    moved /= moved.sum(axis=1, keepdims=True)
    weights[...] = np.where(used, np.maximum(moved, 1e-4), 0.0).astype(np.float32)


class _Moments:
    """First and second moment estimates of Adam for a batch of queries."""

    def __init__(self, q: Queries) -> None:
        self.alpha = [(np.zeros_like(a), np.zeros_like(a)) for a in q.alpha]
        self.mult = [(np.zeros_like(m), np.zeros_like(m)) for m in q.mult or []]

    def take(self, index: np.ndarray) -> _Moments:
        """The estimates of some of the queries."""
        out = copy.copy(self)
        out.alpha = [(m[index], v[index]) for m, v in self.alpha]
        out.mult = [(m[index], v[index]) for m, v in self.mult]
        return out


@np.errstate(over="ignore", invalid="ignore")  # the bound becomes -inf
def _times(lam: np.ndarray, weight: Any) -> np.ndarray:
    """lam W for dense or sparse W, as a C-contiguous array."""
    if is_sparse(weight):
        return np.ascontiguousarray((weight.T @ lam.T).T)
    return np.asarray(lam @ weight)


@np.errstate(over="ignore", invalid="ignore")
def _forward(a: np.ndarray, weight: Any, bias: np.ndarray) -> np.ndarray:
    """a Wᵀ + b for a batch of rows."""
    if is_sparse(weight):
        return np.ascontiguousarray((weight @ a.T).T) + bias
    return np.asarray(a @ weight.T) + bias


def default_slopes(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The usual first choice of lower slope: 1 where the upper end is the larger, else 0."""
    return (high > -low).astype(np.float64)


def layer_bounds(
    engine: Backward,
    layer: int,
    bounds: list[Bounds],
    box: tuple[np.ndarray, np.ndarray],
    *,
    iterations: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Bounds:
    """Tighter pre-activation bounds of the neurons of one layer that may still be unstable.

    Args:
        engine: backward engine of an outermost box that contains ``box``.
        layer: index of the layer (0-based) whose pre-activations are bounded.
        bounds: bounds of the layers before it, and present bounds of this one.
        box: input box (n_inputs,), (n_inputs,).
        iterations: slope-optimisation steps (0: the default slopes only).
        stop: asked between batches and steps; what is not tightened by then keeps its bounds.

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
            q = queries(
                engine, layer, rows, side * bias[index], previous, box, own_slopes=iterations > 0
            )
            if iterations:
                enough = np.where(relu[index], 0.0, np.inf)
                value, _ = engine.optimise(q, iterations, enough=enough, stop=stop)
            else:
                value = engine.values(q)
            value = engine.less_rounding(value, layer, index)
            target[index] = (
                np.maximum(target[index], value) if side > 0 else np.minimum(target[index], -value)
            )
    return low, high


def queries(
    engine: Backward,
    start: int,
    rows: np.ndarray,
    const: np.ndarray,
    bounds: list[Bounds],
    box: tuple[np.ndarray, np.ndarray],
    *,
    own_slopes: bool,
) -> Queries:
    """Queries that share the bounds of one box, with default slopes.

    Args:
        own_slopes: whether each query gets its own slopes (to optimise them) or all share one row.
    """
    low = [b[0][None, :] for b in bounds[:start]]
    high = [b[1][None, :] for b in bounds[:start]]
    alpha = [default_slopes(lo, hi) for lo, hi in zip(low, high, strict=True)]
    if own_slopes:
        alpha = [np.repeat(a, len(rows), axis=0) for a in alpha]
    return Queries(
        start, np.ascontiguousarray(rows), np.array(const, dtype=np.float64), alpha, low, high,
        (box[0][None, :], box[1][None, :]),
    )  # fmt: skip


def root_bounds(
    network: Network,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    iterations: int = 0,
    bounds: list[Bounds] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Backward, list[Bounds]]:
    """Pre-activation bounds of every layer on a box: intervals, then backward bounds.

    Args:
        network: a float network.
        lower, upper: (n_inputs,) box.
        iterations: slope-optimisation steps a layer.
        bounds: rigorous bounds to start from, instead of intervals.
        stop: asked between steps; later layers then keep the bounds they have.

    Returns:
        the engine, and rigorous bounds for every layer.
    """
    bounds = list(bounds or interval_bounds(network, lower, upper))
    engine = Backward(network, lower, upper, bounds)
    for k in range(1, network.depth):
        bounds[k] = layer_bounds(
            engine, k, bounds, (lower, upper), iterations=iterations, stop=stop
        )
    engine.set_bounds(bounds)
    return engine, bounds
