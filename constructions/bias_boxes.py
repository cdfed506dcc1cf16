"""Networks whose bias classifier is right on given boxes: existence, as a construction (T8 c).

Boxes K_i with faces low_ij, high_ij, such that every point of a box of another label lies at least
``gap`` outside of K_i in ℓ1. With K · gap ≥ 2:

    p_ij = relu(low_ij − x_j), q_ij = relu(x_j − high_ij)   (equal ones shared)
    φ_i  = relu(1 − K Σ_j (p_ij + q_ij))
    w_l  = relu(1 − 2 Σ_{i of label l} φ_i)
    C_l  = 1 − w_l

On K_i: φ_i = 1, so the pre-activation of w_{l_i} is ≤ −1; those of φ_k for other labels are ≤ −1.
Units that are strictly off contribute h = β = J = 0 whatever the units before them do, on kinks
too. So J_C = 0 and B_C = C = e_{l_i} for every consistent pattern. Without the third layer a
neighbouring box of the same label would spoil that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.assembly import layer, neuron, singles, sums
from constructions.bias_bounds import BiasIntervals
from constructions.claims import Claim, Claims, network_claims
from constructions.construction import (
    MEMORY,
    Construction,
    dense_size,
    ranked_labels,
    require_memory,
)
from constructions.dataset import DataSet
from constructions.radius import require_radius
from constructions.rational_points import Vector
from constructions.safe_rounding import ceil_log2, robust_faces
from constructions.separation import positive_separation
from verifier.core.errors import DataError
from verifier.core.exact import round_down
from verifier.core.network import Network
from verifier.core.property import Box

_SOURCE = "T8 (c)"


@dataclass(frozen=True)
class BoxCover:
    """Boxes with labels.

    Args:
        boxes: at least one, all of the same dimension.
        labels: 0..m-1 for each.
        n_classes: m ≥ 2.

    Raises:
        DataError: sizes that do not match, or boxes of different labels that meet.
    """

    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    n_classes: int

    def __post_init__(self) -> None:
        if not self.boxes or len(self.boxes) != len(self.labels):
            raise DataError(f"{len(self.boxes)} boxes but {len(self.labels)} labels")
        if len({len(box) for box in self.boxes}) != 1:
            raise DataError("the boxes must have the same number of coordinates")
        if self.n_classes < 2 or not set(self.labels) <= set(range(self.n_classes)):
            raise DataError(f"labels must be 0..{self.n_classes - 1}, of at least two classes")
        if self.separation <= 0:
            raise DataError("two boxes of different labels meet")

    @property
    def separation(self) -> Fraction:
        """s: the smallest ℓ∞ distance of boxes with different labels, 1 if there is one label."""
        distances = [
            box_distance(a, b)
            for i, a in enumerate(self.boxes)
            for j, b in enumerate(self.boxes[:i])
            if self.labels[i] != self.labels[j]
        ]
        return min(distances, default=Fraction(1))

    def inflated(self, i: int) -> Box:
        """All points at ℓ∞ distance ≤ s/4 from box i."""
        step, box = self.separation / 4, self.boxes[i]
        return Box(tuple(v - step for v in box.lower), tuple(v + step for v in box.upper))


def box_distance(a: Box, b: Box) -> Fraction:
    """The ℓ∞ distance of two boxes, 0 if they meet."""
    gaps = [
        max(p - v, u - q, Fraction(0))
        for u, v, p, q in zip(a.lower, a.upper, b.lower, b.upper, strict=True)
    ]
    return max(gaps)


def box_network(cover: BoxCover) -> Network:
    """C.2: depth 4, width at most max(2dn, m); right within s/4 of every box.

    The inflated boxes are s/2 apart, so K = 4/s would do; K is the next power of two.

    Raises:
        DataError: a face of an inflated box is no float64 number.
    """
    boxes = [cover.inflated(i) for i in range(len(cover.boxes))]
    low, high = (_floats([getattr(box, side) for box in boxes]) for side in ("lower", "upper"))
    return _network(low, high, cover.labels, cover.n_classes, cover.separation / 2, "bias-boxes")


def _floats(rows: Sequence[Vector]) -> np.ndarray:
    """The faces as float64, exactly.

    Raises:
        DataError: one of them is none.
    """
    out = np.array([[round_down(v) for v in row] for row in rows])
    for row, values in zip(rows, out, strict=True):
        for v, f in zip(row, values, strict=True):
            if not math.isfinite(f) or Fraction(float(f)) != v:
                raise DataError(f"the face {v} of an inflated box is not a float64 number")
    return out


def _network(
    low: np.ndarray, high: np.ndarray, labels: Sequence[int], m: int, gap: Fraction, name: str
) -> Network:
    """The four layers; low and high are (n, d) float64."""
    n, d = low.shape
    parts, columns, count = [], np.empty((n, 2 * d), dtype=np.int64), 0
    for j in range(d):
        for side, (faces, sign) in enumerate(((low, -1), (high, 1))):
            values, which = np.unique(faces[:, j], return_inverse=True)
            parts.append(singles(np.full(len(values), j), float(sign), -sign * values))
            columns[:, 2 * j + side] = count + which.reshape(-1)
            count += len(values)
    slope = -math.ldexp(1.0, ceil_log2(2 / gap))
    members = [np.flatnonzero(np.asarray(labels) == label) for label in range(m)]
    caps = [neuron([(int(i), -2.0) for i in group], 1.0) for group in members]
    layers = (
        layer(parts, d),
        layer([sums(columns, slope, 1.0)], count),
        layer(caps, n),
        layer([singles(np.arange(m), -1.0, 1.0)], m, relu=False),
    )
    return Network(layers, name=name)


def one_hot(label: int, m: int) -> Vector:
    """e_label."""
    return tuple(Fraction(int(k == label)) for k in range(m))


def bias(data: DataSet, radius: Fraction, *, memory: int = MEMORY) -> Construction:
    """Outputs e_y and bias part e_y on the closed ball of any radius μ < λ/2 around each sample.

    The boxes are the balls, rounded outwards as in ``safe_rounding``; depth 4. On the two balls of
    the closest pair, where it is hardest, B_C = C = e_y and J_C = 0 are checked for every point and
    every activation pattern.

    Raises:
        RadiusError: radius ≥ λ/2.
        DataError: one class only, λ = 0, more than 53 bits, or more memory than allowed.
    """
    n, d = len(data), data.dimension
    require_memory(f"{data.name}: bias", n * (4 * d + 6), memory)
    ranks, labels = ranked_labels(data)
    closest = positive_separation(data)
    require_radius(data, radius, closest)
    faces = robust_faces(data, radius, closest.lam)
    m, indices = len(labels), [int(r) - 1 for r in ranks]
    low, high = faces.value(faces.low), faces.value(faces.high)
    network = _network(low, high, indices, m, faces.gap, "bias")
    network = Network(network.layers, data.shape, "bias")
    units = network.layers[0].n_out
    claims = network_claims("bias", network, _SOURCE, depth=4, n_outputs=m, n_relu=units + n + m)
    items = [
        Claim.at_most("first layer", 2 * d * n, units, f"≤ 2dN, {_SOURCE}"),
        Claim.at_most("width", max(2 * d * n, m), network.width, f"≤ max(2dN, m), {_SOURCE}"),
    ]
    intervals = BiasIntervals(network)
    for i in closest.pair:
        shown = intervals.on(Box.ball(data.sample(i), radius)).shows(one_hot(indices[i], m))
        items.append(
            Claim.true(f"B_C = C = e_y, J_C = 0 on the ball of {i}", shown, "every pattern, exact")
        )
    everything = (claims + Claims("bias", tuple(items))).check()
    return Construction(network, everything, radius, closest, labels, dense_size(network))
