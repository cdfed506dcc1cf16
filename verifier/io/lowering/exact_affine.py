"""Sums and products of float64 arrays that are carried out only where they are exact.

Every function either returns float64 arrays that equal the real result exactly, or None. A float64
x != 0 is odd * 2^e for one integer e, its low bit; it has msb(x) - e + 1 significant bits.

- A product is exact if the two numbers of significant bits sum to at most 53, or if one is a power
  of two, and nothing over- or underflows.
- A sum is exact, in any order, if all terms are multiples of one 2^e and the sum of their absolute
  values stays below 2^(53 + e): then so does every partial sum, and float64 holds every multiple of
  2^e below that.

Both conditions are sufficient, not necessary: None means "not seen to be exact".
"""

from __future__ import annotations

import numpy as np

from verifier.core.sparse import sp

_LOWEST_EXPONENT = -1074
_NO_BIT = 4096  # low bit of zero: above every exponent


def low_bits(values: np.ndarray) -> np.ndarray:
    """For each float64 the e with value = odd * 2^e; 4096 for zero."""
    mantissa, exponent = np.frexp(values)
    integers = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = (integers & -integers).astype(np.float64)
    return np.where(integers == 0, _NO_BIT, exponent - 53 + np.frexp(lowest)[1] - 1).astype(
        np.int64
    )


def significant_bits(values: np.ndarray) -> np.ndarray:
    """For each float64 its number of significant bits; 0 for zero, 1 for a power of two."""
    return np.where(values == 0, 0, np.frexp(values)[1] - low_bits(values))


def exact_product(left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """left * right elementwise (broadcast), or None unless every product is exact."""
    if _all_units(right):  # the common case of a selection
        return left * right
    with np.errstate(over="ignore", under="ignore"):
        product = left * right
    bits_left, bits_right = significant_bits(left), significant_bits(right)
    fits = (bits_left + bits_right <= 53) | (bits_left <= 1) | (bits_right <= 1)
    fits &= np.isfinite(product)
    fits &= low_bits(left) + low_bits(right) >= _LOWEST_EXPONENT
    return product if fits.all() else None


def _all_units(values: np.ndarray) -> bool:
    """Whether all values are 1 or -1."""
    return bool((np.abs(values) == 1.0).all())


def exact_add(left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """left + right elementwise, or None unless every sum is exact (Knuth's TwoSum)."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = left + right
        shadow = total - left
        error = (left - (total - shadow)) + (right - shadow)
    return total if (error == 0.0).all() else None


def exact_sums(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(distinct keys in order, exact sum of the values of each), or None if some sum is not exact.

    Args:
        keys: (n,) int64.
        values: (n,) float64.
    """
    if len(keys) == 0:
        return keys, values
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    if len(starts) == len(keys):
        return keys, values
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(values, starts)
        sizes = np.add.reduceat(np.abs(values), starts)
    counts = np.diff(np.append(starts, len(keys)))
    lowest = np.minimum.reduceat(low_bits(values), starts)
    # Zeros alone have no low bit and sum exactly.
    limit = np.ldexp(1.0, np.minimum(53 + lowest, 1023))
    exact = (counts == 1) | (lowest == _NO_BIT) | (sizes < limit)
    return (keys[starts], sums) if exact.all() else None


def compose(outer: sp.csr_array, inner: sp.csr_array, limit: int) -> sp.csr_array | None:
    """outer @ inner, or None unless every entry is exact and at most ``limit`` products are needed.

    Args:
        outer: (n, k) CSR.
        inner: (k, m) CSR.
        limit: refuse a product that fills in more than this.
    """
    lengths = np.diff(inner.indptr)
    if (lengths == 1).all() and (inner.data == 1.0).all():
        columns = inner.indices
        if len(np.unique(columns)) == len(columns):  # a selection: entries only move
            moved = (outer.data, columns[outer.indices], outer.indptr)
            result = sp.csr_array(moved, shape=(outer.shape[0], inner.shape[1]))
            return result.sorted_indices()  # a copy: the data is still the outer matrix's
    counts = lengths[outer.indices]
    total = int(counts.sum())
    if total > limit:
        return None
    source = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    position = inner.indptr[outer.indices][source] + (np.arange(total) - first[source])
    product = exact_product(outer.data[source], inner.data[position])
    if product is None:
        return None
    rows = np.repeat(np.arange(outer.shape[0], dtype=np.int64), np.diff(outer.indptr))[source]
    width = max(inner.shape[1], 1)
    summed = exact_sums(rows * width + inner.indices[position], product)
    if summed is None:
        return None
    keys, values = summed
    return csr_from_sorted(keys // width, keys % width, values, (outer.shape[0], inner.shape[1]))


def affine_image(matrix: sp.csr_array, point: np.ndarray, offset: np.ndarray) -> np.ndarray | None:
    """matrix @ point + offset, or None unless every entry is exact."""
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    used = point[matrix.indices] != 0
    if not used.any():
        return offset
    product = exact_product(matrix.data[used], point[matrix.indices[used]])
    if product is None:
        return None
    keys = np.concatenate([rows[used], np.arange(matrix.shape[0], dtype=np.int64)])
    summed = exact_sums(keys, np.concatenate([product, offset]))
    return None if summed is None else summed[1]


def add_matrices(left: sp.csr_array, right: sp.csr_array) -> sp.csr_array | None:
    """left + right, or None unless every entry is exact."""
    width = max(left.shape[1], 1)
    keys, values = [], []
    for matrix in (left, right):
        rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
        keys.append(rows * width + matrix.indices)
        values.append(matrix.data)
    summed = exact_sums(np.concatenate(keys), np.concatenate(values))
    if summed is None:
        return None
    return csr_from_sorted(summed[0] // width, summed[0] % width, summed[1], left.shape)


def csr_from_sorted(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> sp.csr_array:
    """CSR from entries sorted by row, then column, without duplicates; zeros are dropped."""
    keep = values != 0
    if not keep.all():
        rows, columns, values = rows[keep], columns[keep], values[keep]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    return sp.csr_array((values, columns, indptr), shape=shape)


def csr_from_rows(columns: np.ndarray, values: np.ndarray, n_columns: int) -> sp.csr_array:
    """CSR whose row i holds values[i, k] at columns[i, k]; columns below 0 and zeros are dropped.

    Args:
        columns: (n, k) int; each row's entries distinct.
        values: (n, k) float64, or broadcastable to it.
    """
    values = np.broadcast_to(values, columns.shape)
    keep = (columns >= 0) & (values != 0)
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    matrix = sp.csr_array(
        (values[keep], columns[keep], indptr), shape=(columns.shape[0], n_columns)
    )
    matrix.sort_indices()
    return matrix
