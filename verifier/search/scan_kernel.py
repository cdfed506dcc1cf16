"""Compiled passes of boxes through the blocks of a running-maximum Scan, in integers.

Samples and boxes are cut into groups of coordinates, (groups, rows, GROUP), so that the groups that
decide most pairs lie together. Differences of the inputs must fit their type, and GROUP of them
a 64-bit integer.
"""

from __future__ import annotations

import numpy as np

from verifier.bounds.jit import jit

GROUP = 64
_TILE = 512


@jit
def first_near(box_low, box_high, high, low, need, kind, start, stop, found):  # type: ignore[no-untyped-def]
    """For each box the first sample whose least s on the box stays below what is needed.

    s_low = Σ_j max(0, low(box)_j − high_ij) + max(0, low_ij − high(box)_j).

    Args:
        box_low, box_high: (g, n, GROUP) integers.
        high, low: (g, N, GROUP) of the same type, the thresholds of the samples.
        need: (n, m) int64; a box wants s_low ≥ need[box, kind of the sample]; 0 asks nothing.
        kind: (N,) which column of need belongs to a sample.
        start, stop: which boxes.
        found: (n,) int64 for the answers; −1 where every sample is far enough.
    """
    # Differences converted to their own type: many of them then fit one instruction.
    number = high.dtype.type
    for k in range(start, stop):
        found[k] = -1
    for tile in range(0, high.shape[1], _TILE):
        end = min(tile + _TILE, high.shape[1])
        for k in range(start, stop):
            if found[k] >= 0:
                continue
            # The first group decides most pairs; a call with many arrays would take longer.
            a, b = box_low[0, k], box_high[0, k]
            for i in range(tile, end):
                wanted = need[k, kind[i]]
                if wanted <= 0:
                    continue
                c, e = high[0, i], low[0, i]
                top = number(0)
                for j in range(GROUP):
                    top = max(top, max(number(a[j] - c[j]), number(e[j] - b[j])))
                if top >= wanted:
                    continue
                if summed(box_low, box_high, high, low, k, i, wanted) < wanted:
                    found[k] = i
                    break


@jit
def summed(first, second, high, low, k, i, enough):  # type: ignore[no-untyped-def]
    """Σ_j max(0, first_j − high_ij, low_ij − second_j), or a number ≥ enough that is at most that.

    With first = low(box) and second = high(box) this is s_low of box k and sample i, with the two
    exchanged s_high: at a point only one of u⁺_j, u⁻_j is positive if low_ij ≤ high_ij.
    """
    total = np.int64(0)
    zero = high.dtype.type(0)
    for g in range(high.shape[0]):
        a, b = first[g, k], second[g, k]
        c, e = high[g, i], low[g, i]
        part = np.int64(0)
        for j in range(GROUP):
            part += max(max(a[j] - c[j], e[j] - b[j]), zero)
        total += part
        if total >= enough:
            break
    return total


@jit
def first_hit(box_low, box_high, high, low, limit, kind, hint, start, stop, found):  # type: ignore[no-untyped-def]
    """For each box the first sample, the hint before all others, with s_high ≤ limit.

    Args:
        limit: (n, m) int64; negative where no s is small enough.
        hint: (n,) int64, a sample to try first, or −1.
        found: (n,) int64 for the answers; −1 if there is none.
        box_low, box_high, high, low, kind, start, stop: as in ``first_near``.
    """
    for k in range(start, stop):
        found[k] = -1
        for turn in range(-1, high.shape[1]):
            i = hint[k] if turn < 0 else turn
            if i < 0:
                continue
            allowed = limit[k, kind[i]]
            if allowed < 0:
                continue
            if summed(box_high, box_low, high, low, k, i, allowed + 1) <= allowed:
                found[k] = i
                break
