"""The record of an input-splitting search as a proof."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from verifier.core.errors import CertificateError
from verifier.proof.case import Case
from verifier.proof.chain import Chain
from verifier.proof.format import Writer
from verifier.search.cut_kernel import (
    AGAIN,
    CLOSE,
    CUT_ABOVE,
    CUT_BELOW,
    SLOPE,
    SPLIT,
    SPLIT_NEURON,
)
from verifier.search.input_split import InputSplitTree
from verifier.search.input_split_kernel import WEIGHT_UNIT

#: Nodes that the checker bounds together.
BATCH = 512
_LEAF, _INPUT, _NEURON, _AGAIN = 0, 1, 2, 3
#: What a row that ends a visit says the checker should do with the node.
_ACTION = np.zeros(max(SPLIT, SPLIT_NEURON, AGAIN) + 1, dtype=np.int64)
_ACTION[[SPLIT, SPLIT_NEURON, AGAIN]] = _INPUT, _NEURON, _AGAIN


@dataclass(eq=False)
class _Open:
    """Nodes to do.

    Args:
        node: (M,) number in the tree.
        low, high: (M, d) box on the checker's grid.
        row: (M,) first row of the log that is not written.
        splits: (M,) how many signs are assumed.
    """

    node: np.ndarray
    low: np.ndarray
    high: np.ndarray
    row: np.ndarray
    splits: np.ndarray

    def take(self, index: np.ndarray | slice) -> _Open:
        """Copies of some of them."""
        parts = (self.node, self.low, self.high, self.row, self.splits)
        return _Open(*(part[index].copy() for part in parts))


def write(tree: InputSplitTree, case: Case, writer: Writer) -> None:
    """Append the blocks of one case.

    Args:
        tree: what the search did.
        case: the checker's view of the case, whose grid the cuts are rounded to.
        writer: of the proof.

    Raises:
        CertificateError: the search went below the checker's grid.
    """
    rows = _Rows(tree, case)
    zero = np.zeros(1, dtype=np.int64)
    low, high = case.chain.box
    stack = [_Open(zero, low[None], high[None], rows.start[:1], zero)]
    while stack:
        batch = stack.pop()
        if len(batch.node) > BATCH:
            stack.append(batch.take(slice(None, -BATCH)))
            batch = batch.take(slice(-BATCH, None))
        while stack and len(batch.node) < BATCH:
            more, missing = stack.pop(), BATCH - len(batch.node)
            if len(more.node) > missing:
                stack.append(more.take(slice(None, -missing)))
                more = more.take(slice(-missing, None))
            names = ("node", "low", "high", "row", "splits")
            batch = _Open(*(np.concatenate([getattr(p, n) for p in (more, batch)]) for n in names))
        columns, children = rows.visit(batch)
        writer.block("visit", **columns)
        if len(children.node):
            stack.append(children)


def _factors(tree: InputSplitTree, case: Case) -> np.ndarray:
    """(clauses, forms): what the weights of the search's constraints are times for the checker's.

    Both scale a constraint by a positive number of their own; a clause's factors are made integers.
    """
    first = case.clauses.first
    out = np.ones((len(first) - 1, tree.weights.shape[1]), dtype=np.int64)
    for c, (start, stop) in enumerate(itertools.pairwise(first)):
        ratios = [Fraction(1)]
        for ours, theirs in zip(tree.rows[start:stop], case.clauses.rows[start:stop], strict=True):
            j = int(np.argmax(np.abs(theirs)))
            known = theirs[j] != 0
            ratios.append(
                Fraction(float(ours[j])) / Fraction(float(theirs[j])) if known else ratios[0]
            )
        least = min(ratios)
        factors = [min(round(ratio / least), 1 << 20) for ratio in ratios]
        out[c] = factors[0]
        out[c, : stop - start] = factors[1:]
    return out


class _Rows:
    """The log, sorted by nodes.

    Args:
        tree, case: as in ``write``.
    """

    def __init__(self, tree: InputSplitTree, case: Case) -> None:
        order = np.argsort(tree.node, kind="stable")
        self.stride, self.sizes = tree.stride, np.diff(case.clauses.first)
        self.factor = _factors(tree, case)
        self.weights = tree.weights
        self.kind, self.axis = tree.kind[order].astype(np.int64), tree.axis[order].astype(np.int64)
        self.child = tree.child[order]
        self.start_of = np.array([part.start for part in case.parts], dtype=np.int64)
        self.slope = tree.at[order]
        node = tree.node[order]
        count = int(max(node.max(initial=0), tree.child.max(initial=0) + 1)) + 1
        self.start = np.searchsorted(node, np.arange(count + 1))
        # For each row the first from there on that ends a visit.
        ends = np.append(np.flatnonzero(np.isin(self.kind, (SPLIT, SPLIT_NEURON, AGAIN))), 1 << 60)
        self.end = ends[np.searchsorted(ends, np.arange(len(node) + 1))]
        self.at = np.zeros(len(node), dtype=np.int64)
        placed = np.isin(self.kind, (SPLIT, CUT_BELOW, CUT_ABOVE))
        up = self.kind[placed] == CUT_ABOVE
        self.at[placed] = _places(case.chain, self.axis[placed], tree.at[order][placed], up)

    def visit(self, batch: _Open) -> tuple[dict[str, np.ndarray], _Open]:
        """What happened to nodes until each was bounded again, split, or done.

        Returns:
            the columns of their block, and the nodes that are left.
        """
        stop = self.start[batch.node + 1]
        last = np.minimum(self.end[batch.row], stop)
        sizes = last - batch.row
        owner = np.repeat(np.arange(len(sizes)), sizes)
        row = np.arange(len(owner)) + np.repeat(batch.row - (np.cumsum(sizes) - sizes), sizes)
        columns = self._closes(batch, owner, row) | self._cuts(batch, owner, row)
        columns |= self._slopes(owner, row)
        ended = last < stop
        row = last[ended]
        action, axis, at = (np.zeros(len(ended), dtype=np.int64) for _ in range(3))
        action[ended], axis[ended], at[ended] = (
            _ACTION[self.kind[row]],
            self.axis[row],
            self.at[row],
        )
        neuron = action == _NEURON
        axis[neuron], at[neuron] = np.divmod(axis[neuron], self.stride)
        axis[action == _AGAIN] = 0
        columns |= {"action": action, "axis": axis, "at": at}
        return columns, self._children(batch, action, axis, at, last)

    def _closes(self, batch: _Open, owner: np.ndarray, row: np.ndarray) -> dict[str, np.ndarray]:
        """The clauses that combinations closed."""
        some = self.kind[row] == CLOSE
        owner, row = owner[some], row[some]
        sizes = self.sizes[self.axis[row]] + batch.splits[owner]
        used = np.arange(self.weights.shape[1]) < sizes[:, None]
        whole = (self.weights[self.child[row]] * WEIGHT_UNIT).astype(np.int64)
        whole *= np.where(used, self.factor[self.axis[row]], 0)
        over = np.frexp(whole.max(axis=1, initial=1) / 2.0**16)[1]
        weight = (whole >> np.maximum(over, 0)[:, None])[used]
        return {"close_node": owner, "close_clause": self.axis[row], "weight": weight}

    def _slopes(self, owner: np.ndarray, row: np.ndarray) -> dict[str, np.ndarray]:
        """The slopes that the checker's bounds might decide otherwise."""
        some = self.kind[row] == SLOPE
        layer, neuron = np.divmod(self.axis[row[some]], self.stride)
        return {
            "slope_node": owner[some], "slope_neuron": self.start_of[layer] + neuron,
            "slope": self.slope[row[some]].astype(np.int64),
        }  # fmt: skip

    def _cuts(self, batch: _Open, owner: np.ndarray, row: np.ndarray) -> dict[str, np.ndarray]:
        """The cuts that still cut on the grid; the batch's boxes are cut."""
        kind, axis, at = self.kind[row], self.axis[row], self.at[row]
        kept = np.zeros(len(row), dtype=bool)
        # A visit cuts each side of an input at most once, the lower one first.
        for side, ends in ((CUT_BELOW, batch.low), (CUT_ABOVE, batch.high)):
            c = np.flatnonzero(kind == side)
            i, j = owner[c], axis[c]
            inside = (batch.low[i, j] < at[c]) & (at[c] < batch.high[i, j])
            c = c[inside]
            ends[owner[c], axis[c]] = at[c]
            kept[c] = True
        above = (kind[kept] == CUT_ABOVE).astype(np.int64)
        return {
            "cut_node": owner[kept], "cut_axis": axis[kept], "cut_above": above,
            "cut_at": at[kept],
        }  # fmt: skip

    def _children(
        self, batch: _Open, action: np.ndarray, axis: np.ndarray, at: np.ndarray, last: np.ndarray
    ) -> _Open:
        """What is left of the nodes, in their order.

        Raises:
            CertificateError: a box was split finer than the grid.
        """
        i = np.flatnonzero(action == _INPUT)
        if ((at[i] <= batch.low[i, axis[i]]) | (at[i] >= batch.high[i, axis[i]])).any():
            raise CertificateError("the search split boxes finer than the checker's grid")
        index = np.repeat(np.arange(len(action)), np.array([0, 2, 2, 1])[action])
        second = np.append(False, index[1:] == index[:-1])[: len(index)]
        out, what = batch.take(index), action[index]
        last = last[index]
        again = what == _AGAIN
        out.node[~again] = self.child[last[~again]] + second[~again]
        out.row = np.where(again, last + 1, self.start[out.node])
        out.splits += what == _NEURON
        for part, ends in ((second, out.low), (~second, out.high)):
            c = np.flatnonzero((what == _INPUT) & part)
            ends[c, axis[index[c]]] = at[index[c]]
        return out


def _places(chain: Chain, axis: np.ndarray, at: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(at − corner) 2^scale, rounded up or down; beyond the box where it does not matter."""
    unit = Fraction(2) ** chain.scale
    corner = [int(c * unit) for c in chain.corner]
    mantissa, power = np.frexp(at)
    shift = power.astype(np.int64) - 53 + chain.scale
    if max(map(abs, corner), default=0) < 1 << 61 and shift.max(initial=0) <= 8:
        whole = np.ldexp(mantissa, 53).astype(np.int64)
        down, left = np.clip(-shift, 0, 63), np.clip(shift, 0, 8)
        place = np.where(up, -(-whole >> down), whole >> down) << left
        return place - np.array(corner, dtype=np.int64)[axis]
    limit = 1 << 62
    out = []
    for j, v, u in zip(axis.tolist(), at.tolist(), up.tolist(), strict=True):
        place = Fraction(v) * unit - corner[j]
        out.append(max(-limit, min(limit, math.ceil(place) if u else math.floor(place))))
    return np.array(out, dtype=np.int64)
