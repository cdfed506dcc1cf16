"""Attacks on the parameters of a network, and their quantifiers (T10; Yu, Wang, Gao 2022).

A parameter attack of size δ changes every weight and bias by at most δ, keeps the labels of the
data, and creates an adversary within r of every point. Literally, two claims about it are false:

* *a fixed network has one for every δ*: its tolerance is positive (``parameter_tolerance``);
* *every network that is wide enough has one*: if every pre-activation stays above δ(dX + 1), all
  networks within δ are affine on the region, whatever the width.

True: a network with enough idle units has one (``idle_attack``), and for attacks on the last layer
of any network there is an exact criterion (``last_layer_attack``).
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np

from constructions.bias_regions import constant_on
from constructions.dataset import DataSet
from constructions.demonstration import Demonstration, Question, Shown
from constructions.exact_layer import exact_layer
from constructions.idle_attack import (
    ParameterAttack,
    check_attack,
    copies_needed,
    deepened,
    idle_attack,
)
from constructions.last_layer_attack import (
    Direction,
    best_direction,
    check_direction,
    features,
    moved_last_layer,
)
from constructions.memorize_depth2 import staircase
from constructions.parameter_tolerance import sensitivity
from constructions.rational_points import Vector
from verifier.core.errors import CertificateError
from verifier.core.exact import fractions
from verifier.core.network import Network
from verifier.core.property import Box, Property

_RADIUS = Fraction(3, 16)
_DELTA = Fraction(1, 2)
_STEP = Fraction(1, 4)


def demonstrate() -> Demonstration:
    """The four points of the exclusive or, and a random network for the last layer."""
    data, labels = exclusive_or(), [0, 1, 1, 0]
    built = staircase(data, one_hot=True)
    points = [data.sample(i) for i in range(len(data))]
    direction = fractions(built.projection.weights)
    network = built.built.network
    values: dict[str, object] = {}
    boxes = [Box.ball(x, _RADIUS) for x in points]
    tolerance = sensitivity(network, boxes).tolerance(Fraction(1))
    exact = [idle_attack(network, points, labels, direction, _DELTA / k, _RADIUS) for k in (1, 2)]
    # A power of two as A keeps all numbers float64 numbers, which the verifier reads.
    attack = idle_attack(network, points, labels, direction, _DELTA, _RADIUS, scale=Fraction(4))
    for one in (*exact, attack):
        check_attack(network, points, labels, one)
    shown = (
        _tolerance(network, boxes, tolerance, values),
        _quantifier(values),
        _wide(network, boxes, exact, values),
        _deep(network, points, labels, direction, values),
        *_last_layer(values),
    )
    balls = tuple(
        Property.robustness(box, y, 2, f"the ball of {_words(x)}")
        for box, x, y in zip(boxes, points, labels, strict=True)
    )
    return Demonstration(
        "A parameter attack changes every number of a network by at most δ, keeps the labels of "
        "the data and creates adversaries within r. A fixed network withstands every small enough "
        "δ. A network with about δ^−2 idle units does not, one with L idle layers of about "
        "δ^−(1+1/L) units neither; for the last layer of any network a linear program decides.",
        f"(±1, ±1) with the labels of the exclusive or, r = {_RADIUS}, a one-hot staircase of "
        f"{network.width} hidden units; and a random network with 32 hidden units",
        shown,
        values,
        (
            Question(
                f"before the attack of size {_DELTA} the padded network is robust on all 4 balls",
                attack.padded,
                balls,
            ),
            Question("after the attack it is robust on none", attack.attacked, balls, refuted=True),
            Question(
                f"with every number moved by ±{tolerance} at random the staircase stays robust",
                shaken(network, tolerance, seed=0),
                balls,
            ),
        ),
    )


def exclusive_or() -> DataSet:
    """(−1, −1), (1, −1), (−1, 1), (1, 1) with labels 0, 1, 1, 0."""
    rows = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    return DataSet(rows, np.array([0, 1, 1, 0]), (2,), 2, "exclusive or")


def shaken(network: Network, delta: Fraction, *, seed: int) -> Network:
    """Every weight and bias moved by δ or −δ."""
    rng = np.random.default_rng(seed)
    layers = []
    for layer in network.layers:
        rows = [
            [
                v + delta * int(s)
                for v, s in zip(fractions(row), rng.choice([-1, 1], layer.n_in), strict=True)
            ]
            for row in layer.dense
        ]
        signs = rng.choice([-1, 1], layer.n_out)
        bias = [v + delta * int(s) for v, s in zip(fractions(layer.bias), signs, strict=True)]
        layers.append(exact_layer(rows, bias, relu=bool(layer.relu.all())))
    return Network(tuple(layers), network.input_shape, network.name)


def require(holds: bool, claim: str) -> None:
    """Go on only if a claim holds.

    Raises:
        CertificateError: it does not.
    """
    if not holds:
        raise CertificateError(f"not true of this instance: {claim}")


def _words(x: Vector) -> str:
    return f"({', '.join(map(str, x))})"


def _tolerance(
    network: Network, boxes: list[Box], tolerance: Fraction, values: dict[str, object]
) -> Shown:
    """T10.0: the staircase has margin 1 on the balls."""
    for box in boxes:
        outputs = constant_on(network, box)
        require(outputs is not None and sorted(outputs) == [0, 1], "one-hot on every ball")
    found = sensitivity(network, boxes)
    require(2 * found.change(tolerance) < 1, "the change stays below half the margin")
    tiny = Fraction(1, 1024)
    needed = found.idle_units_needed(tiny, Fraction(1))
    values["tolerance"] = str(tolerance)
    values["needed"] = {"delta": str(tiny), "idle": floor(needed) + 1}
    return Shown(
        f"no parameter attack of size {tolerance} on the staircase exists, on any of the 4 balls; "
        f"beside idle units one of size {tiny} needs more than {floor(needed)} of them",
        f"|ΔF_l| ≤ δ[(dX+1)‖V_l‖₁ + nH + 1] + nδ²(dX+1) = {found.change(tolerance)} < 1/2, half "
        "its margin, as it is constant and one-hot on every ball; P idle units add at most "
        "Pδ²(dX+1)",
    )


def _quantifier(values: dict[str, object]) -> Shown:
    """T10.0: width alone does not help an attacker."""
    delta, width, reach = Fraction(1, 4), 1000, Fraction(2)
    network = Network(
        (
            exact_layer([[1]] * width, [4] * width, relu=True),
            exact_layer([[0] * width, [1] * width], [Fraction(9, 2) * width, 0], relu=False),
        ),
        name="all active",
    )
    lowest = min(
        b - abs(w) * reach
        for (w,), b in zip(
            map(fractions, network.layers[0].dense), fractions(network.layers[0].bias), strict=True
        )
    )
    require(lowest > delta * (reach + 1), "every pre-activation stays positive")
    values["all_active"] = {"width": width, "delta": str(delta), "lowest": str(lowest)}
    return Shown(
        f"a network of width {width} whose units are all active on [−2, 2] has no attack of size "
        f"{delta}, if the data are two or more points more than 2r apart",
        f"every pre-activation is at least {lowest} > δ(dX + 1) = {delta * (reach + 1)}: all "
        "networks within δ are affine there, and change their label at most once",
    )


def _wide(
    network: Network, boxes: list[Box], attacks: list[ParameterAttack], values: dict[str, object]
) -> Shown:
    """T10.1 with one idle layer."""
    words, rows = [], []
    for attack in attacks:
        h = 2 * attack.flat
        a = max(*map(abs, attack.direction), 3 + 3 * h / 2)
        bound = 4 * len(boxes) * (floor(a / (h * attack.delta**2)) + 1)
        require(attack.idle == bound, "as many idle units as the theorem says")
        words.append(f"δ = {attack.delta}: {attack.idle} idle units")
        rows.append(
            {
                "delta": str(attack.delta),
                "idle": attack.idle,
                "adversaries": [[str(v) for v in p] for p in attack.adversaries],
            }
        )
    values["idle_attacks"] = rows
    attack = attacks[0]
    return Shown(
        f"with 4N(⌊A/(hδ²)⌋ + 1) idle units ({'; '.join(words)}) an attack of size δ leaves all "
        f"outputs where |w·(x − x_i)| ≤ {attack.flat} exactly as they are, and makes a point "
        f"within {_RADIUS} of each of 4 points wrong, where the network was constant",
        "both networks at full size in rationals: every change ≤ δ; equal outputs at all kinks of "
        f"the slabs; wrong labels at {', '.join(map(_words, attack.adversaries))}",
    )


def _deep(
    network: Network,
    points: list[Vector],
    labels: list[int],
    direction: Vector,
    values: dict[str, object],
) -> Shown:
    """T10.1 with more idle layers."""
    delta, scale = _DELTA / 2, Fraction(4)
    counts = []
    for hidden in (2, 3):
        deep = deepened(network, hidden)
        attack = idle_attack(deep, points, labels, direction, delta, _RADIUS, scale=scale)
        check_attack(deep, points, labels, attack)
        counts.append(attack.idle)
    share = 2 * attack.flat / scale
    counts.insert(0, 4 * len(points) * copies_needed(Fraction(1), delta, share, 1))
    values["deep"] = {"delta": str(delta), "idle": counts}
    return Shown(
        f"δ = {delta}, A = 4: {counts[0]} idle units in one hidden layer, but {counts[1]} in the "
        f"first of two, {counts[2]} in the first of three",
        "the attacks with two and three hidden layers, checked in the same way",
    )


def _last_layer(values: dict[str, object]) -> list[Shown]:
    """T10.2: the criterion is sharp, works for all points at once, and can say no."""
    network, points, kept, near = _random_case()
    labels = [_winner(network, x) for x in points]
    at_near = [network.exact(p) for p in near]
    found = best_direction(kept, features(network, near[0]))
    check_direction(kept, features(network, near[0]), found)
    y = labels[0]
    threshold = (at_near[0][y] - at_near[0][1 - y]) / (2 * found.distance)
    require(threshold > 0, "the network is right at the first adversary")
    delta = threshold * Fraction(101, 100)
    moved = moved_last_layer(network, [(y, 1 - y, found.s)], delta)
    require(all(moved.exact(x) == network.exact(x) for x in points), "the data keep their outputs")
    require(_winner(moved, near[0]) != y, "the first adversary is wrong")
    every = _all_at_once(network, points, labels, near, kept)
    flat = _flat_case()
    values["last_layer"] = {
        "distance": str(found.distance),
        "threshold": str(threshold),
        "all_points": str(every),
        "flat": str(flat.distance),
    }
    return [
        Shown(
            f"attacks on the last weights of the random network that keep all outputs on the data "
            f"make the point {_words(near[0])} wrong iff δ > {threshold}, about "
            f"{float(threshold):.4f}",
            f"s with |s|∞ ≤ 1, s ⊥ Φ(x_j), s·Φ(p) = D and c with ‖Φ(p) − Σ c_j Φ(x_j)‖₁ = D = "
            f"{found.distance}; the attack at 1.01 times the threshold, evaluated",
        ),
        Shown(
            f"all 4 points at once: δ = {float(every):.6f} gives each of them an adversary at ℓ∞ "
            f"distance {_STEP}; all outputs on the data are kept",
            "four directions, each orthogonal to the features of the data and of the other "
            "adversaries; the attacked network, evaluated",
        ),
        Shown(
            "if all units are active around three points that span the plane, no δ is enough",
            f"Φ(p) = Σ c_j Φ(x_j) with c = {_words(flat.weights)}: D = 0",
        ),
    ]


def _random_case() -> tuple[Network, list[Vector], list[Vector], list[Vector]]:
    """A network of depth 2, four points, their features, and a point near each."""
    rng = np.random.default_rng(5)
    layers = []
    for n_in, n_out, unit in ((2, 32, 4), (32, 2, 64)):
        draws = rng.integers(-4, 5, (n_out, n_in))
        rows = [[Fraction(int(v), unit) for v in row] for row in draws]
        bias = [Fraction(int(v), 4) for v in rng.integers(-4, 5, n_out)] if n_in == 2 else [0, 0]
        layers.append(exact_layer(rows, bias, relu=n_in == 2))
    network = Network(tuple(layers), name="random")
    quarters = ((-4, 2), (2, 4), (3, -4), (-1, -3))
    points: list[Vector] = [(Fraction(a, 4), Fraction(b, 4)) for a, b in quarters]
    near = [tuple(v + _STEP for v in x) for x in points]
    return network, points, [features(network, x) for x in points], near


def _winner(network: Network, x: Vector) -> int:
    """The larger of two outputs, which must differ."""
    first, second = network.exact(x)
    require(first != second, "the outputs differ")
    return int(second > first)


def _all_at_once(
    network: Network,
    points: list[Vector],
    labels: list[int],
    near: list[Vector],
    kept: list[Vector],
) -> Fraction:
    """A δ for which one attack makes every point of ``near`` wrong, after checking that it does."""
    n = len(points)
    others = [features(network, p) for p in near]
    needed, moves = Fraction(0), []
    for i, (y, p) in enumerate(zip(labels, near, strict=True)):
        held = kept + others[:i] + others[i + 1 :]
        found: Direction = best_direction(held, others[i])
        check_direction(held, others[i], found)
        require(found.distance > 0, "every adversary has a direction")
        outputs = network.exact(p)
        needed = max(needed, n * (outputs[y] - outputs[1 - y]) / (2 * found.distance))
        moves.append((y, 1 - y, tuple(v / n for v in found.s)))
    delta = needed * Fraction(101, 100)
    moved = moved_last_layer(network, moves, delta)
    require(all(moved.exact(x) == network.exact(x) for x in points), "the data keep their outputs")
    for y, p in zip(labels, near, strict=True):
        require(_winner(moved, p) != y, "every adversary is wrong")
    for before, after in zip(network.layers[1].dense, moved.layers[1].dense, strict=True):
        changes = zip(fractions(before), fractions(after), strict=True)
        require(max(abs(a - b) for a, b in changes) <= delta, "no weight moves by more than δ")
    return delta


def _flat_case() -> Direction:
    """The affine counterexample: all units active, three points that span the plane."""
    network = Network(
        (
            exact_layer([[1, 0], [0, 1], [1, 1], [1, -1]], [3, 3, 4, 5], relu=True),
            exact_layer([[1, 0, 0, 1], [0, 1, 1, 0]], [0, 0], relu=False),
        ),
        name="all active",
    )
    corners: list[Vector] = [fractions(x) for x in ((0, 0), (1, 0), (0, 1))]
    kept = [features(network, x) for x in corners]
    target = features(network, fractions((Fraction(1, 4), Fraction(1, 8))))
    found = best_direction(kept, target)
    check_direction(kept, target, found)
    require(found.distance == 0, "there is no direction")
    return found
