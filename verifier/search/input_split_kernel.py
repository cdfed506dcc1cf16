"""The compiled loop of the input-splitting search: depth-first over boxes, no allocation per box.

For each box: bound its unstable neurons, then every open output row by a linear form in the inputs.
A clause is closed when some nonnegative combination of its rows is negative on the whole box; the
best combination is a small linear program. Open clauses cut off the parts of the box where one row
is negative, and the rest is split: along the input that answers for most of the relaxation gap, or
on the sign of one neuron if that neuron alone answers for more. A split neuron's half-space is one
more row in every later combination and cut.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from verifier.bounds.box_kernels import (
    Forms,
    Packed,
    bound_row,
    bound_split,
    evaluate,
    forms,
    set_box,
    tighten,
)
from verifier.bounds.float_error import TINY, UNIT
from verifier.bounds.jit import jit
from verifier.bounds.kernels import copy_row, copy_rows
from verifier.search.combine_kernel import combine
from verifier.search.cut_kernel import (
    AGAIN,
    CLOSE,
    SPLIT,
    SPLIT_NEURON,
    contract,
    log_row,
    log_slopes,
    widen_hull,
)

DONE, CANDIDATE, BUDGET, FULL = 0, 1, 2, 3

#: Weights in a proof are integers over this.
WEIGHT_UNIT = 32768.0
#: Neurons whose sign may be split on one path.
MAX_SPLITS = 24
#: A neuron is split if it alone answers for this share of the whole gap.
_NEURON_GAIN = 0.9


class Rows(NamedTuple):
    """All clauses' constraints: clause c owns rows first[c] .. first[c+1]-1."""

    matrix: np.ndarray
    bound: np.ndarray
    first: np.ndarray


class Stack(NamedTuple):
    """Boxes to do: input box, inherited bounds, which clauses are open, number of the node, splits.

    ``splits`` (capacity, MAX_SPLITS, 3) holds layer, index and sign (+1: z >= 0 is assumed) of the
    ``n_splits`` split neurons.
    """

    lower: np.ndarray
    upper: np.ndarray
    low: np.ndarray
    high: np.ndarray
    open: np.ndarray
    node: np.ndarray
    splits: np.ndarray
    n_splits: np.ndarray


class Log(NamedTuple):
    """What was done to which node, a row a step; a split has children ``child``, ``child + 1``.

    For a neuron split ``axis`` is layer * P + index, ``child`` is the part where z >= 0. A clause
    ``axis`` closed by a combination has its weights in row ``child`` of ``weights``. The slope
    below neuron ``axis`` is ``at`` where a tie is near.
    """

    node: np.ndarray
    kind: np.ndarray
    axis: np.ndarray
    at: np.ndarray
    child: np.ndarray
    weights: np.ndarray


class Work(NamedTuple):
    """Scratch of one worker beside ``Forms``."""

    a: np.ndarray
    z: np.ndarray
    point: np.ndarray
    found: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    score: np.ndarray
    neuron: np.ndarray
    tableau: np.ndarray
    basis: np.ndarray
    weights: np.ndarray
    const: np.ndarray
    rows: np.ndarray


def work(net: Packed, rows: Rows) -> tuple[Forms, Work]:
    """Fresh scratch arrays."""
    d, padded = int(net.width[0]), net.weight.shape[1]
    k = int(np.diff(rows.first).max()) + MAX_SPLITS
    arrays = Work(
        np.zeros(padded), np.zeros(padded), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d),
        np.zeros(d), np.zeros(3), np.zeros((k + d + 1, k + 2 * d + 2)),
        np.zeros(k + d, dtype=np.int64), np.zeros(k), np.zeros(k), np.zeros((k, d)),
    )  # fmt: skip
    return forms(net, len(rows.bound) + MAX_SPLITS), arrays


