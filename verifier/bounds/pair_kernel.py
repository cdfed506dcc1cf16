"""Compiled search for pairs of neurons whose sum or difference is a maximum or a minimum.

Matrices are in CSR form: row i has columns ``indices[indptr[i]:indptr[i+1]]``, ascending, with the
coefficients ``data`` at the same places. The rule itself is in ``verifier.bounds.ball_batch``.
"""

from __future__ import annotations

import numpy as np

from verifier.bounds.jit import allocating

#: A layer with more candidates is treated without pairs: they would cost more than they can gain.
MOST = 4_000_000


@allocating
def cancelling(indptr, indices, data, columns, relu):  # type: ignore[no-untyped-def]
    """Pairs (p, r) with a sign t = ±1 such that z_p + t z_r reads nothing that z_p reads.

    That is, row r holds −t times the coefficients of row p wherever p has any, and r has a ReLU.

    Args:
        indptr, indices, data: (n, columns) weight.
        columns: number of columns.
        relu: (n,) bool.

    Returns:
        (start, r, t): the partners of p are r[start[p]:start[p+1]]; none at all if there would be
        more than ``MOST``.
    """
    n = len(indptr) - 1
    heads, rows, places = _transposed(indptr, indices, columns)
    start = np.zeros(n + 1, dtype=np.int64)
    capacity = 4 * n + 16
    found = np.empty(capacity, dtype=np.int64)
    signs = np.empty(capacity, dtype=np.int64)
    count = 0
    for p in range(n):
        first, last = indptr[p], indptr[p + 1]
        if last > first:
            j = indices[first]
            for h in range(heads[j], heads[j + 1]):
                r, e = rows[h], places[h]
                if r == p or not relu[r] or abs(data[e]) != abs(data[first]):
                    continue
                t = -1 if data[e] == data[first] else 1
                # The sum of two ReLUs that read the same is the same pair seen from r.
                if t == 1 and r < p and relu[p] and indptr[r + 1] - indptr[r] == last - first:
                    continue
                if _cancels(indices, data, first, last, e, indptr[r + 1], t):
                    if count == MOST:
                        return np.zeros(n + 1, dtype=np.int64), found[:0], signs[:0]
                    if count == capacity:
                        capacity *= 2
                        found, signs = _longer(found, capacity), _longer(signs, capacity)
                    found[count], signs[count] = r, t
                    count += 1
        start[p + 1] = count
    return start, found[:count], signs[:count]


@allocating
def _transposed(indptr, indices, columns):  # type: ignore[no-untyped-def]
    """For each column j the rows[heads[j]:heads[j+1]] that have it, and where."""
    heads = np.zeros(columns + 1, dtype=np.int64)
    for j in indices:
        heads[j + 1] += 1
    for j in range(columns):
        heads[j + 1] += heads[j]
    fill = heads[:-1].copy()
    rows = np.empty(len(indices), dtype=np.int64)
    places = np.empty(len(indices), dtype=np.int64)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            rows[fill[j]], places[fill[j]] = i, e
            fill[j] += 1
    return heads, rows, places


@allocating
def _cancels(indices, data, first, last, e, end, t):  # type: ignore[no-untyped-def]
    """Whether entries e..end have −t times the coefficients of entries first..last."""
    for k in range(first, last):
        while e < end and indices[e] < indices[k]:
            e += 1
        if e == end or indices[e] != indices[k] or data[e] != -t * data[k]:
            return False
    return True


@allocating
def _longer(array, capacity):  # type: ignore[no-untyped-def]
    """A copy with room for more."""
    out = np.empty(capacity, dtype=array.dtype)
    out[: len(array)] = array
    return out


@allocating
def paired(indptr, indices, data, columns, start, partners, signs):  # type: ignore[no-untyped-def]
    """Each row with the pairs that it reads put together: c a_p + c t a_r = c (a_p + t a_r).

    Args:
        indptr, indices, data: rows over ``columns`` activations.
        columns: number of activations.
        start, partners, signs: of the layer that gives the activations, from ``cancelling``.

    Returns:
        (indptr, indices, data, p, r, t): the rows over the activations and, from column ``columns``
        on, the pairs that some row reads; pair k is (p[k], r[k], t[k]).
    """
    new_indptr = np.zeros(len(indptr), dtype=np.int64)
    new_indices = np.empty(len(indices), dtype=np.int64)
    new_data = np.empty(len(indices))
    number = np.full(len(partners), -1, dtype=np.int64)
    firsts = np.empty(len(partners), dtype=np.int64)
    which = np.empty(len(partners), dtype=np.int64)
    seen = np.full(columns, -1, dtype=np.int64)
    place = np.zeros(columns, dtype=np.int64)
    taken = np.zeros(len(indices), dtype=np.bool_)
    pairs = 0
    out = 0
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            seen[indices[e]], place[indices[e]] = i, e
        for e in range(indptr[i], indptr[i + 1]):
            p = indices[e]
            for q in range(start[p], start[p + 1]):
                r = partners[q]
                if taken[e] or seen[r] != i or taken[place[r]]:
                    continue
                if data[place[r]] != signs[q] * data[e]:
                    continue
                taken[e] = taken[place[r]] = True
                if number[q] < 0:
                    number[q], firsts[pairs], which[pairs] = pairs, p, q
                    pairs += 1
                new_indices[out], new_data[out] = columns + number[q], data[e]
                out += 1
        for e in range(indptr[i], indptr[i + 1]):
            if not taken[e]:
                new_indices[out], new_data[out] = indices[e], data[e]
                out += 1
        new_indptr[i + 1] = out
    which = which[:pairs]
    indices, data = new_indices[:out].copy(), new_data[:out].copy()
    return new_indptr, indices, data, firsts[:pairs].copy(), partners[which], signs[which]


@allocating
def combined(indptr, indices, data, p, r, t):  # type: ignore[no-untyped-def]
    """The rows z_p + t z_r of pairs from ``cancelling``: t times row r where p has no coefficient.

    Returns:
        (indptr, indices, data) of the given rows followed by one row a pair; nothing is rounded.
    """
    n = len(indptr) - 1
    size = indptr[n]
    for k in range(len(p)):
        size += indptr[r[k] + 1] - indptr[r[k]] - (indptr[p[k] + 1] - indptr[p[k]])
    new_indptr = np.empty(n + 1 + len(p), dtype=np.int64)
    new_indices = np.empty(size, dtype=np.int64)
    new_data = np.empty(size)
    new_indptr[: n + 1] = indptr
    out = indptr[n]
    new_indices[:out], new_data[:out] = indices, data
    for k in range(len(p)):
        e, last = indptr[p[k]], indptr[p[k] + 1]
        for f in range(indptr[r[k]], indptr[r[k] + 1]):
            if e < last and indices[e] == indices[f]:
                e += 1
            else:
                new_indices[out], new_data[out] = indices[f], t[k] * data[f]
                out += 1
        new_indptr[n + 1 + k] = out
    return new_indptr, new_indices, new_data
