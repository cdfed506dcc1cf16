"""Interval arithmetic for many boxes at once, with a rule for maxima and minima.

**The pair rule.** Let p and r be two neurons of one layer, r with a ReLU, and let the next layer
read c a_p + c t a_r with t = 1 or −1. Write b = z_p, a = z_r, d = z_p + t z_r. Then, where p has no
ReLU or b ≥ 0 on the box,

    a_p + a_r = max(b, d)            a_p − a_r = min(b, d),

since max(a, 0) + b = max(a + b, b); and where p has a ReLU and b may be negative,

    a_p + a_r = max(0, a, b, d)
    a_p − a_r = min(relu(b), max(d, −a)) = max(min(b, d), −relu(a)),

since relu(b) − relu(a) = min(relu(b), relu(b) − a) with relu(b) − a = max(b − a, −a), and
= max(b − relu(a), −relu(a)) with b − relu(a) = min(b, b − a). Maximum and minimum are monotone, so
bounds on a, b and d give bounds on the pair, and the better of both forms may be taken. These are
better than those of two separate activations if z_p + t z_r reads less than z_r does. The rule is
applied where everything that z_p reads cancels: v + r with r = relu(w − v), which is max(v, w);
v − r with r = relu(v − w), which is min(v, w); relu(x − h) + relu(l − x), a distance; ramps
relu(x) − relu(x − 1). The rows d are bounded as any row, so the rule applies inside them too.

**Rounding.** A row of n terms is summed in float64 from the ends of the intervals and moved
outwards by 2.5 (n + 11) u (Σ |w_j| A_j + |b|), where A_j is the largest |a_j| in the whole batch:
more than twice the error of any order of summation (``float_error``), of the bias b_p + t b_r of a
row d, and of the move itself. Rows that hold one coefficient ±2^e, e ≥ 0, and no bias are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from verifier.bounds.threads import workers
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network
from verifier.core.sparse import sp

#: Bytes that one thread may use for the bounds of its boxes, and the most boxes at once.
_BYTES, _BOXES = 2**28, 64
#: Layers that are looked through for pairs before the search for them is loaded, and partners of
#: one neuron that are compared there.
_SHALLOW, _FEW = 64, 8

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Plan:
    """A network prepared for ``output_bounds``; the arrays are those of ``ball_kernel.forward``.

    Args:
        n_inputs, n_outputs: of the network.
        layers, entries, rows, pairs: see the kernel.
        widest: most numbers that a layer hands on.
    """

    n_inputs: int
    n_outputs: int
    layers: tuple[np.ndarray, np.ndarray, int, np.ndarray]
    entries: Rows
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    pairs: Rows
    widest: int

    @property
    def n_pairs(self) -> int:
        """How often the pair rule is applied."""
        return len(self.pairs[0])


_plans: WeakKeyDictionary[Network, Plan] = WeakKeyDictionary()


def plan(network: Network) -> Plan:
    """The network prepared; kept as long as the network is.

    Raises:
        NetworkError: the network has no float64 form.
    """
    if not network.is_float:
        raise NetworkError("the network has exact weights without a float64 form")
    if network.is_rounded:
        raise NetworkError("the interval pass bounds exact arithmetic only")
    if network not in _plans:
        _plans[network] = _prepared(network)
    return _plans[network]


@dataclass(frozen=True, eq=False)
class _Stage:
    """One layer: its rows over what the layer before hands on, and the pairs among its neurons."""

    layer: Layer
    entries: Rows
    bias: np.ndarray
    magnitude: np.ndarray
    pairs: Rows


def _prepared(network: Network) -> Plan:
    """From the last layer to the first, as a layer's rows depend on the pairs read after it."""
    from verifier.bounds.pairs import cancelling, combined, paired

    nobody = np.zeros(0, dtype=np.int64)
    layers, stages = network.layers, []
    below, pairs = _csr(layers[-1]), (nobody, nobody, nobody)
    for k in range(len(layers) - 1, -1, -1):
        layer, rows = layers[k], below
        p, r, t = pairs
        if len(p):
            rows = combined(*rows, p, r, t)
        bias = np.concatenate([layer.bias, layer.bias[p] + t * layer.bias[r]])
        sizes = np.abs(layer.bias)
        magnitude = np.concatenate([sizes, sizes[p] + sizes[r]])
        here, pairs = pairs, (nobody, nobody, nobody)
        if k:
            below = _csr(layers[k - 1])
            if network.depth > _SHALLOW or _any_cancels(layers[k - 1]):
                found = cancelling(*below, layers[k - 1].n_in, layers[k - 1].relu)
                if len(found[1]):
                    *new, p, r, t = paired(*rows, layer.n_in, *found)
                    rows, pairs = (new[0], new[1], new[2]), (p, r, t)
        stages.append(_Stage(layer, rows, bias, magnitude, here))
    return _joined(network, stages[::-1])