@jit
def search(net, rows, stack, top, budget, next_node, log, f, w, counts):  # type: ignore[no-untyped-def]
    """Work on the stack until it is empty, the budget is spent, or something needs the caller.

    Args:
        top: number of boxes on the stack.
        budget: boxes to visit at most.
        next_node: first free node number.
        log: rows are written from 0.
        counts: (5,) int64, filled: boxes visited, log rows, next free node, boxes too small to
            split, rows of weights.

    Returns:
        (top, reason): DONE, BUDGET, FULL (the stack), or CANDIDATE with a point in ``w.found``
        whose float64 outputs look unsafe.
    """
    capacity = stack.lower.shape[0]
    # Rows of one visit: a slope a neuron, two cuts an input, a clause each, a split.
    most = 2 * net.width[0] + rows.first.shape[0] + 1
    for k in range(1, net.width.shape[0]):
        most += net.width[k]
    written = 0
    counts[4] = 0
    visited = 0
    reason = BUDGET
    while visited < budget:
        if top == 0:
            reason = DONE
            break
        if top + 1 >= capacity:
            reason = FULL
            break
        if written + most >= log.node.shape[0]:
            break
        top -= 1
        visited += 1
        set_box(stack.lower[top], stack.upper[top], f)
        some_left = tighten(net, stack.low[top], stack.high[top], f)
        if net.room_all > 0.0:
            written = log_slopes(net, stack, top, log, written)
        if not some_left:
            continue
        still_open, hit, written = close_clauses(net, rows, stack, top, log, written, counts, f, w)
        if still_open > 0:
            top, written, next_node = expand(stack, top, next_node, log, written, counts, f, w)
        if hit:
            reason = CANDIDATE
            break
    counts[0] = visited
    counts[1] = written
    counts[2] = next_node
    return top, reason


@jit
def expand(stack, top, next_node, log, written, counts, f, w):  # type: ignore[no-untyped-def]
    """Cut the box in slot ``top`` to what is open, then keep it (if much smaller) or split it.

    Returns:
        (new top, log rows written, next free node).
    """
    lower, upper, node = stack.lower[top], stack.upper[top], stack.node[top]
    cuts, kept = contract(lower, upper, node, log, written, f, w)
    written += cuts
    if kept == 0.0:
        return top, written, next_node
    if kept < 0.6:
        log_row(log, written, node, AGAIN, 0, 0.0, -1)
        return top + 1, written + 1, next_node
    axis, at = choose(lower, upper, f, w)
    by_neuron = stack.n_splits[top] < MAX_SPLITS and w.neuron[0] > _NEURON_GAIN * total_score(w)
    if axis < 0 and not by_neuron:
        counts[3] += 1
        return top, written, next_node
    copy_entry(stack, top, top + 1)
    if by_neuron:
        axis, at = split_neuron(stack, top, w), 0.0
    else:
        stack.upper[top, axis] = at
        stack.lower[top + 1, axis] = at
    log_row(log, written, node, SPLIT_NEURON if by_neuron else SPLIT, axis, at, next_node)
    stack.node[top] = next_node
    stack.node[top + 1] = next_node + 1
    return top + 2, written + 1, next_node + 2


@jit
def total_score(w):  # type: ignore[no-untyped-def]
    """All inputs' scores together."""
    total = 0.0
    for j in range(w.score.shape[0]):
        total += w.score[j]
    return total


@jit
def split_neuron(stack, top, w):  # type: ignore[no-untyped-def]
    """Assume z >= 0 of the worst neuron in slot ``top``, z <= 0 in the next; return its number."""
    layer, i, n = int(w.neuron[1]), int(w.neuron[2]), stack.n_splits[top]
    for slot in range(top, top + 2):
        stack.splits[slot, n, 0] = layer
        stack.splits[slot, n, 1] = i
        stack.splits[slot, n, 2] = 1 if slot == top else -1
        stack.n_splits[slot] = n + 1
    stack.low[top, layer, i] = 0.0
    stack.high[top + 1, layer, i] = 0.0
    return layer * stack.low.shape[2] + i


@jit
def copy_entry(stack, source, target):  # type: ignore[no-untyped-def]
    """Copy one box on the stack."""
    copy_row(stack.lower[target], stack.lower[source])
    copy_row(stack.upper[target], stack.upper[source])
    copy_rows(stack.low[target], stack.low[source])
    copy_rows(stack.high[target], stack.high[source])
    copy_row(stack.open[target], stack.open[source])
    copy_rows(stack.splits[target], stack.splits[source])
    stack.n_splits[target] = stack.n_splits[source]


