"""The record of a neuron-splitting search as a proof."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.core.errors import CertificateError
from verifier.proof.case import Case
from verifier.proof.format import Writer
from verifier.search.branch_and_bound import NeuronSplitTree
from verifier.search.split_record import LeafRecord, Lemma
from verifier.search.subproblems import WEIGHT_BITS

#: Numbers that the nodes of one block may have in the checker, and bytes of slopes of a lemma.
_NUMBERS, _BYTES = 1 << 19, 1 << 22
_LEAF, _SPLIT, _CLAUSES, _EXACT = 0, 1, 2, 3
#: Weights are multiples of 2^-_WEIGHT in the search.
_WEIGHT = WEIGHT_BITS[True]


def write(tree: NeuronSplitTree, case: Case, writer: Writer) -> None:
    """Append the blocks of one case.

    Args:
        tree: what the search did.
        case: the checker's view of the case.
        writer: of the proof.

    Raises:
        CertificateError: the constraints of a clause have scales too far apart.
    """
    starts = np.array([part.start for part in case.parts], dtype=np.int64)
    for lemma in tree.lemmas:
        _write_lemma(lemma, starts, case, writer)
        if case.float32:
            writer.block("rounding")
    if len(case.clauses.first) > 2:
        writer.block("neurons", action=[_CLAUSES])
    _Tree(tree, starts, case).write(writer)


def _bits(units: np.ndarray, case: Case) -> np.ndarray:
    """A bit for each hidden neuron: those that slopes are given for."""
    mask = np.zeros(case.parts[-1].stop if case.parts else 0, dtype=np.uint8)
    mask[units] = 1
    return np.packbits(mask, bitorder="little")


def _codes(multipliers: np.ndarray, scale: int = 0) -> np.ndarray:
    """8 bits of exponent and 15 of mantissa of float32 numbers times 2^scale, without signs."""
    code = (np.abs(multipliers).astype(np.float32).view(np.uint32) >> 8).astype(np.int64)
    moved = code + (scale << 15)
    return np.where((code == 0) | (moved < 1 << 15), 0, np.minimum(moved, (1 << 23) - 1))


def _fine(record: LeafRecord, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of some leaves have second bytes of slopes, and these."""
    at = np.searchsorted(record.fine_leaf, rows)
    there = np.flatnonzero(np.append(record.fine_leaf, -1)[at] == rows)
    return there, record.fine[at[there]].ravel()


def _write_lemma(lemma: Lemma, starts: np.ndarray, case: Case, writer: Writer) -> None:
    """Some goals at a time."""
    record, units = lemma.record, starts[lemma.units[:, 0]] + lemma.units[:, 1]
    bits = _bits(units, case)
    # Slopes are in the order of the units, which is that of the hidden neurons.
    shared = len(record.slopes) == 1
    ends = np.concatenate([[0], np.cumsum(lemma.leaves)])
    signs = np.concatenate([[0], np.cumsum(record.splits)])
    most = max(1, _BYTES // max(1, len(units)))
    first, count = 0, len(lemma.leaves)
    while first < count:
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + most, "right")) - 1)
        last = count if shared else min(count, last)
        leaves = slice(ends[first], ends[last])
        part = slice(signs[leaves.start], signs[leaves.stop])
        fine_leaf, fine = _fine(record, np.arange(leaves.start, leaves.stop))
        writer.block(
            "lemma", layer=[lemma.layer], neuron=lemma.neuron[first:last],
            side=lemma.side[first:last], leaves=lemma.leaves[first:last],
            splits=record.splits[leaves], unit=units[record.unit[part]],
            sign=record.sign[part] < 0, multiplier=_codes(record.multiplier[part]), units=bits,
            slopes=(record.slopes if shared else record.slopes[leaves]).ravel(),
            fine_leaf=fine_leaf, fine=fine,
        )  # fmt: skip
        first = last


