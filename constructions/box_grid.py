"""Points, a distance δ and candidate faces of boxes, all in integers.

Point i lies in the cells p_i, in units u: x_ij = u (p_ij + θ) with 0 ≤ θ ≤ slack. Integers, pixels
and floats with few bits are their own cells (slack 0); other floats are cut to a grid that is fine
enough (slack 1). A face at cell a holds x_j ≤ u (a + slack). An enemy is *excluded* by it if its
cell is at least a + δ; then x_ej − u (a + slack) ≥ u (δ − slack), which must exceed 2μ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from constructions.safe_rounding import ceil_log2, unit
from constructions.separation_search import common_grid
from verifier.core.errors import DataError

#: Candidate faces a side of each coordinate. More make larger boxes, fewer share more neurons.
LEVELS = 12
#: Which part of λ − 2μ is spared in any case, so that thresholds need not be too fine.
_SHARE = 1000


@dataclass(frozen=True, eq=False)
class BoxGrid:
    """The cells of a set's points, and how far a box keeps from its enemies.

    Args:
        cells: (n, d) integers.
        step: u, the side of a cell.
        origin: value of cell 0.
        slack: 0 or 1.
        delta: δ.
    """

    cells: np.ndarray
    step: Fraction
    origin: Fraction
    slack: int
    delta: int

    @property
    def distance(self) -> Fraction:
        """An excluded enemy is at least so far beyond the face: (δ − slack) u."""
        return (self.delta - self.slack) * self.step

    def upper(self, cell: int) -> Fraction:
        """Where the upper face at this cell lies."""
        return self.origin + (cell + self.slack) * self.step

    def lower(self, cell: int) -> Fraction:
        """Where the lower face at this cell lies."""
        return self.origin + cell * self.step


def box_grid(data: DataSet, radius: Fraction, separation: Fraction, *, every: bool) -> BoxGrid:
    """The grid for boxes at a distance of λ from their enemies, or of just more than 2μ.

    Args:
        data: the samples.
        radius: μ, below λ/2.
        separation: λ.
        every: boxes at distance λ, which serve every radius below λ/2; else the smallest distance
            in whole cells that serves μ (with a thousandth of λ − 2μ to spare, so that thresholds
            need not be too fine), for which boxes can be larger.

    Raises:
        DataError: floats that need too fine a grid.
    """
    grid = common_grid([data])
    cells = grid.cells[0]
    if not grid.is_float:
        least = Fraction(data.sample(0)[0]) - int(cells[0, 0]) * grid.unit
        step, slack = grid.unit, 0
    else:
        step, slack = unit(ceil_log2(4 / (separation - 2 * radius))), 1
        cells, least = _cut(data, step)
    delta = math.floor(separation / step)
    if not every:
        enough = 2 * radius + (separation - 2 * radius) / _SHARE
        least_cells = max(math.floor(2 * radius / step) + 1, math.ceil(enough / step))
        delta = min(delta, least_cells + slack)
    return BoxGrid(cells, step, least, slack, delta)


def _cut(data: DataSet, step: Fraction) -> tuple[np.ndarray, Fraction]:
    """Cells of the step that contain the floats, exactly, and the value of cell 0."""
    exponent = step.denominator.bit_length() - step.numerator.bit_length()
    reach = float(np.abs(data.points).max())
    if reach > 0 and math.frexp(reach)[1] + exponent > 62:
        raise DataError(
            f"{data.name}: the boxes need a grid of step {step}, too fine beside values of the "
            f"size {reach:g}; choose a smaller radius"
        )
    # Multiplying by a power of two is exact, or underflows: then the sign says which cell it is.
    scaled = np.ldexp(data.points, exponent)
    cells = np.floor(scaled).astype(np.int64) - ((scaled == 0) & (data.points < 0))
    least = int(cells.min())
    return cells - least, least * step


@dataclass(frozen=True, eq=False)
class FaceCodes:
    """Candidate faces and where every sample stands to them; see ``constructions.box_kernel``.

    Column c < d has upper faces of coordinate c, column d + j lower faces of coordinate j. A face
    is the larger the higher its level.

    Args:
        inside, outside: (n, 2d) uint8.
        inside_t, outside_t: the same, transposed.
        cells: (2d, levels) the faces' cells.
    """

    inside: np.ndarray
    outside: np.ndarray
    inside_t: np.ndarray
    outside_t: np.ndarray
    cells: np.ndarray

    @property
    def levels(self) -> int:
        """Candidates a column."""
        return int(self.cells.shape[1])


def face_codes(cells: np.ndarray, delta: int, levels: int = LEVELS) -> FaceCodes:
    """Up to ``levels`` candidate faces a column, spread over the values that can exclude enemies.

    Args:
        cells: (n, d) points in the order in which the rows are wanted.
        delta: δ.
        levels: at most 250.
    """
    n, d = cells.shape
    inside_t = np.empty((2 * d, n), dtype=np.uint8)
    outside_t = np.empty((2 * d, n), dtype=np.uint8)
    chosen = np.zeros((2 * d, levels), dtype=np.int64)
    for j in range(d):
        column = np.ascontiguousarray(cells[:, j])
        distinct = np.unique(column).astype(np.int64)
        for c, sign in ((j, 1), (d + j, -1)):
            values = distinct if sign == 1 else -distinct[::-1]
            useful = values[values <= values[-1] - delta]
            if len(useful) > levels:
                useful = useful[np.linspace(0, len(useful) - 1, levels).astype(int)]
            within = np.searchsorted(useful, sign * distinct, side="left")
            # A column with fewer candidates: no higher level is ever chosen.
            within[within == len(useful)] = levels
            beyond = np.searchsorted(useful + delta, sign * distinct, side="right")
            inside_t[c] = _lookup(column, distinct, within)
            outside_t[c] = _lookup(column, distinct, beyond)
            chosen[c, : len(useful)] = sign * useful
    return FaceCodes(
        np.ascontiguousarray(inside_t.T),
        np.ascontiguousarray(outside_t.T),
        inside_t,
        outside_t,
        chosen,
    )


def _lookup(column: np.ndarray, distinct: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The code of every entry, where the distinct values have the given codes."""
    if column.dtype.itemsize > 2:
        return codes[np.searchsorted(distinct, column)]
    table = np.zeros(int(distinct[-1]) + 1, dtype=np.uint8)
    table[distinct] = codes
    return table[column]
