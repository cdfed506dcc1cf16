"""Which unstable neuron to split: a cheap score for all of them, then a trial of the best few.

The score of a neuron is |coefficient| times a gap of the line in use: of the chord its largest, of
a lower line the smaller of its gaps at the two ends, so that lines of slope 0 or 1 score nothing
(in the spirit of BaBSR, Bunel et al. 2020; the larger gap was tried and needs some twelve times as
many subproblems). The trial bounds both children of each of the best candidates with one backward
pass (filtered smart branching, De Palma et al. 2021).
"""

from __future__ import annotations

import numpy as np

from verifier.bounds.queries import Queries, Result
from verifier.search.subproblems import Batch, Units


def scores(units: Units, q: Queries, result: Result, free: np.ndarray) -> np.ndarray:
    """For each query and unstable neuron the cost of its relaxation; -1 where it is already split.

    Args:
        units: the unstable neurons of the root.
        q: the queries of a batch.
        result: their backward pass with all coefficients kept.
        free: (N, n_units) bool.

    Returns:
        (N, n_units).
    """
    out = np.full(free.shape, -1.0)
    for k in range(q.start):
        columns, index = units.columns[k], units.index[k]
        if not len(index):
            continue
        lam = result.lam[k][:, index]
        low, high, alpha = q.low[k][:, index], q.high[k][:, index], q.alpha[k][:, index]
        with np.errstate(all="ignore"):
            chord = high * (-low / (high - low))
            below = np.minimum((1.0 - alpha) * high, -alpha * low)
            cost = np.abs(lam) * np.where(lam < 0, chord, below)
        # A coefficient that overflowed times no gap is no cost.
        out[:, columns] = np.nan_to_num(cost, nan=0.0)
    out[~free] = -1.0
    return out


def choose(batch: Batch, candidates: int) -> np.ndarray:
    """One unstable neuron to split for each subproblem of the batch.

    Args:
        batch: subproblems, each with at least one neuron that is not yet split.
        candidates: how many to try out.

    Returns:
        (N,) numbers of units.
    """
    q = batch.queries()
    score = scores(batch.units, q, batch.engine.run(q, keep=True), batch.sign == 0)
    order = np.argsort(-score, axis=1)[:, :candidates]
    n, tries = order.shape
    if tries == 1:
        return order[:, 0]
    repeated = np.repeat(np.arange(n), tries)
    tried = order.ravel()
    trial = batch.take(repeated).split(tried)
    values = batch.engine.values(trial.queries()).reshape(2, n, tries)
    # Both children must be closed in the end: the weaker one counts, the stronger one breaks ties.
    merit = values.min(axis=0) + 1e-3 * np.minimum(values.max(axis=0), 0.0)
    merit[np.take_along_axis(score, order, axis=1) < 0] = -np.inf
    return np.take_along_axis(order, merit.argmax(axis=1)[:, None], axis=1)[:, 0]
