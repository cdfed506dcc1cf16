"""Float32 evaluations in all kinds of orders, and networks that mean something else in float32."""

from fractions import Fraction
from typing import Any

import numpy as np

from verifier.core.network import Layer, Network


def in_some_order(layer: Layer, a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """W a + b in float32, each neuron's terms in an order of their own, some fused."""
    kinds = rng.integers(2, size=layer.n_out)
    rows = zip(np.float32(layer.dense), np.float32(layer.bias), kinds, strict=True)
    sums = (_one_by_one, _as_a_tree)
    return np.array([sums[kind](w, np.float32(a), b, rng) for w, b, kind in rows], dtype=np.float32)


def _one_by_one(w: np.ndarray, a: np.ndarray, b: np.float32, rng: np.random.Generator) -> Any:
    """From left to right in a random order; the bias stands anywhere."""
    total = np.float32(0)
    for j in rng.permutation(len(a) + 1):
        if j == len(a):
            total = np.float32(total + b)
        elif rng.random() < 0.5:
            total = fused(total, w[j], a[j])
        else:
            total = np.float32(total + np.float32(w[j] * a[j]))
    return total


def _as_a_tree(w: np.ndarray, a: np.ndarray, b: np.float32, rng: np.random.Generator) -> Any:
    """Two random partial sums are added until one is left, as vector registers and blocks do."""
    parts = [np.float32(v * u) for v, u in zip(w, a, strict=True)] + [b]
    while len(parts) > 1:
        i, j = sorted(rng.choice(len(parts), size=2, replace=False))
        parts[i] = np.float32(parts[i] + parts.pop(j))
    return parts[0]


def fused(total: np.float32, v: np.float32, u: np.float32) -> np.float32:
    """total + v u, rounded once."""
    exact = Fraction(float(total)) + Fraction(float(v)) * Fraction(float(u))
    return nearest(exact)


def nearest(value: Fraction) -> np.float32:
    """The float32 number nearest to a rational, of two the even one, by comparison alone."""
    guess = np.float32(float(value))
    around = (
        np.nextafter(guess, np.float32(-np.inf)),
        guess,
        np.nextafter(guess, np.float32(np.inf)),
    )
    finite = [f for f in around if np.isfinite(f)]
    return min(finite, key=lambda f: (abs(Fraction(float(f)) - value), int(f.view(np.uint32)) & 1))


def run(network: Network, x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Pre-activations of every layer of one float32 evaluation."""
    a, seen = np.float32(x), []
    for layer in network.layers:
        z = in_some_order(layer, a, rng)
        seen.append(z.astype(np.float64))
        a = np.where(layer.relu, np.maximum(z, 0), z).astype(np.float32)
    return seen


def order_matters(big: float) -> Network:
    """Exactly 3.5 at x = 1, while float32 loses the seven ones beside a large number."""
    first = Layer(np.ones((9, 1)), np.zeros(9), np.ones(9, dtype=bool))
    weight = np.array([[big] + [1.0] * 7 + [-big]])
    return Network((first, Layer(weight, np.array([-3.5]), np.zeros(1, dtype=bool))))


def rounds_away() -> Network:
    """1 + 2^-25 for every x ≥ 0 with x_0 = 1, which every float32 sum rounds to 1."""
    first = Layer(np.eye(2), np.zeros(2), np.ones(2, dtype=bool))
    return Network((first, Layer(np.array([[1.0, 2.0**-25]]), np.zeros(1), np.zeros(1, bool))))
