"""Few class-pure boxes with few faces that contain all samples (THEORY, section 2).

A box of class l is a set of faces x_j ≤ a or x_j ≥ b, open elsewhere. Every enemy lies at least δ
beyond one of its faces, so that s_Q, the sum of the excesses over the faces, tells the box's
samples from its enemies. Choosing the faces is a hitting set problem; dropping faces that no enemy
needs makes the box larger, and so do faces as far out as the enemies allow.

The search is greedy and deterministic: from a few samples of a class that are not covered yet boxes
grow, first by choosing faces that lose as few samples as possible, then by taking in further
samples while each enemy stays excluded; of all boxes found so far the one with the most new samples
is kept. ``constructions.box_check`` decides whether the result is right.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from constructions import box_kernel as kernel
from constructions.box_grid import LEVELS, BoxGrid, FaceCodes, face_codes
from constructions.memory import MEMORY, require_bytes

Progress = Callable[[float], None]

#: Boxes grown before the best one is kept.
TRIES = 2
#: Further samples that a box tries to take in.
_CANDIDATES = 64
_PATIENCE = 32
#: Logarithm of the share of samples that one face less is worth.
_PRICE = 0.02


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes as lists of faces, one after another.

    Args:
        label: (B,) class of each box, 1..m.
        start: (B + 1,) where the faces of each box begin.
        coordinate: (F,) of each face.
        upper: (F,) bool, x_j ≤ cell or else x_j ≥ cell.
        cell: (F,) int64, in the cells of a ``BoxGrid``.
    """

    label: np.ndarray
    start: np.ndarray
    coordinate: np.ndarray
    upper: np.ndarray
    cell: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def faces(self) -> int:
        """Faces of all boxes, counted with repetition."""
        return len(self.cell)

    def of(self, box: int) -> slice:
        """The faces of one box."""
        return slice(int(self.start[box]), int(self.start[box + 1]))


@dataclass(frozen=True, eq=False)
class _Face:
    """Faces of one box while it is searched for: columns and cells."""

    column: np.ndarray
    cell: np.ndarray


def find_boxes(
    grid: BoxGrid,
    ranks: np.ndarray,
    *,
    levels: int = LEVELS,
    tries: int = TRIES,
    memory: int = MEMORY,
    progress: Progress | None = None,
    name: str = "boxes",
) -> Boxes:
    """Boxes that together contain all samples, each with samples of one class only.

    Args:
        grid: the samples' cells and δ.
        ranks: (n,) labels 1..m.
        levels: candidate faces a column.
        tries: boxes grown before the best is kept; more take longer and give fewer boxes.
        memory: bytes that may be used.
        progress: called now and then with the share of the work that is done.
        name: of the data, for messages.

    Raises:
        DataError: more memory than allowed.
    """
    n, d = grid.cells.shape
    # Four codes a coordinate and side, while they are made five; the cells twice.
    require_bytes(name, "the search for boxes", n * d * (10 + 2 * grid.cells.itemsize), memory)
    order = np.argsort(ranks, kind="stable")
    cells, sorted_ranks = grid.cells[order], ranks[order]
    codes = face_codes(cells, grid.delta, levels)
    labels = np.unique(ranks)
    done = np.zeros(len(labels))
    weights = np.bincount(ranks)[labels] / n

    def report(k: int, share: float) -> None:
        done[k] = share
        if progress is not None:
            progress(float(done @ weights))

    def search(k: int) -> list[_Face]:
        rows = np.searchsorted(sorted_ranks, [labels[k], labels[k] + 1])
        first, last = int(rows[0]), int(rows[1])
        task = _ClassSearch(codes, cells, grid.delta, first, last, lambda s: report(k, s))
        return task.run(tries)

    with ThreadPoolExecutor(_cores()) as pool:
        found = list(pool.map(search, range(len(labels))))
    return _joined(labels, found, d)