@jit
def close_clauses(net, rows, stack, top, log, written, counts, f, w):  # type: ignore[no-untyped-def]
    """Close what can be closed in slot ``top``; for the rest, collect cuts and split scores.

    Returns:
        (number of open clauses, whether ``w.found`` holds a point that looks unsafe, log rows
        written).
    """
    d = net.width[0]
    low, high, is_open = stack.low[top], stack.high[top], stack.open[top]
    still_open = 0
    hit = False
    w.start[:] = 1.0
    w.stop[:] = -1.0
    w.score[:] = 0.0
    w.neuron[0] = -1.0
    extra = rows.bound.shape[0]
    for s in range(stack.n_splits[top]):
        split = stack.splits[top, s]
        if bound_split(net, split[0], split[1], float(split[2]), extra + s, low, high, f) < 0.0:
            return 0, False, written
    for c in range(is_open.shape[0]):
        if not is_open[c]:
            continue
        first, last = rows.first[c], rows.first[c + 1]
        k = close_clause(net, rows, first, last, stack.n_splits[top], low, high, f, w)
        if k <= 0:
            is_open[c] = False
            if k < 0:
                log_row(log, written, stack.node[top], CLOSE, c, 0.0, counts[4])
                for q in range(log.weights.shape[1]):
                    log.weights[counts[4], q] = w.weights[q] if q < -k else 0.0
                counts[4] += 1
                written += 1
            continue
        still_open += 1
        widen_hull(w.const[:k], w.rows[:k], w)
        for q in range(first, last):
            share = w.weights[q - first]
            for j in range(d):
                w.score[j] += share * (f.gaps[q, j] + 0.02 * abs(f.rows[q, j]))
            if share * f.worst[q, 0] > w.neuron[0]:
                w.neuron[0] = share * f.worst[q, 0]
                w.neuron[1] = f.worst[q, 1]
                w.neuron[2] = f.worst[q, 2]
        if not hit:
            hit = looks_unsafe(net, rows, first, last, f, w)
    return still_open, hit, written


@jit
def close_clause(net, rows, first, last, n_splits, low, high, f, w):  # type: ignore[no-untyped-def]
    """Whether linear forms of the clause's rows and of the split neurons exclude it on the box.

    Leaves in ``w.const`` and ``w.rows`` these forms, in ``w.weights`` the combination that came
    closest and in ``w.point`` its maximiser (in t).

    Returns:
        0 if one form closes the clause, minus the number of forms if the combination does, else
        their number.
    """
    d = net.width[0]
    for q in range(first, last):
        if bound_row(net, rows.matrix[q], rows.bound[q], q, low, high, f) < 0.0:
            return 0
        w.const[q - first] = f.const[q]
        copy_row(w.rows[q - first], f.rows[q])
    k = last - first
    for s in range(n_splits):
        w.const[k] = f.const[rows.bound.shape[0] + s]
        copy_row(w.rows[k], f.rows[rows.bound.shape[0] + s])
        k += 1
    if k == 1:
        w.weights[0] = 1.0
        for j in range(d):
            w.point[j] = 1.0 if w.rows[0, j] >= 0.0 else -1.0
        return 1
    combine(w.const[:k], w.rows[:k], w)
    if net.room_all > 0.0:
        for q in range(k):  # few bits, so that a proof can say them
            w.weights[q] = np.rint(w.weights[q] * WEIGHT_UNIT) / WEIGHT_UNIT
    # The program's answer is a hint: what the weights give is computed here, rounded up.
    total = 0.0
    mag = 0.0
    for q in range(k):
        total += w.weights[q] * w.const[q]
        mag += abs(w.weights[q] * w.const[q])
    for j in range(d):
        v = 0.0
        for q in range(k):
            v += w.weights[q] * w.rows[q, j]
            mag += abs(w.weights[q] * w.rows[q, j])
        total += abs(v)
    return -k if total + mag * (4.0 * (d + k + 8) * UNIT) + TINY < 0.0 else k


@jit
def looks_unsafe(net, rows, first, last, f, w):  # type: ignore[no-untyped-def]
    """Whether the clause's maximiser or the centre (into ``w.found``) is unsafe in float64."""
    d = net.width[0]
    for attempt in range(2):
        for j in range(d):
            t = w.point[j] if attempt == 0 else 0.0
            w.found[j] = f.centre[j] + f.radius[j] * t
        evaluate(net, w.found, w.a, w.z)
        unsafe = True
        for q in range(first, last):
            slack = -rows.bound[q]
            for j in range(net.width[net.width.shape[0] - 1]):
                slack += rows.matrix[q, j] * w.a[j]
            if slack < 0.0:
                unsafe = False
                break
        if unsafe:
            return True
    return False


@jit
def choose(lower, upper, f, w):  # type: ignore[no-untyped-def]
    """Input to split and where: the one with the largest share of the relaxation gap.

    Returns:
        (axis, position), axis -1 if no side of the box can be halved in float64.
    """
    axis = -1
    best = -1.0
    middle = 0.0
    for j in range(lower.shape[0]):
        at = 0.5 * (lower[j] + upper[j])
        if not lower[j] < at < upper[j]:
            continue
        score = w.score[j] * (upper[j] - lower[j]) / (2.0 * f.radius[j])
        if score > best:
            best = score
            axis = j
            middle = at
    return axis, middle