def has_no_pairs(network: Network) -> bool:
    """Whether it is cheap to see that the pair rule applies nowhere: most trained networks."""
    layers = network.layers
    return len(layers) <= _SHALLOW and not any(map(_any_cancels, layers[:-1]))


def _any_cancels(layer: Layer) -> bool:
    """Whether ``cancelling`` may find a pair; most trained layers have none, which is cheap to see.

    A partner of row p has a coefficient of the same size where p's first one stands.
    """
    if layer.is_sparse:
        return True
    sizes = np.abs(layer.weight)
    first = (sizes != 0).argmax(axis=1)
    for j in sorted(set(first.tolist())):  # np.unique would import np.ma
        column = sizes[:, j]
        for p in np.flatnonzero((first == j) & (column > 0)).tolist():
            same = np.flatnonzero(column == column[p])
            if len(same) > _FEW:
                return True
            used = sizes[p] > 0
            if any(r != p and (sizes[r, used] == sizes[p, used]).all() for r in same.tolist()):
                return True
    return False


def _csr(layer: Layer) -> Rows:
    """(indptr, indices, data) with ascending columns."""
    matrix: Any = layer.weight if layer.is_sparse else sp.csr_array(layer.weight)
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data


def _joined(network: Network, stages: list[_Stage]) -> Plan:
    """All stages in one set of arrays, for one compiled loop."""
    counts = np.array([len(stage.bias) for stage in stages])
    ends = np.cumsum([len(stage.entries[1]) for stage in stages])
    starts = np.concatenate([[0], ends[:-1]])
    indptr = np.concatenate(
        [stage.entries[0][:-1] + start for stage, start in zip(stages, starts, strict=True)]
        + [ends[-1:]]
    )
    data = np.concatenate([stage.entries[2] for stage in stages])
    magnitude = np.concatenate([stage.magnitude for stage in stages])
    relu = np.concatenate([np.pad(stage.layer.relu, (0, len(stage.pairs[0]))) for stage in stages])
    pair_counts = [len(stage.pairs[0]) for stage in stages]
    layers = (
        np.concatenate([[0], np.cumsum(counts)]),
        counts - pair_counts,
        network.n_inputs,
        np.cumsum(pair_counts) - pair_counts,
    )
    return Plan(
        network.n_inputs,
        network.n_outputs,
        layers,
        (indptr, np.concatenate([stage.entries[1] for stage in stages]), data),
        (
            np.concatenate([stage.bias for stage in stages]),
            magnitude,
            _exact_rows(indptr, data, magnitude),
            relu,
        ),
        (
            np.concatenate([stage.pairs[0] for stage in stages]),
            np.concatenate([stage.pairs[1] for stage in stages]),
            np.concatenate([stage.pairs[2] for stage in stages]),
        ),
        max(int(counts.max()), network.n_inputs),
    )


def _exact_rows(indptr: np.ndarray, data: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Rows ±2^e a_j with e ≥ 0 and no bias, which lose nothing in float64."""
    single = np.flatnonzero((np.diff(indptr) == 1) & (magnitude == 0))
    weights = np.abs(data[indptr[single]])
    exact = np.zeros(len(magnitude), dtype=bool)
    exact[single] = (np.frexp(weights)[0] == 0.5) & (weights >= 1)
    return exact


def output_bounds(
    prepared: Plan,
    lower: np.ndarray,
    upper: np.ndarray,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Bounds on the outputs over each of many boxes, a batch after another.

    Args:
        prepared: the network.
        lower, upper: (count, n_inputs) faces of the boxes, finite float64.
        stop: asked before each batch; the rest is left out when it says so.

    Yields:
        (which boxes, low, high, known): low and high are (batch, n_outputs) and contain the exact
        outputs of every point of the box; where ``known`` (batch,) is False the numbers left the
        float64 range and the bounds mean nothing.
    """
    batch = max(1, min(_BOXES, _BYTES // (32 * prepared.widest)))
    starts = range(0, len(lower), batch)
    pool = workers()

    def one(start: int) -> tuple[slice, np.ndarray, np.ndarray, np.ndarray] | None:
        part = slice(start, min(start + batch, len(lower)))
        return None if stop() else (part, *_bounds(prepared, lower[part], upper[part]))

    for done in pool.map(one, starts):
        if done is None:
            return
        yield done


def _bounds(
    prepared: Plan, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, high, known) for one batch."""
    from verifier.bounds.ball_kernel import forward

    count = len(lower)
    low, high, spare_low, spare_high = np.zeros((4, prepared.widest, count))
    low[: prepared.n_inputs], high[: prepared.n_inputs] = lower.T, upper.T
    known = np.ones(count, dtype=np.bool_)
    size = np.zeros(prepared.widest)
    forward(
        low, high, spare_low, spare_high, size, known, prepared.layers, prepared.entries,
        prepared.rows, prepared.pairs,
    )  # fmt: skip
    if len(prepared.layers[1]) % 2:
        low, high = spare_low, spare_high
    m = prepared.n_outputs
    return low[:m].T.copy(), high[:m].T.copy(), known
