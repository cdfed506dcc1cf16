"""All layers of a network as integers at once, with the pairs of a proof among their neurons.

Deep networks have thousands of small layers: what can be done for all of them in one array
operation is. Rows are numbered through the layers, each layer's neurons followed by its pairs; an
entry of a row is (key, value) with key = row · stride + column and the columns of the layer before:
its neurons, then its pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verifier.core.network import Layer
from verifier.core.sparse import sp
from verifier.proof.outcome import InvalidError

#: Entries that pairs may lead to, and rounds in which they are given out.
_MOST, _ROUNDS = 1 << 25, 64
#: In int64, sums of products and each bias stay below 2^SUM: with the biases of a pair, and two
#: such values added up, all is below 2^62.
SUM = 59


@dataclass(frozen=True, eq=False)
class Stage:
    """One layer: its neurons, then z_p + t z_r for each of its pairs.

    Args:
        matrix: (rows, 2 n) integers ≥ 0, n what the layer before hands on: the positive weights
            beside the sizes of the negative ones, times 2^-exponent. int64 or object.
        bits: no row's entries add up to 2^bits or more.
        exponent: see there.
        bias: (mantissa, power) of every neuron: b = mantissa 2^power, |mantissa| < 2^53.
        bias_top, bias_last: every |b| is below 2^bias_top and a multiple of 2^-bias_last.
        relu: of every neuron.
        first, second, sign: p, r and t of every pair.
    """

    matrix: Any
    bits: int
    exponent: int
    bias: tuple[np.ndarray, np.ndarray]
    bias_top: int
    bias_last: int
    relu: np.ndarray
    first: np.ndarray
    second: np.ndarray
    sign: np.ndarray

    @property
    def size(self) -> int:
        """Entries of the matrix."""
        return int(self.matrix.indptr[-1])

    @property
    def width(self) -> int:
        """Neurons and pairs."""
        return int(self.matrix.shape[0])


@dataclass(frozen=True, eq=False)
class Rows:
    """Integer entries in CSR form, which SciPy has for int64 only.

    Args:
        data, indices, indptr, shape: as those of a ``csr_array``.
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]


def flattened(
    layers: Sequence[Layer], p: np.ndarray, r: np.ndarray, t: np.ndarray, step: str
) -> list[Stage]:
    """The layers as stages.

    Args:
        layers: float layers.
        p, r, t: pairs, p ascending; neurons are numbered through all layers.
        step: for messages.

    Raises:
        InvalidError: two neurons that are no pair, or pairs that make the network too large.
    """
    counts = np.array([layer.n_out for layer in layers])
    offset = np.concatenate([[0], np.cumsum(counts)])
    relu = np.concatenate([layer.relu for layer in layers])
    for x in (p, r):
        if len(x) and not (x.min() >= 0 and x.max() < offset[-1]):
            raise InvalidError("pairs", step, f"there are {offset[-1]} neurons")
    numbers = _Numbers(counts, p, layers[0].n_in)
    wrong = np.flatnonzero((p == r) | (numbers.layer[p] != numbers.layer[r]) | ~relu[r])
    if len(wrong):
        i = wrong[0]
        raise InvalidError("pairs", f"{step}, pair {i}", f"{p[i]} and {r[i]} are no pair")
    rows, columns, values, exponent = _entries(layers, numbers)
    if len(p):
        rows, columns, values = _with_pairs(rows, columns, values, (p, r, t), numbers, step)
        rows, columns, values = _paired(rows, columns, values, (p, r, t), numbers, step)
    else:
        rows = numbers.place(rows)
    return list(_stages(layers, (rows, columns, values), exponent, (p, r, t), numbers))


class _Numbers:
    """Where neurons and pairs are.

    Args:
        counts: neurons of every layer.
        p: first neurons of the pairs, ascending.
        n_inputs: of the network.
    """

    def __init__(self, counts: np.ndarray, p: np.ndarray, n_inputs: int) -> None:
        self.counts = counts
        self.layer = np.repeat(np.arange(len(counts)), counts)
        self.pairs = np.bincount(self.layer[p], minlength=len(counts))
        #: First neuron, pair and row of each layer.
        self.neuron, self.pair, self.row = (
            np.concatenate([[0], np.cumsum(c)]) for c in (counts, self.pairs, counts + self.pairs)
        )
        #: More than any column.
        self.stride = int(max(n_inputs, (counts + self.pairs).max())) + 1

    def place(self, neurons: np.ndarray) -> np.ndarray:
        """The rows of some neurons."""
        return neurons + self.pair[self.layer[neurons]]

    def place_of_pairs(self, p: np.ndarray) -> np.ndarray:
        """The rows of the pairs."""
        k = self.layer[p]
        return np.arange(len(p)) + self.neuron[k + 1]


