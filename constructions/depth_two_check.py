"""Certificates about depth-2 networks, checked in rational arithmetic.

Nothing here knows how a certificate was found: no linear program, no search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from constructions.rational_points import RationalPoints, Vector, distance, dot
from verifier.core.errors import CertificateError
from verifier.core.exact import fractions
from verifier.core.network import Network


@dataclass(frozen=True)
class Separator:
    """A split with a hyperplane between its sides, and the height of a ramp across it.

    Args:
        members: S.
        normal: w, ‖w‖₁ ≤ 1.
        offset: b; w·x + b ≥ margin on S and ≤ −margin on the other points.
        margin: what the hyperplane keeps clear on both sides, in ℓ∞.
        step: β_S.
    """

    members: frozenset[int]
    normal: Vector
    offset: Fraction
    margin: Fraction
    step: Fraction


@dataclass(frozen=True)
class Blocker:
    """Convex combinations of two groups of points that lie close to each other.

    No hyperplane keeps half their distance from all points and has these groups on different sides.

    Args:
        inside: (index, weight), weights > 0 with sum 1.
        outside: likewise, other indices.
    """

    inside: tuple[tuple[int, Fraction], ...]
    outside: tuple[tuple[int, Fraction], ...]


@dataclass(frozen=True)
class Branch:
    """The point is a member of S, or it is not.

    Args:
        point: its index.
        inside, outside: what follows in either case.
    """

    point: int
    inside: Case
    outside: Case


@dataclass(frozen=True)
class Blocked:
    """S separates the groups of a blocker: the first inside, the other outside.

    Args:
        blocker: its index.
    """

    blocker: int


@dataclass(frozen=True)
class Balanced:
    """u·1_S = 0: all points with u_i ≠ 0 have been decided."""


Case = Branch | Blocked | Balanced


@dataclass(frozen=True)
class Impossibility:
    """Why no depth-2 network of any width is a robust memorization of a radius above some r.

    Args:
        direction: u with u·1 = 0 and u·y ≠ 0.
        first: a point that is a member of S (else take the complement, which is as wide).
        tree: every split S with u·1_S ≠ 0 separates a blocker.
        blockers: pairs of combinations at distance ≤ 2r.
    """

    direction: tuple[int, ...]
    first: int
    tree: Case
    blockers: tuple[Blocker, ...]


def check_impossibility(data: RationalPoints, radius: Fraction, claim: Impossibility) -> None:
    """No depth-2 network is a robust memorization of any radius above ``radius``.

    Every split is admissible together with its complement, and u·1 = 0 gives both the same |u·1_S|,
    so it is enough to look at those that have ``first`` as a member.

    Raises:
        CertificateError: the claim does not prove it.
    """
    n, u = len(data), claim.direction
    if len(u) != n or any(not isinstance(v, int) for v in u):
        raise CertificateError(f"the direction must be {n} integers")
    if sum(u) != 0:
        raise CertificateError(f"the direction is not orthogonal to 1: its sum is {sum(u)}")
    if sum(a * y for a, y in zip(u, data.labels, strict=True)) == 0:
        raise CertificateError("the direction is orthogonal to the labels")
    if not 0 <= claim.first < n:
        raise CertificateError(f"the first point {claim.first} is not one of the {n}")
    groups = [_checked_blocker(data, radius, k, b) for k, b in enumerate(claim.blockers)]
    todo: list[tuple[Case, frozenset[int], frozenset[int]]]
    todo = [(claim.tree, frozenset([claim.first]), frozenset())]
    while todo:
        case, inside, outside = todo.pop()
        if isinstance(case, Branch):
            if not 0 <= case.point < n or case.point in inside | outside:
                raise CertificateError(f"case {case.point}: not a point that is undecided")
            todo.append((case.inside, inside | {case.point}, outside))
            todo.append((case.outside, inside, outside | {case.point}))
        else:
            _check_leaf(case, u, groups, (inside, outside))


def _check_leaf(
    case: Blocked | Balanced,
    u: Sequence[int],
    groups: Sequence[tuple[frozenset[int], frozenset[int]]],
    sides: tuple[frozenset[int], frozenset[int]],
) -> None:
    """No admissible S with these members and non-members has u·1_S ≠ 0."""
    inside, outside = sides
    where = f"inside {sorted(inside)}, outside {sorted(outside)}"
    if isinstance(case, Balanced):
        undecided = [i for i, v in enumerate(u) if v and i not in inside | outside]
        total = sum(u[i] for i in inside)
        if undecided or total:
            raise CertificateError(
                f"{where}: not balanced: the sum of u is {total}, {len(undecided)} points are open"
            )
        return
    if not 0 <= case.blocker < len(groups):
        raise CertificateError(f"{where}: there is no blocker {case.blocker}")
    first, other = groups[case.blocker]
    if not (first <= inside and other <= outside):
        raise CertificateError(f"{where}: blocker {case.blocker} is not separated")


def _checked_blocker(
    data: RationalPoints, radius: Fraction, k: int, blocker: Blocker
) -> tuple[frozenset[int], frozenset[int]]:
    """Both groups, after checking the convex combinations and their distance."""
    groups, places = [], []
    for group in (blocker.inside, blocker.outside):
        indices = [i for i, _ in group]
        if len(set(indices)) != len(indices) or not all(0 <= i < len(data) for i in indices):
            raise CertificateError(f"blocker {k}: indices {indices} are not distinct points")
        if any(w <= 0 for _, w in group) or sum(w for _, w in group) != 1:
            raise CertificateError(f"blocker {k}: weights must be positive with sum 1")
        groups.append(frozenset(indices))
        columns = zip(*(data.points[i] for i in indices), strict=True)
        places.append([dot([w for _, w in group], column) for column in columns])
    if groups[0] & groups[1]:
        raise CertificateError(f"blocker {k}: a point stands on both sides")
    if distance(*places) > 2 * radius:
        raise CertificateError(
            f"blocker {k}: the combinations are {distance(*places)} apart, more than 2 · {radius}"
        )
    return groups[0], groups[1]


def check_splits(
    data: RationalPoints, radius: Fraction, constant: Fraction, separators: Sequence[Separator]
) -> None:
    """For every mu < radius some depth-2 network is a robust memorization of radius mu.

    Its width is twice the number of separators.

    Raises:
        CertificateError: a hyperplane that does not keep the radius clear, or y ≠ c + Σ β_S 1_S.
    """
    for k, separator in enumerate(separators):
        if len(separator.normal) != data.dimension:
            raise CertificateError(f"separator {k}: the normal needs {data.dimension} coordinates")
        if sum(map(abs, separator.normal)) > 1:
            raise CertificateError(f"separator {k}: the ℓ1 norm of the normal exceeds 1")
        if separator.margin < radius:
            raise CertificateError(f"separator {k}: margin {separator.margin} is below {radius}")
        for i, x in enumerate(data.points):
            value = dot(separator.normal, x) + separator.offset
            if (value if i in separator.members else -value) < separator.margin:
                raise CertificateError(f"separator {k}: point {i} is closer than the margin")
    for i, y in enumerate(data.labels):
        value = constant + sum(s.step for s in separators if i in s.members)
        if value != y:
            raise CertificateError(f"the steps give point {i} the value {value}, its label is {y}")


def check_memorizes(network: Network, data: RationalPoints, mu: Fraction) -> None:
    """The depth-2 network has the value y_i on all of B(x_i, mu), for every i.

    Each hidden neuron must be on or off on all of a ball; then the network is affine there, and its
    gradient and its value at the centre decide.

    Raises:
        CertificateError: another form of network, a neuron that switches within a ball, or a
            gradient or value that is wrong.
    """
    weight, bias, out, constant = depth_two_form(network)
    if network.n_inputs != data.dimension:
        raise CertificateError(f"{network.n_inputs} inputs, but points of {data.dimension}")
    relu = network.layers[0].relu
    for i, (x, y) in enumerate(zip(data.points, data.labels, strict=True)):
        gradient = [Fraction(0)] * data.dimension
        value = constant
        for j, (w, b, a) in enumerate(zip(weight, bias, out, strict=True)):
            middle, reach = dot(w, x) + b, mu * sum(map(abs, w))
            if relu[j] and middle + reach <= 0:
                continue
            if relu[j] and middle - reach < 0:
                raise CertificateError(f"neuron {j} switches within the ball of point {i}")
            value += a * middle
            gradient = [g + a * c for g, c in zip(gradient, w, strict=True)]
        if any(gradient) and mu > 0:
            raise CertificateError(f"the network is not constant on the ball of point {i}")
        if value != y:
            raise CertificateError(f"the network gives point {i} the value {value}, not {y}")


def depth_two_form(
    network: Network,
) -> tuple[list[Vector], Vector, Vector, Fraction]:
    """W (rows), b, a, c of c + a·relu(W x + b), exactly.

    Raises:
        CertificateError: the network has another depth, several outputs, or a ReLU on its output.
    """
    if network.depth != 2 or network.n_outputs != 1 or network.layers[1].relu.any():
        raise CertificateError(
            f"{network.name}: expected depth 2 with one output without ReLU, got depth "
            f"{network.depth}, {network.n_outputs} outputs"
        )
    hidden, last = network.layers
    rows = [fractions(row) for row in hidden.dense]
    return rows, fractions(hidden.bias), fractions(last.dense[0]), fractions(last.bias)[0]
