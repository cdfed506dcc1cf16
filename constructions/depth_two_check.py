"""Certificates about depth-2 networks, checked in rational arithmetic.

Nothing here knows how a certificate was found: no linear program, no search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.rational_points import RationalPoints, Vector, distance, dot
from verifier.core.errors import CertificateError
from verifier.core.exact import fractions
from verifier.core.network import Network

MAX_POINTS = 20
"""``check_impossibility`` goes through all 2^(n−1) splits."""


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
class Impossibility:
    """Why no depth-2 network of any width is a robust memorization of a radius above some r.

    Args:
        direction: u with u·1 = 0 and u·y ≠ 0.
        blockers: pairs at distance ≤ 2r; every split S with u·1_S ≠ 0 separates one of them.
    """

    direction: tuple[int, ...]
    blockers: tuple[Blocker, ...]


def check_impossibility(data: RationalPoints, radius: Fraction, claim: Impossibility) -> None:
    """No depth-2 network is a robust memorization of any radius above ``radius``.

    Raises:
        CertificateError: the claim does not prove it.
    """
    n = len(data)
    if n > MAX_POINTS:
        raise CertificateError(f"{n} points: splits are enumerated up to {MAX_POINTS}")
    u = claim.direction
    if len(u) != n or any(not isinstance(v, int) for v in u):
        raise CertificateError(f"the direction must be {n} integers")
    if sum(u) != 0:
        raise CertificateError(f"the direction is not orthogonal to 1: its sum is {sum(u)}")
    if sum(a * y for a, y in zip(u, data.labels, strict=True)) == 0:
        raise CertificateError("the direction is orthogonal to the labels")
    # u·1 = 0 makes a split and its complement alike: the last point is never a member.
    splits = np.arange(2 ** (n - 1), dtype=np.int64)
    products = np.zeros(len(splits), dtype=object)
    for i in range(n - 1):
        products += (splits >> i & 1).astype(object) * u[i]
    open_splits = splits[products != 0]
    for k, blocker in enumerate(claim.blockers):
        inside, outside = _checked_blocker(data, radius, k, blocker)
        open_splits = open_splits[~_separates(open_splits, inside, outside)]
    if len(open_splits):
        members = [i for i in range(n - 1) if open_splits[0] >> i & 1]
        raise CertificateError(
            f"the split {members} is neither orthogonal to the direction nor blocked"
        )


def _separates(splits: np.ndarray, first: int, second: int) -> np.ndarray:
    """Which splits (bit masks) have one group as members and the other not, or the reverse."""
    one = (splits & (first | second)) == first
    other = (splits & (first | second)) == second
    return np.asarray(one | other)


def _checked_blocker(
    data: RationalPoints, radius: Fraction, k: int, blocker: Blocker
) -> tuple[int, int]:
    """Both groups as bit masks, after checking the convex combinations and their distance."""
    masks, places = [], []
    for group in (blocker.inside, blocker.outside):
        indices = [i for i, _ in group]
        if len(set(indices)) != len(indices) or not all(0 <= i < len(data) for i in indices):
            raise CertificateError(f"blocker {k}: indices {indices} are not distinct points")
        if any(w <= 0 for _, w in group) or sum(w for _, w in group) != 1:
            raise CertificateError(f"blocker {k}: weights must be positive with sum 1")
        masks.append(sum(1 << i for i in indices))
        columns = zip(*(data.points[i] for i in indices), strict=True)
        places.append([dot([w for _, w in group], column) for column in columns])
    if masks[0] & masks[1]:
        raise CertificateError(f"blocker {k}: a point stands on both sides")
    if distance(*places) > 2 * radius:
        raise CertificateError(
            f"blocker {k}: the combinations are {distance(*places)} apart, more than 2 · {radius}"
        )
    return masks[0], masks[1]


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
