"""Whether boxes are what they should be, sample by sample, in integers.

This shares nothing with the search for boxes: it reads the samples' cells, labels and faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from constructions.box_grid import BoxGrid
from constructions.boxes import Boxes


@dataclass(frozen=True)
class Counted:
    """What was found.

    Args:
        contained: samples in at least one box of their class.
        excluded: pairs of a box and an enemy that is at least δ beyond one of its faces.
        enemies: pairs of a box and an enemy.
    """

    contained: int
    excluded: int
    enemies: int


def count_boxes(grid: BoxGrid, ranks: np.ndarray, boxes: Boxes) -> Counted:
    """Go through all boxes and all samples.

    Args:
        grid: cells p (n, d), and δ.
        ranks: (n,) labels 1..m.
        boxes: sample i is in a box if p_ij ≤ a for its faces x_j ≤ a and p_ij ≥ b for x_j ≥ b; it
            is excluded if p_ij − a ≥ δ or b − p_ij ≥ δ for one of them.
    """
    columns = np.ascontiguousarray(grid.cells.T).astype(_signed(grid.cells.dtype), copy=False)
    contained = np.zeros(len(ranks), dtype=bool)
    excluded = enemies = 0
    for box, label in enumerate(boxes.label.tolist()):
        inside, beyond = np.ones(len(ranks), dtype=bool), np.zeros(len(ranks), dtype=bool)
        part = boxes.of(box)
        for j, upper, cell in zip(
            boxes.coordinate[part].tolist(),
            boxes.upper[part].tolist(),
            boxes.cell[part].tolist(),
            strict=True,
        ):
            column = columns[j]
            if upper:
                inside &= column <= cell
                beyond |= column >= cell + grid.delta
            else:
                inside &= column >= cell
                beyond |= column <= cell - grid.delta
        own = ranks == label
        contained |= inside & own
        enemies += int(np.count_nonzero(~own))
        excluded += int(np.count_nonzero(beyond & ~own))
    return Counted(int(np.count_nonzero(contained)), excluded, enemies)


def _signed(kind: np.dtype) -> np.dtype:
    """A signed type that holds all cells, their sums and differences with δ (all below 2^62)."""
    return np.dtype(np.int16 if kind.itemsize == 1 else np.int64)
