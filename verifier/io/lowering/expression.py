"""Affine expressions over neurons, and the neurons that they introduce.

Every tensor of the graph is, entry by entry, an affine expression over *neurons* that came before:

    t = Σ_g A_g n_g + c,        g over groups of neurons, n_0 the network's input.

A neuron is max(e, 0) or e for such an expression e. Linear operators rewrite expressions and need
no neurons, as long as the numbers can be composed exactly (``exact_affine``); where they cannot,
the expression first becomes neurons without ReLU. Nothing is ever rounded here, except by
``scale(..., rounded=True)``, whose caller reports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.core.errors import ModelError
from verifier.core.sparse import sp
from verifier.io.lowering.exact_affine import (
    add_matrices,
    affine_image,
    compose,
    exact_add,
    exact_product,
    significant_bits,
)

#: How much a composition may fill in: at most this many products per nonzero of the larger factor.
FILL_IN = 4


@dataclass(frozen=True, eq=False)
class Expression:
    """Σ_g terms[g] @ n_g + bias, for ``size`` entries.

    Args:
        terms: group number -> (size, group size) CSR with at least one nonzero.
        bias: (size,) float64.
    """

    terms: dict[int, sp.csr_array]
    bias: np.ndarray

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.bias)

    def counts(self) -> np.ndarray:
        """Nonzero coefficients of each entry."""
        total = np.zeros(self.size, dtype=np.int64)
        for matrix in self.terms.values():
            total += np.diff(matrix.indptr)
        return total

    def rows(self, index: np.ndarray) -> Expression:
        """The entries ``index``, in that order."""
        return _expression({g: m[index] for g, m in self.terms.items()}, self.bias[index])

    def references(self) -> int:
        """Number of distinct neurons that occur."""
        return sum(len(np.unique(matrix.indices)) for matrix in self.terms.values())


@dataclass(frozen=True, eq=False)
class Group:
    """Neurons that are computed together: max(e, 0) if ``relu``, else e.

    ``level`` is the layer that computes them: one more than the highest level in e; the network's
    input has level 0 and no expression.
    """

    level: int
    size: int
    relu: bool
    expression: Expression | None


def _expression(terms: dict[int, sp.csr_array], bias: np.ndarray) -> Expression:
    """An expression without empty terms."""
    return Expression({g: m for g, m in terms.items() if m.nnz}, bias)


def _rows_with(matrix: sp.csr_array, entries: np.ndarray) -> np.ndarray:
    """Mask of the rows that have one of the marked entries."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[entries]
    mask = np.zeros(matrix.shape[0], dtype=bool)
    mask[rows] = True
    return mask


