"""The record of an input-splitting search as a proof."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from verifier.core.errors import CertificateError
from verifier.proof.chain import Chain
from verifier.proof.format import Writer
from verifier.search.cut_kernel import AGAIN, CLOSE, CUT_ABOVE, CUT_BELOW, SPLIT, SPLIT_NEURON
from verifier.search.input_split import InputSplitTree
from verifier.search.input_split_kernel import WEIGHT_UNIT

#: Nodes that the checker bounds together.
BATCH = 512
_LEAF, _INPUT, _NEURON, _AGAIN = 0, 1, 2, 3


def write(tree: InputSplitTree, chain: Chain, first: np.ndarray, writer: Writer) -> None:
    """Append the blocks of one case.

    Args:
        tree: what the search did.
        chain: the checker's view of the network on the box, whose grid the cuts are rounded to.
        first: (clauses + 1,) which rows belong to which clause.
        writer: of the proof.

    Raises:
        CertificateError: the search went below the checker's grid.
    """
    order = np.argsort(tree.node, kind="stable")
    rows = _Rows(tree, order, chain, np.diff(first))
    low, high = (tuple(t.tolist()) for t in chain.box)
    stack = [(0, low, high, 0, 0)]
    while stack:
        batch, stack = stack[-BATCH:], stack[:-BATCH]
        columns: dict[str, list[int]] = {
            name: []
            for name in (
                "action", "axis", "at", "close_node", "close_clause", "weight",
                "cut_node", "cut_axis", "cut_above", "cut_at",
            )
        }  # fmt: skip
        for i, entry in enumerate(batch):
            stack += rows.visit(i, entry, columns)
        writer.block("visit", **columns)


_Entry = tuple[int, tuple[int, ...], tuple[int, ...], int, int]


class _Rows:
    """The log, node by node."""

    def __init__(
        self, tree: InputSplitTree, order: np.ndarray, chain: Chain, sizes: np.ndarray
    ) -> None:
        self.tree, self.sizes = tree, sizes.tolist()
        self.kind, self.axis = tree.kind[order].tolist(), tree.axis[order].tolist()
        self.child = tree.child[order].tolist()
        node = tree.node[order]
        count = int(max(node.max(initial=0), tree.child.max(initial=0) + 1)) + 1
        self.start = np.searchsorted(node, np.arange(count + 1)).tolist()
        unit = Fraction(2) ** chain.scale
        self.at = [0] * len(order)
        for r, (kind, axis, at) in enumerate(
            zip(self.kind, self.axis, tree.at[order].tolist(), strict=True)
        ):
            if kind in (SPLIT, CUT_BELOW, CUT_ABOVE):
                place = (Fraction(at) - chain.corner[axis]) * unit
                self.at[r] = math.ceil(place) if kind == CUT_ABOVE else math.floor(place)

    def visit(self, i: int, entry: _Entry, columns: dict[str, list[int]]) -> list[_Entry]:
        """Write what happened to one node until it was bounded again, split, or done.

        Args:
            i: its place in the block.
            entry: (node, lower, upper, rows done, splits on its path).
            columns: of the block.

        Returns:
            the nodes that it leaves.
        """
        node, lower, upper, done, splits = entry
        low, high = list(lower), list(upper)
        for r in range(self.start[node] + done, self.start[node + 1]):
            kind, axis, at, child = self.kind[r], self.axis[r], self.at[r], self.child[r]
            if kind == CLOSE:
                columns["close_node"].append(i)
                columns["close_clause"].append(axis)
                weights = self.tree.weights[child][: self.sizes[axis] + splits]
                columns["weight"] += (weights * WEIGHT_UNIT).astype(np.int64).tolist()
            elif kind in (CUT_BELOW, CUT_ABOVE):
                if low[axis] < at < high[axis]:
                    columns["cut_node"].append(i)
                    columns["cut_axis"].append(axis)
                    columns["cut_above"].append(int(kind == CUT_ABOVE))
                    columns["cut_at"].append(at)
                    (high if kind == CUT_ABOVE else low)[axis] = at
            elif kind == AGAIN:
                _act(columns, _AGAIN, 0, 0)
                return [(node, tuple(low), tuple(high), r + 1 - self.start[node], splits)]
            elif kind == SPLIT_NEURON:
                layer, neuron = divmod(axis, self.tree.stride)
                _act(columns, _NEURON, layer, neuron)
                ends = (tuple(low), tuple(high))
                return [(child, *ends, 0, splits + 1), (child + 1, *ends, 0, splits + 1)]
            else:
                if not low[axis] < at < high[axis]:
                    raise CertificateError("the search split boxes finer than the checker's grid")
                _act(columns, _INPUT, axis, at)
                middle_high = [*high[:axis], at, *high[axis + 1 :]]
                middle_low = [*low[:axis], at, *low[axis + 1 :]]
                return [
                    (child, tuple(low), tuple(middle_high), 0, splits),
                    (child + 1, tuple(middle_low), tuple(high), 0, splits),
                ]
        _act(columns, _LEAF, 0, 0)
        return []


def _act(columns: dict[str, list[int]], action: int, axis: int, at: int) -> None:
    """What becomes of a node."""
    columns["action"].append(action)
    columns["axis"].append(axis)
    columns["at"].append(at)
