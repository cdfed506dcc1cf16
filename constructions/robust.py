"""Optimal robust memorization: the label on every ball of any radius μ < λ/2 (THEORY, section 1).

Around sample i let s_i(x) = Σ_j relu(x_j − high_ij) + relu(low_ij − x_j), with the faces of
``constructions.safe_rounding``. On the ball of sample i, s_i = 0; on the ball of an enemy,
s_i ≥ gap > 0. Two ways to make a label of this:

* **running maximum**: v_i = v_{i−1} + relu(y_i − v_{i−1} − K s_i) with K ≥ m/gap;
* **class sums**: t_i = relu(1 − K s_i) with K ≥ 1/gap; a class is hit if q = Σ t_i ≥ 1, which
  g = relu(1 − q) = 0 says, and then v gains its label: v ← v + l (1 − g). Samples of one class may
  share a layer, k at a time or all of them.

The network has one output, the label 1..m. Carried values p = relu(x + σ) = x + σ, v and q are
never negative on the balls, so every hidden neuron has its ReLU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.assembly import Rows, layer, neuron, singles, sums
from constructions.claims import Claim, Claims, network_claims
from constructions.construction import (
    MEMORY,
    Construction,
    dense_count,
    dense_size,
    ranked_labels,
    require_memory,
)
from constructions.dataset import DataSet
from constructions.radius import require_radius
from constructions.safe_rounding import Faces, ceil_log2, robust_faces
from constructions.separation import Separation, positive_separation
from verifier.core.errors import DataError
from verifier.core.network import Layer, Network


@dataclass(frozen=True, eq=False)
class _Task:
    """What all four constructions begin with."""

    data: DataSet
    radius: Fraction
    closest: Separation
    faces: Faces
    ranks: np.ndarray
    labels: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, d, m."""
        return len(self.data), self.data.dimension, len(self.labels)

    def steepness(self, height: int) -> float:
        """The smallest power of two K with K · gap ≥ height."""
        return math.ldexp(1.0, ceil_log2(height / self.faces.gap))

    def carry(self, first: bool) -> Rows:
        """p = x + σ, straight from x or from the p before."""
        shift = float(self.faces.value(self.faces.shift)) if first else 0.0
        return singles(np.arange(self.data.dimension), 1.0, shift)

    def excesses(self, sample: int, first: bool) -> list[Rows]:
        """u⁺ and u⁻ of one sample: how far x is above and below its box, 2d neurons."""
        columns = np.arange(self.data.dimension)
        shift = 0 if first else self.faces.shift
        high = self.faces.value(-(self.faces.high[sample] + shift))
        low = self.faces.value(self.faces.low[sample] + shift)
        return [singles(columns, 1.0, high), singles(columns, -1.0, low)]

    def finish(
        self, name: str, layers: list[Layer], claims: list[Claim], **sizes: int
    ) -> Construction:
        """The network with its claims, which are checked."""
        network = Network(tuple(layers), self.data.shape, name)
        equal = network_claims(name, network, "THEORY 1", n_outputs=1, **sizes)
        everything = (equal + Claims(name, tuple(claims))).check()
        dense = dense_size(network)
        return Construction(network, everything, self.radius, self.closest, self.labels, dense)


def _start(data: DataSet, radius: Fraction) -> _Task:
    """Check the radius and round the balls."""
    ranks, labels = ranked_labels(data)
    closest = positive_separation(data)
    require_radius(data, radius, closest)
    faces = robust_faces(data, radius, closest.lam)
    return _Task(data, radius, closest, faces, ranks, labels)


