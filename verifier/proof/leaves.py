"""The rules "lemma" and "neurons": splits on the signs of neurons, leaves of one backward pass.

A backward pass here is given what it may choose freely: the slopes of the lines below unstable
ReLUs, and for every neuron whose sign is assumed a multiplier of that sign. Whatever they are, the
bound holds; they only decide how good it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.proof.case import Case, Nodes
from verifier.proof.exact_leaf import backward_exactly, close_exactly
from verifier.proof.format import Columns
from verifier.proof.forms import Total
from verifier.proof.integers import Lines, Multipliers, Rows, backward
from verifier.proof.outcome import InvalidError

#: Numbers that the rows of one backward pass may touch, leaves that one bound may have, and these
#: times the neurons that they split.
_NUMBERS, _MAX_LEAVES, _MAX_SIGNS = 1 << 21, 4096, 1 << 20
_LEAF, _SPLIT, _CLAUSES, _EXACT = 0, 1, 2, 3


@dataclass(eq=False)
class _Assumed:
    """Signs that are assumed, with multipliers: mantissa 2^power z ≥ 0 for each.

    Args:
        row: (S,) ascending, for which backward pass.
        index: (S,) hidden neuron, no two the same in a row.
        sign: (S,) ±1.
        mantissa, power: (S,), mantissa of that sign or 0.
    """

    row: np.ndarray
    index: np.ndarray
    sign: np.ndarray
    mantissa: np.ndarray
    power: np.ndarray

    @staticmethod
    def of(row: np.ndarray, index: np.ndarray, sign: np.ndarray, code: np.ndarray) -> _Assumed:
        """From 8 bits of exponent e and 15 of m: 2^(e − 142) (2^15 + m), 0 if e = 0."""
        bits = code.astype(np.int64)
        power = (bits >> 15) & 255
        mantissa = np.where(power == 0, 0, (1 << 15) + (bits & 0x7FFF))
        return _Assumed(row, index, sign, sign * mantissa, power - 142)


def lemma(state: Case, columns: Columns, step: str) -> int:
    """The rule "lemma": bounds of one layer's neurons in the last node, each by a small tree."""
    layer = int(columns["layer"][0]) if len(columns["layer"]) == 1 else len(state.parts)
    if layer >= len(state.parts):
        raise InvalidError("lemma", step, "one hidden layer is wanted")
    nodes = state.pop(1, step)
    neuron, side = columns["neuron"].astype(np.int64), columns["side"]
    leaves, splits = columns["leaves"].astype(np.int64), columns["splits"].astype(np.int64)
    size = state.parts[layer].stop - state.parts[layer].start
    if (
        not len(neuron) == len(side) == len(leaves) > 0
        or neuron.max() >= size or side.max() > 1
        or leaves.min() < 1 or leaves.max() > _MAX_LEAVES or leaves.sum() != len(splits)
    ):  # fmt: skip
        raise InvalidError("lemma", step, "columns that do not fit")
    row = np.repeat(np.arange(len(splits)), splits)
    index, sign = columns["unit"].astype(np.int64), 1 - 2 * columns["sign"].astype(np.int64)
    before = state.parts[layer].start
    if not len(row) == len(index) == len(sign) == len(columns["multiplier"]) or (
        len(row) and (index.max() >= before or columns["sign"].max() > 1)
    ):
        raise InvalidError("lemma", step, "signs that do not fit, or of later layers")
    goal = np.repeat(np.arange(len(neuron)), leaves)
    _require_partition(goal, splits, index, sign, step)
    owner = np.zeros(len(splits), dtype=np.int64)
    assumed = _Assumed.of(row, index, sign, columns["multiplier"])
    one = np.where(side[goal] == 0, 1, -1).astype(np.int64)
    units, slopes = _slopes(state, columns, len(splits), before, step)
    least = _least(state, layer, (neuron[goal], one), nodes, owner, assumed, units, slopes)
    value = np.full(len(neuron), np.iinfo(np.int64).max)
    np.minimum.at(value, goal, least.at_scale(state.chain.layers[layer].scale))
    where = before + neuron
    low, high = side == 0, side == 1
    np.maximum.at(nodes.low[0], where[low], value[low])
    np.minimum.at(nodes.high[0], where[high], -value[high])
    state.stack.append(nodes)
    return 0