def _cores() -> int:
    """How many this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def _joined(labels: np.ndarray, found: list[list[_Face]], d: int) -> Boxes:
    """The boxes of all classes."""
    parts = [faces for boxes in found for faces in boxes]
    column = np.concatenate([faces.column for faces in parts])
    return Boxes(
        np.repeat(labels, [len(boxes) for boxes in found]),
        np.concatenate([[0], np.cumsum([len(faces.cell) for faces in parts])]),
        column % d,
        column < d,
        np.concatenate([faces.cell for faces in parts]),
    )


class _ClassSearch:
    """Boxes of one class, whose samples are the rows [first, last).

    Args:
        codes: where samples stand to the candidate faces.
        cells: (n, d) the samples.
        delta: δ.
        first, last: rows of the class.
        report: told the share of samples covered.
    """

    def __init__(
        self,
        codes: FaceCodes,
        cells: np.ndarray,
        delta: int,
        first: int,
        last: int,
        report: Progress,
    ) -> None:
        self.codes, self.cells, self.delta = codes, cells, delta
        self.first, self.last, self.report = first, last, report
        n, columns = codes.inside.shape
        self.ranges = np.array([[0, first], [last, n]])
        self.enemies = np.concatenate([np.arange(first), np.arange(last, n)])
        self.count: np.ndarray = np.zeros(n, dtype=np.int16 if columns < 2**15 else np.int32)
        # No face is chosen twice, and each excludes an enemy that the others do not.
        most = min(columns * codes.levels, len(self.enemies))
        self.face, self.cut = (np.empty(most, dtype=np.int64) for _ in range(2))
        self.open = np.ones(last - first, dtype=bool)

    def run(self, tries: int) -> list[_Face]:
        """All boxes of the class."""
        pool: list[_Face] = []
        masks: list[np.ndarray] = []
        kept: list[int] = []
        while self.open.any():
            left = self.first + np.flatnonzero(self.open)
            for seed in left[np.linspace(0, len(left) - 1, min(tries, len(left))).astype(int)]:
                faces, mask = self._box(int(seed), left)
                pool.append(faces)
                masks.append(mask)
            gains = [int(np.count_nonzero(mask & self.open)) for mask in masks]
            best = int(np.argmax(gains))
            kept.append(best)
            self.open &= ~masks[best]
            # What adds nothing now never will.
            useful = [k for k, gain in enumerate(gains) if gain > 0 or k in kept]
            where = {k: i for i, k in enumerate(useful)}
            pool, masks = [pool[k] for k in useful], [masks[k] for k in useful]
            kept = [where[k] for k in kept]
            self.report(1 - float(self.open.mean()))
        chosen = _irredundant(np.array([masks[k] for k in kept]))
        return [pool[kept[i]] for i in chosen]

    def _box(self, seed: int, left: np.ndarray) -> tuple[_Face, np.ndarray]:
        """A box around a sample with as many as possible of the rows ``left``; its members."""
        must = self.codes.inside[seed].copy()
        faces, mask = self._grown(must, seed, left)
        inside = left[mask[left - self.first]]
        must = self.codes.inside[inside].max(axis=0)
        if self._extended(must, faces, left[~mask[left - self.first]]):
            wider, wider_mask = self._grown(must, seed, left)
            if (wider_mask & self.open).sum() >= len(inside):
                return wider, wider_mask
        return faces, mask

    def _grown(self, must: np.ndarray, seed: int, left: np.ndarray) -> tuple[_Face, np.ndarray]:
        """Faces beyond ``must`` that exclude every enemy, and the members of their box."""
        codes, enemies = self.codes, self.enemies.copy()
        m, stuck = kernel.grow(
            codes.inside,
            codes.inside_t,
            codes.outside,
            codes.outside_t,
            must,
            left,
            enemies,
            codes.levels,
            _PRICE,
            self.face,
            self.cut,
        )
        extra = self._own_faces(seed, enemies[:stuck])
        self.count[:] = 0
        for column, cell in zip(extra.column, extra.cell, strict=True):
            self.count += self._beyond(column, cell)
        m = kernel.prune(
            codes.outside_t, self.ranges, self.face, self.cut, m, self.count, codes.levels
        )
        mask = np.empty(self.last - self.first, dtype=bool)
        kernel.members(codes.inside_t, self.first, self.last, self.face[:m], self.cut[:m], mask)
        column, cut = self.face[:m].copy(), self.cut[:m]
        for c, cell in zip(extra.column, extra.cell, strict=True):
            mask &= self._holds(c, cell)
        cells = np.concatenate([codes.cells[column, cut], extra.cell])
        return _Face(np.concatenate([column, extra.column]), cells), mask

    def _own_faces(self, seed: int, stuck: np.ndarray) -> _Face:
        """Faces at the sample's own cells against enemies that no candidate face excludes."""
        d = self.cells.shape[1]
        columns, found = [], []
        own = self.cells[seed].astype(np.int64)
        while len(stuck):
            away = self.cells[stuck[0]].astype(np.int64) - own
            j = int(np.abs(away).argmax())
            c = j if away[j] > 0 else d + j
            columns.append(c)
            found.append(own[j])
            stuck = stuck[~self._beyond(c, own[j], stuck)]
        return _Face(np.array(columns, dtype=np.int64), np.array(found, dtype=np.int64))

    def _beyond(self, column: int, cell: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Whether rows lie at least δ beyond a face."""
        d = self.cells.shape[1]
        values = self.cells[rows, column % d].astype(np.int64)
        return values - cell >= self.delta if column < d else cell - values >= self.delta

    def _holds(self, column: int, cell: int) -> np.ndarray:
        """Whether samples of the class lie within a face."""
        d = self.cells.shape[1]
        values = self.cells[self.first : self.last, column % d].astype(np.int64)
        return values <= cell if column < d else values >= cell

    def _extended(self, must: np.ndarray, faces: _Face, others: np.ndarray) -> bool:
        """Whether the box could take in other rows; ``must`` then holds them."""
        if not len(others):
            return False
        codes = self.codes
        kernel.count_columns(codes.outside_t, must, codes.levels, self.ranges, self.count)
        if any((self.count[lo:hi] == 0).any() for lo, hi in self.ranges):
            return False
        wrong = np.zeros(len(others), dtype=np.int64)
        for column, cell in zip(faces.column, faces.cell, strict=True):
            wrong += ~self._holds(column, cell)[others - self.first]
        near = others[np.argsort(wrong, kind="stable")[:_CANDIDATES]]
        changes = (codes.inside[near] > must).sum(axis=1)
        near = near[np.argsort(changes, kind="stable")]
        grown: int = kernel.extend(
            codes.inside,
            codes.outside,
            codes.outside_t,
            self.ranges,
            near,
            must,
            self.count,
            _PATIENCE,
        )
        return grown > 0


def _irredundant(masks: np.ndarray) -> list[int]:
    """Rows whose union is that of all, none of which the others make superfluous."""
    total = masks.sum(axis=0)
    kept = []
    for k in np.argsort(masks.sum(axis=1), kind="stable"):
        if (total[masks[k]] > 1).all():
            total -= masks[k]
        else:
            kept.append(int(k))
    return sorted(kept)
