"""The rule "visit": bound boxes by one backward pass a neuron, close clauses, cut, split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.proof.case import Case, InvalidError, Nodes
from verifier.proof.format import Columns
from verifier.proof.integers import Forms


@dataclass(eq=False)
class Bounded:
    """Forms of open clauses' rows and of assumed signs, with the nodes that they belong to.

    A form that is positive at a point says that the point does not satisfy the row, or that it
    does not have the assumed sign.

    Args:
        forms: (Q,) of them.
        owner: (Q,) which node.
        row: (Q,) row of the clauses, or −1 − s for split s of the node.
        strict: (Q,) whether 0 is enough.
    """

    forms: Forms
    owner: np.ndarray
    row: np.ndarray
    strict: np.ndarray


def visit(state: Case, columns: Columns, step: str) -> int:
    """The rule "visit": bound nodes of the stack, close clauses, cut boxes, split what is left."""
    count = len(columns["action"])
    nodes = state.pop(count, step)
    state.tighten(nodes)
    nodes.open[(nodes.low > nodes.high).any(axis=1)] = False
    bounded = _bounded(state, nodes)
    _close(state, nodes, bounded, columns, step)
    _cut(state, nodes, bounded, columns, step)
    _act(state, nodes, columns, step)
    return count


def _bounded(state: Case, nodes: Nodes) -> Bounded:
    """One backward pass for every row of an open clause, and one for every assumed sign."""
    sizes = np.diff(state.clauses.first)
    clause_of = np.repeat(np.arange(len(sizes)), sizes)
    owner, row = np.nonzero(nodes.open[:, clause_of])
    unit = np.ones_like(row)
    parts = [(state.forms(len(state.parts), nodes, owner, (row, unit)), owner, row)]
    splits = [(i, s, *split) for i, path in enumerate(nodes.splits) for s, split in enumerate(path)]
    table = np.array(splits, dtype=np.int64).reshape(-1, 5)
    for k in np.unique(table[:, 2]):
        node, s, _, neuron, sign = table[table[:, 2] == k].T
        parts.append((state.forms(int(k), nodes, node, (neuron, -sign)), node, -1 - s))
    forms = Forms.join([part[0] for part in parts])
    row = np.concatenate([part[2] for part in parts])
    strict = np.where(row >= 0, state.clauses.strict[np.maximum(row, 0)], False)
    return Bounded(forms, np.concatenate([part[1] for part in parts]), row, strict)


def _close(state: Case, nodes: Nodes, bounded: Bounded, columns: Columns, step: str) -> None:
    """Close clauses by single forms, then by the proof's combinations of forms."""
    owner, row = bounded.owner, bounded.row
    value = bounded.forms.least(nodes.t_low[owner], nodes.t_high[owner])
    excluded = (value.mantissa > 0) | ((value.mantissa == 0) & bounded.strict)
    nodes.open[owner[excluded & (row < 0)]] = False
    clause_of = np.searchsorted(state.clauses.first, np.maximum(row, 0), "right") - 1
    some = excluded & (row >= 0)
    nodes.open[owner[some], clause_of[some]] = False
    node, clause = columns["close_node"].astype(np.int64), columns["close_clause"].astype(np.int64)
    if len(node) != len(clause) or (
        len(node) and (node.max() >= len(nodes.number) or clause.max() >= nodes.open.shape[1])
    ):
        raise InvalidError("close", step, "a node or clause that does not exist")
    used = 0
    for i, c in zip(node, clause, strict=True):
        which = np.flatnonzero((owner == i) & ((clause_of == c) | (row < 0)))
        # The clause's rows in their order, then the splits in theirs.
        which = which[np.lexsort((np.abs(row[which]), row[which] < 0))]
        weight = columns["weight"][used : used + len(which)].astype(np.int64)
        used += len(which)
        if len(weight) != len(which) or not len(which):
            raise InvalidError("close", step, f"{len(weight)} weights for {len(which)} forms")
        sum_, strict = (
            bounded.forms.combined(which, weight),
            bounded.strict[which][weight > 0].any(),
        )
        least = sum_.least(nodes.t_low[i : i + 1], nodes.t_high[i : i + 1]).mantissa[0]
        if least < 0 or (least == 0 and not strict):
            raise InvalidError(
                "close", f"{step}, node {nodes.number[i]}, clause {c}",
                f"the combination's lower bound is {least}, not positive",
            )  # fmt: skip
        nodes.open[i, c] = False
    if used != len(columns["weight"]):
        raise InvalidError("close", step, f"{len(columns['weight']) - used} weights too many")


