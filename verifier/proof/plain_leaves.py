"""The rules "lemma" and "neurons", one leaf at a time: FORMAT.md, section 4."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from verifier.core.exact import common_denominator
from verifier.proof.format import Columns
from verifier.proof.outcome import InvalidError
from verifier.proof.plain_bounds import BITS, IS_ZERO, ONE, PASSES, Line, backward, behind, floor
from verifier.proof.plain_rules import Case, Node, Row, table

_LEAF, _SPLIT, _CLAUSES, _EXACT = 0, 1, 2, 3
#: neuron -> (sign that is assumed, code of its multiplier).
Signs = Mapping[int, tuple[int, int]]


class Slopes:
    """The slopes of some leaves.

    Args:
        case, columns, step: of the block.
        leaves: how many there are.
        before: neurons that may have one.
    """

    def __init__(self, case: Case, columns: Columns, leaves: int, before: int, step: str) -> None:
        data, self.codes = columns["units"].tolist(), columns["slopes"]
        self.units = [8 * i + k for i, v in enumerate(data) for k in range(8) if v >> k & 1]
        n = len(self.units)
        rows = 1 if len(self.codes) == n else leaves
        where = columns["fine_leaf"].tolist()
        fits = len(self.codes) == rows * n and len(columns["fine"]) == len(where) * n
        fits = fits and all(u < before for u in self.units) and all(i < rows for i in where)
        if not fits or 8 * len(data) >= len(case.relu) + 8:
            why = f"{len(self.codes)} bytes for {n} of {before} neurons and {leaves} leaves"
            raise InvalidError("slopes", step, why)
        self.shared = rows == 1
        self.fine = {i: columns["fine"][k * n : k * n + n] for k, i in enumerate(where)}

    def of(self, leaf: int) -> Iterator[tuple[int, int]]:
        """(neuron, slope) in units of 1 / ONE."""
        n, row = len(self.units), 0 if self.shared else leaf
        fine = self.fine[row].tolist() if row in self.fine else [0] * n
        codes = self.codes[row * n : row * n + n].tolist()
        for unit, c, f in zip(self.units, codes, fine, strict=True):
            yield unit, min(64 * (c + (c >= 128)) + f, ONE)


def _lines(case: Case, node: Node, slopes: Slopes, leaf: int, signs: Signs) -> list[Line]:
    """The lines of all neurons in a leaf, whose assumed signs decide whatever the bounds say."""
    lines = []
    for n, (low, high) in enumerate(zip(node.z_low, node.z_high, strict=True)):
        lines.append((ONE if high > -low else 0, low, high) if case.relu[n] else PASSES)
    for n, slope in slopes.of(leaf):
        if case.relu[n]:
            lines[n] = (slope, *lines[n][1:])
    for n, (sign, _) in signs.items():
        lines[n] = PASSES if sign > 0 or not case.relu[n] else IS_ZERO
    return lines


def _multipliers(signs: Signs) -> dict[int, tuple[int, int]]:
    """neuron -> (m, p) of every code: m 2^p, with the sign that is assumed."""
    out = {}
    for n, (sign, code) in signs.items():
        exponent = code >> 15 & 255
        out[n] = sign * (2**15 + code % 2**15 if exponent else 0), exponent - 142
    return out


def lemma(case: Case, columns: Columns, step: str) -> int:
    """The rule "lemma": bounds of one layer's neurons in the last node, each by a small tree."""
    found = columns["layer"].tolist()
    if len(found) != 1 or found[0] >= len(case.layers):
        raise InvalidError("lemma", step, "one hidden layer is wanted")
    (node,), layer = case.pop(1, step), case.layers[found[0]]
    goals = table(columns, ("neuron", "side", "leaves"), ("lemma", step))
    signs = table(columns, ("unit", "sign", "multiplier"), ("lemma", step))
    splits = columns["splits"].tolist()
    if (
        not goals
        or any(n >= len(layer.relu) or s > 1 or not 0 < c <= 4096 for n, s, c in goals)
        or any(unit >= layer.first or sign > 1 for unit, sign, _ in signs)
        or sum(c for _, _, c in goals) != len(splits) or sum(splits) != len(signs)
    ):  # fmt: skip
        raise InvalidError("lemma", step, "columns that do not fit")
    slopes = Slopes(case, columns, len(splits), layer.first, step)
    rest, leaves = iter(signs), enumerate(splits)
    low, high = list(node.z_low), list(node.z_high)
    for g, (neuron, side, count) in enumerate(goals):
        tree, least, n = [], [], layer.first + neuron
        for leaf, size in itertools.islice(leaves, count):
            assumed = {u: (1 - 2 * s, m) for u, s, m in itertools.islice(rest, size)}
            if len(assumed) != size:
                raise InvalidError("lemma", f"{step}, goal {g}", "a sign is assumed twice")
            tree.append(assumed)
            lines = _lines(case, node, slopes, leaf, assumed)
            form = case.bound(n, 1 - 2 * side, lines, _multipliers(assumed))
            least.append(form.least(node.low, node.high, case.scale))
        _require_partition(tree, f"{step}, goal {g}")
        if side:
            high[n] = min(high[n], -floor(min(least), layer.bound_scale))
        else:
            low[n] = max(low[n], floor(min(least), layer.bound_scale))
    case.stack.append(replace(node, z_low=low, z_high=high))
    return 0


