"""Depth 2 and the Lipschitz constant 2/λ: impossible from dimension 3 on, possible in the plane.

T = {(0, −1)} ∪ {(e_k, +1) : k < d}, separation 1. All norms are ℓ∞.

(a) F = −1 + (2/(1−2μ)) Σ_k [relu(x_k − μ) − relu(x_k − (1−μ))] is a robust memorization of radius μ
    for every μ < 1/2, of depth 2 and width 2d. Its Lipschitz constant is 2d/(1−2μ).
(b) For d ≥ 3 no depth-2 network has F(x_i) = y_i and Lipschitz constant ≤ 2.
(c) For d = 2, F = −1 + |x_1 + x_2| + |x_1 − x_2| has depth 2, width 4 and Lipschitz constant 2.

Proof of (b), as a refuter of any given network. Let x have a positive largest coordinate x_k, let
ρ = max_{j≠k} |x_j|, t = x_k + ρ ≤ 1. If the constant were ≤ 2, the pairs (0, te_k), (te_k, e_k),
(te_k, x), (0, x) would give F(x) = −1 + 2x_k. So across the hyperplane {x_1 = x_2} the second
difference of F is 4δ where x_1 = x_2 is the largest coordinate, and 0 where x_3 is. But in a
depth-2 network it is the same at all points of {x_1 = x_2} that lie on no other kink. So one of six
points around two such points has the wrong value, and one of its four pairs is too steep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from flint import fmpq

from constructions.demonstration import Demonstration, Shown
from constructions.depth_two_check import check_memorizes, depth_two_form
from constructions.exact_layer import exact_layer
from constructions.rational_points import (
    RationalPoints,
    Vector,
    distance,
    dot,
    origin_and_units,
)
from verifier.core.errors import CertificateError, DataError, NetworkError
from verifier.core.exact_lp import Inequalities, Point, decide
from verifier.core.network import Network

BOUND = 2
"""2/λ(T), the Lipschitz constant in question."""

MAX_KINKS = 12


def teaching_data(d: int) -> RationalPoints:
    """T: 0 with label −1, the unit vectors with label 1."""
    return origin_and_units(d, origin=-1, units=1)


def ramp_network(d: int, mu: Fraction) -> Network:
    """(a): depth 2, width 2d, a robust memorization of T of radius mu.

    Raises:
        DataError: d < 1, or mu outside [0, 1/2).
    """
    if d < 1 or not 0 <= mu < Fraction(1, 2):
        raise DataError(f"expected d ≥ 1 and 0 ≤ mu < 1/2, got d = {d}, mu = {mu}")
    rows = [[int(j == k // 2) for j in range(d)] for k in range(2 * d)]
    slope = Fraction(2) / (1 - 2 * mu)
    layers = (
        exact_layer(rows, [-mu, mu - 1] * d, relu=True),
        exact_layer([[slope, -slope] * d], [-1], relu=False),
    )
    return Network(layers, name=f"ramps-{d}")


def plane_network() -> Network:
    """(c): −1 + |x_1 + x_2| + |x_1 − x_2|, depth 2, width 4."""
    layers = (
        exact_layer([[1, 1], [-1, -1], [1, -1], [-1, 1]], [0] * 4, relu=True),
        exact_layer([[1] * 4], [-1], relu=False),
    )
    return Network(layers, name="plane")


def separable_lipschitz(network: Network) -> Fraction:
    """The exact ℓ∞ Lipschitz constant of a depth-2 network whose neurons read one coordinate each.

    F = c + Σ_k f_k(x_k), so the constant is Σ_k max |f_k'|: each f_k' takes its values on
    intervals, and the coordinates can be chosen independently.

    Raises:
        NetworkError: a neuron reads several coordinates.
        CertificateError: the network has not depth 2.
    """
    weight, bias, out, _ = depth_two_form(network)
    relu = network.layers[0].relu
    terms: dict[int, list[tuple[Fraction, Fraction, Fraction, bool]]] = {}
    for j, (w, b, a) in enumerate(zip(weight, bias, out, strict=True)):
        read = [k for k, c in enumerate(w) if c != 0]
        if len(read) > 1:
            raise NetworkError(f"{network.name}: neuron {j} reads {len(read)} coordinates")
        if read:
            terms.setdefault(read[0], []).append((w[read[0]], b, a, bool(relu[j])))
    return sum((_steepest(group) for group in terms.values()), Fraction(0))


def _steepest(terms: Sequence[tuple[Fraction, Fraction, Fraction, bool]]) -> Fraction:
    """max |f'| of f(x) = Σ a relu(w x + b), looked up between and beside all kinks."""
    kinks = sorted({-b / w for w, b, _, relu in terms if relu})
    places = [kinks[0] - 1, kinks[-1] + 1] if kinks else [Fraction(0)]
    places += [(p + q) / 2 for p, q in pairwise(kinks)]
    slopes = [
        sum((a * w for w, b, a, relu in terms if not relu or w * x + b > 0), Fraction(0))
        for x in places
    ]
    return max(map(abs, slopes))