def running_maximum(data: DataSet, radius: Fraction, *, memory: int = MEMORY) -> Construction:
    """The running-maximum network: width 3d + 1, depth 2N + 1, at most N (8d + 5) nonzeros.

    Raises:
        RadiusError: radius ≥ λ/2.
        DataError: one class only, λ = 0, more than 53 bits, or more memory than allowed.
    """
    n, d = len(data), data.dimension
    require_memory(f"{data.name}: optimal-robust", n * (8 * d + 5), memory)
    task = _start(data, radius)
    m = len(task.labels)
    slope = -task.steepness(m)
    excess = [(d + k, slope) for k in range(2 * d)]
    layers: list[Layer] = []
    for i in range(n):
        # A: p, u, v.  The layer before holds p, v, r (no v after the first sample).
        top = [] if i == 0 else [neuron([(d + k, 1.0) for k in range(min(i, 2))])]
        n_in = d + min(i, 2)
        layers.append(layer([task.carry(i == 0), *task.excesses(i, i == 0), *top], n_in))
        # B: p, v, r.  After the last sample nobody reads p.
        label = float(task.ranks[i])
        so_far = [(3 * d, -1.0)] if i else []
        parts = [neuron([*excess, *so_far], label)]
        if i:
            parts.insert(0, neuron([(3 * d, 1.0)]))
        if i < n - 1:
            parts.insert(0, task.carry(False))
        layers.append(layer(parts, 3 * d + min(i, 1)))
    layers.append(layer([neuron([(0, 1.0), (1, 1.0)])], 2, relu=False))
    nonzeros = sum(part.nonzeros for part in layers)
    claims = [
        Claim.at_most("nonzeros", n * (8 * d + 5), nonzeros, "≤ N (8d + 5), THEORY 1"),
        Claim.equal(
            "dense parameters",
            dense_count(_running_shapes(n, d)),
            sum(part.n_out * (part.n_in + 1) for part in layers),
            "(3d + 1) × (d + 2) and (d + 2) × (3d + 1) in turn",
        ),
    ]
    return task.finish("optimal-robust", layers, claims, width=3 * d + 1, depth=2 * n + 1)


def _running_shapes(n: int, d: int) -> list[tuple[int, int]]:
    """(n_out, n_in) of the running-maximum network's layers."""
    shapes = [(3 * d, d), (d + 1, 3 * d), (3 * d + 1, d + 1)]
    shapes += [(d + 2, 3 * d + 1), (3 * d + 1, d + 2)] * (n - 2)
    return [*shapes, (2, 3 * d + 1), (1, 2)]


def class_sum(data: DataSet, radius: Fraction, *, memory: int = MEMORY) -> Construction:
    """The class-sum network: width 3d + 2, depth 2N + 2. Interval arithmetic proves it.

    Raises:
        RadiusError, DataError: as ``running_maximum``.
    """
    return blocks(data, radius, 1, memory=memory, name="class-sum")


def blocks(
    data: DataSet,
    radius: Fraction,
    size: int,
    *,
    memory: int = MEMORY,
    name: str = "blocks",
) -> Construction:
    """Class sums with up to k samples of one class in a block.

    Width (2k + 1) d + 2 with k no larger than the largest class, depth 2 Σ_l ⌈N_l/k⌉ + 2, at most
    (2d + 4) · blocks + N (6d + 2) + 2m + 2 nonzeros.

    Args:
        data: the samples.
        radius: μ.
        size: k, at least 1.
        memory: bytes that may be used.
        name: of the network and in messages.

    Raises:
        RadiusError, DataError: as ``running_maximum``; also if size < 1.
    """
    if size < 1:
        raise DataError(f"{data.name}: a block must have at least 1 sample, got {size}")
    n, d = len(data), data.dimension
    require_memory(f"{data.name}: {name}", n * (8 * d + 6), memory)
    task = _start(data, radius)
    m = len(task.labels)
    plan = [
        (label, members[i : i + size], i + size >= len(members))
        for label in range(1, m + 1)
        for members in [np.flatnonzero(task.ranks == label)]
        for i in range(0, len(members), size)
    ]
    layers = _block_layers(task, plan)
    widest = max(len(members) for _, members, _ in plan)
    most = (2 * d + 4) * len(plan) + n * (6 * d + 2) + 2 * m + 2
    nonzeros = sum(part.nonzeros for part in layers)
    claims = [
        Claim.at_most(
            "nonzeros", most, nonzeros, "≤ (2d + 4) blocks + N (6d + 2) + 2m + 2, THEORY 1"
        )
    ]
    return task.finish(
        name, layers, claims, width=(2 * widest + 1) * d + 2, depth=2 * len(plan) + 2
    )


