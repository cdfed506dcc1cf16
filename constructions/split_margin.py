"""Margins of splits of a point set, exactly, by linear programs with equal primal and dual values.

For disjoint groups A, B of points,

    margin(A | B) = max { t : w·x_i + b ≥ t on A, w·x_i + b ≤ −t on B, ‖w‖₁ ≤ 1 }
                  = ½ min { ‖Σ α_i x_i − Σ β_j x_j‖∞ : α, β convex weights }.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from flint import fmpq

from constructions.depth_two_check import Blocker, Separator
from constructions.rational_points import RationalPoints, distance, dot
from verifier.core.exact_lp import Inequalities, Widest, widest

_ZERO, _ONE = fmpq(0), fmpq(1)


@dataclass(frozen=True)
class PartialSplit:
    """The first points of a fixed order, each on one side, with a bound on the margin.

    Args:
        inside, outside: indices.
        complete: whether all points are on a side.
        margin: exactly margin(inside | outside), in scaled coordinates; 1 (more than any margin
            there) while one side is empty.
        normal, offset: the hyperplane, scaled.
        weights: the two convex combinations, as (index, weight).
    """

    inside: frozenset[int]
    outside: frozenset[int]
    complete: bool
    margin: fmpq
    normal: tuple[fmpq, ...] = ()
    offset: fmpq = _ZERO
    weights: tuple[tuple[int, fmpq], ...] = ()

    @property
    def depth(self) -> int:
        """How many points are on a side."""
        return len(self.inside) + len(self.outside)


class SplitSpace:
    """All splits of a data set, grown point by point.

    Coordinates are shifted to the first point and divided so that they lie in [−1/2, 1/2]; margins
    are then below 1, as ``widest`` asks, and offsets within [−1, 1].
    """

    def __init__(self, data: RationalPoints) -> None:
        self.origin = data.points[0]
        self.scale = 2 * max(distance(x, self.origin) for x in data.points)
        self.points = [
            [_fmpq((v - o) / self.scale) for v, o in zip(x, self.origin, strict=True)]
            for x in data.points
        ]
        self.order = _nearest_first(data)
        first = frozenset(self.order[:1])
        self.root = PartialSplit(first, frozenset(), len(data) == 1, _ONE)

    def children(self, node: PartialSplit) -> tuple[PartialSplit, PartialSplit]:
        """The node with the next point on either side."""
        point = self.order[node.depth]
        return (
            self._grown(node, node.inside | {point}, node.outside, (point, _ONE)),
            self._grown(node, node.inside, node.outside | {point}, (point, -_ONE)),
        )

    def _grown(
        self,
        node: PartialSplit,
        inside: frozenset[int],
        outside: frozenset[int],
        new: tuple[int, fmpq],
    ) -> PartialSplit:
        complete = len(inside) + len(outside) == len(self.points)
        if not outside:
            return PartialSplit(inside, outside, complete, _ONE)
        if node.outside and self._keeps(node, *new):
            # The old hyperplane and the old combinations still prove the same margin.
            return PartialSplit(
                inside, outside, complete, node.margin, node.normal, node.offset, node.weights
            )
        answer = self._solve(sorted(inside), sorted(outside))
        d = len(self.points[0])
        normal = tuple(answer.x[j] - answer.x[d + j] for j in range(d))
        # Each side's multipliers add up to 1/2, as the offset's bounds are not active.
        members = [*sorted(inside), *sorted(outside)]
        used = zip(members, answer.weights[1:], strict=True)
        weights = tuple((i, 2 * w) for i, w in used if w != 0)
        return PartialSplit(inside, outside, complete, answer.margin, normal, answer.x[-1], weights)

    def _keeps(self, node: PartialSplit, point: int, side: fmpq) -> bool:
        """Whether the new point lies beyond the margin on its side."""
        value = sum(
            (a * b for a, b in zip(node.normal, self.points[point], strict=True)), node.offset
        )
        return bool(side * value >= node.margin)

    def _solve(self, inside: list[int], outside: list[int]) -> Widest:
        """Variables w⁺, w⁻ ≥ 0 (w = w⁺ − w⁻) and b; the first row is ‖w‖₁ ≤ 1."""
        d = len(self.points[0])
        rows: list[list[fmpq]] = [[-_ONE] * (2 * d) + [_ZERO]]
        for group, sign in ((inside, _ONE), (outside, -_ONE)):
            for i in group:
                row = [sign * v for v in self.points[i]]
                rows.append([*row, *(-v for v in row), sign])
        count = len(rows) - 1
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
        return answer

    def length(self, scaled: fmpq) -> Fraction:
        """A scaled length in the units of the data."""
        return _fraction(scaled) * self.scale

    def separator(self, node: PartialSplit, step: Fraction) -> Separator:
        """The hyperplane in the coordinates of the data."""
        normal = tuple(_fraction(v) for v in node.normal)
        offset = self.length(node.offset) - dot(normal, self.origin)
        return Separator(node.inside, normal, offset, self.length(node.margin), step)

    @staticmethod
    def blocker(node: PartialSplit) -> Blocker:
        """The two convex combinations."""
        sides = [
            tuple((i, _fraction(w)) for i, w in node.weights if i in group)
            for group in (node.inside, node.outside)
        ]
        return Blocker(sides[0], sides[1])


def _nearest_first(data: RationalPoints) -> list[int]:
    """An order in which each point is the one nearest to those before it.

    Points close to each other make small margins early, and the search skips what has one.
    """
    order, left = [0], set(range(1, len(data)))
    reach = {i: distance(data.points[0], data.points[i]) for i in left}
    while left:
        nearest = min(left, key=lambda i: (reach[i], i))
        order.append(nearest)
        left.remove(nearest)
        for i in left:
            reach[i] = min(reach[i], distance(data.points[nearest], data.points[i]))
    return order


def _fmpq(value: Fraction) -> fmpq:
    return fmpq(value.numerator, value.denominator)


def _fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))
