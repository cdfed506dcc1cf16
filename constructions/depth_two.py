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

The search keeps splits whose span grows by one at a time. While y is not in the span V, take u with
u ⊥ V, u·y ≠ 0, and the widest split S with u·1_S ≠ 0 (``split_search``): some such S is needed to
write y, so μ_2 ≤ margin(S), and S enters V. In the end y is in the span of splits as wide as the
smallest of these bounds, which is therefore μ_2. It takes at most N − 1 steps. The first bound is
λ/2, by u = 1_i − 1_j for the closest enemies i and j: S has to come between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from flint import fmpq, fmpq_mat

from constructions.demonstration import Demonstration, Shown
from constructions.depth_two_check import (
    Balanced,
    Blocked,
    Blocker,
    Branch,
    Impossibility,
    Separator,
    check_impossibility,
    check_memorizes,
    check_splits,
)
from constructions.exact_layer import exact_layer
from constructions.rational_points import RationalPoints, distance, dot
from constructions.split_margin import SplitSpace
from constructions.split_search import SearchLimitError, SplitSearch, WidestSplit
from verifier.core.errors import DataError
from verifier.core.network import Network

MAX_POINTS = 200
#: Partial splits that one search may look at.
MAX_NODES = 50_000

#: Rows of the chessboard that is shown.
_ROWS = 6

