"""A first layer of rank below d cannot be robust: two exact points refute any such network.

D = {(0, y)} ∪ {(e_k, y') : k < d}, y ≠ y', separation 1.

Theorem. No network whose first affine layer has rank < d is a robust memorization of D of a radius
μ ≥ 1/4. For μ < 1/4 there is one with a first layer of rank d − 1.

Proof of the first part. Let W_1 v = 0, scaled so that v_k = 1 = ‖v‖∞. With τ = 1 − 2μ let
p = −(τ/2) v except p_k = μ, and q = p + τ v. Then p in B(0, μ), q in B(e_k, μ), W_1 p = W_1 q.

Proof of the second. x → (x_j − x_d)_{j<d} has rank d − 1. On B(0, μ) no difference x_i − x_j
exceeds 2μ; on B(e_k, μ) every x_k − x_j is at least 1 − 2μ > 2μ. So Σ relu(x_i − x_j − 2μ) is 0 on
the one and at least (d − 1)(1 − 4μ) on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, permutations

import numpy as np
from flint import fmpq, fmpq_mat

from constructions.demonstration import Demonstration, Shown
from constructions.exact_layer import exact_layer
from constructions.rational_points import Vector, in_ball, origin_and_units
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.exact import fractions
from verifier.core.network import Network

THRESHOLD = Fraction(1, 4)
"""The radius from which on the rank argument works."""


@dataclass(frozen=True)
class Collision:
    """Two points in balls of different labels that the first layer does not tell apart.

    Args:
        p: a point of B(0, mu).
        q: a point of B(e_k, mu).
        k: which unit vector.
        mu: the radius.
    """

    p: Vector
    q: Vector
    k: int
    mu: Fraction


def kernel_vector(rows: np.ndarray) -> Vector | None:
    """Some v with W v = 0 and max |v_j| = 1 = v_k for one k, or None if the rank is full.

    Args:
        rows: W, (n, d), float64 (meant exactly) or Python integers and Fractions.
    """
    n, d = rows.shape
    entries = [fmpq(v.numerator, v.denominator) for v in fractions(rows.ravel())]
    reduced, rank = fmpq_mat(n, d, entries).rref()
    if rank == d:
        return None
    pivots: list[int] = []
    for i in range(rank):
        pivots.append(next(j for j in range(d) if reduced[i, j] != 0))
    free = next(j for j in range(d) if j not in pivots)
    v = [Fraction(int(j == free)) for j in range(d)]
    for i, j in enumerate(pivots):
        v[j] = -Fraction(int(reduced[i, free].p), int(reduced[i, free].q))
    largest = max(v, key=abs)
    return tuple(c / largest for c in v)


def refute(network: Network, mu: Fraction) -> Collision:
    """Two exact points that show that the network is no robust memorization of D of radius mu.

    Args:
        network: any network whose first affine layer has a rank below its number of inputs d.
        mu: at least 1/4.

    Returns:
        A collision that ``check_collision`` accepts.

    Raises:
        DataError: mu < 1/4, where the theorem does not apply.
        NetworkError: the first layer has rank d.
    """
    if mu < THRESHOLD:
        raise DataError(f"the width bound holds for radii from {THRESHOLD} on, got {mu}")
    d = network.n_inputs
    v = kernel_vector(network.layers[0].dense)
    if v is None:
        raise NetworkError(
            f"{network.name}: the first layer has rank {d}, all that {d} inputs allow; the width "
            "bound speaks of smaller ranks"
        )
    k = v.index(Fraction(1))
    # From 1/2 on the balls meet, and the points for 1/2 serve.
    radius = min(mu, Fraction(1, 2))
    tau = 1 - 2 * radius
    p = [-tau / 2 * c for c in v]
    p[k] = radius
    q = tuple(a + tau * c for a, c in zip(p, v, strict=True))
    return Collision(tuple(p), q, k, mu)


def check_collision(network: Network, found: Collision) -> Vector:
    """The common outputs at both points, after checking everything that the collision claims.

    Raises:
        CertificateError: a point outside its ball, or outputs that differ.
    """
    d = network.n_inputs
    if not 0 <= found.k < d or len(found.p) != d or len(found.q) != d:
        raise CertificateError(f"the collision does not fit a network with {d} inputs")
    unit = tuple(Fraction(int(j == found.k)) for j in range(d))
    zero = (Fraction(0),) * d
    for name, point, centre in (("p", found.p, zero), ("q", found.q, unit)):
        if not in_ball(point, centre, found.mu):
            raise CertificateError(f"{name} lies outside its ball of radius {found.mu}")
    at_p, at_q = network.exact(found.p), network.exact(found.q)
    if at_p != at_q:
        raise CertificateError(f"the outputs at p and q differ: {at_p} and {at_q}")
    return at_p


def narrow_network(d: int, mu: Fraction, *, origin: int = 1, units: int = 2) -> Network:
    """A robust memorization of D of radius mu < 1/4 whose first layer has rank d − 1.

    x → x_j − x_d + 1 + 2μ (d − 1 neurons, ≥ 0 on the balls, so the ReLU changes nothing)
    → relu(x_i − x_j − 2μ) for i ≠ j → t = relu(1 − K Σ) → units + (origin − units) t, with K a
    power of two ≥ 1/(1 − 4μ).

    Args:
        d: at least 2.
        mu: 0 ≤ mu < 1/4.
        origin: label of 0.
        units: label of the e_k.

    Raises:
        DataError: another d or mu.
    """
    if d < 2 or not 0 <= mu < THRESHOLD:
        raise DataError(f"expected d ≥ 2 and 0 ≤ mu < {THRESHOLD}, got d = {d}, mu = {mu}")
    shift = 1 + 2 * mu
    first = [[int(j == i) - int(j == d - 1) for j in range(d)] for i in range(d - 1)]
    pairs = list(permutations(range(d), 2))
    # Coordinate d − 1 of the differences is x_d − x_d = 0, a constant.
    second = [[int(c == i) - int(c == j) for c in range(d - 1)] for i, j in pairs]
    bias = [-2 * mu - shift * (int(i < d - 1) - int(j < d - 1)) for i, j in pairs]
    gain = 1
    while gain * (1 - 4 * mu) < 1:
        gain *= 2
    layers = (
        exact_layer(first, [shift] * (d - 1), relu=True),
        exact_layer(second, bias, relu=True),
        exact_layer([[-gain] * len(pairs)], [1], relu=True),
        exact_layer([[origin - units]], [units], relu=False),
    )
    return Network(layers, name=f"narrow-{d}")


def check_narrow_network(network: Network, mu: Fraction, *, origin: int, units: int) -> int:
    """The rank of the first layer, after proving that the network is robust on D with radius mu.

    The network must have the form of ``narrow_network``. Its first two layers are affine on the
    balls as long as the first pre-activations are ≥ 0; then each neuron of the second has an exact
    range on each ball, and these ranges settle the rest.

    Raises:
        CertificateError: the ranges do not prove the labels.
    """
    if network.depth != 4 or network.layers[2].n_out != 1 or network.n_outputs != 1:
        raise CertificateError("the network does not have the form of the construction")
    w1, b1 = _rational(network, 0)
    w2, b2 = _rational(network, 1)
    composed = w2.dot(w1)
    offset = w2.dot(b1) + b2
    d = network.n_inputs
    data = origin_and_units(d, origin=origin, units=units)
    gains, one = _rational(network, 2)
    slope, base = _rational(network, 3)
    if not network.layers[2].relu.all() or network.layers[3].relu.any():
        raise CertificateError("the third layer needs a ReLU, the last one none")
    if not (network.layers[0].relu.all() and network.layers[1].relu.all() and one[0] == 1):
        raise CertificateError("the first two layers need a ReLU everywhere, the third a bias of 1")
    for x, y in zip(data.points, data.labels, strict=True):
        centre = np.array(x, dtype=object)
        if (w1.dot(centre) + b1 - mu * abs(w1).sum(axis=1) < 0).any():
            raise CertificateError("a pre-activation of the first layer can be negative")
        reach = mu * abs(composed).sum(axis=1)
        middle = composed.dot(centre) + offset
        low, high = np.maximum(middle - reach, 0), np.maximum(middle + reach, 0)
        if (gains[0] > 0).any():
            raise CertificateError("the third layer needs weights ≤ 0")
        smallest, largest = 1 + gains[0].dot(high), 1 + gains[0].dot(low)
        t = 0 if largest <= 0 else smallest
        if t not in (0, 1) or (t == 1 and largest != 1) or slope[0, 0] * t + base[0] != y:
            raise CertificateError(f"the ranges do not prove the label {y} around {x}")
    return int(fmpq_mat([[fmpq(v.numerator, v.denominator) for v in row] for row in w1]).rank())


def _rational(network: Network, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Layer k's weight and bias as object arrays of Fractions."""
    layer = network.layers[k]
    weight, bias = np.empty(layer.n_out * layer.n_in, dtype=object), np.empty(layer.n_out, object)
    weight[:] = fractions(layer.dense.ravel())
    bias[:] = fractions(layer.bias)
    return weight.reshape(layer.n_out, layer.n_in), bias