def _require_partition(tree: Sequence[Signs], where: str) -> None:
    """The leaves are all of the node: no two are compatible, and their shares add up to 1."""
    units = {unit for signs in tree for unit in signs}
    if len(tree) * len(units) > 1 << 20:
        raise InvalidError("lemma", where, "leaves times neurons are more than 2^20")
    share = sum((Fraction(1, 2 ** len(signs)) for signs in tree), Fraction(0))
    for a, b in itertools.combinations(tree, 2):
        if share != 1 or not any(u in b and b[u][0] != s for u, (s, _) in a.items()):
            raise InvalidError("lemma", where, f"leaves that overlap, or their share is {share}")
    if share != 1:
        raise InvalidError("lemma", where, f"the leaves' share of the node is {share}, not 1")


class _Column:
    """Numbers that are taken one after another, and must all be."""

    def __init__(self, values: Sequence[Any], rule: str, step: str) -> None:
        self.values, self.at, self.where = values, 0, (rule, step)

    def take(self, count: int) -> list[Any]:
        """The next numbers."""
        self.at += count
        if self.at > len(self.values):
            raise InvalidError(*self.where, f"{len(self.values)} numbers, more are needed")
        return list(self.values[self.at - count : self.at])

    def close(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.values):
            why = f"{len(self.values)} numbers, only {self.at} are needed"
            raise InvalidError(*self.where, why)


def neurons(case: Case, columns: Columns, step: str) -> int:
    """The rule "neurons": close nodes, or split them on a sign or into their open clauses."""
    actions = columns["action"].tolist()
    nodes = case.pop(len(actions), step)
    slopes = Slopes(case, columns, actions.count(_LEAF), len(case.relu), step)
    names = ("neuron", "weight", "multiplier")
    split, weights, codes = (_Column(columns[n].tolist(), "neurons", step) for n in names)
    rationals = _Column(_rationals(columns, step), "exact leaf", step)
    children, leaf = [], 0
    for node, action in zip(nodes, actions, strict=True):
        where = f"{step}, node {node.number}"
        if action == _SPLIT:
            (n,) = split.take(1)
            if n >= len(case.relu) or any(n == unit for unit, _ in node.signs):
                raise InvalidError("split", where, f"no neuron {n}, or its sign is assumed already")
            children += [node.assuming(n, 1), node.assuming(n, -1)]
        elif action == _CLAUSES:
            children += [replace(node, open=frozenset({c})) for c in sorted(node.open)]
        elif action in (_LEAF, _EXACT):
            assumed = dict(sorted(node.signs))
            if len(node.open) != 1 or len(assumed) != len(node.signs):
                raise InvalidError("leaf", where, "not one open clause, or a sign assumed twice")
            rows = case.clauses[min(node.open)]
            if action == _LEAF:
                own = zip(assumed.items(), codes.take(len(assumed)), strict=True)
                signs = {n: (sign, code) for (n, sign), code in own}
                lines = _lines(case, node, slopes, leaf, signs)
                _close(case, node, rows, weights.take(len(rows)), lines, signs, where)
                leaf += 1
            else:
                some = rationals.take(len(assumed) + len(rows))
                _close_exactly(case, node, rows, some, assumed, where)
        else:
            raise InvalidError("neurons", where, f"there is no action {action}")
    case.push(children)
    for column in (split, weights, codes, rationals):
        column.close()
    return len(nodes)


