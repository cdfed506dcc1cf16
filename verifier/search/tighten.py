"""Tighter bounds on the pre-activations of one layer, each by a small branch and bound of its own.

For deep networks with small balls the first layers have few unstable neurons, and what makes the
later bounds loose is how their relaxations add up. So every unstable neuron of a layer, from below
and from above, becomes a goal; all goals split neurons of earlier layers side by side, in one
batch, for a number of rounds. The minimum over a goal's subproblems is a rigorous bound (a lemma
with its own tree).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.linear import Backward
from verifier.bounds.passes import larger
from verifier.bounds.reduced import Climb
from verifier.core.sparse import is_sparse
from verifier.search.branching import choose
from verifier.search.subproblems import Batch, Goals, Units

#: Numbers in one array of coefficients of a batch (some tenfold while candidates are tried).
_CHUNK_NUMBERS = 800_000
#: Bytes that the leaves of the goals of one batch may take; while they are copied, thrice that.
_CHUNK_BYTES = 50e6


def tighten_layer(
    engine: Backward,
    bounds: list[Bounds],
    layer: int,
    rounds: int,
    stop: Callable[[], bool],
    keep: Callable[[Batch, np.ndarray, np.ndarray], None] | None = None,
) -> Bounds:
    """Pre-activation bounds of one layer after some rounds of splitting earlier neurons.

    Args:
        engine: backward engine of the box.
        bounds: rigorous bounds of the layers before, and present bounds of this one.
        layer: index of the layer, at least 1.
        rounds: splits a goal.
        stop: asked between backward passes.
        keep: given the leaves of some goals, whose neuron each goal bounds, and from below (0),
            above (1) or in vain (-1).

    Returns:
        (lower, upper), never looser than ``bounds[layer]``.
    """
    low, high = (b.copy() for b in bounds[layer])
    unstable = np.flatnonzero(engine.relu[layer] & (low < 0) & (high > 0))
    units = Units(engine, bounds[:layer])
    if not len(units):
        return low, high
    touched = engine.network.n_inputs + sum(len(b[0]) for b in bounds[:layer])
    leaves_bytes = 2 * max(1, rounds + 1) * Batch.unit_bytes() * len(units)
    chunk = max(4, int(min(larger() * _CHUNK_NUMBERS / touched, _CHUNK_BYTES / leaves_bytes)))
    weight: Any = engine.weights[layer]
    for first in range(0, len(unstable), chunk):
        if stop():
            break
        index = unstable[first : first + chunk]
        rows = weight[index].toarray() if is_sparse(weight) else weight[index]
        bias = engine.bias[layer][index]
        const = [engine.less_rounding(side, layer, index) for side in (bias, -bias)]
        goals = Goals(layer, np.concatenate([rows, -rows]), np.concatenate(const))
        leaves = split_goals(Batch.root(engine, units, goals), rounds, stop)
        if keep is not None:
            leaves = few_bits(leaves)
        value = np.full(len(goals.const), np.inf)
        np.minimum.at(value, leaves.goal, leaves.value)
        before = np.concatenate([low[index], -high[index]])
        if keep is not None:
            side = np.where(value > before, np.arange(len(value)) // len(index), -1)
            keep(leaves, np.tile(index, 2), side)
        low[index] = np.maximum(low[index], value[: len(index)])
        high[index] = np.minimum(high[index], -value[len(index) :])
    return low, high


def few_bits(batch: Batch) -> Batch:
    """Leaves of goals with numbers of few bits, of more bits where a goal's bound would suffer."""
    fine = batch.rounded(True)
    least = np.full(len(batch.goals.const), np.inf)
    np.minimum.at(least, fine.goal, fine.value)
    coarse = batch.rounded(False)
    enough = least - 2.0**-10 * np.abs(least)
    good = coarse.value >= enough[batch.goal]
    for name in Batch.ARRAYS:
        mine, theirs = getattr(fine, name), getattr(coarse, name)
        mine[good] = theirs[good]
    return fine


def split_goals(batch: Batch, rounds: int, stop: Callable[[], bool]) -> Batch:
    """The leaves after splitting each goal's worst subproblem ``rounds`` times.

    The minimum of a goal's leaf values bounds the goal from below.

    A goal whose bound is positive is left alone: the neuron is known to be stable then. A split
    that gains nothing is taken back.
    """
    improve(batch, 30, stop, rate=0.25)
    whole = np.zeros(len(batch), dtype=bool)
    for _ in range(rounds):
        # The worst subproblem of each goal, if that still matters and can still be split.
        order = np.lexsort((batch.value, batch.goal))
        worst = order[np.unique(batch.goal[order], return_index=True)[1]]
        free = (batch.sign[worst] == 0).any(axis=1) & ~whole[worst]
        worst = worst[(batch.value[worst] <= 0) & free]
        if not len(worst) or stop():
            break
        picked = batch.take(worst)
        children = picked.split(choose(picked, 3))
        # What a child stores must prove its own value, so it does not inherit its parent's.
        children.value[:] = -np.inf
        improve(children, 8, stop)
        gained = children.value.reshape(2, -1).min(axis=0) > picked.value
        rest = np.ones(len(batch), dtype=bool)
        rest[worst[gained]] = False
        whole[worst[~gained]] = True
        kept = children.take(np.flatnonzero(np.tile(gained, 2)))
        batch = Batch.join([batch.take(np.flatnonzero(rest)), kept])
        whole = np.concatenate([whole[rest], np.zeros(len(kept), dtype=bool)])
    return batch


def improve(
    batch: Batch, iterations: int, stop: Callable[[], bool], rate: float = 0.1
) -> np.ndarray:
    """Raise a batch's values by gradient steps; return the minimising corners (N, n_inputs)."""
    passes, asked = batch.units.passes, batch.asked()
    point = passes.climb(asked, Climb(iterations, rate), stop)
    batch.keep(asked, passes.values(asked))
    return point