#: Numbers and digits that a line shows.
_MANY, _LONG = 8, 24

_STATEMENT = (
    "No network whose first layer has rank < d is a robust memorization of {0, e_1, ..., e_d} (0 "
    "in one class, the e_k in another) of a radius μ ≥ 1/4. For μ < 1/4 rank d − 1 suffices."
)


def demonstrate_on(network: Network, mu: Fraction = THRESHOLD) -> Demonstration:
    """The theorem on a given network: two points that refute it.

    Args:
        network: any network whose first layer has a rank below its number of inputs.
        mu: the radius, at least 1/4.

    Raises:
        DataError: mu < 1/4.
        NetworkError: the first layer has full rank.
    """
    found = refute(network, mu)
    output = check_collision(network, found)
    words = {name: [str(v) for v in point] for name, point in (("p", found.p), ("q", found.q))}
    first = network.layers[0]
    return Demonstration(
        _STATEMENT,
        f"{network.name}: {network.n_inputs} inputs, {first.n_out} neurons in the first layer, "
        f"μ = {mu}",
        (_collision_shown(f"{network.name} gives", found, output, words),),
        {"d": network.n_inputs, "mu": str(mu), "k": found.k, **words,
         "output": [str(v) for v in output]},
    )  # fmt: skip


def _collision_shown(
    who: str, found: Collision, output: Vector, words: dict[str, list[str]]
) -> Shown:
    """Two points with one output, as far as a person wants to read them."""
    value = _listed(output) if len(output) == 1 else f"({_listed(output)})"
    points = [(name, [Fraction(v) for v in numbers]) for name, numbers in words.items()]
    shown = ", ".join(f"{name} = ({_listed(point)})" for name, point in points)
    return Shown(
        f"{who} two points in balls of different classes (around 0 and e_{found.k + 1}) the same "
        f"output {value}",
        f"{shown}, both evaluated in rational arithmetic",
    )


