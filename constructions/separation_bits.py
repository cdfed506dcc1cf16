"""Bit tests that show in one machine instruction that many pairs of points are far apart.

A test (k, up, down) with up - down >= t calls a point *high* if x_k >= up and *low* if x_k <= down.
A high and a low point are at least t apart. Sixty-four tests make a word; nearly all pairs of real
images are separated by the first word or two, so that few distances are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

STUDIED = 1024
_SHORTLIST = 512
_ENOUGH = 24
_LEVELS = 4
MOST_WORDS = 24


@dataclass(frozen=True, eq=False)
class BitTests:
    """W words of up to 64 tests.

    Args:
        words: for each word (k, up, down): coordinates, and values of the points' type.
    """

    words: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]

    def bits(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each word and point which tests call it high, and which low: (W, n) uint64 each."""
        shape = (len(self.words), len(points))
        high, low = np.zeros(shape, dtype=np.uint64), np.zeros(shape, dtype=np.uint64)
        for w, (k, up, down) in enumerate(self.words):
            chosen = points[:, k]
            high[w], low[w] = _packed(chosen >= up), _packed(chosen <= down)
        return high, low


def _packed(flags: np.ndarray) -> np.ndarray:
    """Up to 64 flags a row as one number."""
    full = np.zeros((len(flags), 64), dtype=bool)
    full[:, : flags.shape[1]] = flags
    return np.packbits(full, axis=1).view(np.uint64)[:, 0]


def choose_tests(rows: np.ndarray, columns: np.ndarray, t: int | float) -> BitTests:
    """Tests that separate, at distance t, as many as possible of the given pairs.

    Each word is chosen on pairs that the earlier ones do not separate, each of its tests on pairs
    that few of the word's other tests separate. The choice is deterministic, and any choice is
    right: it matters for speed only.

    Args:
        rows, columns: (p, d) pairs of points, unsigned integers or float64.
        t: a positive distance.
    """
    words: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while len(rows) >= _ENOUGH and len(words) < MOST_WORDS:
        word = _word(rows[:STUDIED], columns[:STUDIED], t)
        if word is None:
            break
        k, up, down = word
        a, b = rows[:, k], columns[:, k]
        open_ = ~(((a >= up) & (b <= down)) | ((a <= down) & (b >= up))).any(axis=1)
        words.append(word)
        if open_.all():
            break
        rows, columns = rows[open_], columns[open_]
    return BitTests(tuple(words))


def _word(
    rows: np.ndarray, columns: np.ndarray, t: int | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Up to 64 tests that together separate many of the pairs; None if no test can."""
    found = []
    for k, up, down in _thresholds(rows, columns, t):
        a, b = rows[:, k], columns[:, k]
        found.append((k, up, down, ((a >= up) & (b <= down)) | ((a <= down) & (b >= up))))
    if not found:
        return None
    k, up, down = (np.concatenate([f[i] for f in found]) for i in range(3))
    separated = np.concatenate([f[3] for f in found], axis=1)
    counts = separated.sum(axis=0)
    best = np.argsort(-counts, kind="stable")[:_SHORTLIST]
    best = best[counts[best] > 0]
    if not len(best):
        return None
    chosen = best[_cover(separated[:, best].T.astype(np.float32))]
    return k[chosen], up[chosen], down[chosen]


def _thresholds(
    rows: np.ndarray, columns: np.ndarray, t: int | float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tests with up - down >= t, exactly, at a few places of each coordinate's range."""
    least = np.minimum(rows.min(axis=0), columns.min(axis=0))
    most = np.maximum(rows.max(axis=0), columns.max(axis=0))
    if rows.dtype.kind == "f":
        k = np.flatnonzero(most - least > t)
        for share in np.linspace(0, 1, _LEVELS):
            up = least[k] + t + (most[k] - least[k] - t) * share
            yield k, up, np.nextafter(up - t, -np.inf)
        return
    k = np.flatnonzero(most - least >= t)
    low, spare = least[k].astype(np.uint64), (most[k] - least[k]).astype(np.uint64) - np.uint64(t)
    step = np.maximum(spare // np.uint64(_LEVELS - 1), np.uint64(1))
    for part in range(_LEVELS):
        here = step * np.uint64(part) <= spare
        down = (low + step * np.uint64(part))[here]
        yield k[here], (down + np.uint64(t)).astype(rows.dtype), down.astype(rows.dtype)


def _cover(separated: np.ndarray) -> np.ndarray:
    """Up to 64 rows of a (tests, pairs) 0/1 array that greedily cover its columns."""
    weight = np.ones(separated.shape[1], dtype=np.float32)
    free = np.ones(len(separated), dtype=bool)
    chosen = []
    for _ in range(min(64, len(separated))):
        best = int(np.where(free, separated @ weight, -1.0).argmax())
        free[best] = False
        chosen.append(best)
        weight *= 1 - np.float32(0.9) * separated[best]
    return np.array(chosen)
