"""Which unstable neuron to split: a cheap score for all of them, then a trial of the best few.

The score of a neuron is |coefficient| times a gap of the line in use: of the chord its largest, of
a lower line the smaller of its gaps at the two ends, so that lines of slope 0 or 1 score nothing
(in the spirit of BaBSR, Bunel et al. 2020; the larger gap was tried and needs some twelve times as
many subproblems). The trial bounds both children of each of the best candidates with one backward
pass (filtered smart branching, De Palma et al. 2021).
"""

from __future__ import annotations

import numpy as np

from verifier.bounds.reduced import Asked
from verifier.search.subproblems import Batch, Units


def scores(units: Units, asked: Asked, lam: np.ndarray) -> np.ndarray:
    """For each subproblem and unstable neuron the cost of its relaxation; -1 where it is split.

    Args:
        units: the unstable neurons of the root.
        asked: the subproblems.
        lam: (N, n_units) the coefficients of the units' activations.

    Returns:
        (N, n_units).
    """
    alpha, lam = asked.param.astype(np.float64), lam.astype(np.float64)
    low, high = units.ends
    with np.errstate(all="ignore"):
        chord = high * (-low / (high - low))
        below = np.minimum((1.0 - alpha) * high, -alpha * low)
        cost = np.abs(lam) * np.where(lam < 0, chord, below)
    # A coefficient that overflowed times no gap is no cost.
    return np.where(asked.sign == 0, np.nan_to_num(cost, nan=0.0), -1.0)


def choose(batch: Batch, candidates: int) -> np.ndarray:
    """One unstable neuron to split for each subproblem of the batch.

    Args:
        batch: subproblems, each with at least one neuron that is not yet split.
        candidates: how many to try out.

    Returns:
        (N,) numbers of units.
    """
    passes, asked = batch.units.passes, batch.asked()
    score = scores(batch.units, asked, passes.coefficients(asked))
    order = np.argsort(-score, axis=1)[:, :candidates]
    n, tries = order.shape
    if tries == 1:
        return order[:, 0]
    trial = asked.take(np.tile(np.repeat(np.arange(n), tries), 2))
    rows, tried = np.arange(2 * n * tries), np.tile(order.ravel(), 2)
    trial.sign[rows, tried] = np.repeat([1, -1], n * tries)
    trial.param[rows, tried] = 0.0
    values = passes.estimates(trial).reshape(2, n, tries)
    # Both children must be closed in the end: the weaker one counts, the stronger one breaks ties.
    merit = values.min(axis=0) + 1e-3 * np.minimum(values.max(axis=0), 0.0)
    # What float32 cannot hold is no worse than what is known to be bad.
    merit = np.nan_to_num(merit, nan=-1e300)
    merit[np.take_along_axis(score, order, axis=1) < 0] = -np.inf
    return np.take_along_axis(order, merit.argmax(axis=1)[:, None], axis=1)[:, 0]
