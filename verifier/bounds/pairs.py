"""Pairs of neurons whose sum or difference is a maximum or a minimum, and rows that read them.

Matrices are (indptr, indices, data) in CSR form with ascending columns, int64 and float64. The rule
itself is in ``verifier.bounds.ball_batch``.
"""

from __future__ import annotations

import numpy as np

from verifier.bounds import pair_kernel

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]

#: A layer with more candidates is treated without pairs: they would cost more than they can gain.
MOST = 4_000_000


def cancelling(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, columns: int, relu: np.ndarray
) -> Rows:
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
    n, nonzeros = len(indptr) - 1, len(indices)
    heads, fill = np.zeros(columns + 1, dtype=np.int64), np.empty(columns, dtype=np.int64)
    rows, places = np.empty((2, nonzeros), dtype=np.int64)
    pair_kernel.transposed(indptr, indices, heads, fill, rows, places)
    start = np.empty(n + 1, dtype=np.int64)
    capacity = min(4 * n + 16, MOST)
    while True:
        found, signs = np.empty((2, capacity), dtype=np.int64)
        count = pair_kernel.cancelling(
            indptr, indices, data, heads, rows, places, relu, start, found, signs
        )
        if count >= 0:
            return start, found[:count], signs[:count]
        if capacity == MOST:
            return np.zeros(n + 1, dtype=np.int64), found[:0], signs[:0]
        capacity = min(4 * capacity, MOST)


def paired(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    columns: int,
    start: np.ndarray,
    partners: np.ndarray,
    signs: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each row with the pairs that it reads put together: c a_p + c t a_r = c (a_p + t a_r).

    Args:
        indptr, indices, data: rows over ``columns`` activations.
        columns: number of activations.
        start, partners, signs: of the layer that gives the activations, from ``cancelling``.

    Returns:
        (indptr, indices, data, p, r, t): the rows over the activations and, from column ``columns``
        on, the pairs that some row reads; pair k is (p[k], r[k], t[k]).
    """
    seen, number = np.full(columns, -1), np.full(len(partners), -1)
    place, taken = np.zeros(columns, dtype=np.int64), np.zeros(len(indices), dtype=bool)
    new_indptr, new_indices = np.empty_like(indptr), np.empty_like(indices)
    new_data = np.empty_like(data)
    firsts, which = np.empty((2, len(partners)), dtype=np.int64)
    count, size = pair_kernel.paired(
        indptr, indices, data, start, partners, signs, seen, place, taken, number,
        new_indptr, new_indices, new_data, firsts, which,
    )  # fmt: skip
    which = which[:count]
    rows = (new_indptr, new_indices[:size].copy(), new_data[:size].copy())
    return (*rows, firsts[:count].copy(), partners[which], signs[which])


def combined(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    p: np.ndarray,
    r: np.ndarray,
    t: np.ndarray,
) -> Rows:
    """The rows z_p + t z_r of pairs from ``cancelling``: t times row r where p has no coefficient.

    Returns:
        (indptr, indices, data) of the given rows followed by one row a pair; nothing is rounded.
    """
    counts = np.diff(indptr)
    size = len(indices) + int((counts[r] - counts[p]).sum())
    new_indptr = np.empty(len(indptr) + len(p), dtype=np.int64)
    new_indices, new_data = np.empty(size, dtype=np.int64), np.empty(size)
    pair_kernel.combined(indptr, indices, data, p, r, t, new_indptr, new_indices, new_data)
    return new_indptr, new_indices, new_data
