"""The rule "rounding": what float32 may lose, computed again from better bounds."""

from __future__ import annotations

import numpy as np

from verifier.proof.case import Case
from verifier.proof.chain import chain
from verifier.proof.format import Columns
from verifier.proof.outcome import InvalidError


def rounding(state: Case, columns: Columns, step: str) -> int:
    """The rule "rounding": the layers of a case once more, with the bounds of its only open node.

    All that is left to prove is about points and signs of that node, at which its bounds hold.
    """
    nodes = state.pop(1, step)
    if state.stack:
        raise InvalidError("rounding", step, "more than one node is open")
    if not state.float32:
        raise InvalidError("rounding", step, "in exact arithmetic nothing is rounded")
    if (nodes.low > nodes.high).any():
        raise InvalidError("rounding", step, "the bounds of the node contradict each other")
    better = [(nodes.low[0, part], nodes.high[0, part]) for part in state.parts]
    rows = (-state.clauses.rows, list(state.clauses.bound))
    state.chain = chain(
        state.network.layers, state.box, rows, float32=True, known=(state.chain, better)
    )
    hidden = state.chain.bounds[:-1]
    nodes.low[0] = np.concatenate([low for low, _ in hidden])
    nodes.high[0] = np.concatenate([high for _, high in hidden])
    state.stack.append(nodes)
    return 0