class _Tree:
    """The nodes of a search, ready to be visited as the checker will."""

    def __init__(self, tree: NeuronSplitTree, starts: np.ndarray, case: Case) -> None:
        self.tree, self.case = tree, case
        self.hidden = starts[tree.layer] + tree.neuron if len(starts) else tree.neuron
        self.child = np.full((2, len(tree.parent)), -1)
        inner = np.flatnonzero(tree.parent >= 0)
        self.child[(tree.sign[inner] < 0).astype(int), tree.parent[inner]] = inner
        self.where = {
            int(node): (record, row)
            for record in tree.leaves
            for row, node in enumerate(record.node)
        }
        self.starts = {id(r): np.concatenate([[0], np.cumsum(r.splits)]) for r in tree.leaves}
        self.shift = [_shift(a, b) for a, b in zip(tree.rows, case.clauses.rows, strict=True)]
        units = [
            starts[k] + np.flatnonzero(relu & (low < 0) & (high > 0))
            for k, (low, high, relu) in enumerate(self._hidden_layers())
        ]
        self.bits = _bits(np.concatenate(units) if units else np.zeros(0, dtype=int), case)

    def _hidden_layers(self) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        layers = zip(self.tree.bounds[:-1], self.case.parts, strict=True)
        return ((low, high, self.case.relu[part]) for (low, high), part in layers)

    def write(self, writer: Writer) -> None:
        """Blocks of as many nodes as the checker can hold, the last ones first."""
        size = len(self.case.relu) + len(self.case.chain.corner)
        batch = int(np.clip(_NUMBERS // size, 16, 1024))
        stack = np.flatnonzero(self.tree.parent < 0).tolist()
        while stack:
            nodes, stack = stack[-batch:], stack[:-batch]
            action = [self._action(n) for n in nodes]
            leaves, inner, exact = (
                [n for n, a in zip(nodes, action, strict=True) if a == kind]
                for kind in (_LEAF, _SPLIT, _EXACT)
            )
            children = [self.child[:, n].tolist() for n in inner]
            writer.block(
                "neurons", action=action, neuron=[self.hidden[a] for a, _ in children],
                **self._leaves(leaves), **self._exact(exact),
            )  # fmt: skip
            stack += [c for pair in children for c in pair]

    def _action(self, node: int) -> int:
        """What becomes of a node."""
        if node in self.where:
            return _LEAF
        return _EXACT if node in self.tree.regions else _SPLIT

    def _leaves(self, nodes: list[int]) -> dict[str, Any]:
        """Slopes, weights and multipliers of leaves."""
        slopes, weights, multipliers, fine_leaf, fine = [], [], [], [], []
        first = self.case.clauses.first
        for i, node in enumerate(nodes):
            record, row = self.where[node]
            clause = self.tree.clause[node]
            rows = slice(first[clause], first[clause + 1])
            one = not record.weights.shape[1]
            some = np.ones(1) if one else record.weights[row, rows]
            # The checker's rows are the search's times powers of two.
            shift = np.array(self.shift[rows])
            top = int(shift.max())
            unit = 0 if one else _WEIGHT
            numbers = np.rint(some * 2.0**unit).astype(np.int64)
            weights.append(numbers << np.minimum(top - shift, 37))
            start = self.starts[id(record)]
            part = slice(start[row], start[row + 1])
            multipliers.append(_codes(record.multiplier[part], top + unit))
            slopes.append(record.slopes[row])
            there, second = _fine(record, np.array([row]))
            fine_leaf += [i] * len(there)
            fine.append(second)
        if not nodes:
            return {}
        weight = np.concatenate(weights)
        if weight.max() > 1 << (self.case.chain.bits - 1):
            raise CertificateError("the constraints of a clause have scales too far apart")
        return {
            "units": self.bits,
            "slopes": np.concatenate(slopes),
            "fine_leaf": fine_leaf,
            "fine": np.concatenate(fine),
            "weight": weight,
            "multiplier": np.concatenate(multipliers),
        }

    def _exact(self, nodes: list[int]) -> dict[str, Any]:
        """The weights of exact leaves."""
        size: list[int] = []
        digits = bytearray()
        first = self.case.clauses.first
        for node in nodes:
            weights = list(self.tree.regions[node].weights)
            clause = self.tree.clause[node]
            rows = range(first[clause], first[clause + 1])
            signs = len(weights) - len(rows)
            for i, row in enumerate(rows):
                weights[signs + i] /= self.tree.scales[row] * Fraction(2) ** self.shift[row]
            for w in weights:
                for number in (w.numerator, w.denominator):
                    data = number.to_bytes((number.bit_length() + 7) // 8, "little")
                    size.append(len(data))
                    digits += data
        return {"size": size, "digits": np.frombuffer(bytes(digits), dtype=np.uint8)}


def _shift(row: np.ndarray, checked: np.ndarray) -> int:
    """The s with checked == row 2^s, the same constraint with integers as coefficients."""
    used = np.flatnonzero(row)
    return int(np.frexp(checked[used[0]] / row[used[0]])[1]) - 1 if len(used) else 0