def _scatter(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    """The 0-1 matrix with ones at (rows, columns), rows increasing and distinct."""
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    indptr[rows + 1] = 1
    return sp.csr_array((np.ones(len(rows)), columns, np.cumsum(indptr)), shape=shape)


def constant(values: np.ndarray) -> Expression:
    """The expression that has these values whatever the input."""
    return Expression({}, np.asarray(values, dtype=np.float64).ravel())


def stack(parts: Sequence[Expression]) -> Expression:
    """All entries of the parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    groups = {g: m.shape[1] for part in parts for g, m in part.terms.items()}
    terms = {}
    for g, width in groups.items():
        blocks = [p.terms.get(g, sp.csr_array((p.size, width))) for p in parts]
        terms[g] = sp.csr_array(sp.vstack(blocks, format="csr"))
    return Expression(terms, np.concatenate([p.bias for p in parts]))


class Neurons:
    """The growing list of neuron groups, and the operations on expressions that may add to it."""

    def __init__(self, n_inputs: int) -> None:
        self.groups = [Group(0, n_inputs, relu=False, expression=None)]
        self._made: dict[tuple[int, str], tuple[Expression, Expression]] = {}

    def input(self) -> Expression:
        """The network's input."""
        n = self.groups[0].size
        return Expression({0: sp.eye_array(n, format="csr")}, np.zeros(n))

    def level(self, expression: Expression) -> int:
        """The highest level of a neuron that occurs."""
        return max((self.groups[g].level for g in expression.terms), default=0)

    # ---- neurons -------------------------------------------------------------------------------

    def settle(self, expression: Expression, mode: str = "simple") -> Expression:
        """The same values, with entries that are not plain neurons turned into linear neurons.

        Args:
            expression: what to settle.
            mode: "carry" leaves entries that are one neuron times ±2^k, or constant; "simple"
                makes neurons of nonzero constants too; "all" leaves nothing as it is.
        """
        key = (id(expression), mode)
        if key not in self._made:
            keep = np.zeros(expression.size, dtype=bool)
            if mode != "all":
                keep = self._plain(expression)
            if mode == "carry":
                keep |= expression.counts() == 0
            settled = expression
            if not keep.all():
                share = mode == "carry"
                settled = self._neurons(expression, keep, relu=False, share=share)
            self._made[key] = (expression, settled)
        return self._made[key][1]

    def relu(self, expression: Expression) -> Expression:
        """max(e, 0): new neurons, except for entries that are constant or a ReLU already."""
        key = (id(expression), "relu")
        if key not in self._made:
            fixed = expression.counts() == 0
            rectified = np.where(fixed, np.maximum(expression.bias, 0.0), expression.bias)
            keep = fixed | (self._plain(expression) & self._nonnegative(expression))
            rest = Expression(expression.terms, rectified)
            result = rest if keep.all() else self._neurons(rest, keep, relu=True, share=True)
            self._made[key] = (expression, result)
        return self._made[key][1]

    def _plain(self, expression: Expression) -> np.ndarray:
        """Mask of entries that are zero, or one neuron times a power of two, without a bias."""
        plain = (expression.counts() <= 1) & (expression.bias == 0)
        for matrix in expression.terms.values():
            plain &= ~_rows_with(matrix, significant_bits(matrix.data) != 1)
        return plain

    def _nonnegative(self, expression: Expression) -> np.ndarray:
        """Mask of entries that are a sum of ReLUs with coefficients and bias >= 0."""
        mask = expression.bias >= 0
        for g, matrix in expression.terms.items():
            wrong = matrix.data < 0 if self.groups[g].relu else np.ones(matrix.nnz, dtype=bool)
            mask &= ~_rows_with(matrix, wrong)
        return mask

    def _neurons(
        self, expression: Expression, keep: np.ndarray, relu: bool, share: bool
    ) -> Expression:
        """The expression with the entries not in ``keep`` replaced by new neurons.

        Entries of different levels become different groups, so that each is computed as early as
        it can be. Equal entries share one neuron if ``share``; entries that are settled in order to
        be summed exactly must not.
        """
        levels = np.zeros(expression.size, dtype=np.int64)
        for g, matrix in expression.terms.items():
            levels[np.diff(matrix.indptr) > 0] = np.maximum(
                levels[np.diff(matrix.indptr) > 0], self.groups[g].level
            )
        flags = sp.dia_array((keep[None].astype(np.float64), [0]), shape=(len(keep), len(keep)))
        kept = {g: sp.csr_array(flags @ m) for g, m in expression.terms.items()}
        for matrix in kept.values():
            matrix.eliminate_zeros()
        for level in np.unique(levels[~keep]):
            rows = np.flatnonzero(~keep & (levels == level))
            part = expression.rows(rows)
            first, which = _distinct(part) if share else (np.arange(len(rows)),) * 2
            kept[len(self.groups)] = _scatter(rows, which, (expression.size, len(first)))
            part = part if len(first) == len(rows) else part.rows(first)
            self.groups.append(Group(int(level) + 1, len(first), relu, part))
        return _expression(kept, np.where(keep, expression.bias, 0.0))

    # ---- linear --------------------------------------------------------------------------------

    def select(self, parts: Sequence[Expression], positions: np.ndarray) -> Expression:
        """The entries ``positions`` of the stacked parts."""
        top = max(self.level(p) for p in parts)
        return stack([self._waiting(p, top) for p in parts]).rows(positions)

    def linear(
        self, expression: Expression, matrix: sp.csr_array, offset: np.ndarray
    ) -> Expression:
        """matrix @ e + offset, exactly."""
        for mode in ("", "simple", "all"):
            base = self.settle(expression, mode) if mode else expression
            terms = {}
            for g, inner in base.terms.items():
                product = compose(matrix, inner, FILL_IN * max(matrix.nnz, inner.nnz))
                if product is None:
                    break
                terms[g] = product
            else:
                bias = affine_image(matrix, base.bias, offset)
                if bias is not None:
                    return _expression(terms, bias)
        raise ModelError("a linear operator's numbers leave the range of float64")

    def scale(
        self,
        expression: Expression,
        factor: np.ndarray,
        offset: np.ndarray | None = None,
        rounded: bool = False,
    ) -> Expression:
        """factor * e + offset entry by entry; exact, or each product rounded if ``rounded``."""
        offset = np.zeros(expression.size) if offset is None else offset
        if rounded:
            return _scaled_rounded(expression, factor, offset)
        for mode in ("", "simple", "all"):
            base = self.settle(expression, mode) if mode else expression
            scaled = _scaled(base, factor, offset)
            if scaled is not None:
                return scaled
        raise ModelError("a product leaves the range of float64")

    def add(self, left: Expression, right: Expression) -> Expression:
        """left + right, exactly."""
        low, high = sorted((left, right), key=self.level)
        low = self._waiting(low, self.level(high))
        for mode in ("", "simple", "all"):
            total = _added(*((self.settle(e, mode) if mode else e) for e in (low, high)))
            if total is not None:
                return total
        raise ModelError("a sum leaves the range of float64")

    def subtract(self, left: Expression, right: Expression) -> Expression:
        """left - right, exactly."""
        return self.add(left, self.negate(right))

    def negate(self, expression: Expression) -> Expression:
        """-e."""
        return Expression({g: -m for g, m in expression.terms.items()}, -expression.bias)

    def _waiting(self, expression: Expression, level: int) -> Expression:
        """An expression that deeper ones wait to join, settled if that carries fewer numbers."""
        if self.level(expression) < level and expression.references() > expression.size:
            return self.settle(expression, "carry")
        return expression

    # ---- piecewise linear ----------------------------------------------------------------------

    def maximum(self, left: Expression, right: Expression) -> Expression:
        """max(left, right) = right + max(left - right, 0)."""
        gap = self.relu(self.subtract(left, right))
        return self.add(self.settle(right, "carry"), gap)

    def at_least(self, expression: Expression, low: np.ndarray) -> Expression:
        """max(e, low) = low + max(e - low, 0)."""
        bound = constant(low)
        return self.add(bound, self.relu(self.subtract(expression, bound)))

    def at_most(self, expression: Expression, high: np.ndarray) -> Expression:
        """min(e, high) = high - max(high - e, 0)."""
        bound = constant(high)
        return self.subtract(bound, self.relu(self.subtract(bound, expression)))

    def between(self, expression: Expression, low: np.ndarray, high: np.ndarray) -> Expression:
        """min(max(e, low), high) = low + max(e - low, 0) - max(e - high, 0), for low <= high.

        Where low > high it is high, as ONNX has it.
        """
        floor, ceiling = constant(np.minimum(low, high)), constant(high)
        above = self.relu(self.subtract(expression, floor))
        excess = self.relu(self.subtract(expression, ceiling))
        return self.add(floor, self.subtract(above, excess))

    def absolute(self, expression: Expression) -> Expression:
        """|e| = 2 max(e, 0) - e: one ReLU, where max(e, 0) + max(-e, 0) has two."""
        twice = self.scale(self.relu(expression), np.full(expression.size, 2.0))
        return self.subtract(twice, self.settle(expression, "carry"))

    def leaky(self, expression: Expression, slope: np.ndarray) -> Expression:
        """e where e >= 0, slope * e elsewhere.

        slope e + (1 - slope) max(e, 0) where 1 - slope is a float64 (so for every float32 slope
        met in practice): one ReLU; otherwise max(e, 0) - slope max(-e, 0), which has two.
        """
        rest = exact_add(np.ones_like(slope), -slope)
        if rest is not None:
            line = self.scale(self.settle(expression, "carry"), slope)
            return self.add(line, self.scale(self.relu(expression), rest))
        below = self.scale(self.relu(self.negate(expression)), slope)
        return self.subtract(self.relu(expression), below)


def _distinct(expression: Expression) -> tuple[np.ndarray, np.ndarray]:
    """(one index for each distinct entry, in order; for each entry the number of its twin)."""
    n = expression.size
    everyone = np.arange(n)
    rng = np.random.default_rng(0)
    signature = expression.bias * rng.random()
    for matrix in expression.terms.values():
        signature = signature + matrix @ rng.random(matrix.shape[1])
    _, first, which = np.unique(signature, return_index=True, return_inverse=True)
    if len(first) == n:
        return everyone, everyone
    twin = first[which]
    # A signature can coincide by chance: share only what is equal number by number.
    if (expression.bias != expression.bias[twin]).any() or any(
        (m != m[twin]).nnz for m in expression.terms.values()
    ):
        return everyone, everyone
    order = np.sort(first)
    return order, np.searchsorted(order, twin)


def _scaled(expression: Expression, factor: np.ndarray, offset: np.ndarray) -> Expression | None:
    """factor * e + offset, or None unless every number is exact."""
    terms = {}
    for g, matrix in expression.terms.items():
        data = exact_product(matrix.data, np.repeat(factor, np.diff(matrix.indptr)))
        if data is None:
            return None
        terms[g] = _with_data(matrix, data)
    bias = exact_product(expression.bias, factor)
    total = None if bias is None else exact_add(bias, offset)
    return None if total is None else _expression(terms, total)


def _scaled_rounded(expression: Expression, factor: np.ndarray, offset: np.ndarray) -> Expression:
    """factor * e + offset with every coefficient rounded to the nearest float64."""
    terms = {}
    with np.errstate(over="ignore"):
        for g, matrix in expression.terms.items():
            data = matrix.data * np.repeat(factor, np.diff(matrix.indptr))
            terms[g] = _with_data(matrix, data)
        wide = expression.bias.astype(np.longdouble) * factor + offset
        result = _expression(terms, wide.astype(np.float64))
    if not all(np.isfinite(m.data).all() for m in result.terms.values()):
        raise ModelError("a scaled weight leaves the range of float64")
    return result


def _with_data(matrix: sp.csr_array, data: np.ndarray) -> sp.csr_array:
    """The matrix with other nonzeros."""
    result = sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    if (data == 0).any():
        result = result.copy()
        result.eliminate_zeros()
    return result


def _added(left: Expression, right: Expression) -> Expression | None:
    """left + right, or None unless every number is exact."""
    bias = exact_add(left.bias, right.bias)
    if bias is None:
        return None
    terms = dict(left.terms)
    for g, matrix in right.terms.items():
        total = add_matrices(terms[g], matrix) if g in terms else matrix
        if total is None:
            return None
        terms[g] = total
    return _expression(terms, bias)