def _require_partition(
    goal: np.ndarray, splits: np.ndarray, index: np.ndarray, sign: np.ndarray, step: str
) -> None:
    """The leaves of every goal together are all of the node.

    A leaf with s signs of distinct neurons holds a share 2^-s of all assignments of signs. Leaves
    of which no two are compatible, and whose shares add up to 1, leave no assignment out.
    """
    ends = np.concatenate([[0], np.cumsum(splits)])
    first = np.concatenate([[0], np.cumsum(np.bincount(goal))])
    for g, (a, b) in enumerate(zip(first[:-1].tolist(), first[1:].tolist(), strict=True)):
        part = slice(ends[a], ends[b])
        if b == a + 1 and not splits[a]:
            continue  # the node itself
        units, column = np.unique(index[part], return_inverse=True)
        if (b - a) * len(units) > _MAX_SIGNS:
            raise InvalidError(
                "lemma", f"{step}, goal {g}", f"{b - a} leaves with the signs of {len(units)} "
                f"neurons: the product must be at most {_MAX_SIGNS}",
            )  # fmt: skip
        signs = np.zeros((b - a, len(units)))
        signs[np.repeat(np.arange(b - a), splits[a:b]), column] = sign[part]
        lengths = splits[a:b].tolist()
        # Twice the number of neurons on which two leaves disagree.
        both = np.abs(signs) @ np.abs(signs).T - signs @ signs.T
        np.fill_diagonal(both, 1)
        whole = max(lengths)
        if (
            (np.abs(signs).sum(axis=1) != splits[a:b]).any()
            or (both == 0).any()
            or sum(1 << (whole - s) for s in lengths) != 1 << whole
        ):
            raise InvalidError("lemma", f"{step}, goal {g}", "its leaves do not cover the node")


def _slopes(
    state: Case, columns: Columns, count: int, before: int, step: str
) -> tuple[np.ndarray, np.ndarray]:
    """The hidden neurons that slopes are given for, and the slopes: count rows, or one for all.

    A slope is 64 c + f in units of 2^-14, where codes c from 128 on stand for one more, and f
    is given for some rows only. Returned are float32 numbers, which have all its bits.
    """
    hidden = state.parts[-1].stop if state.parts else 0
    if 8 * len(columns["units"]) >= hidden + 8:
        raise InvalidError("slopes", step, f"{len(columns['units'])} bytes of {hidden} bits")
    bits = np.unpackbits(columns["units"], bitorder="little")
    units = np.flatnonzero(bits)
    codes = columns["slopes"]
    rows = 1 if len(codes) == len(units) else count
    if (len(units) and units.max() >= before) or len(codes) != rows * len(units):
        raise InvalidError(
            "slopes", step, f"{len(codes)} for {count} leaves and {len(units)} of {before} neurons"
        )
    # A block may hold 2^26 of them: few bytes each.
    slopes = ((codes.astype(np.uint16) + (codes >= 128)) << 6).reshape(rows, len(units))
    fine, where = columns["fine"], columns["fine_leaf"].astype(np.int64)
    if len(fine) != len(where) * len(units) or (len(where) and where.max() >= rows):
        raise InvalidError("slopes", step, f"{len(fine)} second bytes for {len(where)} leaves")
    slopes[where] += fine.reshape(len(where), len(units))
    return units, np.multiply(np.minimum(slopes, 1 << 14), 2.0**-14, dtype=np.float32)


