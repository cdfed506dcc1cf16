"""Boxes and samples counted by definition, in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from constructions.box_check import Counted
from constructions.box_grid import BoxGrid
from constructions.boxes import Boxes


def grid_of(cells: np.ndarray, delta: int) -> BoxGrid:
    """Cells of side 1 at the origin."""
    return BoxGrid(np.asarray(cells), Fraction(1), Fraction(0), 0, delta)


def by_definition(grid: BoxGrid, ranks: Sequence[int], boxes: Boxes) -> Counted:
    """Counts in plain Python."""
    contained: set[int] = set()
    excluded = enemies = 0
    for q in range(len(boxes)):
        part = boxes.of(q)
        faces = [
            (int(j), bool(u), int(a))
            for j, u, a in zip(
                boxes.coordinate[part], boxes.upper[part], boxes.cell[part], strict=True
            )
        ]
        for i, row in enumerate(grid.cells.tolist()):
            away = [row[j] - a if u else a - row[j] for j, u, a in faces]
            if ranks[i] == boxes.label[q]:
                if all(v <= 0 for v in away):
                    contained.add(i)
            else:
                enemies += 1
                excluded += any(v >= grid.delta for v in away)
    return Counted(len(contained), excluded, enemies)
