"""Compiled search for boxes that contain samples of one class only: growing, pruning, extending.

Samples are rows, faces are (column, level): column c < d is the upper face of coordinate c, column
d + j the lower face of coordinate j. ``inside[i, c]`` is the first level at which sample i lies
within face c, ``outside[i, c]`` the first level at which it is no longer δ beyond it: face (c, k)
holds sample i iff inside[i, c] <= k, and excludes it as an enemy iff outside[i, c] > k. So a higher
level is a larger box. ``inside_t`` and ``outside_t`` are the same arrays, transposed.

Enemies are two ranges of rows, before and after the class itself. What is found here is a proposal:
``constructions.box_check`` decides.

Numba decides whether cached machine code is current by this file alone, so everything that these
functions call is in this file.
"""

from __future__ import annotations

import numba
import numpy as np

SAMPLE = 512
"""Rows that a choice between faces is based on, once there are more."""

_TILE = 4096
"""Rows counted together: their counts stay in a first-level cache."""

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _add_rows(hist, codes, rows, n, columns, sign):  # type: ignore[no-untyped-def]
    """Count, for each of the columns, the codes of the first n rows."""
    for r in range(n):
        row = codes[rows[r]]
        for q in range(columns.size):
            hist[q, row[columns[q]]] += sign


@_jit
def _spread(source, n, chosen):  # type: ignore[no-untyped-def]
    """Copy the first n entries, or as many of them, evenly spread, as fit; their number."""
    m = min(chosen.size, n)
    for i in range(m):
        chosen[i] = source[i * n // m]
    return m


@_jit
def _best_face(excluded, lost, n_enemies, n_friends, level, log_enemies, log_friends, price):  # type: ignore[no-untyped-def]
    """The face with the most enemies excluded for the friends lost, or (-1, -1).

    The score is log(share of enemies left) / (log(share of friends left) − price): greedy for the
    rate at which the enemies run out against that at which the friends do.
    """
    best, column, best_level = -1.0, -1, -1
    levels = excluded.shape[1] - 1
    all_enemies, all_friends = log_enemies[n_enemies], log_friends[n_friends] + price
    for q in range(excluded.shape[0]):
        gone, less = 0, 0
        for k in range(levels - 1, level[q] - 1, -1):
            new = excluded[q, k + 1]
            gone += new
            less += lost[q, k + 1]
            if new > 0:
                score = (all_enemies - log_enemies[n_enemies - gone]) / (
                    all_friends - log_friends[n_friends - less]
                )
                if score > best:
                    best, column, best_level = score, q, k
    return column, best_level


@_jit
def _within(codes_t, c, k, rows, n):  # type: ignore[no-untyped-def]
    """Keep, of the first n rows, those whose code is at most k; their number."""
    column, kept = codes_t[c], 0
    for i in range(n):
        rows[kept] = rows[i]
        kept += column[rows[i]] <= k
    return kept


@_jit
def _drop(codes, codes_t, c, k, rows, n, hist, columns):  # type: ignore[no-untyped-def]
    """The same for rows that are counted in a histogram."""
    gone, kept, lost = np.empty(n, np.int64), 0, 0
    for i in range(n):
        if codes_t[c, rows[i]] <= k:
            rows[kept] = rows[i]
            kept += 1
        else:
            gone[lost] = rows[i]
            lost += 1
    if lost < kept:
        _add_rows(hist, codes, gone, lost, columns, -1)
    else:
        hist[:] = 0
        _add_rows(hist, codes, rows, kept, columns, 1)
    return kept


@_jit
def grow(inside, inside_t, outside, outside_t, must, friends, enemies, levels, price, face, cut):  # type: ignore[no-untyped-def]
    """Choose faces until every enemy is excluded, or none can be.

    Args:
        inside, inside_t, outside, outside_t: the codes, see above.
        must: (columns,) the lowest level allowed for each; its box stays inside.
        friends: rows that the box should contain, as many as possible.
        enemies: rows to exclude. The order is changed: the remaining ones come first.
        levels: number of levels.
        price: of one more face, as a logarithm of a share of friends.
        face, cut: for the answer, columns and levels.

    Returns:
        (number of faces, number of enemies that no allowed face excludes).
    """
    allowed = np.flatnonzero(must < levels)
    level = must[allowed].astype(np.int64)
    friends = friends.copy()
    n_friends, n_enemies = friends.size, enemies.size
    some_friends, some_enemies = np.empty(SAMPLE, np.int64), np.empty(SAMPLE, np.int64)
    lost = np.zeros((allowed.size, levels + 1), np.int32)
    excluded = np.zeros((allowed.size, levels + 1), np.int32)
    log_enemies = np.log(np.arange(SAMPLE + 1) + 0.3)
    log_friends = np.log(np.arange(SAMPLE + 1) + 0.05)
    aside = np.empty(n_enemies, np.int64)
    f, e, count, kept = 0, 0, 0, 0
    while n_enemies > 0:
        if 8 * e < SAMPLE and n_enemies > e:
            excluded[:] = 0
            e = _spread(enemies, n_enemies, some_enemies)
            _add_rows(excluded, outside, some_enemies, e, allowed, 1)
        if 4 * f < SAMPLE and n_friends > f:
            lost[:] = 0
            f = _spread(friends, n_friends, some_friends)
            _add_rows(lost, inside, some_friends, f, allowed, 1)
        q, k = _best_face(excluded, lost, e, f, level, log_enemies, log_friends, price)
        if q < 0:  # none of these can be excluded
            aside[kept : kept + e] = some_enemies[:e]
            kept += e
            n_enemies = _without(enemies, n_enemies, some_enemies, e)
            excluded[:] = 0
            e = 0
            continue
        c = allowed[q]
        face[count], cut[count] = c, k
        count += 1
        n_enemies = _within(outside_t, c, k, enemies, n_enemies)
        n_friends = _within(inside_t, c, k, friends, n_friends)
        e = _drop(outside, outside_t, c, k, some_enemies, e, excluded, allowed)
        f = _drop(inside, inside_t, c, k, some_friends, f, lost, allowed)
    enemies[:kept] = aside[:kept]
    return count, kept


@_jit
def _without(rows, n, gone, m):  # type: ignore[no-untyped-def]
    """The first n rows without some of them, which stand in the same order; their number."""
    kept, j = 0, 0
    for i in range(n):
        if j < m and rows[i] == gone[j]:
            j += 1
        else:
            rows[kept] = rows[i]
            kept += 1
    return kept


@_jit
def exclusions(outside_t, column, level, first, last, count, sign):  # type: ignore[no-untyped-def]
    """Add ``sign`` to the count of every row in [first, last) that the face excludes."""
    codes, out = outside_t[column][first:last], count[first:last]
    k, one = np.uint8(level), np.int16(sign)
    for i in range(codes.size):
        out[i] += one * np.int16(codes[i] > k)


@_jit
def _needed(codes, level, count):  # type: ignore[no-untyped-def]
    """Whether a row is excluded by this face and by no other one."""
    k, found = np.uint8(level), np.uint8(0)
    for i in range(codes.size):
        found |= np.uint8(codes[i] > k) & np.uint8(count[i] == 1)
    return found != 0


@_jit
def _least_needed(codes, level, count):  # type: ignore[no-untyped-def]
    """The smallest code among the rows that this face alone excludes (255 if there are none)."""
    k, least = np.uint8(level), np.uint8(255)
    for i in range(codes.size):
        value = codes[i] if (codes[i] > k) and (count[i] == 1) else np.uint8(255)
        least = min(least, value)
    return least


@_jit
def prune(outside_t, ranges, face, cut, m, count, levels):  # type: ignore[no-untyped-def]
    """Leave out faces that are not needed, and move the others as far out as they can go.

    Args:
        outside_t: codes.
        ranges: (2, 2) first and last row of the enemies.
        face, cut: the m faces; changed.
        m: their number.
        count: (rows,) int16, how many other faces exclude each row (at most 1 counts). Changed.
        levels: number of levels.

    Returns:
        The number of faces left.
    """
    for a in range(m):
        for r in range(ranges.shape[0]):
            exclusions(outside_t, face[a], cut[a], ranges[r, 0], ranges[r, 1], count, 1)
    a = 0
    while a < m:
        needed = False
        for r in range(ranges.shape[0]):
            lo, hi = ranges[r, 0], ranges[r, 1]
            needed |= _needed(outside_t[face[a]][lo:hi], cut[a], count[lo:hi])
        if needed:
            a += 1
            continue
        for r in range(ranges.shape[0]):
            exclusions(outside_t, face[a], cut[a], ranges[r, 0], ranges[r, 1], count, -1)
        m -= 1
        face[a:m], cut[a:m] = face[a + 1 : m + 1].copy(), cut[a + 1 : m + 1].copy()
    for a in range(m):
        least = np.uint8(255)
        for r in range(ranges.shape[0]):
            lo, hi = ranges[r, 0], ranges[r, 1]
            found = _least_needed(outside_t[face[a]][lo:hi], cut[a], count[lo:hi])
            least = min(least, found)
        new = min(np.int64(least), levels) - 1
        if new > cut[a]:
            for r in range(ranges.shape[0]):
                exclusions(outside_t, face[a], cut[a], ranges[r, 0], ranges[r, 1], count, -1)
                exclusions(outside_t, face[a], new, ranges[r, 0], ranges[r, 1], count, 1)
            cut[a] = new
    return m


@_jit
def count_columns(outside_t, must, levels, ranges, count):  # type: ignore[no-untyped-def]
    """For each enemy the number of columns whose face at the level ``must`` excludes it."""
    tile = np.empty(_TILE, np.uint8)
    for r in range(ranges.shape[0]):
        for lo in range(ranges[r, 0], ranges[r, 1], _TILE):
            hi = min(lo + _TILE, ranges[r, 1])
            total, part = count[lo:hi], tile[: hi - lo]
            total[:], part[:] = 0, 0
            added = 0
            for c in range(must.size):
                if must[c] >= levels:
                    continue
                codes, k = outside_t[c][lo:hi], must[c]
                for i in range(codes.size):
                    part[i] += np.uint8(codes[i] > k)
                added += 1
                if added == 255:
                    for i in range(part.size):
                        total[i] += part[i]
                    part[:], added = 0, 0
            for i in range(part.size):
                total[i] += part[i]


@_jit
def extend(inside, outside, outside_t, ranges, candidates, must, count, patience):  # type: ignore[no-untyped-def]
    """Let the box grow by one candidate after another while each enemy stays excluded somewhere.

    Args:
        inside, outside, outside_t: codes.
        ranges: (2, 2) first and last row of the enemies.
        candidates: rows, in the order in which they are tried.
        must: (columns,) uint8, the box. Changed.
        count: (rows,) int16, see ``count_columns``; at least 1 for enemies. Changed.
        patience: give up after so many failures in a row.

    Returns:
        How many candidates are in the box that were not.
    """
    grown, failures, limit, n_close = 0, 0, -1, 0
    changed, close = np.empty(must.size, np.int64), np.empty(count.size, np.int64)
    for p in candidates:
        n = 0
        for c in range(must.size):
            changed[n] = c
            n += inside[p, c] > must[c]
        if n == 0:
            continue
        if n > limit:  # only an enemy that few columns exclude can be lost by changing n of them
            limit, n_close = max(n, 32), 0
            for r in range(ranges.shape[0]):
                for i in range(ranges[r, 0], ranges[r, 1]):
                    close[n_close] = i
                    n_close += count[i] <= limit
        if _loses(inside[p], outside, must, count, changed[:n], close[:n_close]):
            failures += 1
            if failures >= patience:
                break
            continue
        for c in changed[:n]:
            for r in range(ranges.shape[0]):
                lo, hi = ranges[r, 0], ranges[r, 1]
                codes, part = outside_t[c][lo:hi], count[lo:hi]
                a, b = must[c], inside[p, c]
                for i in range(codes.size):
                    part[i] -= np.int16((codes[i] > a) & (codes[i] <= b))
            must[c] = inside[p, c]
        grown, failures, limit = grown + 1, 0, -1
    return grown


@_jit
def _loses(point, outside, must, count, changed, close):  # type: ignore[no-untyped-def]
    """Whether some enemy would no longer be excluded; that enemy moves to the front."""
    for j in range(close.size):
        e = close[j]
        left = np.int64(count[e])
        if left > changed.size:
            continue
        row = outside[e]
        for c in changed:
            left -= row[c] > must[c] and row[c] <= point[c]
        if left == 0:
            for t in range(j, 0, -1):
                close[t] = close[t - 1]
            close[0] = e
            return True
    return False


@_jit
def members(inside_t, first, last, face, cut, mask):  # type: ignore[no-untyped-def]
    """Mark the rows in [first, last) that all faces hold."""
    mask[:] = True
    for a in range(face.size):
        codes, k = inside_t[face[a]][first:last], np.uint8(cut[a])
        for i in range(codes.size):
            mask[i] &= codes[i] <= k
