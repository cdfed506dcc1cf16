"""The parameter attack with idle units: every label kept, an adversary at every point (T10.1).

F has L hidden layers and beside them idle units, all of whose weights and biases are 0. Let w be
injective on the data, z_i = w·x_i, g the smallest gap of the z_i, h = min(r |w|₁, g/2), and
p_i = x_i + (h/|w|₁) sign(w): then w·p_i = z_i + h and |p_i − x_i|∞ ≤ r. Let
A = max(|w|∞, max |z_i| + 3h/2) and M_i = F_{y_i}(p_i) − F_{k_i}(p_i), k_i the strongest other
label.

Changing idle units by at most δ makes, for each i, of 4n units (δ/A) relu(z − t) with kinks
t = z_i + h/2, z_i + h (twice), z_i + 3h/2 a hat of height n δ² h/(2A) on logit k_i, and its
negative on y_i; with L layers, n copies each, of height n^L δ^{L+1} h/(2A). The hats' supports are
disjoint and miss the slabs |w·x − z_i| ≤ h/2, so the outputs there are exactly those of F; and at
p_i label k_i wins as soon as n^L δ^{L+1} h/A > M_i. Width: n_0 + 4 Σ_i n_i ~ δ^{−(1 + 1/L)}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from constructions.rational_points import Vector, dot, in_ball
from constructions.segment import at, kinks
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.exact import Rational, fractions, round_down
from verifier.core.network import Layer, Network
from verifier.core.sparse import is_sparse

MAX_WEIGHTS = 20_000_000
"""Weights of one layer; more are refused before anything is built."""


@dataclass(frozen=True, eq=False)
class ParameterAttack:
    """What was attacked, and how.

    Args:
        padded: F with its idle units.
        attacked: the same shapes, every number changed by at most delta.
        delta: δ.
        radius: r.
        direction: w.
        flat: h/2: for |w·x − z_i| ≤ flat nothing changes.
        adversaries: p_i.
        copies: n_i.
    """

    padded: Network
    attacked: Network
    delta: Fraction
    radius: Fraction
    direction: Vector
    flat: Fraction
    adversaries: tuple[Vector, ...]
    copies: tuple[int, ...]

    @property
    def idle(self) -> int:
        """Idle units of the first layer."""
        return 4 * sum(self.copies)


def deepened(network: Network, hidden: int) -> Network:
    """The same function with more hidden layers: activations ≥ 0 are carried by relu(a) = a.

    Raises:
        NetworkError: a last hidden layer with coordinates that have no ReLU.
    """
    *before, last = network.layers
    if not before or not before[-1].relu.all():
        raise NetworkError(f"{network.name}: carrying needs a hidden layer with a ReLU everywhere")
    n = last.n_in
    carry = Layer(np.eye(n), np.zeros(n), np.ones(n, dtype=bool))
    more = [carry] * (hidden - len(before))
    return Network((*before, *more, last), network.input_shape, network.name)


def idle_attack(
    network: Network,
    points: Sequence[Vector],
    labels: Sequence[int],
    direction: Vector,
    delta: Fraction,
    radius: Fraction,
    *,
    scale: Fraction | None = None,
) -> ParameterAttack:
    """Pad with as many idle units as the theorem says, and attack them.

    Args:
        network: F, at least one hidden layer; right on the points.
        points: x_i, at least two.
        labels: y_i, indices of outputs.
        direction: w, with different w·x_i.
        delta: δ > 0.
        radius: r > 0.
        scale: A, if it should be larger than it must be (a power of two, for instance, keeps all
            numbers float64 numbers).

    Returns:
        What ``check_attack`` accepts.

    Raises:
        DataError: equal w·x_i, a δ or r that is not positive, or a scale that is too small.
        NetworkError: no hidden layer, or too many weights.
    """
    if delta <= 0 or radius <= 0:
        raise DataError(f"expected δ > 0 and r > 0, got {delta} and {radius}")
    z = [dot(direction, x) for x in points]
    gap = min((b - a for a, b in pairwise(sorted(z))), default=Fraction(0))
    if gap <= 0:
        raise DataError("the direction must have different values at two or more points")
    norm = sum(map(abs, direction), Fraction(0))
    h = min(radius * norm, gap / 2)
    least = max(*map(abs, direction), max(map(abs, z)) + 3 * h / 2)
    a = least if scale is None else scale
    if a < least:
        raise DataError(f"the scale must be at least {least}, got {a}")
    hidden = network.depth - 1
    if hidden < 1:
        raise NetworkError(f"{network.name}: expected a hidden layer")
    step = [h / norm * ((v > 0) - (v < 0)) for v in direction]
    adversaries = tuple(tuple(u + s for u, s in zip(x, step, strict=True)) for x in points)
    plans = []
    for p, y, value in zip(adversaries, labels, z, strict=True):
        outputs = network.exact(p)
        k = max((j for j in range(len(outputs)) if j != y), key=lambda j: outputs[j])
        n = copies_needed(outputs[y] - outputs[k], delta, h / a, hidden)
        plans.append(_Hat(value, h, y, k, n))
    _require_size(network, plans)
    padded = _beside(network, plans, direction, Fraction(0), a)
    attacked = _beside(network, plans, direction, delta, a)
    copies = tuple(plan.copies for plan in plans)
    return ParameterAttack(
        padded, attacked, delta, radius, tuple(direction), h / 2, adversaries, copies
    )


def copies_needed(margin: Fraction, delta: Fraction, share: Fraction, hidden: int) -> int:
    """The smallest n ≥ 0 with n^L δ^{L+1} h/A > margin; 0 if the margin is negative.

    Args:
        margin: M_i.
        delta: δ.
        share: h/A.
        hidden: L.
    """
    if margin < 0:
        return 0
    target = margin / (delta ** (hidden + 1) * share)
    high = 1
    while high**hidden <= target:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if middle**hidden > target else (middle, high)
    return high


@dataclass(frozen=True)
class _Hat:
    """One hat: where, for which logits, of how many copies."""

    z: Fraction
    h: Fraction
    label: int
    other: int
    copies: int

    @property
    def units(self) -> list[tuple[Fraction, int]]:
        """(kink, sign) of the 4n units of the first layer."""
        n, steps = self.copies, (Fraction(1, 2), Fraction(1), Fraction(3, 2))
        return [
            (self.z + step * self.h, sign)
            for step, sign, count in zip(steps, (1, -1, 1), (n, 2 * n, n), strict=True)
            for _ in range(count)
        ]


def _require_size(network: Network, plans: list[_Hat]) -> None:
    """Refuse layers that would not fit.

    Raises:
        NetworkError: with the number of weights.
    """
    total = sum(plan.copies for plan in plans)
    first, more = network.width + 4 * total, network.width + total
    weights = max(first * max(network.n_inputs, network.n_outputs), first * more)
    if network.depth == 2:
        weights = first * max(network.n_inputs, network.n_outputs)
    if weights > MAX_WEIGHTS:
        raise NetworkError(
            f"{network.name}: the attack needs {4 * total} idle units, a layer of {weights} "
            f"weights; the limit is {MAX_WEIGHTS}"
        )


def _beside(
    network: Network, plans: list[_Hat], direction: Vector, delta: Fraction, scale: Fraction
) -> Network:
    """F with a block of hats beside it, all of whose numbers have the factor δ; δ = 0 is idle."""
    units = [unit for plan in plans for unit in plan.units]
    row = [delta * w / scale for w in direction]
    weight = [row] * len(units)
    bias = [-delta * t / scale for t, _ in units]
    layers = [_stacked(network.layers[0], weight, bias)]
    reads = [[(sign if p is plan else 0) for p in plans for _, sign in p.units] for plan in plans]
    for layer in network.layers[1:-1]:
        rows = [
            [delta * v for v in reads[k]]
            for k, plan in enumerate(plans)
            for _ in range(plan.copies)
        ]
        layers.append(_stacked(layer, rows, [Fraction(0)] * len(rows), diagonal=True))
        reads = [[int(p is plan) for p in plans for _ in range(p.copies)] for plan in plans]
    last = network.layers[-1]
    out: list[list[Rational]] = [[0] * len(reads[0]) for _ in range(last.n_out)] if plans else []
    for plan, signs in zip(plans, reads, strict=True):
        for logit, side in ((plan.other, delta), (plan.label, -delta)):
            out[logit] = [v + side * s for v, s in zip(out[logit], signs, strict=True)]
    block = _numbers(out)
    dense, b = _common(last.dense, block, last.bias)
    layers.append(Layer(np.hstack(dense), b, last.relu))
    return Network(tuple(layers), network.input_shape, network.name)


def _stacked(
    layer: Layer,
    rows: Sequence[Sequence[Rational]],
    bias: Sequence[Rational],
    *,
    diagonal: bool = False,
) -> Layer:
    """The layer with more units under it: on the same inputs, or (diagonal) on new ones."""
    weight, more, top, low = *_common(layer.dense, _numbers(rows))[0], layer.bias, _numbers([bias])
    if diagonal:
        corner = np.zeros((weight.shape[0], more.shape[1]), dtype=weight.dtype)
        below = np.zeros((more.shape[0], weight.shape[1]), dtype=weight.dtype)
        joined = np.block([[weight, corner], [below, more]])
    else:
        joined = np.vstack([weight, more])
    biases = np.concatenate([v.ravel() for v in _common(top, low)[0]])
    if joined.dtype != biases.dtype:
        joined, biases = joined.astype(object), biases.astype(object)
    return Layer(joined, biases, np.concatenate([layer.relu, np.ones(len(rows), dtype=bool)]))


def _numbers(rows: Sequence[Sequence[Rational]]) -> np.ndarray:
    """float64 if that holds every number, else Python numbers."""
    distinct = {v for row in rows for v in row}
    if all(Fraction(round_down(v)) == v for v in distinct):
        return np.array([[float(v) for v in row] for row in rows])
    out = np.empty((len(rows), len(rows[0])), dtype=object)
    for i, row in enumerate(rows):
        out[i] = row
    return out


def _common(
    first: np.ndarray, second: np.ndarray, bias: np.ndarray | None = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """The arrays with one dtype: object if one of them has it."""
    arrays = [first, second] + ([] if bias is None else [bias])
    if any(v.dtype == object for v in arrays):
        arrays = [v.astype(object) for v in arrays]
    return arrays[:2], arrays[-1]


def largest_change(before: Network, after: Network) -> Fraction:
    """The largest difference of two corresponding weights or biases, exactly.

    Raises:
        CertificateError: the networks have different shapes.
    """
    largest = Fraction(0)
    if before.depth != after.depth:
        raise CertificateError("the networks have different shapes")
    for a, b in zip(before.layers, after.layers, strict=True):
        if a.weight.shape != b.weight.shape or not np.array_equal(a.relu, b.relu):
            raise CertificateError("the networks have different shapes")
        sparse = is_sparse(a.weight) and is_sparse(b.weight)
        weights = (a.weight, b.weight) if sparse else (a.dense, b.dense)
        for first, second in (weights, (a.bias, b.bias)):
            where = (first != second).nonzero()
            if not len(where[0]):
                continue
            changed = (np.ravel(matrix[where]).tolist() for matrix in (first, second))
            for pair in set(zip(*changed, strict=True)):
                p, q = fractions(pair)
                largest = max(largest, abs(p - q))
    return largest


def check_attack(
    network: Network, points: Sequence[Vector], labels: Sequence[int], attack: ParameterAttack
) -> None:
    """The attack is of size δ, keeps all outputs around the points, and has its adversaries.

    Everything is read from the two networks at their full size.

    Raises:
        CertificateError: one of these is not so.
    """
    padded, attacked = attack.padded, attack.attacked
    if largest_change(padded, attacked) > attack.delta:
        raise CertificateError(f"a number changes by more than {attack.delta}")
    _check_block(network, attack)
    norm = sum(map(abs, attack.direction), Fraction(0))
    step = [attack.flat / norm * ((v > 0) - (v < 0)) for v in attack.direction]
    for i, (x, y, p) in enumerate(zip(points, labels, attack.adversaries, strict=True)):
        low, high = (tuple(u + side * s for u, s in zip(x, step, strict=True)) for side in (-1, 1))
        places = [x, *(at(low, high, t) for t in kinks(attacked, low, high))]
        for place in places:
            if not network.exact(place) == padded.exact(place) == attacked.exact(place):
                raise CertificateError(f"the outputs near point {i} are not those of the network")
        if _winner(network.exact(x)) != y:
            raise CertificateError(f"point {i} does not have its label {y}")
        if not in_ball(p, x, attack.radius):
            raise CertificateError(f"adversary {i} lies outside its ball")
        outputs = attacked.exact(p)
        if max(v for k, v in enumerate(outputs) if k != y) <= outputs[y]:
            raise CertificateError(f"adversary {i} still has the label {y}")


def _check_block(network: Network, attack: ParameterAttack) -> None:
    """Both networks are F plus a block that sees x only through w·x; the padded block is 0.

    So what holds along a segment in the direction of w holds on the slab around it.

    Raises:
        CertificateError: they are not.
    """
    w = attack.direction
    for both, name in ((attack.padded, "padded"), (attack.attacked, "attacked")):
        if both.depth != network.depth:
            raise CertificateError(f"the {name} network has another depth")
        for k, (part, whole) in enumerate(zip(network.layers, both.layers, strict=True)):
            n, c = part.n_out, part.n_in
            same = (whole.dense[:n, :c] == part.dense).all() and (whole.bias[:n] == part.bias).all()
            # The block does not read F, and in hidden layers F does not read the block.
            cross = k > 0 and whole.dense[n:, :c].any()
            cross = cross or (0 < k < network.depth - 1 and whole.dense[:n, c:].any())
            if not same or cross or not np.array_equal(whole.relu[:n], part.relu):
                raise CertificateError(f"layer {k} of the {name} network is not F's with a block")
    if attack.padded.layers[0].dense[network.layers[0].n_out :].any():
        raise CertificateError("the units of the block are not idle")
    j = max(range(len(w)), key=lambda j: abs(w[j]))
    for row in {tuple(r) for r in attack.attacked.layers[0].dense[network.layers[0].n_out :]}:
        exact = fractions(row)
        if any(a * w[j] != exact[j] * b for a, b in zip(exact, w, strict=True)):
            raise CertificateError("a unit of the block sees more than w·x")


def _winner(outputs: Sequence[Fraction]) -> int | None:
    """The index of the only largest output, or None."""
    best = max(outputs)
    return outputs.index(best) if list(outputs).count(best) == 1 else None
