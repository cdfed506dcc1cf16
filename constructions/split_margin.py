"""Margins of splits of a point set, exactly, by linear programs with equal primal and dual values.

For disjoint groups A, B of points,

    margin(A | B) = max { t : w·x_i + b ≥ t on A, w·x_i + b ≤ −t on B, ‖w‖₁ ≤ 1 }
                  = ½ min { ‖Σ α_i x_i − Σ β_j x_j‖∞ : α, β convex weights }.

A program holds only the points and coordinates that matter: those that its answer violates are
added until there are none. Its hyperplane then serves all points of the groups, its combinations
are as close in all coordinates, and the two prove each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from flint import fmpq

from constructions.depth_two_check import Blocker, Separator
from constructions.rational_points import RationalPoints, distance, dot
from verifier.core.exact_lp import Inequalities, Widest, widest

_ZERO, _ONE = fmpq(0), fmpq(1)


@dataclass(frozen=True)
class Margin:
    """margin(A | B) with both of its proofs, in scaled coordinates.

    Args:
        value: the margin.
        normal, offset: w and b.
        inside, outside: the convex combinations of A and B, as (index, weight), weights > 0.
        sides: w·x_i + b for all points, those in no group included.
    """

    value: fmpq
    normal: tuple[fmpq, ...]
    offset: fmpq
    inside: tuple[tuple[int, fmpq], ...]
    outside: tuple[tuple[int, fmpq], ...]
    sides: tuple[fmpq, ...]


class SplitSpace:
    """The points of a data set, ready for margins.

    Coordinates are shifted to the first point and divided so that they lie in [−1/2, 1/2]; margins
    are then below 1, as ``widest`` asks, and offsets within [−1, 1].

    Args:
        data: the points.
    """

    def __init__(self, data: RationalPoints) -> None:
        self.origin = data.points[0]
        self.scale = 2 * max(distance(x, self.origin) for x in data.points)
        self.points = [
            [self.scaled(v - o) for v, o in zip(x, self.origin, strict=True)] for x in data.points
        ]

    def scaled(self, length: Fraction) -> fmpq:
        """A length of the data in scaled units."""
        value = length / self.scale
        return fmpq(value.numerator, value.denominator)

    def length(self, scaled: fmpq) -> Fraction:
        """A scaled length in the units of the data."""
        return _fraction(scaled) * self.scale

    def margin(
        self, inside: frozenset[int], outside: frozenset[int], start: Margin | None = None
    ) -> Margin:
        """How wide the gap between two groups of points is.

        Args:
            inside, outside: indices, disjoint, none of them empty.
            start: the margin of some of these points; its points and coordinates are tried first.
        """
        used = set() if start is None else {i for i, _ in (*start.inside, *start.outside)}
        first = used & inside or {min(inside)}
        other = used & outside or {min(outside)}
        axes = set() if start is None else {k for k, v in enumerate(start.normal) if v != 0}
        axes = axes or {0}
        if start is not None:
            _add(first, other, self._behind(start, inside, outside))
        while True:
            found = self._solve(sorted(first), sorted(other), sorted(axes))
            axis = self._wider(found)
            point = self._behind(found, inside, outside)
            if axis is None and point is None:
                return found
            axes |= set() if axis is None else {axis}
            _add(first, other, point)

    def _behind(
        self, found: Margin, inside: frozenset[int], outside: frozenset[int]
    ) -> tuple[int, bool] | None:
        """The point farthest behind the margin on its side, and whether that side is inside."""
        short = [(found.sides[i], i, True) for i in inside if found.sides[i] < found.value]
        short += [(-found.sides[i], i, False) for i in outside if -found.sides[i] < found.value]
        return min(short)[1:] if short else None

    def _wider(self, found: Margin) -> int | None:
        """The coordinate in which the combinations are farthest apart, if that is too far."""
        gaps = [
            abs(a - b)
            for a, b in zip(self._mean(found.inside), self._mean(found.outside), strict=True)
        ]
        axis = max(range(len(gaps)), key=gaps.__getitem__)
        return axis if gaps[axis] > 2 * found.value else None

    def _mean(self, group: Iterable[tuple[int, fmpq]]) -> list[fmpq]:
        """Σ weight · point."""
        rows = [[w * v for v in self.points[i]] for i, w in group]
        return [sum(column, _ZERO) for column in zip(*rows, strict=True)]

    def _solve(self, inside: list[int], outside: list[int], axes: list[int]) -> Margin:
        """The margin of these points in these coordinates.

        Variables w⁺, w⁻ ≥ 0 (w = w⁺ − w⁻) and b; the first row is ‖w‖₁ ≤ 1.
        """
        d, count = len(axes), len(inside) + len(outside)
        rows: list[list[fmpq]] = [[-_ONE] * (2 * d) + [_ZERO]]
        for group, sign in ((inside, _ONE), (outside, -_ONE)):
            for i in group:
                row = [sign * self.points[i][k] for k in axes]
                rows.append([*row, *(-v for v in row), sign])
        system = Inequalities(
            rows,
            [-_ONE] + [_ZERO] * count,
            [False] + [True] * count,
            [_ZERO] * (2 * d) + [-_ONE],
            [_ONE] * (2 * d + 1),
        )
        answer = widest(system, lambda: False)
        if not isinstance(answer, Widest):
            raise ArithmeticError("a margin's linear program must be feasible: w = 0 is a solution")
        normal = [_ZERO] * len(self.origin)
        for j, k in enumerate(axes):
            normal[k] = answer.x[j] - answer.x[d + j]
        # Each side's multipliers add up to 1/2, as the offset's bounds are not active.
        weights = [2 * w for w in answer.weights[1:]]
        used = [(i, w) for i, w in zip([*inside, *outside], weights, strict=True) if w != 0]
        return Margin(
            answer.margin,
            tuple(normal),
            answer.x[-1],
            tuple(pair for pair in used if pair[0] in inside),
            tuple(pair for pair in used if pair[0] in outside),
            self._sides(normal, answer.x[-1]),
        )

    def _sides(self, normal: list[fmpq], offset: fmpq) -> tuple[fmpq, ...]:
        terms = [(k, v) for k, v in enumerate(normal) if v != 0]
        return tuple(sum((v * x[k] for k, v in terms), offset) for x in self.points)

    def separator(self, members: frozenset[int], plane: Margin, step: Fraction) -> Separator:
        """A hyperplane between members and all other points, in the coordinates of the data."""
        normal = tuple(_fraction(v) for v in plane.normal)
        offset = self.length(plane.offset) - dot(normal, self.origin)
        clear = self.length(min(map(abs, plane.sides)))
        return Separator(members, normal, offset, clear, step)


def blocker(found: Margin) -> Blocker:
    """The two convex combinations."""
    inside, outside = (
        tuple((i, _fraction(w)) for i, w in group) for group in (found.inside, found.outside)
    )
    return Blocker(inside, outside)


def _add(first: set[int], other: set[int], point: tuple[int, bool] | None) -> None:
    """Put the point into its group."""
    if point is not None:
        (first if point[1] else other).add(point[0])


def _fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))
