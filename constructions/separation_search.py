"""Exact nearest enemies in the maximum norm, fast enough for all pairs of 60000 images.

Points are compared as integers wherever one unit makes them so, else as float64 with the rounding
error of every difference kept (``separation_kernel``). Bit tests (``separation_bits``) for a
distance t discard pairs at distance t or more, so that what is left contains every pair nearer
than t; t is raised until each point has its nearest enemy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions import separation_kernel as kernel
from constructions.dataset import DataSet
from constructions.memory import MEMORY, require_bytes
from constructions.separation_bits import MOST_WORDS, STUDIED, BitTests, choose_tests
from verifier.core.errors import DataError

Progress = Callable[[float], None]

_PROBES = 64
_PAIRS = 32768
_FEWEST_PAIRS = 128
#: Bytes of the points that the tests are chosen on, where that leaves some.
_SAMPLE = 2**27
_ROWS_A_BLOCK = 256
_FEW = 256
_UNSET = np.iinfo(np.uint64).max
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Grid:
    """Points in numbers that machines subtract exactly.

    Args:
        cells: for each set its (n, d) points, all of one unsigned integer type, or float64.
        unit: value of one integer step; 1 for floats.
    """

    cells: tuple[np.ndarray, ...]
    unit: Fraction

    @property
    def is_float(self) -> bool:
        """Whether differences of the numbers have rounding errors."""
        return self.cells[0].dtype.kind == "f"


def common_grid(sets: Sequence[DataSet]) -> Grid:
    """The points of the sets on one grid, moved by an offset that no difference sees.

    Raises:
        DataError: different units, or values so far apart that a machine number cannot hold their
            difference.
    """
    first, points = sets[0], [s.points for s in sets]
    for other in sets[1:]:
        if other.dimension != first.dimension:
            raise DataError(
                f"{other.name}: points have {other.dimension} coordinates, "
                f"those of {first.name} have {first.dimension}"
            )
        kinds = {"f" if p.dtype.kind == "f" else "i" for p in points}
        if other.scale != first.scale or len(kinds) > 1:
            raise DataError(
                f"{other.name}: values are {_unit_text(other)}, those of {first.name} are "
                f"{_unit_text(first)}; they are compared only in the same unit"
            )
    if first.points.dtype.kind != "f":
        return Grid(_unsigned(first.name, points), first.scale)
    exponent = _common_exponent(points)
    if exponent is None:
        return Grid(_floats(first.name, points), Fraction(1))
    integers = [np.ldexp(p, -exponent).astype(np.int64) for p in points]
    unit = Fraction(2) ** exponent
    return Grid(_unsigned(first.name, integers), unit)


def _unit_text(data: DataSet) -> str:
    return "floats" if data.points.dtype.kind == "f" else f"multiples of {data.scale}"


def _unsigned(name: str, points: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Integers moved to 0 and up, in the smallest unsigned type."""
    if all(p.dtype == np.uint8 for p in points):
        return tuple(np.ascontiguousarray(p) for p in points)
    low, high = min(int(p.min()) for p in points), max(int(p.max()) for p in points)
    if high - low >= 2**63:
        raise DataError(f"{name}: values from {low} to {high} differ by more than 63 bits hold")
    small = next(
        t for t in (np.uint8, np.uint16, np.uint32, np.uint64) if high - low <= np.iinfo(t).max
    )
    # Arithmetic of uint64 wraps around, so that subtracting the least value is right for all types.
    offset = np.uint64(low % 2**64)
    return tuple((p.astype(np.uint64) - offset).astype(small) for p in points)


def _common_exponent(points: Sequence[np.ndarray]) -> int | None:
    """The largest e such that all floats are multiples of 2^e, if such multiples fit 62 bits."""
    lowest, highest = 0, -2000
    known = False
    for p in points:
        for start in range(0, len(p), _CHUNK):
            mantissa, exponent = np.frexp(p[start : start + _CHUNK])
            integers = np.ldexp(mantissa, 53).astype(np.int64)
            nonzero = integers != 0
            if not nonzero.any():
                continue
            integers, exponent = integers[nonzero], exponent[nonzero].astype(np.int64)
            bit = (integers & -integers).astype(np.float64)
            trailing = np.frexp(bit)[1].astype(np.int64) - 1
            least = int((exponent - 53 + trailing).min())
            lowest = min(lowest, least) if known else least
            highest = max(highest, int(exponent.max()))
            known = True
    if not known:
        return 0
    return lowest if highest - lowest <= 62 else None


