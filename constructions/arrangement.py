"""Where piecewise affine functions of few variables have their minima: corners and cells, exactly.

A function that is affine on every cell of an arrangement of hyperplanes in a box takes its minimum
over each closed cell on a face of it, hence at a vertex of the arrangement. So the smallest value
at a vertex is the minimum; and if only one vertex has it, the minimum is attained nowhere else,
because a face on which it is attained has only such vertices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise

from flint import fmpq, fmpq_mat

from constructions.rational_points import Vector
from verifier.core.errors import DataError
from verifier.core.property import Box

Plane = tuple[Vector, Fraction]
"""(w, b) means the hyperplane w·x = b."""


def vertices(planes: Iterable[Plane], box: Box) -> list[Vector]:
    """The points of the box that are the only common point of d planes or faces of the box.

    Args:
        planes: hyperplanes in R^d; equal ones, and w = 0, do no harm.
        box: d ≥ 1 intervals.

    Returns:
        Every vertex once, in ascending order, the corners of the box among them.
    """
    d = len(box)
    units = [tuple(Fraction(int(j == k)) for k in range(d)) for j in range(d)]
    faces = [
        (unit, face)
        for unit, pair in zip(units, zip(box.lower, box.upper, strict=True), strict=True)
        for face in pair
    ]
    distinct = list(dict.fromkeys([*planes, *faces]))
    found = set()
    for chosen in combinations(distinct, d):
        x = _common_point(chosen)
        if x is not None and box.contains(x):
            found.add(x)
    return sorted(found)


def _common_point(planes: Sequence[Plane]) -> Vector | None:
    """The only point of d planes in R^d, or None if there is none or there are many."""
    d = len(planes)
    weights = fmpq_mat([[_fmpq(c) for c in w] for w, _ in planes])
    if weights.det() == 0:
        return None
    solution = weights.solve(fmpq_mat(d, 1, [_fmpq(b) for _, b in planes]))
    return tuple(Fraction(int(solution[j, 0].p), int(solution[j, 0].q)) for j in range(d))


def _fmpq(value: Fraction) -> fmpq:
    return fmpq(value.numerator, value.denominator)


@dataclass(frozen=True)
class Minimum:
    """The minimum of a piecewise affine function over a box.

    Args:
        value: the minimum.
        where: the vertices at which it is attained; if it is one, it is attained only there.
        compared: number of vertices.
    """

    value: Fraction
    where: tuple[Vector, ...]
    compared: int


def minimum(function: Callable[[Vector], Fraction], planes: Iterable[Plane], box: Box) -> Minimum:
    """The minimum over the box of a function that is affine on the cells of the planes."""
    corners = vertices(planes, box)
    values = [function(x) for x in corners]
    best = min(values)
    where = tuple(x for x, value in zip(corners, values, strict=True) if value == best)
    return Minimum(best, where, len(corners))


@dataclass(frozen=True, order=True)
class Interval:
    """An interval of the line with rational ends; a point if both are equal.

    Args:
        low, high: low ≤ high.
        closed: whether low and high belong to it.
    """

    low: Fraction
    high: Fraction
    closed: tuple[bool, bool] = (True, True)

    @property
    def middle(self) -> Fraction:
        """A point inside."""
        return (self.low + self.high) / 2

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{{{self.low}}}"
        return f"{'(['[self.closed[0]]}{self.low}, {self.high}{')]'[self.closed[1]]}"


def cells(kinks: Iterable[Fraction], low: Fraction, high: Fraction) -> list[Interval]:
    """[low, high] cut at the kinks: points and open intervals in turn.

    Raises:
        DataError: low > high.
    """
    if low > high:
        raise DataError(f"the interval is empty: {low} > {high}")
    ends = sorted({low, high, *(k for k in kinks if low < k < high)})
    out = [Interval(ends[0], ends[0])]
    for a, b in pairwise(ends):
        out += [Interval(a, b, (False, False)), Interval(b, b)]
    return out


def union(parts: Iterable[Interval]) -> list[Interval]:
    """The same set as few intervals, ascending; the parts must not overlap."""
    out: list[Interval] = []
    for part in sorted(parts):
        last = out[-1] if out else None
        if last and last.high == part.low and (last.closed[1] or part.closed[0]):
            out[-1] = Interval(last.low, part.high, (last.closed[0], part.closed[1]))
        else:
            out.append(part)
    return out