def _sum(rows: Sequence[Row], weights: Sequence[int]) -> Row:
    """Σ weight · form, at most 0 where all rows are satisfied."""
    total = rows[0].form.times(weights[0])
    for row, w in zip(rows[1:], weights[1:], strict=True):
        total = total.plus(row.form.times(w))
    return Row(total, any(w and row.strict for row, w in zip(rows, weights, strict=True)))


def _close(
    case: Case, node: Node, rows: Sequence[Row], weights: Sequence[int], lines: list[Line],
    signs: Signs, where: str,
) -> None:  # fmt: skip
    """A backward leaf: rounded first, and without rounding if that does not do."""
    if not all(0 <= w < 1 << 35 for w in weights):
        raise InvalidError("leaf", where, "a weight that is not from 0 to 2^35")
    total, least = _sum(rows, weights), Fraction(0)
    for bits in (BITS, None):
        form = backward(case.layers, lines, total.form, _multipliers(signs), bits)
        least = form.least(node.low, node.high, case.scale)
        if node.is_empty or total.excluded_by(least):
            return
    why = f"clause {min(node.open)}: the lower bound is {least}, not positive"
    raise InvalidError("leaf", where, why)


def _rationals(columns: Columns, step: str) -> list[Fraction]:
    """Numbers ≥ 0, each the bytes of its numerator and of its denominator."""
    sizes, digits, numbers = columns["size"].tolist(), columns["digits"].tobytes(), []
    for size in sizes:
        numbers.append(int.from_bytes(digits[:size], "little"))
        digits = digits[size:]
    if len(sizes) % 2 or sum(sizes) != len(columns["digits"]) or 0 in numbers[1::2]:
        raise InvalidError("exact leaf", step, "rational numbers that do not fit their bytes")
    return [Fraction(p, q) for p, q in zip(numbers[::2], numbers[1::2], strict=True)]


def _close_exactly(
    case: Case, node: Node, rows: Sequence[Row], weights: Sequence[Fraction],
    assumed: Mapping[int, int], where: str,
) -> None:  # fmt: skip
    """An exact leaf: every ReLU is decided, and the network one affine map of the case's box."""
    if case.float32:
        raise InvalidError("exact leaf", where, "the network is not meant exactly")
    lines: list[Line] = []
    for n, ends in enumerate(zip(node.z_low, node.z_high, strict=True)):
        lines.append(_decided(case, node, n, ends, assumed.get(n), lines, where))
    whole, _ = common_denominator(weights)
    total = _sum(rows, whole[len(assumed) :])
    multipliers = {n: (s * w, 0) for (n, s), w in zip(assumed.items(), whole, strict=False)}
    form = backward(case.layers, lines, total.form, multipliers, None)
    least = form.least(case.box.lower, case.box.upper)
    if not total.excluded_by(least):
        why = f"clause {min(node.open)}: the least value is {least}, not positive"
        raise InvalidError("exact leaf", where, why)


def _decided(
    case: Case, node: Node, n: int, ends: tuple[int, int], sign: int | None,
    lines: Sequence[Line], where: str,
) -> Line:  # fmt: skip
    """Whether a ReLU passes on what it reads or is 0: by its sign, its bounds, or an exact range.

    Args:
        lines: of the neurons before, which are decided.
    """
    if not case.relu[n] or sign == 1:
        return PASSES
    if sign == -1 or ends[1] <= 0:
        return IS_ZERO
    if ends[0] >= 0:
        return PASSES
    k = case.layer_of[n]
    for side, line in ((1, PASSES), (-1, IS_ZERO)):
        found = [case.bound(n, side, lines, None, None).least(case.box.lower, case.box.upper)]
        if k:
            before = case.layers[k - 1]
            part = slice(before.first, case.layers[k].first)
            read = behind((node.z_low[part], node.z_high[part]), before.relu)
            found.append(case.row(n, side).least(*read, before.bound_scale))
        if max(found) >= 0:
            return line
    raise InvalidError("exact leaf", where, f"the sign of neuron {n} is not decided")