def _cut(state: Case, nodes: Nodes, bounded: Bounded, columns: Columns, step: str) -> None:
    """Remove parts of boxes where a form of every open clause is positive."""
    names = ("cut_node", "cut_axis", "cut_above", "cut_at")
    clause_of = np.searchsorted(state.clauses.first, np.maximum(bounded.row, 0), "right") - 1
    for i, j, above, at in zip(*(columns[n].tolist() for n in names), strict=True):
        if i >= len(nodes.number) or j >= nodes.t_low.shape[1]:
            raise InvalidError("cut", step, "a node or input that does not exist")
        low, high = nodes.t_low[i].copy(), nodes.t_high[i].copy()
        if not low[j] < at < high[j]:
            raise InvalidError("cut", step, f"{at} is not between {low[j]} and {high[j]}")
        (low if above else high)[j] = at
        which = np.flatnonzero(bounded.owner == i)
        value = bounded.forms.take(which).least(low, high).mantissa
        good = which[(value > 0) | ((value == 0) & bounded.strict[which])]
        closed = np.zeros(nodes.open.shape[1], dtype=bool)
        closed[clause_of[good]] = True
        if not ((bounded.row[good] < 0).any() or (closed | ~nodes.open[i]).all()):
            raise InvalidError(
                "cut", f"{step}, node {nodes.number[i]}, input {j}",
                f"no form of some clause is positive {'above' if above else 'below'} {at}; "
                f"the largest is {max(value.tolist(), default=0)}",
            )  # fmt: skip
        (nodes.t_high if above else nodes.t_low)[i, j] = at


def _act(state: Case, nodes: Nodes, columns: Columns, step: str) -> None:
    """Finish the nodes: nothing left (0), split an input (1) or a sign (2), or visit again (3)."""
    action, axis, at = columns["action"], columns["axis"].astype(np.int64), columns["at"]
    if not len(action) == len(axis) == len(at) or action.max() > 3:
        raise InvalidError("visit", step, "columns of different lengths, or an unknown action")
    still = np.flatnonzero(nodes.open.any(axis=1) & (action == 0))
    if len(still):
        i = still[0]
        clause = int(np.flatnonzero(nodes.open[i])[0])
        raise InvalidError(
            "leaf", f"{step}, node {nodes.number[i]}", f"clause {clause} is still open"
        )
    index = np.flatnonzero(action)
    twice = np.repeat(index, np.where(action[index] == 3, 1, 2))
    if not len(twice):
        return
    children = nodes.take(twice)
    second = np.concatenate([[False], twice[1:] == twice[:-1]])
    children.number = np.where(
        action[twice] == 3, children.number, state.created + np.arange(len(twice))
    )
    state.created += len(twice)
    for c in np.flatnonzero(action[twice] != 3).tolist():
        i = int(twice[c])
        if action[i] == 1:
            j = axis[i]
            if j >= nodes.t_low.shape[1] or not nodes.t_low[i, j] < at[i] < nodes.t_high[i, j]:
                raise InvalidError(
                    "split", f"{step}, node {nodes.number[i]}", f"input {j} at {at[i]}"
                )
            (children.t_low if second[c] else children.t_high)[c, j] = at[i]
        else:
            _assume(state, children, c, int(axis[i]), int(at[i]), -1 if second[c] else 1, step)
    state.stack.append(children)


def _assume(
    state: Case, nodes: Nodes, c: int, layer: int, neuron: int, sign: int, step: str
) -> None:
    """Assume sign · z ≥ 0 of one hidden neuron in node c."""
    if (
        layer >= len(state.parts)
        or not 0 <= neuron < state.parts[layer].stop - state.parts[layer].start
    ):
        raise InvalidError("split", step, f"neuron {neuron} of layer {layer} does not exist")
    i = state.parts[layer].start + neuron
    if sign > 0:
        nodes.low[c, i] = max(nodes.low[c, i], 0)
    else:
        nodes.high[c, i] = min(nodes.high[c, i], 0)
    nodes.splits[c] = (*nodes.splits[c], (layer, neuron, sign))
