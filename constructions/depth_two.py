"""Which radii depth 2 can reach: the exact critical radius μ_2(D) of a small data set.

A split S | S^c of the samples has margin(S) = ½ dist_∞(hull S, hull S^c): the largest t such that
some hyperplane w·x + b = 0, ‖w‖₁ = 1, has w·x_i + b ≥ t on S and ≤ −t on S^c.

Theorem. For μ ≠ μ_2(D), a network of depth 2, of whatever width, that is a robust memorization of D
of radius μ exists iff μ < μ_2(D), where

    μ_2(D) = max { m : y in span{1, 1_S : margin(S) ≥ m} }.

Proof. The gradient jump J_H of a depth-2 network across a kink hyperplane H is the same along all
of H. If J_H ≠ 0, H meets the interior of no ball on which the network is constant, so H induces a
split of margin ≥ μ. Adding up jumps and offsets over the hyperplanes of each split, zero gradient
and value y_i on every ball give Σ_{S∋i} β_S + c = y_i. Conversely, if margin(S) > μ, two parallel
hyperplanes between the balls of S and those of S^c carry a ramp from 0 to β_S: 2 neurons a split.

The search goes through partial splits, widest first. Margins can only fall as samples are added, so
splits come out in the order of their margins, and what is left in the queue proves by its convex
combinations that all the others are at most as wide.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from fractions import Fraction

from flint import fmpq, fmpq_mat

from constructions.demonstration import Demonstration, Shown
from constructions.depth_two_check import (
    Impossibility,
    Separator,
    check_impossibility,
    check_memorizes,
    check_splits,
)
from constructions.exact_layer import exact_layer
from constructions.rational_points import RationalPoints, dot
from constructions.split_margin import PartialSplit, SplitSpace
from verifier.core.errors import DataError
from verifier.core.network import Network

MAX_POINTS = 16


@dataclass(frozen=True)
class CriticalRadius:
    """μ_2(D), with the proofs of both directions.

    Args:
        data: D.
        radius: μ_2(D).
        constant: c of y = c + Σ β_S 1_S.
        separators: the splits used, each with its hyperplane, margin ≥ radius and β_S.
        impossibility: why no network of depth 2 has a radius above ``radius``.
    """

    data: RationalPoints
    radius: Fraction
    constant: Fraction
    separators: tuple[Separator, ...]
    impossibility: Impossibility

    def network(self, mu: Fraction) -> Network:
        """The depth-2 network, two neurons a split, that is a robust memorization of radius mu.

        F(x) = c + Σ β_S (relu(z_S + g) − relu(z_S − g)) / 2g with z_S = w·x + b and g a power of
        two ≤ margin(S) − mu. The first layer is dyadic, and so is the second if every β_S is.

        Raises:
            DataError: mu is negative or not below the critical radius.
        """
        if not 0 <= mu < self.radius:
            raise DataError(f"expected 0 ≤ mu < {self.radius} (the critical radius), got {mu}")
        rows: list[tuple[Fraction, ...]] = []
        bias: list[Fraction] = []
        out: list[Fraction] = []
        for separator in self.separators:
            normal, offset, gap = _dyadic(self.data, separator, mu)
            rows += [normal, normal]
            bias += [offset + gap, offset - gap]
            out += [separator.step / (2 * gap), -separator.step / (2 * gap)]
        layers = (
            exact_layer(rows, bias, relu=True),
            exact_layer([out], [self.constant], relu=False),
        )
        return Network(layers, name="depth-two")


def decide(data: RationalPoints, mu: Fraction) -> Network | Impossibility:
    """Whether a network of depth 2 can be a robust memorization of radius mu, with the evidence.

    Returns:
        A network that ``check_memorizes`` accepts, or a proof that ``check_impossibility`` accepts
        for every radius above the critical one, of which mu is one.

    Raises:
        DataError: more points than ``MAX_POINTS``, a negative mu, or mu equal to the critical
            radius, where the theorem is silent.
    """
    if mu < 0:
        raise DataError(f"a radius must be at least 0, got {mu}")
    critical = critical_radius(data)
    if mu == critical.radius:
        raise DataError(f"mu is exactly the critical radius {mu}; the theorem does not cover it")
    return critical.network(mu) if mu < critical.radius else critical.impossibility


def critical_radius(data: RationalPoints) -> CriticalRadius:
    """μ_2(D) with its certificates, found by enumerating splits in the order of their margins.

    Raises:
        DataError: more points than ``MAX_POINTS``.
    """
    if len(data) > MAX_POINTS:
        raise DataError(
            f"{len(data)} points: the exact depth-2 decision enumerates splits and takes at most "
            f"{MAX_POINTS}"
        )
    space = SplitSpace(data)
    span = _Span(data)
    queue: list[tuple[fmpq, int, int, PartialSplit]] = [(-space.root.margin, 0, 0, space.root)]
    done: list[PartialSplit] = []
    count = 0
    while True:
        # The span always grows to the whole space before margin 0: along a generic direction every
        # prefix of the distinct points is a split of positive margin.
        _, _, _, node = heapq.heappop(queue)
        if not node.complete:
            for child in space.children(node):
                count += 1
                heapq.heappush(queue, (-child.margin, -child.depth, count, child))
            continue
        done.append(node)
        if node.outside and span.add(node.inside) and span.contains_labels():
            break
    rest = [entry[3] for entry in queue]
    rest += [leaf for leaf in done if leaf.margin == node.margin]
    return _assemble(data, space, node.margin, (span, done, rest))


def _assemble(
    data: RationalPoints,
    space: SplitSpace,
    margin: fmpq,
    found: tuple[_Span, list[PartialSplit], list[PartialSplit]],
) -> CriticalRadius:
    """The certificate: steps for the splits that span y, and what excludes all the others.

    Args:
        data: D.
        space: for converting back from scaled coordinates.
        margin: the critical one, scaled.
        found: the span; complete splits in the order of their margins; every partial or complete
            split of margin ≤ the critical one that covers what was not visited.
    """
    span, done, rest = found
    constant, *steps = span.coefficients()
    leaves = {leaf.inside: leaf for leaf in done}
    separators = tuple(
        space.separator(leaves[members], step)
        for members, step in zip(span.members, steps, strict=True)
        if step != 0
    )
    wider = [m for m in span.members if leaves[m].margin > margin]
    blockers = dict.fromkeys(space.blocker(node) for node in rest)
    impossibility = Impossibility(_residual(data, wider), tuple(blockers))
    return CriticalRadius(data, space.length(margin), constant, separators, impossibility)


class _Span:
    """The span of 1 and of the indicator vectors of splits, with its independent members."""

    def __init__(self, data: RationalPoints) -> None:
        self.data = data
        self.members: list[frozenset[int]] = []

    def add(self, members: frozenset[int]) -> bool:
        """Take the split in if its indicator is new to the span; whether it was."""
        if _indicators(self.data, [*self.members, members]).rank() == len(self.members) + 1:
            return False
        self.members.append(members)
        return True

    def contains_labels(self) -> bool:
        """Whether y lies in the span."""
        matrix = _indicators(self.data, self.members).tolist()
        joined = fmpq_mat([[*row, y] for row, y in zip(matrix, self.data.labels, strict=True)])
        return int(joined.rank()) == len(self.members) + 1

    def coefficients(self) -> list[Fraction]:
        """The c and β with y = c 1 + Σ β_S 1_S, which are unique."""
        return [_fraction(v) for v in _least_squares(self.data, self.members).entries()]


def _residual(data: RationalPoints, splits: list[frozenset[int]]) -> tuple[int, ...]:
    """y minus its projection on span{1, 1_S}, as coprime integers up to a positive factor.

    It is orthogonal to the span, and u·y = ‖u‖² (times the factor) is not 0 as y is not in it.
    """
    matrix = _indicators(data, splits)
    labels = fmpq_mat([[fmpq(y)] for y in data.labels])
    residual = labels - matrix * _least_squares(data, splits)
    numerators, _ = residual.numer_denom()
    integers = [int(v) for v in numerators.entries()]
    divisor = math.gcd(*integers)
    return tuple(v // divisor for v in integers)


def _least_squares(data: RationalPoints, splits: list[frozenset[int]]) -> fmpq_mat:
    """The coefficients of the projection of y on the columns 1, 1_S (independent)."""
    matrix = _indicators(data, splits)
    labels = fmpq_mat([[fmpq(y)] for y in data.labels])
    transposed = matrix.transpose()
    return (transposed * matrix).solve(transposed * labels)


def _indicators(data: RationalPoints, splits: list[frozenset[int]]) -> fmpq_mat:
    """The (n, 1 + number of splits) matrix with columns 1 and 1_S."""
    return fmpq_mat([[1, *(int(i in members) for members in splits)] for i in range(len(data))])


def _fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _dyadic(
    data: RationalPoints, separator: Separator, mu: Fraction
) -> tuple[tuple[Fraction, ...], Fraction, Fraction]:
    """A hyperplane (w, b) of dyadic numbers and a gap g = 2^−k with margin ≥ mu + g.

    w is rounded towards 0, which keeps ‖w‖₁ ≤ 1, and b is the middle of what w leaves.
    """
    bits = 4
    while True:
        normal = tuple(Fraction(int(v * 2**bits), 2**bits) for v in separator.normal)
        values = [dot(normal, x) for x in data.points]
        inside = min(v for i, v in enumerate(values) if i in separator.members)
        outside = max(v for i, v in enumerate(values) if i not in separator.members)
        offset = Fraction(round(-(inside + outside) / 2 * 2**bits), 2**bits)
        room = min(inside + offset, -(outside + offset)) - mu
        if 2 * room >= separator.margin - mu:
            break
        bits *= 2
    gap = Fraction(1)
    while gap > room:
        gap /= 2
    return normal, offset, gap


def pinwheel(
    s: Fraction, labels: tuple[int, int, int, int] = (1, 2, 1, 2), dimension: int = 2
) -> RationalPoints:
    """(0,0), (1,s), (1−s,1+s), (−s,1), padded with zeros.

    If neighbours on this cycle have different labels, the separation is 1. The widest splits, those
    into adjacent pairs, have margin (1+s²)/(2(1+s)), so no labelling gets beyond this radius, which
    is below the optimal 1/2. The labels 1, 2, 3, 2 reach it. For 1, 2, 1, 2 those splits do not
    span the labels; splits of one point against three do, and the critical radius is their margin,
    (1+s²)/4.

    Raises:
        DataError: s is not between 0 and 1, or dimension < 2.
    """
    if not 0 < s < 1 or dimension < 2:
        raise DataError(f"expected 0 < s < 1 and d ≥ 2, got s = {s}, d = {dimension}")
    zero, one = Fraction(0), Fraction(1)
    corners = ((zero, zero), (one, s), (1 - s, 1 + s), (-s, one))
    padding = [zero] * (dimension - 2)
    return RationalPoints(tuple((*corner, *padding) for corner in corners), labels)


def demonstrate() -> Demonstration:
    """The pinwheel at s = 2/5 in two labellings: critical radii 29/70 and 29/100, both proved."""
    s = Fraction(2, 5)
    shown: list[Shown] = []
    radii: dict[str, object] = {}
    for labels in ((1, 2, 3, 2), (1, 2, 1, 2)):
        data = pinwheel(s, labels)
        critical = critical_radius(data)
        shown += _proved(critical)
        radii["".join(map(str, labels))] = str(critical.radius)
    return Demonstration(
        "A depth-2 network, of whatever width, that is a robust memorization of radius μ exists if "
        "μ < μ_2(D) and does not if μ > μ_2(D), where μ_2(D) is the largest m such that the labels "
        "lie in the span of 1 and the splits of margin ≥ m. For some D it is below λ/2.",
        f"the pinwheel at s = {s}, 4 points of the plane, λ/2 = 1/2, in two labellings",
        tuple(shown),
        {"s": str(s), "optimal_radius": "1/2", "critical_radius": radii},
    )


def _proved(critical: CriticalRadius) -> tuple[Shown, Shown]:
    """Both directions for one data set, checked."""
    data, radius, no = critical.data, critical.radius, critical.impossibility
    check_splits(data, radius, critical.constant, critical.separators)
    check_impossibility(data, radius, no)
    mu = Fraction(99, 100) * radius
    network = critical.network(mu)
    check_memorizes(network, data, mu)
    labels = ", ".join(map(str, data.labels))
    return (
        Shown(
            f"labels {labels}: no depth-2 network of any width has a radius above {radius}, "
            f"although λ/2 = {data.separation / 2}",
            f"u = {no.direction} is not orthogonal to the labels, but to 1 and to every split that "
            f"{len(no.blockers)} pairs of convex combinations at distance ≤ 2 · {radius} leave",
        ),
        Shown(
            f"labels {labels}: below {radius} there are networks; one of width {network.width} has "
            f"radius {mu}, and the critical radius is exactly {radius}",
            f"the labels are a sum of {len(critical.separators)} splits of margin ≥ {radius}; on "
            "each ball every neuron is on or off, the gradient 0 and the value the label",
        ),
    )