def _block_layers(task: _Task, plan: list[tuple[int, np.ndarray, bool]]) -> list[Layer]:
    """Layers A: p, u, q or g, v  and  B: p, t, q, v  of every block, the last g, the output."""
    d = task.data.dimension
    slope = -task.steepness(1)
    layers: list[Layer] = []
    n_in, closing = d, 0  # closing: the label whose class has just ended, or 0
    state = [neuron([]), neuron([])]  # q and v, before anything was seen
    for index, (label, members, ends) in enumerate(plan):
        first, last = index == 0, index == len(plan) - 1
        k = len(members)
        excesses = [rows for i in members for rows in task.excesses(int(i), first)]
        layers.append(layer([task.carry(first), *excesses, *state], n_in))
        q, v = (2 * k + 1) * d, (2 * k + 1) * d + 1
        hits = sums(d + np.arange(2 * d * k).reshape(k, 2 * d), slope, 1.0)
        gained = _gained(q, v, closing)
        carried = [] if last else [task.carry(False)]
        kept = neuron([]) if closing else neuron([(q, 1.0)])
        layers.append(layer([*carried, hits, kept, gained], v + 1))
        start = 0 if last else d
        counted = [start + i for i in range(k + 1)]  # the t of this block, then q
        closing = label if ends else 0
        if ends:
            tally = neuron([(c, -1.0) for c in counted], 1.0)
        else:
            tally = neuron([(c, 1.0) for c in counted])
        state = [tally, neuron([(start + k + 1, 1.0)])]
        n_in = start + k + 2
    layers.append(layer(state, n_in))
    layers.append(layer([_gained(0, 1, closing)], 2, relu=False))
    return layers


def _gained(g: int, v: int, label: int) -> Rows:
    """V + label (1 − g); just v if no class has ended (label 0)."""
    return neuron([(g, -float(label)), (v, 1.0)], label) if label else neuron([(v, 1.0)])


def shallow(data: DataSet, radius: Fraction, *, memory: int = MEMORY) -> Construction:
    """All class sums at once: depth 4.

    Layers: the distinct excesses relu(x_j − high) and relu(low − x_j), shared by the samples that
    have them; t for each sample; g for each class; the output Σ_l l (1 − g_l).

    Raises:
        RadiusError, DataError: as ``running_maximum``.
    """
    n, d = len(data), data.dimension
    require_memory(f"{data.name}: shallow", n * (2 * d + 2) + 4 * n, memory)
    task = _start(data, radius)
    m = len(task.labels)
    parts, columns, n_in = [], np.empty((n, 2 * d), dtype=np.int64), 0
    for j in range(d):
        for side, (faces, sign) in enumerate(((task.faces.high, 1), (task.faces.low, -1))):
            values, which = np.unique(faces[:, j], return_inverse=True)
            bias = task.faces.value(-sign * values)
            parts.append(singles(np.full(len(values), j), float(sign), bias))
            columns[:, 2 * j + side] = n_in + which.reshape(-1)
            n_in += len(values)
    by_class = [np.flatnonzero(task.ranks == label) for label in range(1, m + 1)]
    layers = [
        layer(parts, d),
        layer([sums(columns, -task.steepness(1), 1.0)], n_in),
        layer([sums(members[None], -1.0, 1.0) for members in by_class], n),
        layer([neuron([(k, -(k + 1.0)) for k in range(m)], m * (m + 1) / 2)], m, relu=False),
    ]
    distinct = sum(len(np.unique(data.points[:, j])) for j in range(d))
    shared = "≤ two for each distinct value of each coordinate, THEORY 1"
    claims = [
        Claim.at_most("first layer", 2 * distinct, n_in, shared),
        Claim.at_most("width", 2 * d * n, max(n_in, n, m), "≤ 2dN, THEORY 1"),
        Claim.at_most(
            "nonzeros",
            2 * n_in + n * (2 * d + 2) + 2 * m + 1,
            sum(part.nonzeros for part in layers),
            "≤ 2 · first layer + N (2d + 2) + 2m + 1",
        ),
    ]
    return task.finish("shallow", layers, claims, depth=4, n_relu=n_in + n + m)
