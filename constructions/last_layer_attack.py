"""Attacks on the last layer of any network: when they exist, by linear programming duality (T10.2).

Φ(x) in R^W are the last hidden features. Adding δ s to the weights of logit k and −δ s to those of
y, |s|∞ ≤ 1, s ⊥ Φ(x_1), ..., Φ(x_N), leaves every output on the data exactly as it is, and moves
F_k − F_y at p by 2δ s·Φ(p). By duality

    max { s·Φ(p) } = D(p) := min_c ‖Φ(p) − Σ_j c_j Φ(x_j)‖₁,

so an adversary at p with target k exists in this way iff 2δ D(p) > F_y(p) − F_k(p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import fmpq

from constructions.rational_points import Vector, dot
from verifier.core.errors import CertificateError, NetworkError
from verifier.core.exact import fractions
from verifier.core.exact_lp import Inequalities, Widest, widest
from verifier.core.network import Layer, Network


@dataclass(frozen=True)
class Direction:
    """The best s and the proof that none is better.

    Args:
        s: |s|∞ ≤ 1, orthogonal to the kept features.
        weights: c, one a kept feature vector.
        distance: D = s·Φ(p) = ‖Φ(p) − Σ_j c_j Φ(x_j)‖₁.
    """

    s: Vector
    weights: Vector
    distance: Fraction


def features(network: Network, x: Sequence[Fraction]) -> Vector:
    """Φ(x): the activations that the last layer reads.

    Raises:
        NetworkError: no hidden layer, or a ReLU on an output.
    """
    if network.depth < 2 or network.layers[-1].relu.any():
        raise NetworkError(f"{network.name}: expected hidden layers, and outputs without a ReLU")
    return network.exact_trace(x)[-2][1]


def best_direction(kept: Sequence[Vector], target: Vector) -> Direction:
    """The largest s·target with |s|∞ ≤ 1 and s orthogonal to the kept vectors, exactly.

    Args:
        kept: Φ(x_j), each of W numbers.
        target: Φ(p).
    """
    # One strict row target·s/scale ≥ t, whose margin t < 1 is maximised.
    scale = 1 + sum(map(abs, target), Fraction(0))
    rows = [[_fmpq(v / scale) for v in target]]
    for vector in kept:
        rows += [[_fmpq(v) for v in vector], [_fmpq(-v) for v in vector]]
    one, zero, n = fmpq(1), fmpq(0), len(target)
    strict = [True] + [False] * (len(rows) - 1)
    system = Inequalities(rows, [zero] * len(rows), strict, [-one] * n, [one] * n)
    found = widest(system, lambda: False)
    if not isinstance(found, Widest):
        raise ArithmeticError("s = 0 is feasible, but the linear program has no solution")
    w = [_fraction(v) for v in found.weights]
    weights = tuple(scale * (w[2 * j + 2] - w[2 * j + 1]) for j in range(len(kept)))
    return Direction(tuple(_fraction(v) for v in found.x), weights, _fraction(found.margin) * scale)


def check_direction(kept: Sequence[Vector], target: Vector, claim: Direction) -> None:
    """s is feasible and reaches the distance, and the weights show that nothing reaches more.

    Raises:
        CertificateError: one of these is not so.
    """
    if len(claim.s) != len(target) or len(claim.weights) != len(kept):
        raise CertificateError("the direction does not fit the features")
    if any(abs(v) > 1 for v in claim.s):
        raise CertificateError("a coordinate of s exceeds 1")
    if any(dot(claim.s, vector) != 0 for vector in kept):
        raise CertificateError("s is not orthogonal to the features of the data")
    rest = list(target)
    for c, vector in zip(claim.weights, kept, strict=True):
        rest = [a - c * b for a, b in zip(rest, vector, strict=True)]
    if not dot(claim.s, target) == claim.distance == sum(map(abs, rest), Fraction(0)):
        raise CertificateError("s·Φ(p), the distance and its bound are not equal")


def moved_last_layer(
    network: Network, moves: Sequence[tuple[int, int, Vector]], delta: Fraction
) -> Network:
    """The network with δ s added to the weights of logit k, and subtracted from those of y.

    Args:
        network: any.
        moves: (y, k, s) each.
        delta: δ.
    """
    last = network.layers[-1]
    weight = last.dense.astype(object)
    for y, k, s in moves:
        change = np.array([delta * v for v in s], dtype=object)
        weight[k] = np.array(fractions(weight[k]), dtype=object) + change
        weight[y] = np.array(fractions(weight[y]), dtype=object) - change
    layer = Layer(weight, last.bias.astype(object), last.relu)
    return Network((*network.layers[:-1], layer), network.input_shape, network.name)


def _fmpq(value: Fraction) -> fmpq:
    return fmpq(value.numerator, value.denominator)


def _fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))
