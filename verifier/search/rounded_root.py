"""Bounds on the whole box of a network with few inputs that is meant with its rounding.

What float32 may lose in a layer is relative to the layer's largest values on the box, and interval
arithmetic overstates these by orders of magnitude in deep networks. One backward pass for each
neuron costs nothing beside a search; the lemmas that prove its bounds in the same order are written
before the search's own steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from verifier.bounds.interval import (
    Bounds,
    affine_interval,
    interval_bounds,
    relu_interval,
)
from verifier.bounds.linear import Backward, queries
from verifier.core.sparse import is_sparse
from verifier.proof.case import Case
from verifier.proof.format import Writer
from verifier.search.problem import Problem
from verifier.search.root import ROOM

#: Passes over all layers: the first one's bounds suffer from what intervals say may be lost.
_PASSES = 2


def rounded_root(problem: Problem) -> list[Bounds]:
    """Pre-activation bounds of every layer on the problem's box, with default slopes.

    Args:
        problem: its network is from ``in_float32``.
    """
    network, box = problem.network, problem.box
    bounds = interval_bounds(network, *box)
    for _ in range(_PASSES):
        for k in range(1, network.depth):
            engine = Backward(network, *box, bounds, ROOM)
            weight: Any = network.layers[k].weight
            rows = weight.toarray() if is_sparse(weight) else weight
            bias, every = network.layers[k].bias, np.arange(len(rows))
            ends = []
            for sign in (1.0, -1.0):
                q = queries(k, sign * rows, sign * bias, bounds[:k], box)
                ends.append(engine.less_rounding(engine.values(q), k, every))
            bounds[k] = _both(bounds[k], (ends[0], -ends[1]))
            for j in range(k + 1, network.depth):
                read = relu_interval(network.layers[j - 1], *bounds[j - 1])
                bounds[j] = _both(bounds[j], affine_interval(network.layers[j], *read))
    return bounds


def _both(first: Bounds, second: Bounds) -> Bounds:
    """The better ends."""
    return np.maximum(first[0], second[0]), np.minimum(first[1], second[1])


def write_root(case: Case, writer: Writer) -> None:
    """The lemmas of ``rounded_root``, after each the rounding that follows from it."""
    for _ in range(_PASSES):
        for k, part in enumerate(case.parts[1:], start=1):
            size = part.stop - part.start
            both = 2 * size
            writer.block(
                "lemma", layer=[k], neuron=np.tile(np.arange(size), 2),
                side=np.repeat([0, 1], size), leaves=np.ones(both), splits=np.zeros(both),
            )  # fmt: skip
            writer.block("rounding")
