"""Networks and properties of odd forms, small enough for the oracle.

One layer, ReLUs on the outputs, on some coordinates or nowhere, neurons that are constant, touch 0
or are twins of others, layers whose sizes cancel (up to the ends of float64); boxes that are points
in some coordinates, far from 0 or subnormal; constraints without variables, with coefficients that
are 0 or cancel, equations, constraints on inputs alone, clauses that are always or never true.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

from tests import oracle
from tests.strategies import random_point
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property

_ONE = Fraction(1)
Clause = tuple[LinearConstraint, ...]


def instance(seed: int) -> tuple[Network, Property]:
    """A network and a property, the same for the same seed."""
    rng = np.random.default_rng(seed)
    network = odd_network(rng)
    return network, _property(rng, network)


def odd_network(rng: np.random.Generator) -> Network:
    """At most five ReLUs wide and four deep, or six layers of one or two neurons."""
    depth = int(rng.choice([1, 1, 2, 2, 3]))
    widest = 5
    if rng.random() < 0.15:
        depth, widest = 6, 2
    sizes = rng.integers(1, widest + 1, depth + 1)
    sizes[0], sizes[-1] = min(sizes[0], 3), min(sizes[-1], 3)
    share = float(rng.choice([0.0, 0.4, 1.0]))
    on_outputs = bool(rng.random() < 0.5)
    layers = []
    for k, (n_in, n_out) in enumerate(itertools.pairwise(sizes.tolist())):
        weight, bias = rng.integers(-4, 5, (n_out, n_in)) / 2.0, rng.integers(-4, 5, n_out) / 2.0
        kind = str(rng.choice(["float", "dead", "twins", "plain"]))
        if kind == "float":
            weight, bias = rng.normal(size=weight.shape), rng.normal(size=n_out)
        elif kind == "dead":
            weight = weight * (rng.random((n_out, 1)) < 0.5)
            bias = bias * (rng.random(n_out) < 0.5)
        elif kind == "twins" and n_out > 1:
            sign = float(rng.choice([-1, 1]))
            weight[1], bias[1] = sign * weight[0], sign * bias[0] + float(rng.choice([0, 0, 1]))
        relu = rng.random(n_out) < share
        if k == depth - 1 and not on_outputs:
            relu[:] = False
        layers.append((weight, bias, relu))
    return Network(tuple(Layer(*layer) for layer in _scaled(rng, layers)))


def _scaled(
    rng: np.random.Generator, layers: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same function, or nearly, with hidden layers in units of 2^power."""
    if rng.random() < 0.6:
        return layers
    powers = [int(rng.choice([-1060, -600, -100, -30, 0, 30, 100, 500, 1000])) for _ in layers]
    powers[-1], before, out = 0, 0, []
    for (weight, bias, relu), power in zip(layers, powers, strict=True):
        with np.errstate(all="ignore"):
            w, b = np.ldexp(weight, power - before), np.ldexp(bias, power)
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            return layers
        out.append((w, b, relu))
        before = power
    return out


def odd_box(rng: np.random.Generator, n: int) -> Box:
    """Sides of length 0, of one float, around 0, far away, of thirds, of subnormal numbers."""
    lower, upper = [], []
    for _ in range(n):
        kind = str(rng.choice(["point", "zero", "unit", "third", "far", "ulp", "tiny", "face"]))
        a = Fraction(int(rng.integers(-8, 9)), 4)
        low, high = {
            "point": (a, a),
            "zero": (Fraction(0), Fraction(0)),
            "unit": (a - 1, a + 1),
            "third": (a - Fraction(1, 3), a + Fraction(2, 7)),
            "far": (2**40 + a - 1, 2**40 + a + 1),
            "ulp": (a, a + Fraction(1, 2**52)),
            "tiny": (Fraction(-3, 2**1074), Fraction(2, 2**1074)),
            "face": (min(a, Fraction(0)), max(a, Fraction(0))),
        }[kind]
        lower.append(low)
        upper.append(high)
    return Box(tuple(lower), tuple(upper))


