"""Robust memorization with a Lipschitz constant that is as small as can be (THEORY, section 5).

Two classes, labels ±1: F(x) = max(−1, max over positive samples of 1 − c D_i(x)), where D_i is the
ℓ∞ distance to sample i. Any function with F(x_i) = y_i has a Lipschitz constant of at least 2/λ;
here c is 2/λ, rounded up to a float. One network serves every radius below 1/c.

Any number of classes: F_l(x) = −min over the samples of class l of D_i(x); the nearest class wins.
This is the nearest-class classifier of Yang et al. 2020, with the sign that makes the nearest class
the largest output. For two classes (F_1 − F_2)/λ is a regression that is ≥ 1 at the samples of the
first, ≤ −1 at those of the second, and has the smallest possible constant, 2/λ, too.

Where a sample is not a number with the given bits, D_i is the distance to the smallest box around
it whose faces are. Shifts, absolute values, maxima and minima have the constant 1 in ℓ∞, so the
constant of F is c, and that of each F_l is 1, whatever the product of the weights' norms says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from constructions.assembly import Rows, layer, neuron, singles
from constructions.claims import Claim, ClaimError, Claims, network_claims
from constructions.construction import (
    MEMORY,
    Construction,
    dense_size,
    ranked_labels,
    require_memory,
)
from constructions.dataset import DataSet
from constructions.demonstration import Demonstration, Shown, SlopeQuestion
from constructions.robust import shallow
from constructions.safe_rounding import Faces, sample_faces
from constructions.separation import positive_separation
from verifier.core.errors import DataError
from verifier.core.exact import round_up, round_up32
from verifier.core.network import Layer, Network

#: Weights of so many bits are float32 numbers.
SINGLE = 24

Term = tuple[int, float]


@dataclass(frozen=True, eq=False)
class _Distances:
    """Layers that compute D_i beside values that are only carried along.

    Args:
        faces: the samples' boxes.
        d: coordinates.
    """

    faces: Faces
    d: int
    _tournaments: dict[int, tuple[list[Layer], list[Term], int]] = field(default_factory=dict)

    @property
    def levels(self) -> int:
        """⌈log2 d⌉, the rounds of the tournament."""
        return (self.d - 1).bit_length()

    def layers(
        self, sample: int, state: Sequence[Rows], n_in: int | None
    ) -> tuple[list[Layer], list[Term], int]:
        """The layers of one sample: |x − x_i| in every coordinate, then its maximum.

        Args:
            sample: i.
            state: neurons, reading the layer before, of the values to carry along (all ≥ 0).
            n_in: size of the layer before, whose first d neurons are p; None: x itself.

        Returns:
            (layers, D_i as a sum over the last one, where the carried values start in it).
        """
        d, columns = self.d, np.arange(self.d)
        p = singles(columns, 1.0, 0.0 if n_in else float(self.faces.value(self.faces.shift)))
        shift = self.faces.shift if n_in else 0
        above = singles(columns, 1.0, self.faces.value(-(self.faces.high[sample] + shift)))
        below = singles(columns, -1.0, self.faces.value(self.faces.low[sample] + shift))
        first = layer([p, above, below, *state], n_in or d)
        if len(state) not in self._tournaments:  # which is the same for all samples
            self._tournaments[len(state)] = _tournament(d, len(state))
        rounds, distance, start = self._tournaments[len(state)]
        return [first, *rounds], distance, start


def _tournament(d: int, carried: int) -> tuple[list[Layer], list[Term], int]:
    """Rounds of max(a, b) = b + relu(a − b), all values ≥ 0, after a layer p, u⁺, u⁻, carried.

    Returns:
        (layers, the largest u⁺ + u⁻ as a sum over the last one, where the carried values start).
    """
    out: list[Layer] = []
    values: list[list[Term]] = [[(d + j, 1.0), (2 * d + j, 1.0)] for j in range(d)]
    start, n_in = 3 * d, 3 * d + carried
    while len(values) > 1:
        rows: list[Rows] = []
        winners: list[list[Term]] = []
        for a, b in zip(values[::2], values[1::2], strict=False):
            winners.append([(d + len(rows), 1.0), (d + len(rows) + 1, 1.0)])
            rows += [neuron([*a, *_times(b, -1.0)]), neuron(b)]
        if len(values) % 2:
            winners.append([(d + len(rows), 1.0)])
            rows.append(neuron(values[-1]))
        kept = singles(start + np.arange(carried), 1.0)
        out.append(layer([singles(np.arange(d), 1.0), *rows, kept], n_in))
        values, start, n_in = winners, d + len(rows), out[-1].n_out
    return out, values[0], start


def _times(terms: Sequence[Term], factor: float) -> list[Term]:
    """The sum multiplied."""
    return [(column, factor * weight) for column, weight in terms]


def _weights(samples: int, d: int, carried: int) -> int:
    """More than the nonzeros of the layers of so many samples."""
    levels = (d - 1).bit_length()
    return samples * (d * (levels + 12) + (carried + 4) * (levels + 2) + 3 * levels)


def lipschitz(data: DataSet, *, bits: int = SINGLE, memory: int = MEMORY) -> Construction:
    """F: R^d -> [−1, 1] with F(x_i) = ±1; the class with fewer samples gets +1.

    Width 3d + 1, depth N₊ (⌈log2 d⌉ + 2) + 1. On the ball of any radius μ < 1/c around a sample,
    y_i F ≥ 1 − c μ > 0.

    Args:
        data: samples of exactly two classes.
        bits: of the weights, 24 (float32) or 53 (float64).
        memory: bytes that may be used.

    Returns:
        the construction; ``labels`` are the classes of F = −1 and F = +1, ``lipschitz`` is c.

    Raises:
        DataError: not two classes, λ = 0, not enough bits, or more memory than allowed.
    """
    ranks, labels = ranked_labels(data)
    if len(labels) != 2:
        raise DataError(
            f"{data.name}: lipschitz needs two classes, the data have {len(labels)}; "
            "lipschitz-multiclass takes any number"
        )
    plus = 1 if (ranks == 1).sum() < (ranks == 2).sum() else 2
    positive, d = np.flatnonzero(ranks == plus), data.dimension
    require_memory(f"{data.name}: lipschitz", _weights(len(positive), d, 1), memory)
    closest = positive_separation(data)
    faces = sample_faces(data, closest.lam, bits=_checked(bits))
    rounded = round_up32 if bits == SINGLE else round_up
    slope = float(rounded(2 / faces.gap))
    if not math.isfinite(slope):
        raise DataError(f"{data.name}: 2/λ = {2 / closest.lam} lies beyond the floats' range")
    distances = _Distances(faces, d)
    network = Network(_climbing(distances, positive, slope), data.shape, "lipschitz")
    depth = len(positive) * (distances.levels + 2) + 1
    c = Fraction(slope)
    claims = Claims(
        "lipschitz",
        (
            Claim.at_least("c · gap", 2, c * faces.gap, "F = −1 at the negative samples, THEORY 5"),
            Claim.at_most(
                "c", 2 / faces.gap * (1 + Fraction(1, 2 ** (bits - 1))), c, "2/gap, rounded up"
            ),
        ),
    )
    sizes = network_claims(
        "lipschitz", network, "THEORY 5", n_outputs=1, width=3 * d + 1, depth=depth
    )
    return Construction(
        network,
        (sizes + claims).check(),
        1 / c,
        closest,
        (labels[2 - plus], labels[plus - 1]),
        dense_size(network),
        lipschitz=c,
        open_radius=True,
    )


def _climbing(distances: _Distances, positive: np.ndarray, slope: float) -> tuple[Layer, ...]:
    """max(−1, max over the given samples of 1 − c D_i), sample by sample."""
    d = distances.d
    layers: list[Layer] = []
    n_in: int | None = None
    best: list[Term] = []  # w, the largest of 0 and all 2 − c D_i so far
    for i in positive:
        found, distance, w = distances.layers(int(i), [neuron(best)], n_in)
        climb = neuron([*_times(distance, -slope), (w, -1.0)], 2.0)
        p = singles(np.arange(d), 1.0)
        layers += [*found, layer([p, neuron([(w, 1.0)]), climb], found[-1].n_out)]
        n_in, best = d + 2, [(d, 1.0), (d + 1, 1.0)]
    return (*layers, layer([neuron(best, -1.0)], d + 2, relu=False))


def _checked(bits: int) -> int:
    if bits not in (SINGLE, 53):
        raise DataError(f"weights have 24 bits (float32) or 53 (float64), got {bits}")
    return bits


def lipschitz_multiclass(
    data: DataSet, *, bits: int = SINGLE, memory: int = MEMORY
) -> Construction:
    """F: R^d -> R^m, F_l = −(distance to class l): each output 1-Lipschitz, the largest one wins.

    Width 3d + m (one less if every class has one sample), depth N (⌈log2 d⌉ + 2) + 1. At sample i,
    F_{y_i} = 0 and every other output is at most −λ (less what the bits cannot say), so the largest
    output is right on every ball of a radius below half of that.

    Args:
        data: samples of at least two classes.
        bits: of the weights, 24 (float32) or 53 (float64).
        memory: bytes that may be used.

    Raises:
        DataError: one class only, λ = 0, not enough bits, or more memory than allowed.
    """
    ranks, labels = ranked_labels(data)
    n, d, m = len(data), data.dimension, len(labels)
    require_memory(f"{data.name}: lipschitz-multiclass", _weights(n, d, m), memory)
    closest = positive_separation(data)
    faces = sample_faces(data, closest.lam, bits=_checked(bits))
    distances = _Distances(faces, d)
    network = Network(_nearest(distances, ranks, m), data.shape, "lipschitz-multiclass")
    largest = int(np.bincount(ranks).max())
    sizes = network_claims(
        "lipschitz-multiclass",
        network,
        "THEORY 5",
        n_outputs=m,
        width=3 * d + m - (largest == 1),
        depth=n * (distances.levels + 2) + 1,
    )
    return Construction(
        network,
        sizes.check(),
        faces.gap / 2,
        closest,
        labels,
        dense_size(network),
        lipschitz=Fraction(1),
        open_radius=True,
    )


def _nearest(distances: _Distances, ranks: np.ndarray, m: int) -> tuple[Layer, ...]:
    """Minus the distance to each of the classes 1..m, sample by sample."""
    # The largest class comes last, so that the width does not depend on the order of the classes.
    order = sorted(range(1, m + 1), key=lambda label: int((ranks == label).sum()))
    d = distances.d
    layers: list[Layer] = []
    n_in: int | None = None
    nearest: list[list[Term]] = []  # the distance to each class so far
    for label in order:
        for k, i in enumerate(np.flatnonzero(ranks == label)):
            found, distance, start = distances.layers(
                int(i), [neuron(terms) for terms in nearest], n_in
            )
            kept = singles(start + np.arange(len(nearest)), 1.0)
            if k:  # min(M, D) = M − relu(M − D)
                last = neuron([(start + len(nearest) - 1, 1.0), *_times(distance, -1.0)])
            else:
                last = neuron(distance)
            layers += [*found, layer([singles(np.arange(d), 1.0), kept, last], found[-1].n_out)]
            n_in = layers[-1].n_out
            nearest = [[(d + c, 1.0)] for c in range(len(nearest) + (not k))]
            if k:
                nearest[-1].append((n_in - 1, -1.0))
    outputs = [neuron(_times(nearest[order.index(label)], -1.0)) for label in range(1, m + 1)]
    return (*layers, layer(outputs, n_in or d, relu=False))


def _teaching_sets() -> tuple[DataSet, DataSet]:
    """Four points of the plane in two classes, and three of them in three."""
    points = np.array([[0, 0], [4, 1], [1, 5], [6, 6]])
    two = DataSet(points, np.array([0, 1, 0, 1]), (2,), 2)
    return two, DataSet(points[:3], np.arange(3), (2,), 3)


def demonstrate() -> Demonstration:
    """Slope 2/λ for two classes, 1 for three, and what a robust label costs instead."""
    two, three = _teaching_sets()
    binary, scores = lipschitz(two), lipschitz_multiclass(three)
    lam, c, share = binary.separation, 2 / binary.separation, Fraction(99, 100)
    values = [binary.network.exact(two.sample(i))[0] for i in range(len(two))]
    signs = [Fraction(1 if binary.labels[1] == label else -1) for label in two.labels]
    if values != signs or binary.lipschitz != c:
        raise ClaimError(f"the values at the points are {values}, the slope {binary.lipschitz}")
    for i in range(len(three)):
        y = scores.network.exact(three.sample(i))
        rest = max(v for k, v in enumerate(y) if scores.labels[k] != three.labels[i])
        if scores.label(y) != three.labels[i] or max(y) != 0 or rest > -scores.separation:
            raise ClaimError(f"the scores at point {i} are {y}")
    label = shallow(two, share * lam / 2)
    rise = 1 / (lam - 2 * label.radius)
    return Demonstration(
        "Two classes: F = max(−1, max over positive points of 1 − (2/λ)‖x − x_i‖∞) is −1 or +1 at "
        "the points, has the right sign on every ball of radius below λ/2 around them, and the ℓ∞ "
        "Lipschitz constant 2/λ, the least that any function with these values can have. Any "
        "number of classes: minus the distances to the classes are 1-Lipschitz scores, of which "
        "the right one is largest on every such ball.",
        f"4 points of the plane in two classes, λ = {lam}, a network with "
        f"{binary.network.n_relu} ReLUs of depth {binary.network.depth}; three points in three "
        f"classes, with {scores.network.n_relu} ReLUs of depth {scores.network.depth}",
        (
            Shown(
                f"F is −1 or +1 at the points, and its Lipschitz constant is {c} = 2/λ",
                "at least that: the values at the points, evaluated exactly, differ by 2 at "
                "distance λ; at most that: shift, absolute value and maximum have the constant 1",
            ),
            Shown(
                "in three classes the score of a point's own class is 0, every other one at most "
                f"−λ = {-scores.separation}",
                "evaluated in rational arithmetic at every point",
            ),
        ),
        {
            "lambda": str(lam),
            "slope": str(c),
            "width": binary.network.width,
            "depth": binary.network.depth,
            "radius_of_the_label": str(label.radius),
            "least_slope_of_the_label": str(rise),
        },
        slopes=(
            SlopeQuestion("the binary network's constant is 2/λ", binary.network, c),
            SlopeQuestion("the steepest of the three scores has 1", scores.network, Fraction(1)),
            SlopeQuestion(
                "certified radius per network: the label itself, constant on balls of radius "
                f"{share}·λ/2, is robust but steep: it rises by 1 between two balls, and so has "
                f"at least 1/(λ − 2μ) = {rise}",
                label.network,
                rise,
                least=True,
            ),
        ),
    )