def exact_lipschitz(network: Network) -> Fraction:
    """The exact ℓ∞ Lipschitz constant of a depth-2 network: max ‖∇F‖₁ over its linear regions.

    The regions are the open cells of the arrangement of kinks, found kink by kink; whether a cell
    is empty is decided exactly.

    Raises:
        NetworkError: more kinks than ``MAX_KINKS``.
        CertificateError: the network has not depth 2.
    """
    weight, bias, out, _ = depth_two_form(network)
    relu = network.layers[0].relu
    kinks = [j for j, w in enumerate(weight) if relu[j] and any(w)]
    if len(kinks) > MAX_KINKS:
        raise NetworkError(
            f"{network.name}: {len(kinks)} kinks; cells are enumerated up to {MAX_KINKS}"
        )
    planes = [(*weight[j], bias[j]) for j in kinks]
    best = Fraction(0)
    for signs in _cells(planes, network.n_inputs):
        on = {j for j, sign in zip(kinks, signs, strict=True) if sign > 0}
        gradient = [Fraction(0)] * network.n_inputs
        for j, (w, a) in enumerate(zip(weight, out, strict=True)):
            if not relu[j] or j in on:
                gradient = [g + a * c for g, c in zip(gradient, w, strict=True)]
        best = max(best, sum(map(abs, gradient), Fraction(0)))
    return best


def _cells(planes: Sequence[Vector], d: int) -> Iterator[tuple[int, ...]]:
    """The sign patterns that the affine forms (w, b) take on open sets of R^d.

    Points are written x = v/s with (v, s) in a box and s > 0, which loses none.
    """
    zero, one = fmpq(0), fmpq(1)
    last = [zero] * d + [one]

    def nonempty(signs: tuple[int, ...]) -> bool:
        rows = [
            [fmpq(sign * c.numerator, c.denominator) for c in plane]
            for sign, plane in zip(signs, planes, strict=False)
        ]
        rows.append(last)
        count = len(rows)
        system = Inequalities(
            rows, [zero] * count, [True] * count, [-one] * d + [zero], [one] * (d + 1)
        )
        return isinstance(decide(system, lambda: False), Point)

    stack: list[tuple[int, ...]] = [()]
    while stack:
        signs = stack.pop()
        if len(signs) == len(planes):
            yield signs
            continue
        stack += [(*signs, s) for s in (1, -1) if nonempty((*signs, s))]


@dataclass(frozen=True)
class Steep:
    """Two points with |F(p) − F(q)| > 2 ‖p − q‖∞.

    Args:
        p, q: the points.
        slope: |F(p) − F(q)| / ‖p − q‖∞.
    """

    p: Vector
    q: Vector
    slope: Fraction


def refute(network: Network) -> Steep:
    """Two exact points that show that a depth-2 memorization of T is steeper than 2, for d ≥ 3.

    Args:
        network: any network of depth 2 with one output, d ≥ 3 inputs, and F(x_i) = y_i on T.

    Returns:
        A pair that ``check_steep`` accepts.

    Raises:
        DataError: d < 3, where the theorem is false.
        NetworkError: the network does not memorize T.
        CertificateError: it has not depth 2.
        ArithmeticError: no pair was found, which the theorem excludes (a defect of this module).
    """
    weight, bias, _, _ = depth_two_form(network)
    d = network.n_inputs
    if d < 3:
        raise DataError(f"depth 2 allows a Lipschitz constant of {BOUND} for d = {d}; expected ≥ 3")
    for x, y in zip(*_memorized(d), strict=True):
        value = network.exact(x)[0]
        if value != y:
            raise NetworkError(f"{network.name}: the value at {_words(x)} is {value}, expected {y}")
    kinks = [
        (w, b)
        for w, b, relu in zip(weight, bias, network.layers[0].relu, strict=True)
        if relu and any(w) and not _is_diagonal(w, b)
    ]
    for leading in ((0, 1), (2,)):
        centre = _generic_point(kinks, d, leading)
        for x in _across(kinks, centre):
            for p, q in _pairs(x):
                found = _slope(network, p, q)
                if found > BOUND:
                    return Steep(p, q, found)
    raise ArithmeticError("a depth-2 network passed every test of a theorem that excludes it")


def check_steep(network: Network, claim: Steep) -> None:
    """The network's Lipschitz constant is at least ``claim.slope`` > 2.

    Raises:
        CertificateError: the points do not show it.
    """
    if len(claim.p) != network.n_inputs or len(claim.q) != network.n_inputs:
        raise CertificateError(f"the points do not fit a network with {network.n_inputs} inputs")
    if claim.p == claim.q:
        raise CertificateError("the two points are the same")
    slope = _slope(network, claim.p, claim.q)
    if slope != claim.slope or slope <= BOUND:
        raise CertificateError(f"the slope is {slope}, claimed {claim.slope} > {BOUND}")


def _memorized(d: int) -> tuple[tuple[Vector, ...], tuple[int, ...]]:
    data = teaching_data(d)
    return data.points, data.labels


