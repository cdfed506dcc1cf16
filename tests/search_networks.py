"""Generic random networks for the tests of bounds and searches."""

import itertools

import numpy as np
import scipy.sparse as sp

from verifier.bounds.linear import default_slopes
from verifier.bounds.queries import Queries
from verifier.core.network import Layer, Network


def network_of(rng, sizes, kind="dense"):
    """Random layers, all with ReLU; kind: dense, sparse, or partial (a third of them missing)."""
    layers = []
    for n, m in itertools.pairwise(sizes):
        weight = rng.normal(size=(m, n)) / np.sqrt(n)
        relu = rng.random(m) < (0.67 if kind == "partial" else 1.1)
        if kind == "sparse":
            weight = sp.csr_array(weight * (rng.random((m, n)) < 0.5))
        layers.append(Layer(weight, 0.1 * rng.normal(size=m), relu))
    return Network(tuple(layers))


def cube(n):
    """Lower and upper corner of [-1, 1]^n."""
    return -np.ones(n), np.ones(n)


def queries_of(batch):
    """What a batch asks for as queries of ``Backward``, whose passes take every neuron along."""
    engine, units, n = batch.engine, batch.units, len(batch)
    q = Queries(batch.goals.start, batch.goals.rows[batch.goal], batch.goals.const[batch.goal],
                [], [], [], (engine.lower[None, :], engine.upper[None, :]), [], [])  # fmt: skip
    if batch.goals.free_weights:
        q.rows = batch.weights.astype(np.float64)
    for k in range(q.start):
        columns, index, low, high = units.columns[k], units.index[k], units.low[k], units.high[k]
        sign = np.zeros((n, low.shape[1]), dtype=np.int8)
        alpha, mult = np.repeat(default_slopes(low, high), n, axis=0), np.zeros(sign.shape)
        for dense, some in ((sign, batch.sign), (alpha, batch.alpha), (mult, batch.mult)):
            dense[:, index] = some[:, columns]
        q.low.append(np.where(sign > 0, np.maximum(low, 0.0), low))
        q.high.append(np.where(sign < 0, np.minimum(high, 0.0), high))
        q.alpha.append(alpha)
        q.mult.append(mult)
        q.sign.append(sign)
    return q