Progress = Callable[[float], None]


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
        DataError: as ``critical_radius``; a negative mu, or mu equal to the critical radius, where
            the theorem is silent.
    """
    if mu < 0:
        raise DataError(f"a radius must be at least 0, got {mu}")
    critical = critical_radius(data)
    if mu == critical.radius:
        raise DataError(f"mu is exactly the critical radius {mu}; the theorem does not cover it")
    return critical.network(mu) if mu < critical.radius else critical.impossibility


def critical_radius(
    data: RationalPoints, *, limit: int = MAX_NODES, progress: Progress | None = None
) -> CriticalRadius:
    """μ_2(D) with its certificates.

    Args:
        data: D, of at most ``MAX_POINTS`` points.
        limit: partial splits that the search for one split may look at.
        progress: called now and then with the share of at most N − 1 searches that is done.

    Raises:
        DataError: more points than ``MAX_POINTS``, or the limit was reached; then the message says
            what was proved.
    """
    if len(data) > MAX_POINTS:
        raise DataError(
            f"{len(data)} points: the exact depth-2 decision takes at most {MAX_POINTS}"
        )
    space, span = SplitSpace(data), _Span(data)
    radius, impossibility = space.scaled(data.separation / 2), _closest_enemies(data)
    while (direction := span.direction()) is not None:
        if progress is not None:
            progress(len(span.found) / (len(data) - 1))
        try:
            found = SplitSearch(space, direction, radius).run(limit)
        except SearchLimitError as stopped:
            raise DataError(
                f"{len(data)} points: gave up after {limit} partial splits; the critical radius of "
                f"depth 2 is at most {space.length(stopped.bound)}, but how much less is not known"
            ) from None
        span.found.append(found)
        if found.proof is not None:
            radius, impossibility = found.clear, Impossibility(direction, *found.proof)
    constant, *steps = span.coefficients()
    separators = tuple(
        space.separator(split.members, split.plane, step)
        for split, step in zip(span.found, steps, strict=True)
        if step != 0
    )
    return CriticalRadius(data, space.length(radius), constant, separators, impossibility)


def _closest_enemies(data: RationalPoints) -> Impossibility:
    """No radius exceeds λ/2: a split comes between the closest enemies."""
    i, j = data.closest_enemies
    direction = tuple(int(k == i) - int(k == j) for k in range(len(data)))
    one = Fraction(1)
    tree = Branch(j, Balanced(), Blocked(0))
    return Impossibility(direction, i, tree, (Blocker(((i, one),), ((j, one),)),))


class _Span:
    """The span of 1 and of the independent indicator vectors of the splits found so far."""

    def __init__(self, data: RationalPoints) -> None:
        self.data = data
        self.found: list[WidestSplit] = []
        n = len(data)
        enemies = [(i, j) for i in range(n) for j in range(i) if data.labels[i] != data.labels[j]]
        self._enemies = sorted(enemies, key=lambda pair: distance(*(data.points[i] for i in pair)))

    def direction(self) -> tuple[int, ...] | None:
        """Some u orthogonal to the span with u·y ≠ 0, as coprime integers; None if y is in it.

        First enemies that no split has separated, 1_i − 1_j, the closest ones first; then a vector
        of the null space with few entries: the fewer, the sooner the search has decided them.
        """
        rows = [self._row(i) for i in range(len(self.data))]
        self._enemies = [(i, j) for i, j in self._enemies if rows[i] == rows[j]]
        if self._enemies:
            i, j = self._enemies[0]
            return tuple(int(k == i) - int(k == j) for k in range(len(rows)))
        labels = self.data.labels
        vectors = _null_space(fmpq_mat(rows).transpose())
        usable = [v for v in vectors if sum(a * y for a, y in zip(v, labels, strict=True)) != 0]
        return min(usable, key=lambda v: sum(a != 0 for a in v), default=None)

    def coefficients(self) -> list[Fraction]:
        """The c and β with y = c 1 + Σ β_S 1_S, which are unique."""
        matrix = fmpq_mat([self._row(i) for i in range(len(self.data))])
        labels = fmpq_mat([[fmpq(y)] for y in self.data.labels])
        transposed = matrix.transpose()
        solution = (transposed * matrix).solve(transposed * labels)
        return [Fraction(int(v.p), int(v.q)) for v in solution.entries()]

    def _row(self, i: int) -> list[int]:
        return [1, *(int(i in split.members) for split in self.found)]


def _null_space(matrix: fmpq_mat) -> list[tuple[int, ...]]:
    """A basis of { u : matrix u = 0 }, one vector a free column, as coprime integers."""
    reduced, rank = matrix.rref()
    rows = reduced.tolist()[:rank]
    pivots = [next(c for c, v in enumerate(row) if v != 0) for row in rows]
    vectors = []
    for free in sorted(set(range(matrix.ncols())) - set(pivots)):
        vector = {free: fmpq(1), **{c: -row[free] for c, row in zip(pivots, rows, strict=True)}}
        scale = math.lcm(*(int(v.q) for v in vector.values()))
        integers = [int((vector.get(c, fmpq(0)) * scale).p) for c in range(matrix.ncols())]
        divisor = math.gcd(*integers)
        vectors.append(tuple(v // divisor for v in integers))
    return vectors


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


def chessboard(size: int) -> RationalPoints:
    """The squares of a chessboard, (0, 0) to (size − 1, size − 1), labelled 1 and 2; λ = 1.

    Rows and columns can be split with margin 1/2, but only diagonal splits, of margin 1/4, see
    whether the colours of two rows agree: the critical radius is 1/4, for every size ≥ 2.

    Raises:
        DataError: size < 2.
    """
    if size < 2:
        raise DataError(f"a chessboard has at least 2 rows, got {size}")
    squares = tuple((Fraction(i), Fraction(j)) for i in range(size) for j in range(size))
    return RationalPoints(squares, tuple(int((i + j) % 2) + 1 for i, j in squares))


def demonstrate() -> Demonstration:
    """The pinwheel at s = 2/5 in two labellings, 29/70 and 29/100, and a chessboard, 1/4."""
    s = Fraction(2, 5)
    instances = {
        "pinwheel, labels 1, 2, 3, 2": pinwheel(s, (1, 2, 3, 2)),
        "pinwheel, labels 1, 2, 1, 2": pinwheel(s, (1, 2, 1, 2)),
        "chessboard": chessboard(_ROWS),
    }
    shown: list[Shown] = []
    radii: dict[str, object] = {}
    for name, data in instances.items():
        critical = critical_radius(data)
        shown += _proved(name, critical)
        radii[name] = str(critical.radius)
    return Demonstration(
        "A depth-2 network, of whatever width, that is a robust memorization of radius μ exists if "
        "μ < μ_2(D) and does not if μ > μ_2(D), where μ_2(D) is the largest m such that the labels "
        "lie in the span of 1 and the splits of margin ≥ m. For some D it is below λ/2.",
        f"the pinwheel at s = {s}, 4 points of the plane, in two labellings, and the {_ROWS**2} "
        f"squares of a chessboard, which have {2 ** (_ROWS**2 - 1) - 1} splits; λ/2 = 1/2",
        tuple(shown),
        {"s": str(s), "optimal_radius": "1/2", "critical_radius": radii},
    )


def _proved(name: str, critical: CriticalRadius) -> tuple[Shown, Shown]:
    """Both directions for one data set, checked."""
    data, radius, no = critical.data, critical.radius, critical.impossibility
    check_splits(data, radius, critical.constant, critical.separators)
    check_impossibility(data, radius, no)
    mu = Fraction(99, 100) * radius
    network = critical.network(mu)
    check_memorizes(network, data, mu)
    entries = ", ".join(f"{v:+d} at point {i}" for i, v in enumerate(no.direction) if v)
    return (
        Shown(
            f"{name}: no depth-2 network of any width has a radius above {radius}, "
            f"although λ/2 = {data.separation / 2}",
            f"u ({entries}) is not orthogonal to the labels, but to 1 and, case by case, to every "
            f"split that {len(no.blockers)} pairs of convex combinations at distance ≤ 2 · "
            f"{radius} leave",
        ),
        Shown(
            f"{name}: below {radius} there are networks; one of width {network.width} has "
            f"radius {mu}, and the critical radius is exactly {radius}",
            f"the labels are a sum of {len(critical.separators)} splits of margin ≥ {radius}; on "
            "each ball every neuron is on or off, the gradient 0 and the value the label",
        ),
    )