def _words(x: Vector) -> str:
    return f"({', '.join(map(str, x))})"


def _slope(network: Network, p: Vector, q: Vector) -> Fraction:
    difference = network.exact(p)[0] - network.exact(q)[0]
    return abs(difference) / distance(p, q)


def _is_diagonal(w: Vector, b: Fraction) -> bool:
    """Whether {w·x + b = 0} is {x_1 = x_2}."""
    return b == 0 and w[0] == -w[1] and not any(w[2:])


def _generic_point(kinks: Sequence[tuple[Vector, Fraction]], d: int, leading: tuple[int, ...]) -> (
    Vector
):  # fmt: skip
    """A point of {x_1 = x_2} on no other kink, whose largest coordinates are the leading ones.

    Coordinates are powers of one τ: every kink is a nonzero polynomial in τ of degree ≤ d there,
    so d·(kinks) + 1 values of τ are enough to avoid them all.
    """
    for i in range(d * len(kinks) + 1):
        tau = Fraction(1, i + 4)
        # Leading coordinates get τ, coordinates 1 and 2 the same power, the rest one each.
        powers, following = dict.fromkeys(leading, 1), 2
        for group in ((0, 1), *((j,) for j in range(2, d))):
            if group[0] not in powers:
                powers |= dict.fromkeys(group, following)
                following += 1
        x = tuple(tau ** powers[j] for j in range(d))
        if all(dot(w, x) + b != 0 for w, b in kinks):
            return x
    raise ArithmeticError("a polynomial had more roots than its degree")


def _across(kinks: Sequence[tuple[Vector, Fraction]], centre: Vector) -> tuple[Vector, ...]:
    """The point and its neighbours at ±δ(e_1 − e_2), with no other kink between them."""
    top = sorted(set(centre), reverse=True)
    delta = (top[0] - top[1]) / 4
    while any(abs(w[0] - w[1]) * delta >= abs(dot(w, centre) + b) for w, b in kinks):
        delta /= 2
    first, second, *rest = centre
    return (
        centre,
        (first + delta, second - delta, *rest),
        (first - delta, second + delta, *rest),
    )


def _pairs(x: Vector) -> Iterator[tuple[Vector, Vector]]:
    """The pairs that force F(x) = −1 + 2 x_k if none of them is too steep."""
    k = max(range(len(x)), key=lambda j: x[j])
    rho = max(abs(v) for j, v in enumerate(x) if j != k)
    unit = tuple(Fraction(int(j == k)) for j in range(len(x)))
    zero = tuple(Fraction(0) for _ in x)
    foot = tuple((x[k] + rho) * v for v in unit)
    for p, q in ((zero, foot), (foot, unit), (foot, x), (zero, x)):
        if p != q:
            yield p, q


def demonstrate() -> Demonstration:
    """d = 3: the ramps at μ = 2/5, their constant 30, a steep pair; the exception for d = 2."""
    d, mu = 3, Fraction(2, 5)
    network = ramp_network(d, mu)
    check_memorizes(network, teaching_data(d), mu)
    constant = separable_lipschitz(network)
    steep = refute(network)
    check_steep(network, steep)
    plane = plane_network()
    check_memorizes(plane, teaching_data(2), Fraction(0))
    flat = exact_lipschitz(plane)
    if flat != BOUND or constant != Fraction(2 * d) / (1 - 2 * mu):
        raise CertificateError(f"the Lipschitz constants are {flat} and {constant}")
    return Demonstration(
        "T = {0} against {e_1, ..., e_d}, λ = 1. Depth 2 and width 2d reach every radius below "
        "λ/2, with Lipschitz constant 2d/(1−2μ). With constant 2/λ = 2, no depth-2 network of "
        "any width takes the values −1 at 0 and 1 at the e_k if d ≥ 3; if d = 2 there is one.",
        f"d = {d}, μ = {mu}, the network of {network.width} ramps; and d = 2",
        (
            Shown(
                f"the network of depth 2, width {network.width} is a robust memorization of radius "
                f"{mu}, and its ℓ∞ Lipschitz constant is exactly {constant}",
                "every neuron is on or off on each ball; the function is a sum of functions of one "
                "coordinate each, whose steepest slopes add up",
            ),
            Shown(
                "as the theorem says of any such network, it is steeper than 2: slope "
                f"{steep.slope} between two points",
                f"p = {_words(steep.p)}, q = {_words(steep.q)}, evaluated in rational arithmetic",
            ),
            Shown(
                f"for d = 2, −1 + |x_1 + x_2| + |x_1 − x_2| has Lipschitz constant exactly {flat}",
                "the gradient's ℓ1 norm on every cell of the arrangement of its kinks",
            ),
        ),
        {
            "d": d,
            "mu": str(mu),
            "width": network.width,
            "lipschitz": str(constant),
            "p": [str(v) for v in steep.p],
            "q": [str(v) for v in steep.q],
            "slope": str(steep.slope),
            "plane_lipschitz": str(flat),
        },
    )
