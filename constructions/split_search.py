"""The widest split that some direction sees, by branch and bound in rational arithmetic.

Given u with Σ u_i = 0, which S with u·1_S ≠ 0 has the largest margin(S | S^c)? As a mixed-integer
program: maximise t subject to w·x_i + b ≥ t where z_i = 1, ≤ −t where z_i = 0, ‖w‖₁ ≤ 1, u·z ≠ 0,
one binary z_i a sample. It is solved exactly: a node puts some points on sides; its bound is their
margin, which can only fall as points are added. If the node's hyperplane keeps that margin from all
points, it is a split of this margin; else the point nearest to the hyperplane goes on either side.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from flint import fmpq

from constructions.depth_two_check import Balanced, Blocked, Blocker, Branch, Case
from constructions.split_margin import Margin, SplitSpace, blocker


@dataclass(frozen=True)
class WidestSplit:
    """What the search found.

    Args:
        members: S, with u·1_S ≠ 0.
        plane: its hyperplane; all points are at least ``clear`` away from it.
        clear: min |w·x_i + b|, scaled.
        proof: None if ``clear`` is as much as was asked for. Else no S with u·1_S ≠ 0 is wider, by
            this first point, tree of cases, and table of blockers.
    """

    members: frozenset[int]
    plane: Margin
    clear: fmpq
    proof: tuple[int, Case, tuple[Blocker, ...]] | None


class SearchLimitError(Exception):
    """The search went through as many partial splits as it was allowed to.

    Args:
        bound: scaled; no split that the direction sees is wider, or some are wide enough.
    """

    def __init__(self, bound: fmpq) -> None:
        super().__init__("too many partial splits")
        self.bound = bound


@dataclass(eq=False)
class _Node:
    """Points on sides; ``margin`` is None while nothing is outside."""

    inside: frozenset[int]
    outside: frozenset[int]
    margin: Margin | None = None
    point: int = -1
    children: tuple[_Node, ...] = ()

    def decided(self, i: int) -> bool:
        return i in self.inside or i in self.outside


class SplitSearch:
    """The search for one direction.

    Args:
        space: the points.
        direction: u, integers with sum 0, not all 0.
        enough: a margin that ends the search (scaled).
    """

    def __init__(self, space: SplitSpace, direction: Sequence[int], enough: fmpq) -> None:
        self.space, self.direction, self.enough = space, direction, enough
        self.support = [i for i, v in enumerate(direction) if v]
        # S and its complement are alike, so one point may be taken as a member.
        self.first = max(self.support, key=lambda i: abs(direction[i]))
        self.root = _Node(frozenset([self.first]), frozenset())
        self.nodes = 0

    def run(self, limit: int) -> WidestSplit:
        """The widest split, or one that is wide enough.

        Args:
            limit: nodes to look at.

        Raises:
            SearchLimitError: the limit was reached.
        """
        # Nodes that are wide enough count as equal, and of equals the fullest comes first: the
        # search dives to a split that ends it, and else goes by the best bound.
        queue = [(-self.enough, 0, 0, self.root)]
        order = 0
        while True:
            # Some split of positive margin has u·1_S ≠ 0 if u is not 0 on points that are equal, so
            # the queue cannot run dry.
            bound, _, _, node = heapq.heappop(queue)
            if self.nodes == limit:
                raise SearchLimitError(-bound)
            self.nodes += 1
            members, free = self._completed(node)
            if node.margin is not None and self._sees(members):
                clear = min(map(abs, node.margin.sides))
                if clear >= self.enough:
                    return WidestSplit(members, node.margin, clear, None)
                if clear == node.margin.value:
                    return WidestSplit(members, node.margin, clear, self._proof())
            node.point = self._branching(node, free)
            node.children = self._split(node)
            for child in node.children:
                order += 1
                depth = len(child.inside) + len(child.outside)
                if not self._balanced(child):
                    heapq.heappush(queue, (-self._bound(child), -depth, order, child))

    def _bound(self, node: _Node) -> fmpq:
        return self.enough if node.margin is None else min(node.margin.value, self.enough)

    def _sees(self, members: frozenset[int]) -> bool:
        return sum(self.direction[i] for i in members) != 0

    def _balanced(self, node: _Node) -> bool:
        """Whether every S below has u·1_S = 0."""
        return all(map(node.decided, self.support)) and not self._sees(node.inside)

    def _completed(self, node: _Node) -> tuple[frozenset[int], list[int]]:
        """All points on the side of the hyperplane where they lie, and those that are free."""
        free = [i for i in range(len(self.direction)) if not node.decided(i)]
        if node.margin is None:
            return node.inside, free
        return node.inside | {i for i in free if node.margin.sides[i] > 0}, free

    def _branching(self, node: _Node, free: list[int]) -> int:
        """The free point that the hyperplane comes too close to, else one that u sees."""
        seen = [i for i in free if self.direction[i]]
        if node.margin is None:
            return min(seen, key=lambda i: min(self._distance(i, j) for j in node.inside))
        sides, margin = node.margin.sides, node.margin.value
        close = [i for i in free if abs(sides[i]) < margin]
        return min(close or seen, key=lambda i: abs(sides[i]))

    def _distance(self, i: int, j: int) -> fmpq:
        points = self.space.points
        return max(abs(a - b) for a, b in zip(points[i], points[j], strict=True))

    def _split(self, node: _Node) -> tuple[_Node, _Node]:
        """The point inside, and outside."""
        point = frozenset([node.point])
        return (
            self._grown(node, node.inside | point, node.outside),
            self._grown(node, node.inside, node.outside | point),
        )

    def _grown(self, node: _Node, inside: frozenset[int], outside: frozenset[int]) -> _Node:
        child = _Node(inside, outside)
        if not outside or self._balanced(child):
            return child
        old = node.margin
        if old is not None:
            side = old.sides[node.point]
            if (side if node.point in inside else -side) >= old.value:
                # The old hyperplane and the old combinations still prove the same margin.
                child.margin = old
                return child
        child.margin = self.space.margin(inside, outside, old)
        return child

    def _proof(self) -> tuple[int, Case, tuple[Blocker, ...]]:
        """The tree of cases of a search that ended; what was left open is not wider."""
        table: dict[Blocker, int] = {}

        def case(node: _Node) -> Case:
            if node.children:
                return Branch(node.point, *map(case, node.children))
            if node.margin is None:
                return Balanced()
            return Blocked(table.setdefault(blocker(node.margin), len(table)))

        tree = case(self.root)
        return self.first, tree, tuple(table)
