"""Memorization is not robustness: exact witnesses against both constructions of THEORY T7.

Both networks see a point x only through w·x, and so do all points x + t·sign(w), which lie at ℓ∞
distance |t| and move w·x by t|w|₁, a large number. For depth 2 the smallest distance at which a
label is lost is read from the network exactly. For depth ~ √N it is 1/(2m|w|₁) inside a group; at a
group's first point the codes change within a distance of 1 in w·x by 2^(Kρ), and points much closer
than that have other labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet, load_dataset
from constructions.demonstration import Demonstration, Question, Shown
from constructions.memorize_depth2 import Memorization, dyadic, shifted, staircase, zhang
from constructions.memorize_sqrt import SqrtMemorization, vardi
from constructions.rational_points import distance
from constructions.ridge import winner
from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Property

_POINTS = 600
_SIZES = (100, 200, 400)
#: Of the verifier's instance.
_FEW = 20
#: How far beyond a radius its witness lies at most: a share of 2^-_CLOSE.
_CLOSE = 20


@dataclass(frozen=True)
class WrongPoint:
    """A point that a network gives another label than that of a sample close by.

    Args:
        sample: index in the data set.
        point: exactly.
        distance: ℓ∞ distance of the two.
        label: the class that the network says.
    """

    sample: int
    point: tuple[Fraction, ...]
    distance: Fraction
    label: int


def check_wrong_point(network: Network, data: DataSet, labels: Sequence[int], w: WrongPoint) -> int:
    """The sample's class, after evaluating the network at the point exactly.

    Args:
        network: with one output for each of ``labels``.
        data: the set.
        labels: which class each output is.
        w: what is claimed.

    Raises:
        CertificateError: the distance or the label is another one, or the label is right.
    """
    found = distance(data.sample(w.sample), w.point)
    if found != w.distance:
        raise CertificateError(f"the point lies at distance {found}, not {w.distance}")
    outputs = network.exact(w.point)
    best = max(outputs)
    said = [label for label, v in zip(labels, outputs, strict=True) if v == best]
    true = int(data.labels[w.sample])
    if said != [w.label]:
        raise CertificateError(f"the network says {said} at the point, not {w.label}")
    if true == w.label:
        raise CertificateError(f"{true} is the right label of sample {w.sample}")
    return true


def wrong_point(found: Memorization, radius: Fraction) -> WrongPoint | None:
    """A point with a wrong label in the ball of this radius around some sample, if there is one.

    Args:
        found: a memorization of depth 2.
        radius: at most the smallest radius at which a label is tied (``built.radius``): None, by
            proof. Else a point beyond that radius by a share of 2^-20 at most.
    """
    for breach in sorted(found.breaches, key=lambda b: b.radius):
        reach = min(radius, breach.radius * (1 + Fraction(1, 1 << _CLOSE)))
        if reach <= breach.radius:
            return None
        sample = breach.sample
        said = winner(found.built.network.exact(found.witness(breach, reach)))
        # At a kink the label may be tied and come back; then the next sample serves.
        if said is not None and said != int(found.points.ranks[sample]):
            return WrongPoint(
                int(found.points.index[sample]),
                found.witness(breach, reach),
                reach,
                found.points.labels[said - 1],
            )
    return None


def edge_point(found: SqrtMemorization, *, groups: int = 12) -> WrongPoint | None:
    """The closest of the points below a group's first key by 2^-s that have another label.

    Args:
        found: a memorization of depth ~ √N with more than one group.
        groups: how many groups to look at.
    """
    points, projection = found.points, found.projection
    shifts = range(1, 2 * found.schedule.key_bits)
    evaluator, best = found.evaluator, None
    signs = np.array([(w > 0) - (w < 0) for w in projection.weights], dtype=object)
    # In units of 2^-last of the grid's step over |w|₁; s counts halvings of a step of w·x.
    scale = projection.norm << shifts[-1]
    firsts = projection.order[found.schedule.group :: found.schedule.group]
    for i in firsts[:groups]:
        base = points.rows[i].astype(object) * scale
        steps = [points.denominator << (shifts[-1] - s) for s in shifts]
        rows = np.array([base - step * signs for step in steps], dtype=object)
        outputs, _ = evaluator.batch(rows, points.denominator * scale)
        for s, output in zip(shifts, outputs, strict=True):
            said = winner(list(output))
            far = Fraction(1, projection.norm << s)
            if said not in (None, int(points.ranks[i])) and (best is None or far < best.distance):
                x = shifted(points.point(i), projection.weights, -far)
                label = points.labels[said - 1]
                best = WrongPoint(int(points.index[i]), x, far, label)
    return best


def inner_radius(found: SqrtMemorization) -> tuple[int, Fraction]:
    """A point inside a group with a label above 1, and the exact radius on which it keeps it.

    Raises:
        CertificateError: no such point, or a label that lasts farther than T7's 1/(2m|w|₁).
    """
    z, order, size = found.projection.values, found.projection.order, found.schedule.group
    expected = Fraction(1, 2 * found.schedule.m * found.projection.norm)
    evaluator = found.evaluator
    for k in range(1, len(order) - 1):
        i, y = order[k], int(found.points.ranks[order[k]])
        apart = min(z[i] - z[order[k - 1]], z[order[k + 1]] - z[i]) > 1
        if k % size in (0, size - 1) or y == 1 or not apart:
            continue
        for side in (1, -1):
            signs = [side * ((w > 0) - (w < 0)) for w in found.projection.weights]
            first = evaluator.first_tie(found.points.point(i), signs, y, 100)
            if first is None or first[0] != expected:
                raise CertificateError(f"point {i}: not tied first at {expected}, but {first}")
        return int(found.points.index[i]), expected
    raise CertificateError("no point inside a group, apart from its neighbours")


def rounded(network: Network) -> Network:
    """The network with every number rounded to the nearest float64."""
    return Network(
        tuple(
            Layer(layer.dense.astype(float), layer.bias.astype(float), layer.relu)
            for layer in network.layers
        ),
        network.input_shape,
        f"{network.name}, rounded",
    )


def right_in_float64(found: SqrtMemorization) -> int:
    """How many points have their label when rounded weights are used, and rounded sums."""
    points = found.points
    x = np.array([[float(v) for v in points.point(i)] for i in range(len(points))])
    outputs = rounded(found.built.network).float64(x)
    return int((outputs.argmax(axis=1) + 1 == points.ranks).sum())


def _short(value: Fraction) -> str:
    """About the value."""
    return f"≈{float(value):.3g}"


def _depth2_shown(data: DataSet) -> tuple[list[Shown], dict[str, object]]:
    """Zhang et al., and the variants."""
    found = [zhang(data), dyadic(data), staircase(data)]
    n, half = len(data), found[0].built.separation / 2
    shown = []
    widths = [one.built.network.width for one in found]
    promises = [
        f"width {widths[0]} ≤ N − 1 = {n - 1}, slopes that no float holds (Zhang et al.)",
        f"width {widths[1]} ≤ N − 1, integer slopes: all numbers are float64",
        f"width {widths[2]}, 2 for each of {widths[2] // 2} changes of label: constant around "
        "every point",
    ]
    for one, promise in zip(found, promises, strict=True):
        wrong = wrong_point(one, half)
        if wrong is None:
            raise CertificateError("a memorization of depth 2 without a wrong point")
        true = check_wrong_point(one.built.network, data, one.built.labels, wrong)
        close = sum(b.radius <= half / 100 for b in one.breaches)
        shown += [
            Shown(
                f"depth 2, {promise}; all {n} labels are right",
                "the network read as a piecewise linear function of w·x, its value at each point",
            ),
            Shown(
                f"below distance {_short(one.built.radius)} all labels last, but not farther, and "
                f"{close} of {n} are lost within λ/200 = {half / 100}. Digit {wrong.sample} is a "
                f"{true}; at distance {_short(wrong.distance)} the network says {wrong.label}",
                "w·x takes exactly the values within r|w|₁ on a ball of radius r; the wrong point "
                "evaluated in rational arithmetic",
            ),
        ]
    values: dict[str, object] = {
        "lambda": str(2 * half),
        "depth2_widths": widths,
        "depth2_radii": [str(one.built.radius) for one in found],
    }
    return shown, values


def _sqrt_shown(data: DataSet) -> tuple[list[Shown], dict[str, object]]:
    """Vardi et al."""
    found = vardi(data)
    network, s, n, m = found.built.network, found.schedule, len(data), len(found.built.labels)
    wrong = edge_point(found)
    if wrong is None:
        raise CertificateError("a memorization of depth ~ √N without a wrong point")
    true = check_wrong_point(network, data, found.built.labels, wrong)
    inside, radius = inner_radius(found)
    right = right_in_float64(found)
    needed = (m**n).bit_length() - 1
    sizes = [*(vardi(data.subset(slice(0, k))) for k in _SIZES), found]
    depths = {str(len(v.points)): v.built.network.depth for v in sizes}
    words = ", ".join(f"{depth} for N = {k}" for k, depth in depths.items())
    shown = [
        Shown(
            f"width {network.width}, depth {network.depth} = ⌈(G − 1)/4⌉ + Kρ + 3 ≤ √(Nρ) + ρ + 4 "
            f"with ρ = {s.key_bits}, K = {s.group}, G = {s.groups}; {network.nonzeros} nonzero "
            f"numbers of up to {found.bits} bits; all {n} labels are right. Depth {words}",
            "all logits of all points in integers; sizes counted in the network",
        ),
        Shown(
            f"so few numbers need many bits: W b = {network.nonzeros} · {found.bits} = "
            f"{network.nonzeros * found.bits} ≥ N log2 m, more than {needed - 1}; with 64 bits "
            f"at least {-(-needed // 64)} numbers are needed, with 32 bits {-(-needed // 32)}",
            "2^(W b) ≥ m^N: W numbers of b bits at fixed places give at most 2^(W b) networks",
        ),
        Shown(
            f"float64 cannot hold it: rounded, {right} of {n} labels are right",
            "the rounded network evaluated in float64; the exact one is right on all",
        ),
        Shown(
            f"digit {inside}, inside a group, keeps its label up to distance 1/(2m|w|₁) "
            f"{_short(radius)} exactly; digit {wrong.sample}, at a group's edge, is a {true}, and "
            f"at distance {_short(wrong.distance)} the network says {wrong.label}",
            "one linear piece after another, exactly, both ways; the wrong point evaluated in "
            "rational arithmetic",
        ),
    ]
    return shown, {
        "sqrt_depths": depths,
        "sqrt_bits": found.bits,
        "sqrt_nonzeros": network.nonzeros,
        "sqrt_right_in_float64": right,
        "sqrt_radius_inside": str(radius),
        "sqrt_wrong_at": str(wrong.distance),
    }


def _questions(data: DataSet) -> tuple[Question, ...]:
    """A little below the exact radius, and a little above it."""
    found = dyadic(data, fast=False)
    network, radius = found.built.network, found.built.radius
    worst = min(found.breaches, key=lambda b: b.radius).sample
    x, label = found.points.point(worst), int(found.points.ranks[worst]) - 1

    def ask(share: Fraction, name: str) -> tuple[Property, ...]:
        box = Box.ball(x, radius * share)
        return (Property.robustness(box, label, network.n_outputs, name),)

    words = f"the label of digit {found.points.index[worst]} in a network for {len(data)} digits"
    return (
        Question(f"{words} lasts up to 9/10 of its radius", network, ask(Fraction(9, 10), "below")),
        Question(
            f"{words} is lost at 11/10 of its radius {_short(radius)}",
            network,
            ask(Fraction(11, 10), "above"),
            refuted=True,
        ),
    )


def demonstrate() -> Demonstration:
    """The first 600 digits, memorized in both ways."""
    data = load_dataset("digits").subset(slice(0, _POINTS))
    depth2, first = _depth2_shown(data)
    sqrt, second = _sqrt_shown(data)
    return Demonstration(
        "Any N points are memorized by depth 2 and width N − 1 (Zhang et al.), and by width 11 and "
        "depth at most √(Nρ) + ρ + 4 with integers of about √(Nρ)/2 bits (Vardi et al.), where ρ "
        "bits tell the points apart. Neither network is robust.",
        f"the first {_POINTS} handwritten digits, 8×8 pixels, 10 classes; w of Lemma P keeps their "
        "projections w·x apart",
        (*depth2, *sqrt),
        first | second,
        _questions(data.subset(slice(0, _FEW))),
    )
