"""The bias classifier argmax B_C: it exists, can be decided exactly, and what hides it (T8).

* The files it stands on: ``bias_part`` (recursion and kinks), ``bias_regions`` and ``bias_check``
  (exact decision on a box), ``bias_boxes`` (existence), ``bias_safety`` (hiding the gradient).
* Existence (c): for any probability P and measurable labels c on R^d, and any ε > 0, some ReLU
  network has P(argmax B_C = c) > 1 − ε: choose compact sets in the classes that miss less than ε,
  cover them by finitely many cubes that keep their distance, and take ``box_network``.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from constructions.bias_bounds import BiasIntervals
from constructions.bias_boxes import BoxCover, box_network, one_hot
from constructions.bias_check import (
    BiasProof,
    BiasWitness,
    check_bias_proof,
    check_bias_witness,
)
from constructions.bias_part import bias_values
from constructions.bias_regions import Regions, constant_on, decide_bias
from constructions.bias_safety import (
    approximate_rate,
    attack_rate,
    hidden,
    random_rate,
    steepest_gap,
    three_class_rates,
)
from constructions.dataset import DataSet
from constructions.demonstration import Demonstration, Question, Shown
from constructions.exact_layer import exact_layer
from constructions.memorize_depth2 import staircase
from constructions.rational_points import Vector
from verifier.core.errors import CertificateError
from verifier.core.network import Network
from verifier.core.property import Box, Property

_RHO = Fraction(3, 2)


def demonstrate() -> Demonstration:
    """Existence on points, boxes and a square; kinks; an exact decision; D.1 to D.3."""
    values: dict[str, object] = {}
    cover, network, square = _square(values)
    shown = (_points(values), square, *_decision(values), *_safety(values), _approximate(values))
    return Demonstration(
        "Off its kinks a ReLU network is J_C x + B_C. For all labels of a probability space some "
        "network's argmax B_C is right with probability above 1 − ε. For two classes, adding a "
        "suitable random R x hides the gradient's sign completely and leaves B_C as it is; for "
        "three classes that is false of the usual attacks.",
        "six points of two classes; the unit square with labels by x_1 + x_2 < 1; random networks "
        "with quarter-integer weights",
        shown,
        values,
        (
            Question(
                f"on each of the {len(cover.boxes)} inflated boxes of the square C itself has the "
                "label",
                network,
                tuple(
                    Property.robustness(cover.inflated(i), label, 2, f"box {i}")
                    for i, label in enumerate(cover.labels)
                ),
            ),
        ),
    )


def require(holds: bool, claim: str) -> None:
    """Go on only if a claim holds.

    Raises:
        CertificateError: it does not.
    """
    if not holds:
        raise CertificateError(f"not true of this instance: {claim}")


def _points(values: dict[str, object]) -> Shown:
    """C.1: the one-hot staircase of depth 2."""
    rows = np.array([[0.0, 0.0], [1.0, 0.5], [0.5, 2.0], [2.0, 1.5], [-1.0, 1.0], [3.0, 0.0]])
    data = DataSet(rows, np.array([0, 1, 1, 0, 1, 0]), (2,), 2, "six points")
    built = staircase(data, one_hot=True)
    network, projection = built.built.network, built.projection
    # A ramp takes at most the middle third of its interval; below this radius none is reached.
    radius = Fraction(projection.smallest_gap, 3 * projection.norm) * Fraction(99, 100)
    for i in range(len(data)):
        found = constant_on(network, Box.ball(data.sample(i), radius))
        require(found == one_hot(int(data.labels[i]), 2), f"B_C = C = e_y on the ball of {i}")
    values["points"] = {"width": network.width, "radius": str(radius)}
    return Shown(
        f"a network of depth 2 and width {network.width} ≤ 2(N − 1) has B_C = C = e_y and J_C = 0 "
        f"on the ball of radius {radius} around each of {len(data)} points",
        "every ball has only one activation pattern, and its affine map is constant",
    )


def unit_square(cells: int) -> tuple[BoxCover, Fraction]:
    """Boxes in the unit square, by columns of a grid, and their total area.

    Class 0 is x_1 + x_2 < 1, class 1 the rest. Column i of ``cells`` columns has the box below the
    diagonal, and, one more cell away from it, the one above; they are 1/cells apart in ℓ∞.

    Args:
        cells: columns, at least 3.
    """
    boxes, labels, area = [], [], Fraction(0)
    for i in range(cells):
        left, right = Fraction(i, cells), Fraction(i + 1, cells)
        top, bottom = Fraction(cells - 1 - i, cells), Fraction(cells + 1 - i, cells)
        for label, low, high in ((0, Fraction(0), top), (1, bottom, Fraction(1))):
            if low < high:
                boxes.append(Box((left, low), (right, high)))
                labels.append(label)
                area += (right - left) * (high - low)
    return BoxCover(tuple(boxes), tuple(labels), 2), area


def _square(values: dict[str, object]) -> tuple[BoxCover, Network, Shown]:
    """C.2 and C.3 with the uniform distribution on the unit square."""
    epsilon = Fraction(1, 8)
    cover, area = unit_square(16)
    network = box_network(cover)
    require(area > 1 - epsilon, f"the boxes fill more than 1 − {epsilon}")
    n = len(cover.boxes)
    require(network.depth == 4 and network.width <= 4 * n, "depth 4 and width at most 2dn")
    intervals = BiasIntervals(network)
    for i, label in enumerate(cover.labels):
        inside = cover.boxes[i]
        corners = (sum(inside.lower, Fraction(0)), sum(inside.upper, Fraction(0)))
        require(corners[1] <= 1 if label == 0 else corners[0] >= 1, f"box {i} has one class")
        bounds = intervals.on(cover.inflated(i))
        require(bounds.shows(one_hot(label, 2)), f"B_C = e_y on box {i}")
    step = cover.separation / 4
    values["square"] = {"boxes": n, "area": str(area), "width": network.width, "step": str(step)}
    return (
        cover,
        network,
        Shown(
            f"for the uniform distribution on the unit square with classes x_1 + x_2 < 1 and ≥ 1, "
            f"a network of depth 4 and width {network.width} has P(argmax B_C right) ≥ {area} > "
            f"1 − {epsilon}, with J_C = 0 and C = B_C = e_y within {step} of each of {n} boxes",
            "area and classes of the boxes exactly; exact bounds of C and B_C on every inflated "
            "box, for every activation pattern, kinks included",
        ),
    )


def random_network(seed: int, sizes: tuple[int, ...]) -> Network:
    """Quarter-integer weights and biases in [−1, 1]."""
    rng = np.random.default_rng(seed)
    layers = []
    for k, n_in in enumerate(sizes[:-1]):
        n_out = sizes[k + 1]
        draws = [[Fraction(int(v), 4) for v in rng.integers(-4, 5, n_in)] for _ in range(n_out)]
        bias = [Fraction(int(v), 4) for v in rng.integers(-4, 5, n_out)]
        layers.append(exact_layer(draws, bias, relu=k + 2 < len(sizes)))
    return Network(tuple(layers), name=f"random-{seed}")


def twin_units() -> Network:
    """C = (1/2, h_2 − h_1), h_1 = h_2 = relu(x − 1): right off the kink, wrong on it."""
    half = Fraction(1, 2)
    layers = (
        exact_layer([[1], [1]], [-1, -1], relu=True),
        exact_layer([[0, 0], [-1, 1]], [half, 0], relu=False),
    )
    return Network(layers, name="twin units")


def checked(
    network: Network, box: Box, label: int, *, strong: bool = True
) -> BiasProof | BiasWitness:
    """``decide_bias``, with its answer checked."""
    found = decide_bias(network, box, label, strong=strong)
    if isinstance(found, BiasProof):
        check_bias_proof(network, box, label, found)
    else:
        check_bias_witness(network, box, label, found)
    return found


def _decision(values: dict[str, object]) -> list[Shown]:
    """(a) and (b): the two senses of being right, and a decision on a box."""
    network, box = twin_units(), Box.ball((1,), 1)
    weak, strong = (checked(network, box, 0, strong=sense) for sense in (False, True))
    if not isinstance(weak, BiasProof) or not isinstance(strong, BiasWitness):
        raise CertificateError("the twin units should be right off their kink only")
    on_kink = len(bias_values(network, strong.x))
    larger, label = random_network(3, (3, 5, 5, 2)), 0
    ball = Box.ball((0,) * 3, 1)
    regions = {region.pattern: region.outputs.constant for region in Regions(larger, ball)}
    leads = [beta[0] - beta[1] for beta in regions.values()]
    label = 0 if sum(lead > 0 for lead in leads) * 2 > len(leads) else 1
    shrunk, answer = ball, checked(larger, ball, label)
    while isinstance(answer, BiasWitness):
        shrunk = Box(tuple(v / 2 for v in shrunk.lower), tuple(v / 2 for v in shrunk.upper))
        answer = checked(larger, shrunk, label)
    values["decision"] = {
        "patterns": len(regions),
        "smallest": str(min(leads)),
        "box": str(shrunk.upper[0]),
        "margin": str(answer.margin),
    }
    return [
        Shown(
            "being right almost everywhere is less than being right: C = (1/2, h_2 − h_1) with "
            "h_1 = h_2 = relu(x − 1) has B_C = (1/2, 0) off x = 1, but there a program may return "
            f"{on_kink} different bias parts, one of them with the other label",
            f"pattern {tuple(map(int, strong.pattern))} at x = {strong.x[0]}, evaluated; off the "
            f"kink both regions, and weights that exclude the other {len(weak.cuts)}",
        ),
        Shown(
            f"a network with layers of 5, 5, 2 has {len(regions)} activation patterns on [−1, 1]³, "
            f"where β_1 − β_2 reaches from {min(leads)} to {max(leads)}; its bias classifier is "
            f"constant on [−{shrunk.upper[0]}, {shrunk.upper[0]}]³, with margin {answer.margin}",
            f"{answer.regions} patterns of the smaller box evaluated, {len(answer.cuts)} prefixes "
            "excluded by nonnegative weights that were checked in rationals",
        ),
    ]


def _samples() -> tuple[Network, list[tuple[Vector, int]]]:
    """A network with three inputs and two classes, and points off its kinks."""
    network = random_network(28, (3, 4, 4, 2))
    rng = np.random.default_rng(28)
    points = []
    for _ in range(4):
        x = tuple(Fraction(int(v), 101) for v in rng.integers(-300, 301, 3))
        points.append((x, int(rng.integers(2))))
    return network, points


def _safety(values: dict[str, object]) -> list[Shown]:
    """D.1, D.2 and the counterexample for three classes."""
    network, points = _samples()
    lam = max(steepest_gap(network, x) for x, _ in points) + Fraction(1, 10)
    rows = [[lam, -2 * lam, lam], [3 * lam, -4 * lam, -3 * lam]]
    ball = Box.ball((0,) * 3, 1)
    plain, secret = (
        {r.pattern: tuple(r.outputs.constant) for r in Regions(net, ball)}
        for net in (network, hidden(network, rows))
    )
    require(plain == secret, "the bias part stays the same on every region")
    rates = [attack_rate(network, x, y, _RHO, lam) for x, y in points]
    blind = [random_rate(network, x, y, _RHO) for x, y in points]
    require(rates == blind, "the attack is as good as a random sign vector")
    margin, entropy = three_class_rates()
    half = Fraction(1, 2)
    require(margin != half != entropy, "three classes break the theorem")
    values["safety"] = {
        "lambda": str(lam),
        "rates": [str(r) for r in rates],
        "three_classes": [str(margin), str(entropy)],
    }
    return [
        Shown(
            f"C + R x has the bias part of C, on all {len(plain)} activation patterns of a random "
            "network on [−1, 1]³",
            "both enumerations of patterns, with equal β_z",
        ),
        Shown(
            f"two classes, λ = {lam}: the sign of the gradient of C + R x is ±sign(R_2), each of 8 "
            f"directions exactly once; at {len(points)} points the step of length {_RHO} along it "
            f"is lost with probability {', '.join(map(str, rates))}, a random sign vector's",
            "the direction at all signs and all extreme magnitudes of R, from the network itself",
        ),
        Shown(
            f"three classes: with d = 1, C = 0, x = 1 the margin attack has direction +1 with "
            f"probability {margin}, cross-entropy (λ = 1) with {entropy}, not 1/2: they aim at the "
            "class that R lifts",
            "the 8 sign patterns of R; on each the sign is certain for all magnitudes, exactly and "
            "in interval arithmetic",
        ),
    ]


def _approximate(values: dict[str, object]) -> Shown:
    """D.3."""
    network, points = _samples()
    epsilon = Fraction(1, 10)
    mu = max(steepest_gap(network, x) for x, _ in points)
    lam = 2 * network.n_inputs * mu / epsilon
    rates = [approximate_rate(network, x, y, _RHO, lam, epsilon) for x, y in points]
    blind = [random_rate(network, x, y, _RHO) for x, y in points]
    for rate, other in zip(rates, blind, strict=True):
        require(rate <= (1 + epsilon) * other, "the rate is at most 1 + ε times the random one")
    worst = max((a / b for a, b in zip(rates, blind, strict=True) if b), default=Fraction(1))
    values["approximate"] = {"epsilon": str(epsilon), "lambda": str(lam), "worst": str(worst)}
    return Shown(
        f"all R_ij uniform in [−λ, λ], λ = {lam}: no direction is more than 1 + {epsilon} times as "
        f"likely as 1/8; the attack's rate is at most {float(worst):.4f} times the random one",
        "the exact law of the direction, from P(R − R' + g > 0) = 1/2 + g/(2λ) − g|g|/(8λ²)",
    )