def _listed(numbers: Sequence[Fraction]) -> str:
    """The numbers, or the first of many, long ones as decimals."""
    words = [str(v) if len(str(v)) <= _LONG else f"≈{float(v):.4g}" for v in numbers[:_MANY]]
    hidden = len(numbers) > _MANY or any("≈" in word for word in words)
    more = f", … ({len(numbers)} in all)" if len(numbers) > _MANY else ""
    return ", ".join(words) + more + (" (exactly: --json)" if hidden else "")


def demonstrate() -> Demonstration:
    """d = 5: a random network of width 4 is refuted at μ = 1/4; one of rank 4 is proved below."""
    d, mu, below = 5, THRESHOLD, Fraction(249, 1000)
    rng = np.random.default_rng(0)
    sizes = (d, d - 1, 40, 40, 1)
    layers = [
        exact_layer(
            [[int(v) for v in row] for row in rng.integers(-9, 10, (m, n))],
            [int(v) for v in rng.integers(-9, 10, m)],
            relu=i < len(sizes) - 2,
        )
        for i, (n, m) in enumerate(pairwise(sizes))
    ]
    network = Network(tuple(layers))
    found = refute(network, mu)
    output = check_collision(network, found)
    narrow = narrow_network(d, below)
    rank = check_narrow_network(narrow, below, origin=1, units=2)
    words = {name: [str(v) for v in point] for name, point in (("p", found.p), ("q", found.q))}
    return Demonstration(
        _STATEMENT,
        f"d = {d}; a random network with layers of {', '.join(map(str, sizes[1:]))} neurons "
        f"(integer weights), μ = {mu}; and a network built for μ = {below}",
        (
            _collision_shown("the random network gives", found, output, words),
            Shown(
                f"the bound is sharp: a network with a first layer of rank {rank} < {d} is a "
                f"robust memorization of radius {below}",
                "exact ranges of its neurons on every ball",
            ),
        ),
        {"d": d, "mu": str(mu), "k": found.k, **words, "output": str(output[0]),
         "sharp_at": str(below), "sharp_rank": rank},
    )  # fmt: skip