def _spread(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Ranges one after another: the first is start[0], …, start[0] + count[0] − 1."""
    total = np.cumsum(count)
    return np.arange(total[-1] if len(total) else 0) + np.repeat(start - total + count, count)


Entries = tuple[np.ndarray, np.ndarray, np.ndarray]


def _entries(
    layers: Sequence[Layer], numbers: _Numbers
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(neuron, column, value, exponent of each layer): w = value 2^exponent, sorted."""
    parts: list[Any] = [
        layer.weight if layer.is_sparse else sp.csr_array(layer.weight) for layer in layers
    ]
    parts = [m if m.has_sorted_indices else m.sorted_indices() for m in parts]
    rows = np.repeat(
        np.arange(numbers.neuron[-1]), np.concatenate([np.diff(m.indptr) for m in parts])
    )
    columns = np.concatenate([m.indices for m in parts]).astype(np.int64)
    whole, power = _dyadic(np.concatenate([m.data for m in parts]))
    owner = numbers.layer[rows]
    exponent = np.full(len(layers), 1 << 20)
    np.minimum.at(exponent, owner, power)
    exponent = np.where(exponent == 1 << 20, 0, exponent)
    shift = power - exponent[owner]
    size = np.frexp(whole.astype(np.float64))[1] + shift
    if size.max(initial=0) <= SUM:
        return rows, columns, whole << shift, exponent
    return rows, columns, whole.astype(object) << shift.astype(object), exponent


def _dyadic(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Odd integers and exponents of two with values = integer 2^exponent (0 2^0 for 0)."""
    mantissa, power = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1].astype(np.int64) - 1
    zeros = np.maximum(lowest, 0)
    return whole >> zeros, np.where(whole == 0, 0, power.astype(np.int64) - 53 + zeros)


def _with_pairs(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    pairs: Entries,
    numbers: _Numbers,
    step: str,
) -> Entries:
    """The entries of all rows, with z_p + t z_r of each pair among them."""
    p, r, t = pairs
    start = np.searchsorted(rows, np.arange(numbers.neuron[-1] + 1))
    parts = []
    for neuron, sign in ((p, np.ones_like(t)), (r, t)):
        count = start[neuron + 1] - start[neuron]
        _require(int(count.sum()), step)
        entry, pair = _spread(start[neuron], count), np.repeat(np.arange(len(p)), count)
        parts.append((pair * numbers.stride + columns[entry], sign[pair] * values[entry]))
    keys, terms = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    keys, terms = keys[order], terms[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    if len(first):
        keys, terms = keys[first], np.add.reduceat(terms, first)
    keys, terms = keys[terms != 0], terms[terms != 0]
    pair, column = keys // numbers.stride, keys % numbers.stride
    return (
        np.concatenate([numbers.place(rows), numbers.place_of_pairs(p)[pair]]),
        np.concatenate([columns, column]),
        np.concatenate([values, terms]),
    )


def _require(count: int, step: str) -> None:
    if count > _MOST:
        raise InvalidError("pairs", step, f"pairs with {count} entries; {_MOST} are allowed")


def _paired(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    pairs: Entries,
    numbers: _Numbers,
    step: str,
) -> Entries:
    """c a_p + c t a_r as c times the pair's column, in every row where p and r are free.

    Of several pairs that want one entry the first has it: pairs in the order of p, then r.
    """
    p, r, t = pairs
    keys = rows * numbers.stride + columns
    order = np.argsort(keys)
    rows, columns, values, keys = rows[order], columns[order], values[order], keys[order]
    owner = np.searchsorted(numbers.row, rows, "right") - 1
    # The row that each entry reads: inputs are none.
    source = np.where(owner > 0, numbers.row[owner - 1] + columns, -1)
    by_source = np.argsort(source, kind="stable")
    begin = np.searchsorted(source[by_source], numbers.place(p))
    count = np.searchsorted(source[by_source], numbers.place(p), "right") - begin
    _require(int(count.sum()), step)
    entry, pair = by_source[_spread(begin, count)], np.repeat(np.arange(len(p)), count)
    wanted = rows[entry] * numbers.stride + (r - numbers.neuron[numbers.layer[r]])[pair]
    other = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = (keys[other] == wanted) & (values[other] == t[pair] * values[entry])
    entry, other, pair = entry[found], other[found], pair[found]
    order = np.lexsort((r[pair], entry))
    entry, other, pair = entry[order], other[order], pair[order]
    taken, chosen = _first_come(entry, other, len(keys))
    entry, pair = entry[chosen], pair[chosen]
    k = numbers.layer[p[pair]]
    column = numbers.counts[k] + pair - numbers.pair[k]
    rows = np.concatenate([rows[~taken], rows[entry]])
    columns = np.concatenate([columns[~taken], column])
    values = np.concatenate([values[~taken], values[entry]])
    order = np.argsort(rows, kind="stable")
    return rows[order], columns[order], values[order]


def _first_come(one: np.ndarray, two: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of wishes for two entries each, in order, those granted: no entry is given away twice.

    Returns:
        (which entries are taken, which wishes are granted).
    """
    taken, chosen, left = np.zeros(count, dtype=bool), [], np.arange(len(one))
    for _ in range(_ROUNDS):
        if not len(left):
            break
        first = np.full(count, len(one))
        np.minimum.at(first, one[left], left)
        np.minimum.at(first, two[left], left)
        granted = left[(first[one[left]] == left) & (first[two[left]] == left)]
        taken[one[granted]] = taken[two[granted]] = True
        chosen.append(granted)
        left = left[~(taken[one[left]] | taken[two[left]])]
    return taken, np.concatenate(chosen) if chosen else left


def _stages(
    layers: Sequence[Layer],
    entries: Entries,
    exponent: np.ndarray,
    pairs: Entries,
    numbers: _Numbers,
) -> Iterator[Stage]:
    """Layer by layer."""
    rows, columns, values = entries
    p, r, t = pairs
    indptr = np.searchsorted(rows, np.arange(numbers.row[-1] + 1))
    mantissa, power = _dyadic(np.concatenate([layer.bias for layer in layers]))
    top = np.where(mantissa == 0, -(1 << 20), power + np.frexp(np.abs(mantissa).astype(float))[1])
    last = np.where(mantissa == 0, -(1 << 20), -power)
    n = layers[0].n_in
    for k, layer in enumerate(layers):
        begin, end = numbers.row[k], numbers.row[k + 1]
        here = slice(int(indptr[begin]), int(indptr[end]))
        neurons, some = (slice(int(x[k]), int(x[k + 1])) for x in (numbers.neuron, numbers.pair))
        data, bits = _summable(values[here], int(np.diff(indptr[begin : end + 1]).max(initial=0)))
        negative, local = (data < 0).astype(np.int64), indptr[begin : end + 1] - here.start
        parts, shape = (
            (np.abs(data), columns[here] + n * negative, local),
            (int(end - begin), 2 * n),
        )
        matrix: Any = (
            Rows(*parts, shape) if data.dtype == object else sp.csr_array(parts, shape=shape)
        )
        yield Stage(
            matrix, bits, int(exponent[k]),
            (mantissa[neurons], power[neurons]),
            int(top[neurons].max(initial=-(1 << 20))), int(last[neurons].max(initial=-(1 << 20))),
            layer.relu, p[some] - neurons.start, r[some] - neurons.start, t[some],
        )  # fmt: skip
        n = int(end - begin)


def _summable(values: np.ndarray, longest: int) -> tuple[np.ndarray, int]:
    """Values in int64 if possible, and bits of what a row with so many of them adds up to."""
    size = max(int(values.max(initial=0)), -int(values.min(initial=0)))
    bits = (size * longest).bit_length()
    if values.dtype == object and bits <= SUM:
        values = values.astype(np.int64)
    return (values, bits) if values.dtype != object else (values, max(bits, SUM + 1))
