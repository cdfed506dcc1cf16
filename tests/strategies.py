"""Random small networks, boxes and properties: seeded generators and hypothesis strategies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st

from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property


def random_weights(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Float64 values of one kind.

    Args:
        kind: ``bits`` (multiples of 1/4 up to 2), ``float32`` (generic float32 values) or
            ``sparse`` (as ``float32``, two thirds of them 0).
    """
    if kind == "bits":
        return rng.integers(-8, 9, shape) / 4.0
    values = rng.normal(size=shape).astype(np.float32).astype(np.float64)
    return values * (rng.random(shape) < 1 / 3) if kind == "sparse" else values


def random_network(
    rng: np.random.Generator,
    *,
    max_inputs: int = 4,
    max_layers: int = 3,
    max_width: int = 5,
    kinds: tuple[str, ...] = ("bits", "float32", "sparse"),
) -> Network:
    """A network with partial ReLU, dense and sparse layers; now and then a ReLU on an output."""
    depth = int(rng.integers(1, max_layers + 1))
    sizes = [int(rng.integers(1, max_inputs + 1))]
    sizes += [int(rng.integers(2, max_width + 1)) for _ in range(depth - 1)]
    sizes += [int(rng.integers(1, 4))]
    kind = str(rng.choice(kinds))
    layers = []
    for k, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        weight = random_weights(rng, (n_out, n_in), kind)
        bias = random_weights(rng, (n_out,), "float32" if kind == "sparse" else kind)
        last = k == depth - 1
        relu = rng.random(n_out) < (0.15 if last else 0.85)
        layers.append(Layer(sp.csr_array(weight) if kind == "sparse" else weight, bias, relu))
    return Network(tuple(layers))


def random_box(rng: np.random.Generator, n: int) -> Box:
    """A box with dyadic or other rational faces; some coordinates are single points."""
    q = int(rng.choice([1, 8, 3, 10]))
    centre = [Fraction(int(v), q) for v in rng.integers(-q, q + 1, n)]
    radius = [Fraction(int(v), q) for v in rng.integers(0, 2 * q + 1, n)]
    return Box(
        tuple(c - r for c, r in zip(centre, radius, strict=True)),
        tuple(c + r for c, r in zip(centre, radius, strict=True)),
    )


def random_point(rng: np.random.Generator, box: Box) -> tuple[Fraction, ...]:
    """A rational point of the box, with a taste for its faces."""
    return tuple(
        low + (high - low) * Fraction(int(rng.choice([0, 16, int(rng.integers(0, 17))])), 16)
        for low, high in zip(box.lower, box.upper, strict=True)
    )


def random_constraint(
    rng: np.random.Generator,
    network: Network,
    box: Box,
    *,
    mixes_inputs: bool = False,
    points: int = 12,
) -> LinearConstraint:
    """A constraint whose threshold lies near the largest value seen at some points.

    One in three is met with equality at the best of these points.
    """
    n = network.n_outputs + (network.n_inputs if mixes_inputs else 0)
    chosen = rng.permutation(n)[: int(rng.integers(1, n + 1))]
    terms = tuple((int(i), Fraction(int(rng.choice([-2, -1, 1, 2])), 2)) for i in sorted(chosen))
    values = []
    for _ in range(points):
        x = random_point(rng, box)
        seen = network.exact(x) + x
        values.append(sum((c * seen[i] for i, c in terms), start=Fraction(0)))
    best, spread = max(values), max(values) - min(values)
    shift = Fraction(int(rng.integers(-6, 11)), 16) if rng.random() < 2 / 3 else Fraction(0)
    bound = best + shift * (spread + Fraction(1, 8))
    return LinearConstraint(terms, bound, strict=bool(rng.random() < 0.5))


def random_property(rng: np.random.Generator, network: Network, *, max_cases: int = 1) -> Property:
    """Boxes with disjunctions of conjunctions of strict and other constraints.

    One in five has constraints that read inputs beside outputs.
    """
    cases, mixes = [], bool(rng.random() < 0.2)
    for _ in range(int(rng.integers(1, max_cases + 1))):
        box = random_box(rng, network.n_inputs)
        clauses = tuple(
            tuple(
                random_constraint(rng, network, box, mixes_inputs=mixes)
                for _ in range(int(rng.choice([1, 1, 2, 3])))
            )
            for _ in range(int(rng.choice([1, 1, 2, 3])))
        )
        cases.append(Case(box, clauses))
    return Property(tuple(cases), network.n_inputs, network.n_outputs, mixes_inputs=mixes)