def _floats(name: str, points: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Floats whose differences stay finite."""
    least, most = min(float(p.min()) for p in points), max(float(p.max()) for p in points)
    with np.errstate(over="ignore"):
        if not np.isfinite(np.float64(most) - np.float64(least)):
            raise DataError(f"{name}: values from {least} to {most} differ by more than a float64")
    return tuple(points)


@dataclass(frozen=True, eq=False)
class Found:
    """Distances of rows to their nearest column of another class.

    Args:
        steps: (n,) uint64 or float64; distance = (steps + rest) · unit, exactly.
        rest: (n,) float64, or None for integers.
        who: (n,) column; -1 where none was found.
    """

    steps: np.ndarray
    rest: np.ndarray | None
    who: np.ndarray


class Search:
    """Rows against columns; both are sorted by label, so that enemies lie in one or two ranges.

    Args:
        grid: one set, or rows and columns.
        row_labels, column_labels: their labels.
        progress: called with the share of the work that is done.
    """

    def __init__(
        self,
        grid: Grid,
        row_labels: np.ndarray,
        column_labels: np.ndarray,
        progress: Progress | None = None,
    ) -> None:
        self.row_order = np.argsort(row_labels, kind="stable")
        self.column_order = np.argsort(column_labels, kind="stable")
        self.row_labels = row_labels[self.row_order]
        self.column_labels = column_labels[self.column_order]
        self.columns = grid.cells[-1][self.column_order]
        same = len(grid.cells) == 1
        self.rows = self.columns if same else grid.cells[0][self.row_order]
        self.is_float = grid.is_float
        # Where in the columns each row's own class begins and ends.
        self.begin = np.searchsorted(self.column_labels, self.row_labels, side="left")
        self.end = np.searchsorted(self.column_labels, self.row_labels, side="right")
        # No two points are farther apart than this; for floats no such number is needed.
        self.largest = None if self.is_float else max(_spans(grid))
        n = len(self.rows)
        self._nothing = np.float64(np.inf) if self.is_float else np.uint64(_UNSET)
        self.best = np.full(n, self._nothing)
        self.rest = np.zeros(n)
        self.who = np.full(n, -1, dtype=np.int64)
        self.progress = progress or (lambda share: None)

    def nearest(self) -> Found:
        """The nearest enemy of every row (which must have one); of equals the first one.

        "First" means the lowest label, then the lowest index.
        """
        todo = np.arange(len(self.rows))
        probes = _spread(todo, _PROBES)
        self._scan(probes, None, later=False)
        todo = np.setdiff1d(todo, probes)
        levels = self._levels(self.best[probes])
        for k, level in enumerate(levels):
            if len(todo) > _FEW:
                self._scan(todo, level, later=False, part=(k, len(levels)))
                todo = todo[self.who[todo] < 0]
                if level == self.largest:
                    self._settle(todo, level)
                    todo = todo[:0]
        self._scan(todo, None, later=False)
        self.progress(1.0)
        return self._found()

    def _levels(self, seen: np.ndarray) -> list[float | int]:
        """Ascending distances t to search below; each leaves fewer rows for the next one."""
        levels = {self._above(v) for v in np.quantile(seen, (0.2, 0.6, 0.9, 1), method="higher")}
        if self.largest is not None:
            levels = {min(level, self.largest) for level in levels} | {self.largest}
        return sorted(level for level in levels if level > 0)

    def _settle(self, rows: np.ndarray, largest: float | int) -> None:
        """Rows without an enemy nearer than the largest possible distance: any one is nearest."""
        self.best[rows] = largest
        self.who[rows] = np.where(self.begin[rows] > 0, 0, self.end[rows])

    def closest(self) -> Found:
        """For rows of one set, the nearest column of a *later* label, at least where it matters.

        A row that takes part in a closest pair of enemies has its exact entry; others may have
        none.
        """
        todo = np.arange(len(self.rows))
        for count in (_PROBES, 16 * _PROBES, len(todo)):
            some = _spread(todo, count)
            seen = self.best[self.who >= 0]
            level = self._above(seen.min()) if len(seen) else None
            self._scan(some, level, later=True, part=(0, 1) if len(some) == len(todo) else None)
            todo = np.setdiff1d(todo, some)
        self.progress(1.0)
        return self._found()

    def partners(self, i: int, found: Found, like: int) -> np.ndarray:
        """The enemies of row i, ascending, that are as far as row ``like`` is from its enemy.

        Args:
            i, like: rows, in the sets' own order.
            found: an answer of this search.
        """
        (place,) = np.flatnonzero(self.row_order == i)
        equal = np.zeros(len(self.columns), dtype=bool)
        if found.rest is None:
            kernel.equal_integers(self.rows[place], self.columns, found.steps[like], equal)
        else:
            kernel.equal_floats(
                self.rows[place], self.columns, found.steps[like], found.rest[like], equal
            )
        equal &= self.column_labels != self.row_labels[place]
        return np.sort(self.column_order[equal])

    def _above(self, level: float | np.uint64) -> float | int:
        """The smallest distance greater than the level, so that the level itself is found."""
        return float(np.nextafter(level, np.inf)) if self.is_float else int(level) + 1

    def _found(self) -> Found:
        """The answer in the sets' own order."""
        best, rest, who = (np.empty_like(a) for a in (self.best, self.rest, self.who))
        best[self.row_order], rest[self.row_order] = self.best, self.rest
        who[self.row_order] = np.where(self.who >= 0, self.column_order[self.who], -1)
        return Found(best, rest if self.is_float else None, who)

    def _scan(
        self,
        rows: np.ndarray,
        level: float | int | None,
        *,
        later: bool,
        part: tuple[int, int] | None = None,
    ) -> None:
        """Nearest enemies of some rows; with a level, only those at a smaller distance.

        ``part`` = (k, n) says for the progress that this is step k of n.
        """
        if not len(rows):
            return
        tests = BitTests(()) if level is None else self._tests(rows, level)
        self.best[rows] = self._nothing if level is None else level
        bits = tests.bits(self.columns)
        row_bits = bits if self.rows is self.columns else tests.bits(self.rows)
        blocks = list(self._blocks(rows))

        def work(block: np.ndarray) -> None:
            self._block(block, row_bits, bits, later)

        with _threads() as pool:
            for done, _ in enumerate(pool.map(work, blocks)):
                if part is not None:
                    self.progress((part[0] + done / len(blocks)) / part[1])

    def _tests(self, rows: np.ndarray, level: float | int) -> BitTests:
        """Tests chosen on random pairs of enemies."""
        rng = np.random.default_rng(0)
        count = _sample_size(self.columns)
        a = rng.choice(rows, count)
        b = rng.integers(len(self.columns), size=count)
        enemies = self.row_labels[a] != self.column_labels[b]
        return choose_tests(self.rows[a[enemies]], self.columns[b[enemies]], level)

    def _blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The rows in parts of one label each."""
        cuts = np.flatnonzero(np.diff(self.row_labels[rows])) + 1
        for part in np.split(rows, cuts):
            for start in range(0, len(part), _ROWS_A_BLOCK):
                yield part[start : start + _ROWS_A_BLOCK]

    def _block(
        self,
        rows: np.ndarray,
        row_bits: tuple[np.ndarray, np.ndarray],
        bits: tuple[np.ndarray, np.ndarray],
        later: bool,
    ) -> None:
        """Search for some rows of one label, by themselves: blocks run at the same time."""
        begin, end = int(self.begin[rows[0]]), int(self.end[rows[0]])
        ranges = [(end, len(self.columns))] if later else [(0, begin), (end, len(self.columns))]
        points = self.rows[rows]
        high, low = (np.ascontiguousarray(b[:, rows]) for b in row_bits)
        best, rest, who = self.best[rows], self.rest[rows], self.who[rows]
        for first, last in ranges:
            if self.is_float:
                kernel.search_floats(
                    points, high, low, self.columns, *bits, first, last, best, rest, who
                )
            else:
                kernel.search_integers(
                    points, high, low, self.columns, *bits, first, last, best, who
                )
        self.best[rows], self.rest[rows], self.who[rows] = best, rest, who


def bytes_needed(sets: Sequence[DataSet]) -> int:
    """What the search takes beside the points themselves, estimated from above.

    Args:
        sets: one set, or rows and columns.
    """
    needed, largest = 0, sets[0].points
    for points in (s.points for s in sets):
        # Two temporary copies in 64 bits while values are moved to a grid, and the sorted points;
        # a word of tests has a number a point for high and one for low, and 64 flags before that.
        needed += points.size * (17 if points.dtype == np.uint8 else 32)
        needed += len(points) * (16 * MOST_WORDS + 512)
        largest = max(largest, points, key=lambda p: p.itemsize)
    d, size, sample = largest.shape[1], largest.itemsize, _sample_size(largest)
    studied = min(sample, STUDIED)
    return needed + d * (2 * size * (sample + studied) + 16 * studied + 512) + 2**24


def require_memory(sets: Sequence[DataSet], limit: int = MEMORY) -> None:
    """Refuse sets whose search would need too much memory.

    Raises:
        DataError: with the estimate.
    """
    name = " and ".join(dict.fromkeys(s.name for s in sets))
    count = " and ".join(str(len(s)) for s in sets)
    what = f"finding the nearest enemies of {count} points in {sets[0].dimension} dimensions"
    require_bytes(name, what, bytes_needed(sets), limit)


def _sample_size(points: np.ndarray) -> int:
    """How many pairs of points the tests are chosen on."""
    fit = _SAMPLE // (points.shape[1] * points.itemsize)
    return max(_FEWEST_PAIRS, min(_PAIRS, fit))


def _spans(grid: Grid) -> list[int]:
    """Largest minus least value of each coordinate."""
    least = np.min([c.min(axis=0) for c in grid.cells], axis=0)
    most = np.max([c.max(axis=0) for c in grid.cells], axis=0)
    return [int(a) - int(b) for a, b in zip(most, least, strict=True)]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """That many of the rows, evenly spread."""
    return np.unique(rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)])


def _threads() -> ThreadPoolExecutor:
    """One thread for each core that this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1)