def _property(rng: np.random.Generator, network: Network) -> Property:
    mixes = bool(rng.random() < 0.35)
    cases = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        box = odd_box(rng, network.n_inputs)
        count = int(rng.choice([0, 1, 1, 1, 2, 3]))
        cases.append(Case(box, tuple(_clause(rng, network, box, mixes) for _ in range(count))))
    return Property(tuple(cases), network.n_inputs, network.n_outputs, mixes_inputs=mixes)


def _clause(rng: np.random.Generator, network: Network, box: Box, mixes: bool) -> Clause:
    """Some constraints of odd kinds, or none."""
    out: list[LinearConstraint] = []
    for _ in range(int(rng.choice([0, 1, 1, 1, 2, 3], p=[0.03, 0.3, 0.3, 0.17, 0.15, 0.05]))):
        out += _constraints(rng, network, box, mixes)
    return tuple(out)


def _constraints(rng: np.random.Generator, network: Network, box: Box, mixes: bool) -> Clause:
    """One constraint, or the two of an equation."""
    strict = bool(rng.random() < 0.5)
    kind = str(rng.choice(["truth", "nothing", "input", "equal", "bound"], p=_SHARES))
    outputs = network.n_outputs
    if kind == "truth":
        return (LinearConstraint((), Fraction(int(rng.integers(-1, 2))), strict),)
    if kind == "nothing":
        i, c = int(rng.integers(outputs)), Fraction(int(rng.integers(0, 3)))
        terms = ((i, c), (i, -c)) if rng.random() < 0.5 else ((i, Fraction(0)),)
        return (LinearConstraint(terms, Fraction(int(rng.choice([-1, 0, 0, 1]))), strict),)
    if kind == "input" and mixes:
        j, sign = int(rng.integers(network.n_inputs)), int(rng.choice([-1, 1]))
        face = box.upper[j] if sign > 0 else -box.lower[j]
        terms = ((outputs + j, Fraction(sign)),)
        return (LinearConstraint(terms, face - Fraction(int(rng.integers(0, 2)), 8), strict),)
    variables = outputs + (network.n_inputs if mixes else 0)
    chosen = rng.permutation(variables)[: int(rng.integers(1, variables + 1))]
    unit = Fraction(int(rng.choice([1, 1, 3, 7])), int(rng.choice([1, 2, 3]))) * 2 ** int(
        rng.choice([0, 0, 100])
    )
    terms = tuple((int(i), unit * int(rng.choice([-2, -1, 1, 2]))) for i in chosen)
    if rng.random() < 0.2:
        terms += terms[:1]  # the same variable twice
    bound = _threshold(rng, network, box, terms)
    opposite = tuple((i, -c) for i, c in terms)
    if kind == "equal":
        return (LinearConstraint(terms, bound), LinearConstraint(opposite, -bound))
    return (LinearConstraint(terms, bound, strict),)


_SHARES = [0.08, 0.08, 0.12, 0.17, 0.55]


def _threshold(
    rng: np.random.Generator, network: Network, box: Box, terms: tuple[tuple[int, Fraction], ...]
) -> Fraction:
    """At the largest value, next to it, or at a value inside."""
    if all(i < network.n_outputs for i, _ in terms) and rng.random() < 0.6:
        weights = [Fraction(0)] * network.n_outputs
        for i, c in terms:
            weights[i] += c
        best = oracle.maximum(network, box, weights)
        share = Fraction(int(rng.choice([-1, 0, 0, 1, 1])), 2 ** int(rng.choice([3, 20, 60])))
        bound = best + share * (abs(best) or _ONE)
    else:
        values = []
        for _ in range(6):
            x = random_point(rng, box)
            seen = network.exact(x) + x
            values.append(sum((c * seen[i] for i, c in terms), start=Fraction(0)))
        shift = Fraction(int(rng.integers(-2, 5)), 4)
        bound = max(values) + shift * (max(values) - min(values))
    if max(bound.numerator.bit_length(), bound.denominator.bit_length()) > 900:
        bound = Fraction(float(bound))
    return bound
