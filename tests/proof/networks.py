"""Small networks with unpleasant numbers, and exact points inside parts of their boxes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import scipy.sparse as sp

from tests.strategies import random_box
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.proof.chain import Chain

#: Float32 values, 53-bit values, values over 80 binary orders, denormals, huge values, few bits.
KINDS = ("float32", "float64", "spread", "tiny", "huge", "bits")


def weights(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Random weights of a kind."""
    values = rng.normal(size=shape)
    if kind == "float32":
        return values.astype(np.float32).astype(np.float64)
    if kind == "spread":
        return np.ldexp(values, rng.integers(-80, 1, shape))
    if kind == "tiny":
        return np.where(rng.random(shape) < 0.5, values * 5e-324 * 2**30, values * 1e-30)
    if kind == "huge":
        return values * 1e25
    if kind == "bits":
        return rng.integers(-8, 9, shape) / 4.0
    return values


def unpleasant_network(
    rng: np.random.Generator, kind: str, *, sparse: bool = False, sizes: Sequence[int] = ()
) -> Network:
    """A network of one kind of weights; some hidden coordinates have no ReLU."""
    if not sizes:
        depth = int(rng.integers(1, 4))
        sizes = [int(rng.integers(1, 7)) for _ in range(depth + 1)]
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        weight, bias = weights(rng, (n_out, n_in), kind), weights(rng, (n_out,), kind)
        if rng.random() < 0.3:
            bias = np.zeros(n_out)
        if sparse:
            weight = weight * (rng.random(weight.shape) < 0.5)
        relu = rng.random(n_out) < 0.8
        layers.append(Layer(sp.csr_array(weight) if sparse else weight, bias, relu))
    return Network(tuple(layers))


def unpleasant_box(rng: np.random.Generator, n: int) -> Box:
    """A box of rational faces; now and then a tiny one far from 0, or a huge one."""
    box = random_box(rng, n)
    factor = Fraction(2) ** int(rng.choice([0, 0, 0, -30, 40]))
    shift = Fraction(int(rng.integers(-5, 6)), 7)
    return Box(
        tuple(shift + factor * v for v in box.lower), tuple(shift + factor * v for v in box.upper)
    )


def point(rng: np.random.Generator, low: Sequence[int], high: Sequence[int]) -> list[Fraction]:
    """A rational t in a box of the checker, with a taste for faces."""
    return [
        Fraction(int(a))
        + (int(b) - int(a)) * Fraction(int(rng.choice([0, 64, int(rng.integers(0, 65))])), 64)
        for a, b in zip(low, high, strict=True)
    ]


def inputs(chain: Chain, t: Sequence[Fraction]) -> list[Fraction]:
    """The network's input at t."""
    return [c + v / Fraction(2) ** chain.scale for c, v in zip(chain.corner, t, strict=True)]
