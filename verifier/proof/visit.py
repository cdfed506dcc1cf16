"""The rule "visit": bound boxes by one backward pass a neuron, close clauses, cut, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.proof.case import Case, Nodes, Slopes
from verifier.proof.format import Columns
from verifier.proof.forms import Forms, wide
from verifier.proof.integers import Lines
from verifier.proof.outcome import InvalidError

_LEAF, _INPUT, _NEURON, _AGAIN = 0, 1, 2, 3


@dataclass(eq=False)
class Bounded:
    """Forms of open clauses' rows and of assumed signs, with the nodes that they belong to.

    A form that is positive at a point says that the point does not satisfy the row, or that it
    does not have the assumed sign. They are sorted by ``key``.

    Args:
        forms: (Q,) of them.
        owner: (Q,) which node.
        row: (Q,) row of the clauses, or R + s for split s of the node.
        key: (Q,) owner · width + row.
        width: more than any row.
        strict: (Q,) whether 0 is enough.
        clause: (Q,) which clause, C for a split.
        terms: (Q, d) the least values of their terms on the box of their node, see ``wide``.
    """

    forms: Forms
    owner: np.ndarray
    row: np.ndarray
    key: np.ndarray
    width: int
    strict: np.ndarray
    clause: np.ndarray
    terms: np.ndarray

    def positive(self, index: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """Whether some of the forms exclude all points of a box, given their terms on it, added."""
        value = self.forms.value(terms, index).mantissa
        return np.asarray((value > 0) | ((value == 0) & self.strict[index]))


def visit(state: Case, columns: Columns, step: str) -> int:
    """The rule "visit": bound nodes of the stack, close clauses, cut boxes, split what is left."""
    count = len(columns["action"])
    most = columns["action"].max(initial=_LEAF)
    if not count == len(columns["axis"]) == len(columns["at"]) or most > _AGAIN:
        raise InvalidError("visit", step, "columns of different lengths, or an unknown action")
    nodes = state.pop(count, step)
    lines = state.tighten(nodes, _slopes(state, count, columns, step))
    nodes.open[(nodes.low > nodes.high).any(axis=1)] = False
    bounded = _bounded(state, nodes, lines)
    _close_single(nodes, bounded)
    _close(state, nodes, bounded, columns, step)
    _cut(nodes, bounded, columns, step)
    _act(state, nodes, columns, step)
    return count


def _slopes(state: Case, count: int, columns: Columns, step: str) -> Slopes:
    """The slopes that the proof names."""
    node, neuron = columns["slope_node"].astype(np.int64), columns["slope_neuron"].astype(np.int64)
    slope, hidden = columns["slope"].astype(np.float64), len(state.relu)
    if not len(node) == len(neuron) == len(slope) or (
        len(node) and (node.max() >= count or neuron.max() >= hidden or slope.max() > 1)
    ):
        raise InvalidError("slope", step, "a node or neuron that does not exist, or no slope")
    if (np.diff(node * hidden + neuron) <= 0).any():
        raise InvalidError("slope", step, "nodes and neurons that do not ascend")
    return node, neuron, slope


def _bounded(state: Case, nodes: Nodes, lines: Sequence[Lines]) -> Bounded:
    """One backward pass for every row of an open clause, and one for every assumed sign."""
    sizes = np.diff(state.clauses.first)
    clause_of = np.repeat(np.arange(len(sizes)), sizes)
    owner, row = np.nonzero(nodes.open[:, clause_of])
    parts = [(state.forms(len(state.parts), lines, owner, (row, np.ones_like(row))), owner, row)]
    still = np.flatnonzero(nodes.open.any(axis=1)).tolist()
    splits = [(i, s, *split) for i in still for s, split in enumerate(nodes.splits[i])]
    table = np.array(splits, dtype=np.int64).reshape(-1, 5)
    for k in np.unique(table[:, 2]):
        node, s, _, neuron, sign = table[table[:, 2] == k].T
        forms = state.forms(int(k), lines, node, (neuron, -sign))
        parts.append((forms, node, len(clause_of) + s))
    owner, row = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    width = int(row.max(initial=0)) + 1
    order = np.argsort(owner * width + row, kind="stable")
    owner, row = owner[order], row[order]
    forms = Forms.join([part[0] for part in parts]).take(order)
    ends = np.where(forms.lam >= 0, nodes.t_low[owner], nodes.t_high[owner])
    longer = np.arange(width - len(clause_of)) if width > len(clause_of) else np.zeros(0, int)
    strict = np.concatenate([state.clauses.strict, np.zeros(len(longer), dtype=bool)])
    clause = np.concatenate([clause_of, np.full(len(longer), len(sizes))])
    return Bounded(
        forms, owner, row, owner * width + row, width, strict[row], clause[row],
        wide(forms.lam, ends),
    )  # fmt: skip


def _close_single(nodes: Nodes, bounded: Bounded) -> None:
    """Close clauses by single forms."""
    everything = np.arange(len(bounded.owner))
    excluded = np.flatnonzero(bounded.positive(everything, bounded.terms.sum(axis=1)))
    owner, clause = bounded.owner[excluded], bounded.clause[excluded]
    split = clause == nodes.open.shape[1]
    nodes.open[owner[split]] = False
    nodes.open[owner[~split], clause[~split]] = False


def _close(state: Case, nodes: Nodes, bounded: Bounded, columns: Columns, step: str) -> None:
    """Close clauses by the proof's combinations of forms: of the clause's rows, then the splits."""
    node, clause = columns["close_node"].astype(np.int64), columns["close_clause"].astype(np.int64)
    count, weight = nodes.open.shape[1], columns["weight"]
    if len(node) != len(clause) or (
        len(node) and (node.max() >= len(nodes.number) or clause.max() >= count)
    ):
        raise InvalidError("close", step, "a node or clause that does not exist")
    if (np.diff(node * count + clause) <= 0).any():
        raise InvalidError("close", step, "nodes and clauses that do not ascend")
    first = state.clauses.first
    rows, splits = np.diff(first)[clause], np.array([len(s) for s in nodes.splits])[node]
    sizes = rows + splits
    if sizes.sum() != len(weight):
        raise InvalidError("close", step, f"{len(weight)} weights for {sizes.sum()} forms")
    # What single forms have closed needs no weights.
    close = np.repeat(np.arange(len(node)), sizes)
    kept = nodes.open[node, clause][close]
    place = np.arange(len(weight)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    in_clause = place < rows[close]
    row = np.where(in_clause, first[clause][close] + place, place - rows[close] + first[-1])
    close, weight = close[kept], weight[kept].astype(np.int64)
    if not len(close):
        return
    index = np.searchsorted(bounded.key, node[close] * bounded.width + row[kept])
    which, start = np.unique(close, return_index=True)
    node, clause = node[which], clause[which]
    least = bounded.forms.combined(index, weight, start).least(
        nodes.t_low[node], nodes.t_high[node]
    )
    strict = np.logical_or.reduceat(bounded.strict[index] & (weight > 0), start)
    bad = np.flatnonzero((least.mantissa < 0) | ((least.mantissa == 0) & ~strict))
    if len(bad):
        i = bad[0]
        raise InvalidError(
            "close", f"{step}, node {nodes.number[node[i]]}, clause {clause[i]}",
            f"the combination's lower bound is {least.shown(i)}, not positive",
        )  # fmt: skip
    nodes.open[node, clause] = False


def _cut(nodes: Nodes, bounded: Bounded, columns: Columns, step: str) -> None:
    """Remove parts of boxes where a form of every open clause is positive, one after another."""
    node, axis = columns["cut_node"].astype(np.int64), columns["cut_axis"].astype(np.int64)
    above, at = columns["cut_above"], columns["cut_at"]
    d = nodes.t_low.shape[1]
    if not len(node) == len(axis) == len(above) == len(at) or (
        len(node) and (node.max() >= len(nodes.number) or axis.max() >= d or above.max() > 1)
    ):
        raise InvalidError("cut", step, "a node or input that does not exist")
    if (np.diff((node * d + axis) * 2 + above) <= 0).any():
        raise InvalidError("cut", step, "nodes and inputs that do not ascend")
    rank = np.arange(len(node)) - np.searchsorted(node, node)
    ends = np.searchsorted(bounded.owner, np.arange(len(nodes.number) + 1))
    for turn in range(int(rank.max(initial=-1)) + 1):
        c = np.flatnonzero(rank == turn)
        _cut_once(nodes, bounded, ends, (node[c], axis[c], above[c] == 1, at[c]), step)


def _cut_once(
    nodes: Nodes, bounded: Bounded, ends: np.ndarray,
    cuts: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], step: str,
) -> None:  # fmt: skip
    """One cut each of different nodes: (node, axis, whether above, at).

    Args:
        ends: form ends[i] to ends[i + 1] − 1 belong to node i.
    """
    node, axis, above, at = cuts
    low, high = nodes.t_low[node, axis], nodes.t_high[node, axis]
    bad = np.flatnonzero((at <= low) | (at >= high))
    if len(bad):
        i = bad[0]
        raise InvalidError("cut", step, f"{at[i]} is not between {low[i]} and {high[i]}")
    sizes = ends[node + 1] - ends[node]
    cut = np.repeat(np.arange(len(node)), sizes)
    form = np.arange(len(cut)) + np.repeat(ends[node] - (np.cumsum(sizes) - sizes), sizes)
    lam, old = bounded.forms.lam[form, axis[cut]], bounded.terms[form, axis[cut]]
    # Of what is cut off the faces are at and high, or low and at; of what is left the others.
    at_low, at_high = np.where(above, at, low)[cut], np.where(above, high, at)[cut]
    value = bounded.terms[form].sum(axis=1) - old + wide(lam, np.where(lam >= 0, at_low, at_high))
    good = bounded.positive(form, value)
    # One more column: a sign that is contradicted.
    closed = np.zeros((len(node), nodes.open.shape[1] + 1), dtype=bool)
    closed[cut[good], bounded.clause[form[good]]] = True
    bad = np.flatnonzero(~(closed[:, -1] | (closed[:, :-1] | ~nodes.open[node]).all(axis=1)))
    if len(bad):
        i = bad[0]
        raise InvalidError(
            "cut", f"{step}, node {nodes.number[node[i]]}, input {axis[i]}",
            f"no form of some clause is positive {'above' if above[i] else 'below'} {at[i]}",
        )  # fmt: skip
    nodes.t_low[node, axis] = low = np.where(above, low, at)
    nodes.t_high[node, axis] = high = np.where(above, at, high)
    bounded.terms[form, axis[cut]] = wide(lam, np.where(lam >= 0, low[cut], high[cut]))


def _act(state: Case, nodes: Nodes, columns: Columns, step: str) -> None:
    """Finish the nodes: nothing left (0), split an input (1) or a sign (2), or visit again (3)."""
    action, axis, at = columns["action"], columns["axis"].astype(np.int64), columns["at"]
    still = np.flatnonzero(nodes.open.any(axis=1) & (action == _LEAF))
    if len(still):
        i = still[0]
        clause = int(np.flatnonzero(nodes.open[i])[0])
        raise InvalidError(
            "leaf", f"{step}, node {nodes.number[i]}", f"clause {clause} is still open"
        )
    index = np.flatnonzero(action)
    twice = np.repeat(index, np.where(action[index] == _AGAIN, 1, 2))
    if not len(twice):
        return
    children = nodes.take(twice)
    second = np.concatenate([[False], twice[1:] == twice[:-1]])
    what, axis, at = action[twice], axis[twice], at[twice]
    children.number = np.where(
        what == _AGAIN, children.number, state.created + np.arange(len(twice))
    )
    state.created += len(twice)
    _split_inputs(children, np.flatnonzero(what == _INPUT), axis, at, second, step)
    for c in np.flatnonzero(what == _NEURON).tolist():
        _assume(state, children, c, int(axis[c]), int(at[c]), -1 if second[c] else 1, step)
    state.stack.append(children)


def _split_inputs(
    children: Nodes, c: np.ndarray, axis: np.ndarray, at: np.ndarray, second: np.ndarray, step: str
) -> None:
    """Give children c, two of each node one after the other, their halves of the box."""
    axis, at, second = axis[c], at[c], second[c]
    if axis.max(initial=-1) >= children.t_low.shape[1]:
        raise InvalidError("split", step, f"there is no input {axis.max()}")
    low, high = children.t_low[c, axis], children.t_high[c, axis]
    bad = np.flatnonzero((at <= low) | (at >= high))
    if len(bad):
        i = bad[0]
        raise InvalidError(
            "split", step, f"input {axis[i]} at {at[i]}, not between {low[i]} and {high[i]}"
        )
    children.t_low[c, axis] = np.where(second, at, low)
    children.t_high[c, axis] = np.where(second, high, at)


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
