"""Compiled search for nearest enemies: bit tests for 64 pairs of pixels at once, then distances.

Numba decides whether cached machine code is current by this file alone, so everything that these
functions call is in this file. Nothing here may be compiled with ``fastmath``: the float distances
are exact only if the compiler leaves the order of their operations alone.
"""

from __future__ import annotations

import numba
import numpy as np

TILE = 4096
"""Columns tested together: their bits for one word fit a first-level cache with room to spare."""

_BLOCK = 64
"""Coordinates compared between two looks at the best distance so far."""

_jit = numba.njit(cache=True, nogil=True)


@_jit
def survivors(high, low, column_high, column_low, first, last, kept):  # type: ignore[no-untyped-def]
    """Columns in [first, last) that no bit test separates from a row.

    Bit b of ``high[w]`` says that coordinate k(w, b) of the row is at least some h(w, b), the same
    bit of ``low[w]`` that it is at most some l(w, b), and h - l >= t. Where one point is high and
    the other low, their distance is at least t.

    Args:
        high, low: (W,) uint64, W >= 1, of the row.
        column_high, column_low: (W, n) uint64.
        first, last: range of columns, at most TILE.
        kept: (TILE,) int64 for the answer.

    Returns:
        How many entries of ``kept`` were filled, in ascending order.
    """
    size = last - first
    open_ = np.empty(TILE, dtype=np.uint8)
    row_high, row_low = high[0], low[0]
    some_high = column_high[0, first:last]
    some_low = column_low[0, first:last]
    for j in range(size):
        both = (row_high & some_low[j]) | (row_low & some_high[j])
        open_[j] = both == 0
    count = 0
    groups = open_[: size & ~7].view(np.uint64)
    for g in range(groups.shape[0]):
        if groups[g] != 0:  # most groups of eight columns are separated altogether
            for j in range(8 * g, 8 * g + 8):
                kept[count] = first + j
                count += open_[j]
    for j in range(size & ~7, size):
        kept[count] = first + j
        count += open_[j]
    for w in range(1, high.shape[0]):
        before, count = count, 0
        for i in range(before):
            j = kept[i]
            kept[count] = j
            if ((high[w] & column_low[w, j]) | (low[w] & column_high[w, j])) == 0:
                count += 1
    return count


@_jit
def integer_distance(x, y, limit):  # type: ignore[no-untyped-def]
    """max |x - y| of unsigned integers if that is below the limit, else a number >= the limit."""
    # Slices, and numbers of their own type: 64 pixels then fit a few instructions, which makes this
    # loop ten times as fast.
    number = x.dtype.type
    top = number(0)
    for start in range(0, x.shape[0], _BLOCK):
        some_x, some_y = x[start : start + _BLOCK], y[start : start + _BLOCK]
        gap = number(0)
        for k in range(some_x.shape[0]):
            a, b = some_x[k], some_y[k]
            gap = max(gap, number(max(a, b) - min(a, b)))
        top = max(top, gap)
        if top >= limit:
            break
    return np.uint64(top)


@_jit
def float_distance(x, y, limit, limit_rest):  # type: ignore[no-untyped-def]
    """max |x - y| of floats, exactly, if that is below the limit, else something >= the limit.

    Each difference is s + e with s the nearest float64 and e its error, which is a float64 too
    (Knuth's TwoSum). Rounding is monotone: pairs (s, e) are ordered as the exact numbers are.

    Returns:
        (s, e) of the largest difference.
    """
    top, rest = -1.0, 0.0
    d = x.shape[0]
    for start in range(0, d, _BLOCK):
        for k in range(start, min(start + _BLOCK, d)):
            a, b = max(x[k], y[k]), -min(x[k], y[k])
            s = a + b
            if s >= top:
                part = s - a
                e = (a - (s - part)) + (b - part)
                if s > top or e > rest:
                    top, rest = s, e
        if top > limit or (top == limit and rest >= limit_rest):
            return top, rest
    return top, rest


@_jit
def search_integers(rows, row_high, row_low, columns, high, low, first, last, best, who):  # type: ignore[no-untyped-def]
    """For each row the first nearest of the columns [first, last), if nearer than ``best``.

    Args:
        rows: (r, d) unsigned integers; row_high, row_low: (W, r) their bits.
        columns: (n, d) of the same type; high, low: (W, n) their bits. With W = 0 nothing is
            separated before its distance is computed.
        first, last: range of columns.
        best: (r,) uint64, smallest distance so far; only smaller ones count. Updated.
        who: (r,) int64, the column at that distance. Updated.
    """
    kept = np.empty(TILE, dtype=np.int64)
    for start in range(first, last, TILE):
        stop = min(start + TILE, last)
        for i in range(rows.shape[0]):
            count = _candidates(row_high[:, i], row_low[:, i], high, low, start, stop, kept)
            for c in range(count):
                j = kept[c]
                distance = integer_distance(rows[i], columns[j], best[i])
                if distance < best[i]:
                    best[i] = distance
                    who[i] = j


@_jit
def search_floats(rows, row_high, row_low, columns, high, low, first, last, best, rest, who):  # type: ignore[no-untyped-def]
    """As ``search_integers`` for float64 points; the smallest distance is best + rest, exactly."""
    kept = np.empty(TILE, dtype=np.int64)
    for start in range(first, last, TILE):
        stop = min(start + TILE, last)
        for i in range(rows.shape[0]):
            count = _candidates(row_high[:, i], row_low[:, i], high, low, start, stop, kept)
            for c in range(count):
                j = kept[c]
                s, e = float_distance(rows[i], columns[j], best[i], rest[i])
                if s < best[i] or (s == best[i] and e < rest[i]):
                    best[i] = s
                    rest[i] = e
                    who[i] = j


@_jit
def equal_integers(row, columns, distance, equal):  # type: ignore[no-untyped-def]
    """Which columns lie at exactly this distance from the row, all unsigned integers.

    Args:
        row: (d,); columns: (n, d), of the same type.
        distance: uint64 below the largest one.
        equal: (n,) bool for the answer.
    """
    for j in range(columns.shape[0]):
        equal[j] = integer_distance(row, columns[j], distance + np.uint64(1)) == distance


@_jit
def equal_floats(row, columns, distance, rest, equal):  # type: ignore[no-untyped-def]
    """As ``equal_integers`` for float64 points at ``distance`` + ``rest``, exactly."""
    for j in range(columns.shape[0]):
        s, e = float_distance(row, columns[j], distance, np.inf)
        equal[j] = s == distance and e == rest


@_jit
def _candidates(row_high, row_low, high, low, start, stop, kept):  # type: ignore[no-untyped-def]
    """The columns whose distances have to be computed."""
    if high.shape[0] > 0:
        return survivors(row_high, row_low, high, low, start, stop, kept)
    for j in range(start, stop):
        kept[j - start] = j
    return stop - start
