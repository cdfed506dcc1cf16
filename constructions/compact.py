"""Compact optimal robust memorization: depth 4, few boxes instead of all samples (THEORY 2).

Every sample lies in a box Q of its class, every enemy's cell at least δ beyond one of the faces of
Q. With thresholds high = a + μ (rounded up) and low = b − μ (rounded down),

    s_Q(x) = Σ over faces x_j ≤ a of relu(x_j − high)  +  Σ over faces x_j ≥ b of relu(low − x_j)

is 0 on the ball of every sample in Q, and at least gap > 0 on the ball of every enemy. Hence
t_Q = relu(1 − K s_Q) with K ≥ 1/gap is 1 there and 0 here, g_l = relu(1 − Σ t_Q over the boxes of
class l) is 0 for the right class and 1 for all others, and Σ l (1 − g_l) is the label.

**Safe rounding.** All weights are dyadic with few bits. In floating point, in any order of
summation: a threshold that no point of the ball passes gives relu(≤ 0) = 0; a sum of numbers ≥ 0 is
at least the largest of them, so K s_Q ≥ 1 or = 0 as in exact arithmetic; Σ t_Q ≥ 1 or = 0; and
labels are small integers. So a float32 runtime returns exactly the label at every float32 point of
a ball.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.assembly import Rows, layer, neuron, sums
from constructions.box_check import count_boxes
from constructions.box_grid import LEVELS, BoxGrid, box_grid
from constructions.boxes import TRIES, Boxes, Progress, find_boxes
from constructions.claims import Claim, Claims, network_claims
from constructions.construction import MEMORY, Construction, dense_size, ranked_labels
from constructions.dataset import DataSet
from constructions.demonstration import Demonstration, Shown
from constructions.radius import require_radius
from constructions.safe_rounding import BITS, ceil_log2, unit
from constructions.separation import Separation, positive_separation
from verifier.core.errors import DataError
from verifier.core.network import Layer, Network


@dataclass(frozen=True, eq=False)
class Cover:
    """Boxes with their first layer.

    Args:
        data: the samples.
        radius: μ.
        closest: λ.
        ranks: (n,) labels 1..m.
        labels: which class each label is.
        grid: δ and cells.
        boxes: the boxes.
        first: the distinct excesses relu(x_j − high), relu(low − x_j).
        column: (faces,) which of them each face of the boxes is.
        gap: an enemy's ball is at least so far beyond some face.
        claims: what was counted, sample by sample.
    """

    data: DataSet
    radius: Fraction
    closest: Separation
    ranks: np.ndarray
    labels: tuple[int, ...]
    grid: BoxGrid
    boxes: Boxes
    first: Rows
    column: np.ndarray
    gap: Fraction
    claims: tuple[Claim, ...]

    @property
    def n_first(self) -> int:
        """Neurons of the first layer."""
        return len(self.first.counts)


def cover(
    data: DataSet,
    radius: Fraction,
    *,
    every: bool = True,
    levels: int = LEVELS,
    tries: int = TRIES,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Cover:
    """Boxes around all samples, checked, and the neurons that measure the distance to them.

    Args:
        data: the samples.
        radius: μ < λ/2.
        every: boxes at distance λ from their enemies: only thresholds depend on the radius. Else
            boxes at a distance just above 2μ: fewer and larger ones for a small radius.
        levels, tries, progress: see ``find_boxes``.
        memory: bytes that may be used.

    Raises:
        RadiusError: radius ≥ λ/2.
        DataError: one class only, λ = 0, too many bits, or more memory than allowed.
    """
    ranks, labels = ranked_labels(data)
    closest = positive_separation(data)
    require_radius(data, radius, closest)
    grid = box_grid(data, radius, closest.lam, every=every)
    boxes = find_boxes(
        grid, ranks, levels=levels, tries=tries, memory=memory, progress=progress, name=data.name
    )
    found = count_boxes(grid, ranks, boxes)
    whole = "each sample's cells, in integers"
    claims = (
        Claim.equal("samples in a box of their class", len(data), found.contained, whole),
        Claim.equal("enemies δ beyond a face of a box", found.enemies, found.excluded, whole),
        Claim.at_least(
            "δ", 2 * radius, grid.distance, "boxes' distance from enemies, above 2μ (THEORY 2)"
        ),
    )
    room = grid.distance - 2 * radius
    exponent = ceil_log2(2 / room)
    first, column = _first_layer(data.name, grid, boxes, radius, exponent)
    gap = room - unit(exponent)
    return Cover(data, radius, closest, ranks, labels, grid, boxes, first, column, gap, claims)


def _first_layer(
    name: str, grid: BoxGrid, boxes: Boxes, radius: Fraction, exponent: int
) -> tuple[Rows, np.ndarray]:
    """The distinct neurons, and which one each face is.

    Raises:
        DataError: a threshold needs more than 53 bits.
    """
    units = np.empty(boxes.faces, dtype=np.int64)
    step = unit(exponent)
    for upper in (True, False):
        chosen = boxes.upper == upper
        cells, which = np.unique(boxes.cell[chosen], return_inverse=True)
        if upper:
            exact = [math.ceil((grid.upper(int(c)) + radius) / step) for c in cells]
        else:
            exact = [math.floor((grid.lower(int(c)) - radius) / step) for c in cells]
        top = max((abs(v) for v in exact), default=0)
        if top >= 2**BITS:
            raise DataError(
                f"{name}: the thresholds need {top.bit_length()} bits beside the data's range, and "
                f"there are {BITS}; choose a smaller radius"
            )
        units[chosen] = np.array(exact, dtype=np.int64)[which.reshape(-1)]
    keys = np.stack([boxes.coordinate, boxes.upper, units])
    (coordinate, upper, value), column = np.unique(keys, axis=1, return_inverse=True)
    sign = np.where(upper, 1.0, -1.0)
    bias = np.ldexp(-sign * value, -exponent)
    return Rows(np.ones(len(value), dtype=np.int64), coordinate, sign, bias), column.reshape(-1)


def compact(
    data: DataSet,
    radius: Fraction,
    *,
    every: bool = True,
    levels: int = LEVELS,
    tries: int = TRIES,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Construction:
    """The label 1..m on the ball of radius μ around every sample, with depth 4.

    Layers: the distinct excesses; t for each box; g for each class; the output.

    Args:
        data, radius, every, levels, tries, memory, progress: see ``cover``.

    Raises:
        RadiusError, DataError: see ``cover``.
    """
    found = cover(
        data,
        radius,
        every=every,
        levels=levels,
        tries=tries,
        memory=memory,
        progress=progress,
    )
    boxes, m, n_first = found.boxes, len(found.labels), found.n_first
    network = Network(_layers(found, data.dimension), data.shape, "compact")
    sizes = network_claims(
        "compact",
        network,
        "THEORY 2",
        n_outputs=1,
        width=max(n_first, len(boxes), m),
        depth=4,
        n_relu=n_first + len(boxes) + m,
    )
    return Construction(
        network,
        (sizes + Claims("compact", (*found.claims, *size_claims(found)))).check(),
        radius,
        found.closest,
        found.labels,
        dense_size(network),
    )


def _layers(found: Cover, d: int) -> tuple[Layer, ...]:
    """The distinct excesses; t for each box; g for each class; the output."""
    boxes, m, n_first = found.boxes, len(found.labels), found.n_first
    slope = -math.ldexp(1.0, ceil_log2(1 / found.gap))
    hits = Rows(
        np.diff(boxes.start),
        found.column,
        np.full(boxes.faces, slope),
        np.ones(len(boxes)),
    )
    by_class = [np.flatnonzero(boxes.label == label) for label in range(1, m + 1)]
    return (
        layer([found.first], d),
        layer([hits], n_first),
        layer([sums(members[None], -1.0, 1.0) for members in by_class], len(boxes)),
        layer([neuron([(k, -(k + 1.0)) for k in range(m)], m * (m + 1) / 2)], m, relu=False),
    )


def size_claims(found: Cover) -> tuple[Claim, ...]:
    """How many boxes and faces there are, beside what one box a sample would take."""
    boxes, n, d = found.boxes, len(found.data), found.data.dimension
    return (
        Claim.at_most("boxes", n, len(boxes), "≤ N, THEORY 2"),
        Claim.at_most("faces", 2 * d * len(boxes), boxes.faces, "≤ 2d a box, THEORY 2"),
        Claim.at_most(
            "first layer", boxes.faces, found.n_first, "≤ faces: equal thresholds are shared"
        ),
    )


def demonstrate() -> Demonstration:
    """All 1797 handwritten digits of scikit-learn: nearly every radius, and a quarter of it.

    Returns:
        What was counted and evaluated, exactly.
    """
    from constructions.dataset import load_dataset

    data = load_dataset("digits")
    lam = positive_separation(data).lam
    radius, small = lam / 2 * Fraction(99, 100), lam / 8
    built, larger = compact(data, radius), compact(data, small, every=False)
    corners = [_corner_claim(made, data, 24) for made in (built, larger)]
    Claims("compact", tuple(corners)).check()
    closest = built.closest_claims(data).check()
    boxes, few = (made.network.layers[1].n_out for made in (built, larger))
    first = built.network.layers[0].n_out
    whole = "; ".join(str(claim) for claim in built.claims if claim.name.startswith(_COUNTED))
    return Demonstration(
        "A set of N samples in dimension d with separation λ has, for every μ < λ/2, a robust "
        "memorization of depth 4 whose size is that of class-pure boxes and their hitting sets, "
        "not that of the samples.",
        f"scikit-learn's {len(data)} handwritten digits, d = {data.dimension}, λ = {lam}; "
        f"μ = {radius}, 99% of λ/2, and μ = {small}",
        (
            Shown(
                f"{boxes} boxes instead of {len(data)} samples, with {first} thresholds, make the "
                f"depth-4 network right on every ball of radius {radius}",
                whole,
            ),
            Shown(
                f"for μ = {small} alone, {few} boxes suffice",
                "the same counts, with the distance 2μ that this radius needs",
            ),
            Shown(
                "the closest balls of different classes keep their labels where they nearly touch",
                "; ".join(str(claim) for claim in closest),
            ),
            Shown(
                "random corners of balls have their labels",
                "; ".join(str(claim) for claim in corners),
            ),
        ),
        {
            "n": len(data),
            "lambda": str(lam),
            "mu": str(radius),
            "boxes": boxes,
            "first_layer": first,
            "relus": built.network.n_relu,
            "small_mu": str(small),
            "small_boxes": few,
        },
    )


_COUNTED = ("samples in", "enemies")


def _corner_claim(built: Construction, data: DataSet, count: int) -> Claim:
    """How many of so many corners of balls have the right label, evaluated exactly."""
    rng = np.random.default_rng(0)
    right = 0
    for i in rng.choice(len(data), count, replace=False):
        signs = rng.choice((-1, 1), data.dimension).tolist()
        point = [
            value + sign * built.radius
            for value, sign in zip(data.sample(int(i)), signs, strict=True)
        ]
        right += built.label(built.network.exact(point)) == int(data.labels[i])
    return Claim.equal(
        f"right labels at {count} corners, μ = {built.radius}", count, right, "evaluated exactly"
    )
