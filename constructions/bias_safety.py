"""Hiding the gradient of a bias classifier: what is true of information-theoretic safety (T8 d).

C̃ = C + R x with a random R has the same bias part as C (D.1). For **two** classes, with independent
fair signs, λ ≤ |R_1j| ≤ 2λ, 3λ ≤ |R_2j| ≤ 4λ and |J_1j| + |J_2j| < λ at x, the sign of the gradient
of every usual loss is ±sign(R_2): exactly uniform on {−1, 1}^d and independent of x. So a step
along it creates adversaries of B_C at exactly the rate of a random sign vector (D.2). If all R_ij
are uniform in [−λ, λ], the rate is at most 1 + ε times that, once λ is large (D.3).

This hides directions computed from the sign of the gradient at x, nothing else: the direction is
the same for all x of a class, one query reveals it, and B_C itself can be queried or decided.

For **more than two classes** D.2 is false of the usual attacks: what they aim at depends on R.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
from flint import arb, fmpq

from constructions.bias_part import Forms, bias_part, forms_of, signs_at
from constructions.exact_layer import exact_layer
from constructions.rational_points import Vector
from verifier.core.errors import CertificateError, NetworkError
from verifier.core.network import Network

Signs = tuple[int, ...]
Range = tuple[Fraction, Fraction]


def hidden(network: Network, rows: Sequence[Sequence[Fraction]]) -> Network:
    """C + R x: the input rides along beside C, so every pattern of C̃ is one of C.

    Args:
        network: C.
        rows: R, (n_outputs, n_inputs).
    """
    n = network.n_outputs
    mix = [[*(Fraction(int(i == k)) for k in range(n)), *rows[i]] for i in range(n)]
    last = exact_layer(mix, [Fraction(0)] * n, relu=False)
    wide = network.with_inputs_as_outputs()
    return Network((*wide.layers, last), network.input_shape, f"{network.name} hidden")


def local_forms(network: Network, x: Sequence[Fraction]) -> Forms:
    """J_C(x) and B_C(x) at a point off the kinks.

    Raises:
        NetworkError: a unit has its kink at x.
    """
    signs = signs_at(network, x)
    if 0 in signs:
        raise NetworkError(f"unit {signs.index(0)} has its kink at the point")
    return forms_of(network, tuple(sign > 0 for sign in signs))[1]


def attack_direction(network: Network, x: Sequence[Fraction], label: int) -> Signs:
    """sign ∇(C_k − C_y), k the other of two classes: the sign of the gradient of every usual loss.

    Raises:
        NetworkError: not two classes, or a kink at x.
    """
    if network.n_outputs != 2:
        raise NetworkError(f"expected two classes, got {network.n_outputs}")
    slope = local_forms(network, x).slope
    return tuple((v > 0) - (v < 0) for v in slope[1 - label] - slope[label])


def is_lost(network: Network, x: Sequence[Fraction], label: int) -> bool:
    """Whether argmax B_C(x) is not the label; a tie is a loss."""
    values = bias_part(network, x)
    return any(v >= values[label] for k, v in enumerate(values) if k != label)


def moved(x: Sequence[Fraction], rho: Fraction, signs: Signs) -> Vector:
    """x + ρ v."""
    return tuple(a + rho * s for a, s in zip(x, signs, strict=True))


def random_rate(network: Network, x: Sequence[Fraction], label: int, rho: Fraction) -> Fraction:
    """The share of v in {−1, 1}^d for which x + ρ v is lost."""
    d = network.n_inputs
    lost = sum(is_lost(network, moved(x, rho, v), label) for v in product((-1, 1), repeat=d))
    return Fraction(lost, 2**d)


def attack_rate(
    network: Network, x: Sequence[Fraction], label: int, rho: Fraction, lam: Fraction
) -> Fraction:
    """P(x + ρ A is lost) over the signs of R, whatever its magnitudes (D.2).

    For each sign pattern of R_2, at all corners of R_1j in ±[λ, 2λ] and |R_2j| in [3λ, 4λ], the
    direction is computed from C̃ itself; coordinate j of the gradient's direction is affine in R_1j
    and R_2j, so its sign at the corners is its sign everywhere. Then the lost points are counted
    with B_C̃.

    Raises:
        CertificateError: the directions depend on more than the signs of R_2, or are not uniform.
    """
    d = network.n_inputs
    directions: Counter[Signs] = Counter()
    lost = 0
    for signs in product((-1, 1), repeat=d):
        seen = set()
        for first, second in product((-2, -1, 1, 2), (3, 4)):
            rows = [[first * lam] * d, [second * lam * s for s in signs]]
            seen.add(attack_direction(hidden(network, rows), x, label))
        direction = tuple(s if label == 0 else -s for s in signs)
        if seen != {direction}:
            raise CertificateError(f"the direction is not ± the signs {signs} of R_2, but {seen}")
        directions[direction] += 1
        rows = [[lam] * d, [3 * lam * s for s in signs]]
        lost += is_lost(hidden(network, rows), moved(x, rho, direction), label)
    if len(directions) != 2**d or set(directions.values()) != {1}:
        raise CertificateError("the direction is not uniform")
    return Fraction(lost, 2**d)


def three_class_rates() -> tuple[Fraction, Fraction]:
    """P(direction = +1) for three classes, d = 1, C = 0, x = 1, y = 1, λ = 1: not 1/2 (D.2 fails).

    (a) the margin attack, towards the runner-up; (b) cross-entropy. Every sign pattern of
    (R_1, R_2, R_3), |R_i| in [2i − 1, 2i], is one box on which the direction is certain.

    Raises:
        CertificateError: a direction is not certain on a box.
    """
    plus = [0, 0]
    for signs in product((-1, 1), repeat=3):
        rows = [_magnitudes(i + 1, sign) for i, sign in enumerate(signs)]
        plus[0] += _margin_direction(rows) > 0
        plus[1] += _entropy_direction(rows) > 0
    return Fraction(plus[0], 8), Fraction(plus[1], 8)


def _magnitudes(i: int, sign: int) -> Range:
    ends = sorted((Fraction(sign * (2 * i - 1)), Fraction(sign * 2 * i)))
    return ends[0], ends[1]


def _margin_direction(rows: Sequence[Range]) -> int:
    """The sign of R_n − R_1, n the larger of R_2 and R_3, which are the outputs at x = 1."""
    first, second, third = rows
    if second[0] > third[1]:
        ahead = second
    elif third[0] > second[1]:
        ahead = third
    else:
        raise CertificateError(f"the runner-up is not certain for {rows}")
    return _sign(ahead[0] - first[1], ahead[1] - first[0])


def _entropy_direction(rows: Sequence[Range]) -> int:
    """The sign of Σ_{k=2,3} e^{R_k} (R_k − R_1), that of the derivative of the cross-entropy."""
    (low, high), *others = rows
    least = sum((_smallest(r, s, r - high) for r, s in others), arb(0))
    most = sum((-_smallest(r, s, low - s) for r, s in others), arb(0))
    return _sign(bool(least > 0), -int(most < 0))


def _smallest(low: Fraction, high: Fraction, factor: Fraction) -> arb:
    """The smallest e^R · factor for R in [low, high]."""
    return arb(_fmpq(high if factor < 0 else low)).exp() * arb(_fmpq(factor))


def _sign(low: Fraction | bool, high: Fraction | int) -> int:
    """1 if low > 0, −1 if high < 0.

    Raises:
        CertificateError: neither.
    """
    if low > 0:
        return 1
    if high < 0:
        return -1
    raise CertificateError("the sign of the direction is not certain")


def _fmpq(value: Fraction) -> fmpq:
    return fmpq(value.numerator, value.denominator)


def sign_probability(g: Fraction, lam: Fraction) -> Fraction:
    """P(R − R' + g > 0) for independent R, R' uniform in [−λ, λ], |g| ≤ 2λ (D.3).

    1/2 + g/(2λ) − g|g|/(8λ²), from the triangular density of R − R'.
    """
    return Fraction(1, 2) + g / (2 * lam) - g * abs(g) / (8 * lam**2)


def approximate_rate(
    network: Network,
    x: Sequence[Fraction],
    label: int,
    rho: Fraction,
    lam: Fraction,
    epsilon: Fraction,
) -> Fraction:
    """P(x + ρ A is lost) if all R_ij are uniform in [−λ, λ], from the exact law of A (D.3).

    Raises:
        CertificateError: λ is too small for (1 + μ/λ)^d < 1 + ε, where |J_1j − J_2j| ≤ μ, or some
            P(A = v) is outside 2^−d [1 − dμ/λ, 1 + ε].
    """
    d = network.n_inputs
    slope = local_forms(network, x).slope
    gaps = list(slope[1 - label] - slope[label])
    share = max(map(abs, gaps)) / lam
    if (1 + share) ** d >= 1 + epsilon:
        raise CertificateError(f"λ = {lam} is too small for ε = {epsilon}")
    rate = total = Fraction(0)
    for v in product((-1, 1), repeat=d):
        chance = prod(
            (sign_probability(s * g, lam) for s, g in zip(v, gaps, strict=True)), start=Fraction(1)
        )
        if not (1 - d * share) <= chance * 2**d <= 1 + epsilon:
            raise CertificateError(f"P(A = {v}) = {chance} is outside its bounds")
        total += chance
        rate += chance * is_lost(network, moved(x, rho, v), label)
    if total != 1:
        raise CertificateError(f"the probabilities add up to {total}")
    return rate


def steepest_gap(network: Network, x: Sequence[Fraction]) -> Fraction:
    """max_j (|J_1j| + |J_2j|) at x, which λ must exceed (D.2)."""
    return Fraction(np.abs(local_forms(network, x).slope).sum(axis=0).max())