def random_instance(seed: int, *, max_cases: int = 1) -> tuple[Network, Property]:
    """A network and a property, the same for the same seed."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    return network, random_property(rng, network, max_cases=max_cases)


def tight_instance(
    seed: int, maximum: Callable[[Network, Box, list[Fraction]], Fraction]
) -> tuple[Network, Property]:
    """A network and one constraint whose threshold is its exact maximum, or next to it.

    Args:
        seed: decides everything.
        maximum: the exact maximum over a box of weights · N(x).
    """
    rng = np.random.default_rng(seed)
    network = random_network(rng, max_inputs=3, max_layers=2)
    box = random_box(rng, network.n_inputs)
    weights = [Fraction(int(v), 2) for v in rng.integers(-2, 3, network.n_outputs)]
    weights[0] = weights[0] or Fraction(1)
    terms = tuple((i, w) for i, w in enumerate(weights) if w)
    tiny = Fraction(int(rng.choice([0, 0, -1, 1])), 2**80)
    bound = maximum(network, box, weights) + tiny
    constraint = LinearConstraint(terms, bound, strict=bool(rng.random() < 0.5))
    case = Case(box, ((constraint,),))
    return network, Property((case,), network.n_inputs, network.n_outputs)


def moved(prop: Property, by: Fraction) -> Property:
    """The property with every constraint's bound changed by so much."""
    cases = tuple(
        replace(
            case,
            clauses=tuple(
                tuple(replace(c, bound=c.bound + by) for c in clause) for clause in case.clauses
            ),
        )
        for case in prop.cases
    )
    return replace(prop, cases=cases)


_seeds = st.integers(0, 2**32 - 1)


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Seeded NumPy generators."""
    return _seeds.map(np.random.default_rng)


def instances(*, max_cases: int = 1) -> st.SearchStrategy[tuple[Network, Property]]:
    """Networks with properties."""
    return _seeds.map(lambda seed: random_instance(seed, max_cases=max_cases))


def networks() -> st.SearchStrategy[Network]:
    """Networks alone."""
    return generators().map(random_network)


def wild_network(rng: np.random.Generator, exponent: int) -> Network:
    """A small network that float64 finds hard: sizes far apart, sums that cancel, subnormals.

    Args:
        exponent: weights reach from 2^-exponent to 2^exponent.
    """
    sizes = [int(n) for n in rng.integers(1, 5, int(rng.integers(2, 5)))]
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        scale = 2.0 ** float(rng.integers(-exponent, exponent + 1))
        spread = int(rng.choice([0, 2, exponent // 2]))
        weight = scale * rng.normal(size=(n_out, n_in + 1))
        with np.errstate(over="ignore", under="ignore"):
            weight = np.ldexp(weight, rng.integers(-spread, spread + 1, weight.shape))
        weight = np.clip(weight, -(2.0**exponent), 2.0**exponent)
        kind = str(rng.choice(["plain", "cancel", "bits", "sparse"]))
        if kind == "cancel" and n_out > 1:
            # Equal and opposite but for the last bits: later sums cancel.
            weight[1] = -weight[0] * (1 + 2.0**-50 * rng.integers(-2, 3, n_in + 1))
        elif kind == "bits":
            weight = scale * rng.integers(-2, 3, weight.shape)
        elif kind == "sparse":
            weight *= rng.random(weight.shape) < 0.6
        matrix = np.ascontiguousarray(weight[:, :-1])
        relu = rng.random(n_out) < 0.7
        layers.append(
            Layer(sp.csr_array(matrix) if kind == "sparse" else matrix, weight[:, -1], relu)
        )
    return Network(tuple(layers))


def wild_box(rng: np.random.Generator, n: int, exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 faces of all kinds: points, one float wide, far from 0, around 0, subnormal.

    Args:
        exponent: faces reach from 2^-exponent to 2^exponent.
    """
    lower, upper = np.zeros(n), np.zeros(n)
    for j in range(n):
        centre = float(np.ldexp(rng.normal(), int(rng.integers(-exponent, exponent + 1))))
        kind = str(rng.choice(["point", "ulp", "far", "around", "wide", "subnormal"]))
        radius = {
            "point": 0.0,
            "ulp": float(np.spacing(abs(centre))),
            "far": abs(centre) * 2.0**-20,
            "around": 0.0,
            "wide": abs(centre) * 3,
            "subnormal": 0.0,
        }[kind]
        low, high = centre - radius, centre + radius
        if kind == "around":
            low, high = -abs(centre), abs(centre) * rng.random()
        elif kind == "subnormal":
            low, high = sorted(float(v) * 2.0**-1074 for v in rng.integers(-3, 4, 2))
        lower[j], upper[j] = low, high
    return lower, upper


def points_between(
    rng: np.random.Generator, lower: np.ndarray, upper: np.ndarray, count: int
) -> list[tuple[Fraction, ...]]:
    """Exact points of a float box: corners, and rational points of its faces and inside."""
    pairs = [
        (Fraction(a), Fraction(b)) for a, b in zip(lower.tolist(), upper.tolist(), strict=True)
    ]
    out = [tuple(pair[int(rng.integers(2))] for pair in pairs) for _ in range(count // 2)]
    for _ in range(count - len(out)):
        shares = [Fraction(int(v), 7) for v in rng.integers(0, 8, len(pairs))]
        out.append(tuple(a + (b - a) * t for (a, b), t in zip(pairs, shares, strict=True)))
    return out


def at_most(bound: float, value: Fraction) -> bool:
    """Whether a float64 is a true lower bound of an exact value; NaN and +infinity are not."""
    return bound == -math.inf or (math.isfinite(bound) and Fraction(bound) <= value)


def at_least(bound: float, value: Fraction) -> bool:
    """Whether a float64 is a true upper bound of an exact value."""
    return at_most(-bound, -value)
