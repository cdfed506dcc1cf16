"""Memorization of N points by a network of depth 2: exact on the points, not robust (THEORY T7 a).

All hidden neurons see one integer projection z = w·x that keeps the points apart (Lemma P), so the
network is f(w·x) with f: R -> R piecewise linear through (z_i, y_i), z_1 < ... < z_N.

* **zhang** (Zhang et al. 2017): kinks at z_1, ..., z_{N−1}, slopes (y_{j+1} − y_j)/(z_{j+1} − z_j).
  Width N − 1. The slopes are rationals that floats do not hold.
* **dyadic**: the same width with slopes that are integers. In [z_j, z_{j+1}) the slope s changes
  by the smallest power of two, at least 1, that brings it to the other side of the mean slope e of
  the interval, at the one place where f then hits y_{j+1}; no kink if s = e. All numbers are
  integers over a power of two, and relu(z − t) times its weight is an integer at every sample.
* **staircase**: constant around the samples, with a ramp in the middle of each interval; its width
  is the largest power of two that is at most a third of the interval. Width 2(N − 1).

Intervals without a change need no neuron. The head logit_l = l f − l²/2 = f²/2 − (f − l)²/2 is
affine in f, merges into the output layer, and prefers the label nearest to f; where f = y it leads
by at least 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from constructions.claims import Claim, Claims, network_claims
from constructions.construction import (
    MEMORY,
    Construction,
    dense_size,
    require_memory,
)
from constructions.dataset import DataSet
from constructions.exact_evaluation import largest_bits
from constructions.exact_layer import exact_array, exact_layer
from constructions.projection import GridPoints, Projection, grid_points, project
from constructions.ridge import Breach, Ridge
from constructions.separation import positive_separation
from verifier.core.exact import Rational
from verifier.core.network import Layer, Network

_SOURCE = "THEORY T7 a"


@dataclass(frozen=True, eq=False)
class Memorization:
    """A memorization with the line on which it lives.

    Args:
        built: network, claims, and the largest radius on which all labels are right.
        points: the distinct points.
        projection: z_i = w·x_i.
        ridge: the network's function of z, read from the network.
        breaches: for each point that can lose its label, where it first does.
    """

    built: Construction
    points: GridPoints
    projection: Projection
    ridge: Ridge
    breaches: tuple[Breach, ...]

    def witness(self, breach: Breach, radius: Fraction) -> tuple[Fraction, ...]:
        """The point at this ℓ∞ distance from the sample, on the side where its label is lost."""
        return shifted(
            self.points.point(breach.sample), self.projection.weights, breach.side * radius
        )


def shifted(
    x: Sequence[Fraction], weights: Sequence[int], distance: Fraction
) -> tuple[Fraction, ...]:
    """x + distance · sign(w): of all points at this ℓ∞ distance the one where w·x moves most."""
    return tuple(v + distance * ((w > 0) - (w < 0)) for v, w in zip(x, weights, strict=True))


@dataclass(frozen=True)
class _Hinges:
    """f(z) = start + Σ_j change_j relu(z − kink_j), with vectors as values."""

    start: tuple[Rational, ...]
    kinks: tuple[Rational, ...]
    changes: tuple[tuple[Rational, ...], ...]


def zhang(data: DataSet, *, fast: bool = True, memory: int = MEMORY) -> Memorization:
    """Kinks at the samples, one fewer than there are; logits 1..m.

    Args:
        data: at least two classes; equal points with equal labels.
        fast: which variant of Lemma P, see ``project``.
        memory: bytes that may be used.

    Raises:
        DataError: one class only, λ = 0, or more memory than allowed.
    """
    return _memorization("zhang", data, fast, memory)


def dyadic(data: DataSet, *, fast: bool = True, memory: int = MEMORY) -> Memorization:
    """Integer slopes, kinks with few bits between the samples; as ``zhang`` otherwise.

    If Σ_j |change_j| (z_N − z_1) < 2^53 float64 evaluates the samples without rounding.
    """
    return _memorization("dyadic", data, fast, memory)


def staircase(
    data: DataSet, *, one_hot: bool = False, fast: bool = True, memory: int = MEMORY
) -> Memorization:
    """Constant where |w·x − z_i| ≤ a third of the smallest gap: derivative 0 around every sample.

    Args:
        data: as for ``zhang``.
        one_hot: outputs e_y instead of the logits of the head.
        fast: as for ``zhang``.
        memory: as for ``zhang``.
    """
    return _memorization("one-hot" if one_hot else "staircase", data, fast, memory)


def _memorization(kind: str, data: DataSet, fast: bool, memory: int) -> Memorization:
    """Build, read back as a ridge function, and compare with the theorem."""
    per_point = 2 if kind in ("staircase", "one-hot") else 1
    d, m = data.dimension, len(np.unique(data.labels))
    require_memory(f"{data.name}: {kind}", per_point * len(data) * (d + m + 1), memory)
    closest = positive_separation(data)
    points = grid_points(data)
    projection = project(points, fast=fast)
    order = projection.order
    z = [projection.values[i] for i in order]
    y = [int(points.ranks[i]) for i in order]
    m = len(points.labels)
    if kind == "one-hot":
        hinges = _steps(z, [tuple(int(v == k + 1) for k in range(m)) for v in y])
    elif kind == "staircase":
        hinges = _steps(z, [_logits(v, m) for v in y])
    else:
        start, kinks, changes = (_knots if kind == "zhang" else _integer_slopes)(z, y)
        head = tuple(tuple(label * c for label in range(1, m + 1)) for c in changes)
        hinges = _Hinges(_logits(start, m), tuple(kinks), head)
    network = _network(kind, data, projection, hinges)
    ridge = Ridge.of(network)
    found = [
        ridge.breach(i, projection.values[i], int(points.ranks[i])) for i in range(len(points))
    ]
    breaches = tuple(b for b in found if b is not None)
    claims = _claims(kind, network, points, projection, ridge, y)
    radius = min(b.radius for b in breaches)  # with two labels on a line, one of them ends
    built = Construction(
        network,
        claims.check(),
        radius,
        closest,
        points.labels,
        dense_size(network),
        open_radius=True,
    )
    return Memorization(built, points, projection, ridge, breaches)


def _logits(value: Rational, m: int) -> tuple[Fraction, ...]:
    """l·f − l²/2 for l = 1..m."""
    return tuple(label * Fraction(value) - Fraction(label * label, 2) for label in range(1, m + 1))


def _knots(z: Sequence[int], y: Sequence[int]) -> tuple[int, list[Rational], list[Rational]]:
    """Zhang et al.: (f left of z_1, kinks, changes of slope), without changes of 0."""
    kinks: list[Rational] = []
    changes: list[Rational] = []
    slope = Fraction(0)
    for j in range(len(z) - 1):
        new = Fraction(y[j + 1] - y[j], z[j + 1] - z[j])
        if new != slope:
            kinks.append(z[j])
            changes.append(new - slope)
        slope = new
    return y[0], kinks, changes


def _integer_slopes(
    z: Sequence[int], y: Sequence[int]
) -> tuple[int, list[Rational], list[Rational]]:
    """The same with integer slopes and kinks between the samples.

    From (z_j, y_j) with slope s to (z_{j+1}, y_{j+1}) with slope s': the kink t has
    (t − z_j)(s − s') = Δy − s' Δz, and lies in [z_j, z_{j+1}) if the mean slope e lies between s
    (excluded) and s' (included).
    """
    kinks: list[Rational] = []
    changes: list[Rational] = []
    slope = 0
    for j in range(len(z) - 1):
        rise, run = y[j + 1] - y[j], z[j + 1] - z[j]
        excess = rise - slope * run  # (e − s) Δz
        if not excess:
            continue
        size = -(-abs(excess) // run)
        change = (1 << (size - 1).bit_length()) * (1 if excess > 0 else -1)
        slope += change
        kinks.append(z[j] + Fraction(slope * run - rise, change))
        changes.append(change)
    return y[0], kinks, changes


def _steps(z: Sequence[int], values: Sequence[tuple[Rational, ...]]) -> _Hinges:
    """A ramp in the middle of each interval with a change; flat for a third at either side."""
    kinks: list[Rational] = []
    changes: list[tuple[Rational, ...]] = []
    for j in range(len(z) - 1):
        if values[j] == values[j + 1]:
            continue
        gap = z[j + 1] - z[j]
        width = Fraction(1, 4) if gap == 1 else Fraction(1, 2)
        while 6 * width <= gap:
            width *= 2
        low = z[j] + (gap - width) / 2
        slope = tuple((b - a) / width for a, b in zip(values[j], values[j + 1], strict=True))
        kinks += [low, low + width]
        changes += [slope, tuple(-v for v in slope)]
    return _Hinges(values[0], tuple(kinks), tuple(changes))


def _network(kind: str, data: DataSet, projection: Projection, hinges: _Hinges) -> Network:
    """start + Σ_j change_j relu(w·x − kink_j)."""
    n, row = len(hinges.kinks), exact_array([projection.weights])
    weight, bias = (
        np.broadcast_to(row, (n, row.shape[1])),
        exact_array([[-t for t in hinges.kinks]]),
    )
    if weight.dtype != bias.dtype:
        weight, bias = weight.astype(object), bias.astype(object)
    first = Layer(weight, bias[0], np.full(n, True))
    last = exact_layer(list(zip(*hinges.changes, strict=True)), hinges.start, relu=False)
    return Network((first, last), data.shape, f"memorize-depth2 ({kind})")


def _claims(
    kind: str,
    network: Network,
    points: GridPoints,
    projection: Projection,
    ridge: Ridge,
    y: Sequence[int],
) -> Claims:
    """Sizes by T7's formulas, and the label of every point, from the network alone."""
    n, d, m = len(points), points.dimension, len(points.labels)
    ramps = sum(a != b for a, b in pairwise(y))
    if kind in ("staircase", "one-hot"):
        width = Claim.equal("width", 2 * ramps, network.width, "2 a change of label, T7 a")
        flat = Fraction(projection.smallest_gap, 3 * projection.norm)
        level = all(not any(ridge.slopes[2 * k]) for k in range(len(ridge.kinks) // 2 + 1)) and all(
            abs(projection.values[i] - t) >= flat * projection.norm
            for i, t in _neighbours(projection, ridge)
        )
        more = [Claim.true("constant around every point", level, f"on radius {flat}, {_SOURCE}")]
    else:
        width = Claim.at_most("width", n - 1, network.width, "N − 1, " + _SOURCE)
        more = [_bits_claim(network, projection, m)] if kind == "zhang" else []
    z = _projected(ridge, points)
    wrong = sum(ridge.label(v) != int(rank) for v, rank in zip(z, points.ranks, strict=True))
    same = sum(v == value for v, value in zip(z, projection.values, strict=True))
    claims = (
        width,
        Claim.equal(
            "dense parameters",
            network.width * (d + 1 + m) + m,
            dense_size(network),
            "width (d + 1 + m) + m, " + _SOURCE,
        ),
        Claim.equal("points with another label", 0, wrong, "every point, exactly"),
        Claim.equal("points projected right", n, same, "every point, exactly"),
        *more,
    )
    sizes = network_claims("memorize-depth2", network, _SOURCE, n_outputs=m, depth=2)
    return sizes + Claims("memorize-depth2", claims)


def _projected(ridge: Ridge, points: GridPoints) -> list[Fraction]:
    """w·x for every point, with the network's own w."""
    used = [k for k, w in enumerate(ridge.direction) if w]
    weights = np.array([ridge.direction[k] for k in used], dtype=object)
    sums = points.rows[:, used].astype(object).dot(weights)
    return [Fraction(v) / points.denominator for v in sums]


def _bits_claim(network: Network, projection: Projection, m: int) -> Claim:
    """T7: numerators up to 2(m − 1)·2Z, times a label of the head, denominators up to (2Z)²."""
    z = max(map(abs, projection.values))
    others = max(*map(abs, projection.weights), m * m)
    largest = max(4 * m * (m - 1) * z, 4 * z * z, others)
    return Claim.at_most("bits", largest.bit_length(), largest_bits(network), _SOURCE)


def _neighbours(projection: Projection, ridge: Ridge) -> list[tuple[int, Fraction]]:
    """Each point with the last kink before it and the first one after it."""
    out, k = [], 0
    for i in projection.order:
        while k < len(ridge.kinks) and ridge.kinks[k] < projection.values[i]:
            k += 1
        out += [(i, ridge.kinks[j]) for j in (k - 1, k) if 0 <= j < len(ridge.kinks)]
    return out