def _least(
    state: Case,
    layer: int,
    mu: Any,
    nodes: Nodes,
    owner: np.ndarray,
    assumed: _Assumed,
    units: np.ndarray,
    slopes: np.ndarray,
) -> Total:
    """Lower bounds of forms of a layer's pre-activations, row q in node owner[q].

    Args:
        mu: the forms: an array, or a pair; see ``Rows``.
        assumed: signs that hold in a row besides what its node says.
        units, slopes: see ``_slopes``.
    """
    count, parts = len(owner), []
    chunk = max(1, _NUMBERS // (state.parts[-1].stop + nodes.t_low.shape[1]) if state.parts else 1)
    for start in range(0, count, chunk):
        stop = min(count, start + chunk)
        some = owner[start:stop]
        # Rows share the lines of their node unless signs or slopes are their own.
        which, of = some, np.arange(len(some))
        if not len(assumed.row) and len(slopes) == 1:
            which, of = np.unique(some, return_inverse=True)
        low, high = nodes.low[which], nodes.high[which]
        these = slice(*np.searchsorted(assumed.row, [start, stop]))
        row, index, sign = assumed.row[these] - start, assumed.index[these], assumed.sign[these]
        low[row, index] = np.where(sign > 0, np.maximum(low[row, index], 0), low[row, index])
        high[row, index] = np.where(sign < 0, np.minimum(high[row, index], 0), high[row, index])
        alpha = np.where(high > -low, 1.0, 0.0)
        alpha[:, units] = slopes if len(slopes) == 1 else slopes[start:stop]
        multipliers: list[Multipliers] = []
        for p in state.parts[:layer]:
            m = (index >= p.start) & (index < p.stop)
            numbers = assumed.mantissa[these][m], assumed.power[these][m]
            multipliers.append((row[m], index[m] - p.start, *numbers))
        forms_, exponent = _scaled(mu, slice(start, stop), state.chain.bits)
        rows = Rows(
            layer,
            forms_,
            exponent,
            multipliers=multipliers,
            lines=_lines(state, layer, low, high, alpha, (row, index, sign)),
            owner=of,
        )
        forms = backward(state.chain.layers, state.chain.scale, rows, state.chain.bits)
        parts.append(forms.least(nodes.t_low[some], nodes.t_high[some]))
    out = Total(0)
    out.mantissa = np.concatenate([p.mantissa for p in parts])
    out.exponent = np.concatenate([p.exponent for p in parts])
    return out


def _scaled(mu: Any, some: slice, bits: int) -> tuple[Any, np.ndarray]:
    """Some of the forms with their exponents; arrays in as many bits as a pass takes."""
    if not isinstance(mu, np.ndarray):
        pair = tuple(m[some] for m in mu)
        return pair, np.zeros(len(pair[0]), dtype=np.int64)
    most = mu[some].max(axis=1, initial=1).astype(np.float64)
    shift = np.maximum(bits - 1 - np.frexp(most)[1].astype(np.int64), 0)
    return mu[some] << shift[:, None], -shift


def _lines(
    state: Case,
    layer: int,
    low: np.ndarray,
    high: np.ndarray,
    slopes: np.ndarray,
    assumed: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> list[Lines]:
    """The lines of the ReLUs before a layer, with these slopes below.

    relu(z) ≥ α z for every z: a slope holds for a stable neuron too, so that a proof need not know
    which ends of intervals the checker finds to be 0.
    Where a sign is assumed it decides, even if the bounds say that the neuron is 0: both lines
    hold then, and the proof was made with this one.
    """
    row, index, sign = assumed
    out = []
    for p in state.parts[:layer]:
        relu = state.relu[p]
        lines = Lines.of(relu, low[:, p], high[:, p], None, state.chain.bits)
        below = np.where(relu, slopes[:, p], lines.below)
        here = (index >= p.start) & (index < p.stop)
        here[here] = relu[index[here] - p.start]
        where = row[here], index[here] - p.start
        below[where] = lines.above[where] = np.where(sign[here] > 0, 1.0, 0.0)
        out.append(replace(lines, below=below))
    return out


def neurons(state: Case, columns: Columns, step: str) -> int:
    """The rule "neurons": close nodes, or split them on a sign or into their open clauses."""
    action = columns["action"]
    nodes = state.pop(len(action), step)
    if action.max() > _EXACT or len(columns["neuron"]) != (action == _SPLIT).sum():
        raise InvalidError("neurons", step, "an unknown action, or one neuron for each split")
    _close(state, nodes, np.flatnonzero(action == _LEAF), columns, step)
    exact = np.flatnonzero(action == _EXACT)
    signs, clause = _paths(state, nodes, exact, step), _clauses(nodes, exact, step)
    close_exactly(state, nodes, exact, signs, clause, columns, step)
    children, neuron = [], iter(columns["neuron"].tolist())
    for i in np.flatnonzero((action == _SPLIT) | (action == _CLAUSES)).tolist():
        if action[i] == _SPLIT:
            children.append(_split(state, nodes, i, next(neuron), step))
        else:
            open_ = np.flatnonzero(nodes.open[i])
            part = nodes.take(np.full(len(open_), i))
            part.open = open_[:, None] == np.arange(nodes.open.shape[1])
            children.append(part)
    if children:
        joined = Nodes.join(children)
        joined.number = state.created + np.arange(len(joined.number))
        state.created += len(joined.number)
        if len(joined.number):
            state.stack.append(joined)
    return len(action)


def _split(state: Case, nodes: Nodes, i: int, index: int, step: str) -> Nodes:
    """Node i where z ≥ 0, then where z ≤ 0, for one hidden neuron."""
    where = f"{step}, node {nodes.number[i]}"
    if not state.parts or index >= state.parts[-1].stop:
        raise InvalidError("split", where, f"hidden neuron {index} does not exist")
    layer = next(k for k, p in enumerate(state.parts) if index < p.stop)
    neuron = index - state.parts[layer].start
    if any(split[:2] == (layer, neuron) for split in nodes.splits[i]):
        raise InvalidError("split", where, f"hidden neuron {index} is split already")
    children = nodes.take(np.array([i, i]))
    children.low[0, index] = max(children.low[0, index], 0)
    children.high[1, index] = min(children.high[1, index], 0)
    children.splits = [(*nodes.splits[i], (layer, neuron, sign)) for sign in (1, -1)]
    return children


def _paths(
    state: Case, nodes: Nodes, index: np.ndarray, step: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, hidden neuron, sign) of all signs that some nodes assume, by layer and neuron.

    Raises:
        InvalidError: a node assumes the sign of a neuron twice.
    """
    table = [
        (r, state.parts[layer].start + neuron, sign)
        for r, i in enumerate(index.tolist())
        for layer, neuron, sign in sorted(nodes.splits[i])
    ]
    row, hidden, sign = np.array(table, dtype=np.int64).reshape(-1, 3).T
    if ((np.diff(row) == 0) & (np.diff(hidden) == 0)).any():
        raise InvalidError("leaf", step, "the sign of a neuron is assumed twice")
    return row, hidden, sign


def _clauses(nodes: Nodes, index: np.ndarray, step: str) -> np.ndarray:
    """The one open clause of each of some nodes."""
    several = np.flatnonzero(nodes.open[index].sum(axis=1) != 1)
    if len(several):
        number = nodes.number[index[several[0]]]
        raise InvalidError("leaf", f"{step}, node {number}", "not one open clause")
    return nodes.open[index].argmax(axis=1)


def _close(state: Case, nodes: Nodes, index: np.ndarray, columns: Columns, step: str) -> None:
    """Leaves: some combination of the clause's rows is positive on the node."""
    row, hidden, sign = _paths(state, nodes, index, step)
    clause, first = _clauses(nodes, index, step), state.clauses.first
    sizes = first[clause + 1] - first[clause]
    code, weight = columns["multiplier"], columns["weight"]
    if (
        len(code) != len(row)
        or len(weight) != sizes.sum()
        or (len(weight) and not 0 <= weight.min() <= weight.max() < 1 << 35)
    ):
        raise InvalidError(
            "leaf", step, f"{len(code)} multipliers, {len(row)} signs; {len(weight)} weights, "
            f"{sizes.sum()} rows",
        )  # fmt: skip
    before = state.parts[-1].stop if state.parts else 0
    units, slopes = _slopes(state, columns, len(index), before, step)
    if not len(index):
        return
    mu = np.zeros((len(index), len(state.clauses.rows)), dtype=np.int64)
    start = np.repeat(first[clause] - np.cumsum(sizes) + sizes, sizes)
    mu[np.repeat(np.arange(len(index)), sizes), start + np.arange(len(weight))] = weight
    assumed = _Assumed.of(row, hidden, sign, code)
    value = _least(state, len(state.parts), mu, nodes, index, assumed, units, slopes).mantissa
    strict = ((mu > 0) & state.clauses.strict).any(axis=1)
    empty = (nodes.low[index] > nodes.high[index]).any(axis=1)
    bad = np.flatnonzero(~((value > 0) | ((value == 0) & strict) | empty))
    for r in bad.tolist():
        mine, i = row == r, int(index[r])
        alpha = np.where(nodes.high[i] > -nodes.low[i], 1.0, 0.0)
        alpha[units] = slopes[0 if len(slopes) == 1 else r]
        parts = (hidden, sign, assumed.mantissa, assumed.power)
        signs = {
            h: (s, abs(m) * Fraction(2) ** p)
            for h, s, m, p in zip(*(part[mine].tolist() for part in parts), strict=True)
        }
        exact = backward_exactly(state, nodes, i, mu[r].tolist(), alpha.tolist(), signs)
        if exact is None or not (exact > 0 or (exact == 0 and strict[r])):
            raise InvalidError(
                "leaf", f"{step}, node {nodes.number[i]}",
                f"clause {clause[r]}: the lower bound is {value[r]}, not positive",
            )  # fmt: skip
