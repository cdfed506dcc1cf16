"""The rules on trees of nodes, one node and one form at a time: FORMAT.md, section 4."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from verifier.core.exact import common_denominator
from verifier.core.network import Network
from verifier.core.property import LinearConstraint, Property
from verifier.proof.format import Columns
from verifier.proof.outcome import InvalidError
from verifier.proof.plain_bounds import (
    BITS,
    ONE,
    PASSES,
    Form,
    Line,
    backward,
    dyadic,
    floor,
    read,
)  # fmt: skip

_LEAF, _INPUT, _NEURON, _AGAIN = 0, 1, 2, 3


@dataclass(frozen=True)
class Node:
    """A part of the box, with what FORMAT.md calls its claim.

    Args:
        low, high: of the inputs, times 2^scale of the case.
        z_low, z_high: of all hidden neurons, in units of their layers.
        signs: (neuron, sign) of each assumption sign · z ≥ 0.
        open: clauses that are not excluded.
        number: for messages; the root is 0.
    """

    low: list[int]
    high: list[int]
    z_low: list[int]
    z_high: list[int]
    signs: tuple[tuple[int, int], ...]
    open: frozenset[int]
    number: int

    @property
    def is_empty(self) -> bool:
        """Whether the bounds contradict each other."""
        return any(low > high for low, high in zip(self.z_low, self.z_high, strict=True))

    def assuming(self, neuron: int, sign: int) -> Node:
        """The part where sign · z ≥ 0."""
        ends = list(self.z_low if sign > 0 else self.z_high)
        ends[neuron] = max(ends[neuron], 0) if sign > 0 else min(ends[neuron], 0)
        signs = (*self.signs, (neuron, sign))
        if sign > 0:
            return replace(self, z_low=ends, signs=signs)
        return replace(self, z_high=ends, signs=signs)

    def part(self, axis: int, low: int, high: int) -> Node:
        """The part with other ends of one input."""
        ends = [list(self.low), list(self.high)]
        ends[0][axis], ends[1][axis] = low, high
        return replace(self, low=ends[0], high=ends[1])


@dataclass(frozen=True)
class Row:
    """A row of a clause: form ≤ 0, or < 0 if strict, at the points that satisfy it."""

    form: Form
    strict: bool

    def excluded_by(self, least: Fraction) -> bool:
        """Whether no point satisfies it if its form is at least this."""
        return least > 0 or (least == 0 and self.strict)


def rows_of(clause: Sequence[LinearConstraint], n: int, step: str) -> list[Row] | None:
    """The rows of a clause; None if one of them never holds."""
    if any(not c.terms and not c.holds(()) for c in clause):
        return None
    rows = []
    for c in clause:
        if c.terms:
            row = [Fraction(0)] * n
            for i, v in c.terms:
                row[i] -= v
            integers, q = common_denominator(row)
            rows.append(Row(Form(c.bound * q, integers, 0), c.strict))
    if not rows:
        raise InvalidError("case", step, "a clause is always true: every point is unsafe")
    return rows


class Case:
    """The state of a check of one case: layers, clauses, and the stack of open nodes."""

    def __init__(self, network: Network, prop: Property, index: int, float32: bool) -> None:
        self.network, self.box, self.float32 = network, prop.cases[index].box, float32
        found = [
            rows_of(clause, network.n_outputs, f"case {index}")
            for clause in prop.cases[index].clauses
        ]
        self.clauses = [rows for rows in found if rows is not None]
        pairs = list(zip(self.box.lower, self.box.upper, strict=True))
        reach = max(b - a for a, b in pairs)
        reach = reach or max(abs(v) for v in (*self.box.lower, Fraction(1)))
        self.scale = 58 - reach.numerator.bit_length() + reach.denominator.bit_length()
        self.origin = [floor(a, self.scale) for a, _ in pairs]
        high = [-floor(-b, self.scale) for _, b in pairs]
        self.layers, bounds = read(network.layers, (self.origin, high), self.scale, float32)
        z_low, z_high = (list(itertools.chain(*ends)) for ends in zip(*bounds, strict=True))
        every = frozenset(range(len(self.clauses)))
        root = Node(self.origin, high, z_low, z_high, (), every, 0)
        self.stack, self.created = [root] if every else [], 1
        self.relu = [r for layer in self.layers for r in layer.relu]
        self.layer_of = [k for k, layer in enumerate(self.layers) for _ in layer.relu]

    def pop(self, count: int, step: str) -> list[Node]:
        """The last nodes of the stack, in its order."""
        if not 0 < count <= min(len(self.stack), 4096):
            why = f"{count} nodes wanted, {len(self.stack)} are open; at most 4096 at once"
            raise InvalidError("stack", step, why)
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def push(self, children: Sequence[Node]) -> None:
        """Put new nodes on the stack."""
        self.stack += [replace(c, number=self.created + i) for i, c in enumerate(children)]
        self.created += len(children)

    def bound(
        self, neuron: int, sign: int, lines: Sequence[Line],
        multipliers: Mapping[int, tuple[int, int]] | None = None, bits: int | None = BITS,
    ) -> Form:  # fmt: skip
        """A lower bound of sign · z of a hidden neuron in the inputs."""
        before = self.layers[: self.layer_of[neuron]]
        return backward(before, lines, self.row(neuron, sign), multipliers, bits)

    def row(self, neuron: int, sign: int) -> Form:
        """A lower bound of sign · z of a hidden neuron in what its layer reads."""
        layer = self.layers[self.layer_of[neuron]]
        i, end = neuron - layer.first, 0 if sign > 0 else 1
        const = dyadic(sign * layer.bias[end][i], layer.bias_scale)
        return Form(const, [sign * w for w in layer.weight[i].tolist()], layer.scale)


def table(
    columns: Columns, names: Sequence[str], where: tuple[str, str], keys: int = 0
) -> list[tuple[int, ...]]:
    """The rows of some columns; the first ``keys`` numbers ascend strictly from row to row."""
    lists = [columns[name].tolist() for name in names]
    if len({len(column) for column in lists}) > 1:
        raise InvalidError(*where, f"the columns {', '.join(names)} have different lengths")
    rows = list(zip(*lists, strict=True))
    if keys and any(a[:keys] >= b[:keys] for a, b in itertools.pairwise(rows)):
        raise InvalidError(*where, f"the columns {', '.join(names[:keys])} do not ascend")
    return rows


def by_node(rows: list[tuple[int, ...]]) -> dict[int, list[tuple[int, ...]]]:
    """What a table says of each node, whose number is in its first column."""
    groups = itertools.groupby(rows, key=lambda row: row[0])
    return {node: [row[1:] for row in some] for node, some in groups}


def visit(case: Case, columns: Columns, step: str) -> int:
    """The rule "visit": bound, close, cut, split."""
    actions = table(columns, ("action", "axis", "at"), ("visit", step))
    nodes = case.pop(len(actions), step)
    slopes = table(columns, ("slope_node", "slope_neuron", "slope"), ("slope", step), 2)
    closes = table(columns, ("close_node", "close_clause"), ("close", step), 2)
    cuts = table(columns, ("cut_node", "cut_axis", "cut_above", "cut_at"), ("cut", step), 3)
    weights = iter(columns["weight"].tolist())
    for rule, rows, limits in (
        ("slope", slopes, (len(nodes), len(case.relu), 2)),
        ("close", closes, (len(nodes), len(case.clauses))),
        ("cut", cuts, (len(nodes), len(case.origin), 2)),
    ):
        if any(v >= limit for row in rows for v, limit in zip(row, limits, strict=False)):
            raise InvalidError(rule, step, "a node, neuron, clause or input that does not exist")
    named, to_close, to_cut = by_node(slopes), by_node(closes), by_node(cuts)
    for i, (node, action) in enumerate(zip(nodes, actions, strict=True)):
        where = f"{step}, node {node.number}"
        node, lines = _tightened(case, node, {n: ONE * v for n, v in named.get(i, [])})
        clauses = [c for (c,) in to_close.get(i, [])]
        node = _closed(case, node, lines, clauses, weights, to_cut.get(i, []), where)
        _act(case, node, action, where)
    if next(weights, None) is not None:
        raise InvalidError("close", step, "more weights than forms")
    return len(nodes)


def _tightened(case: Case, node: Node, named: Mapping[int, int]) -> tuple[Node, list[Line]]:
    """The node with every unstable neuron bounded again, layer by layer; the lines of all."""
    low, high = list(node.z_low), list(node.z_high)
    lines: list[Line] = []
    for layer in case.layers:
        neurons = range(layer.first, layer.first + len(layer.relu))
        for n in neurons:
            if case.relu[n] and low[n] < 0 < high[n]:
                forms = case.bound(n, 1, lines), case.bound(n, -1, lines)
                least, other = (f.least(node.low, node.high, case.scale) for f in forms)
                low[n] = max(low[n], floor(least, layer.bound_scale))
                high[n] = min(high[n], -floor(other, layer.bound_scale))
        for n in neurons:
            slope = ONE if 1024 * high[n] > -1023 * low[n] else 0
            if n in named and low[n] < 0 < high[n]:
                slope = named[n]
            lines.append((slope, low[n], high[n]) if case.relu[n] else PASSES)
    node = replace(node, z_low=low, z_high=high)
    return replace(node, open=frozenset()) if node.is_empty else node, lines


def _closed(
    case: Case, node: Node, lines: Sequence[Line], closes: list[int],
    weights: Iterator[int], cuts: list[tuple[int, ...]], where: str,
) -> Node:  # fmt: skip
    """The node after single forms, combinations and cuts."""
    rows = {
        c: [Row(backward(case.layers, lines, r.form), r.strict) for r in case.clauses[c]]
        for c in node.open
    }
    signs = [Row(case.bound(n, -s, lines), False) for n, s in node.signs if node.open]

    def excluded(part: Node, some: Sequence[Row]) -> bool:
        return any(r.excluded_by(r.form.least(part.low, part.high, case.scale)) for r in some)

    kept = [] if excluded(node, signs) else [c for c in rows if not excluded(node, rows[c])]
    for c in closes:
        w = list(itertools.islice(weights, len(case.clauses[c]) + len(node.signs)))
        if len(w) < len(case.clauses[c]) + len(node.signs):
            raise InvalidError("close", where, "too few weights")
        if c in kept:
            least = _combined(list(zip(w, rows[c] + signs, strict=True)), node, case.scale)
            if least is not None:
                why = f"clause {c}: the combination's least value is {least}, not positive"
                raise InvalidError("close", where, why)
            kept.remove(c)
    for axis, above, at in cuts:
        low, high, middle = node.low[axis], node.high[axis], at + case.origin[axis]
        if not low < middle < high:
            ends = (v - case.origin[axis] for v in (low, high))
            raise InvalidError("cut", where, f"{at} is not between {next(ends)} and {next(ends)}")
        lower, upper = node.part(axis, low, middle), node.part(axis, middle, high)
        removed, node = (upper, lower) if above else (lower, upper)
        if not excluded(removed, signs) and not all(excluded(removed, rows[c]) for c in kept):
            why = f"input {axis}: no form of some clause is positive on what is cut at {at}"
            raise InvalidError("cut", where, why)
    return replace(node, open=frozenset(kept))


def _combined(terms: list[tuple[int, Row]], node: Node, scale: int) -> Fraction | None:
    """The least value of Σ weight · form if it excludes no row, else None."""
    (w, row), *others = terms
    total = row.form.times(w)
    for w, row in others:
        total = total.plus(row.form.times(w))
    least = total.least(node.low, node.high, scale)
    strict = any(w and row.strict for w, row in terms)
    return None if Row(total, strict).excluded_by(least) else least


def _act(case: Case, node: Node, what: tuple[int, ...], where: str) -> None:
    """What becomes of a node that is bounded, closed and cut."""
    action, axis, at = what
    if action == _LEAF:
        if node.open:
            raise InvalidError("leaf", where, f"clause {min(node.open)} is still open")
    elif action == _INPUT:
        if axis >= len(node.low) or not (
            node.low[axis] < (middle := at + case.origin[axis]) < node.high[axis]
        ):
            raise InvalidError("split", where, f"input {axis} at {at} is not inside of the box")
        halves = (node.low[axis], middle), (middle, node.high[axis])
        case.push([node.part(axis, *ends) for ends in halves])
    elif action == _NEURON:
        if axis >= len(case.layers) or not 0 <= at < len(case.layers[axis].relu):
            raise InvalidError("split", where, f"neuron {at} of layer {axis} does not exist")
        neuron = case.layers[axis].first + at
        case.push([node.assuming(neuron, 1), node.assuming(neuron, -1)])
    elif action == _AGAIN:
        case.stack.append(node)
    else:
        raise InvalidError("visit", where, f"there is no action {action}")


def rounding(case: Case, columns: Columns, step: str) -> int:
    """The rule "rounding": what float32 may lose, once more from the bounds of the only node."""
    (node,) = case.pop(1, step)
    if case.stack or not case.float32 or node.is_empty:
        why = "more than one node, bounds that contradict each other, or exact arithmetic"
        raise InvalidError("rounding", step, why)
    known = []
    for y in case.layers:
        part = slice(y.first, y.first + len(y.relu))
        known.append((node.z_low[part], node.z_high[part], y.bound_scale))
    high = [-floor(-b, case.scale) for b in case.box.upper]
    case.layers, bounds = read(case.network.layers, (case.origin, high), case.scale, True, known)
    low, high = (list(itertools.chain(*ends)) for ends in zip(*bounds, strict=True))
    case.stack.append(replace(node, z_low=low, z_high=high))
    return 0
