"""Float32 evaluations in all kinds of orders, and networks that mean something else in float32."""

import numpy as np

from verifier.core.network import Layer, Network


def in_some_order(layer: Layer, a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """W a + b in float32, each neuron's terms in an order of their own, some fused."""
    out = np.empty(layer.n_out, dtype=np.float32)
    for i, row in enumerate(np.float32(layer.dense)):
        order = rng.permutation(len(a) + 1)
        total = np.float32(0)
        for j in order:
            if j == len(a):
                total = np.float32(total + np.float32(layer.bias[i]))
            elif rng.random() < 0.5:  # a fused multiply-add rounds once; float64 holds the product
                total = np.float32(np.float64(total) + np.float64(row[j]) * np.float64(a[j]))
            else:
                total = np.float32(total + np.float32(row[j] * a[j]))
        out[i] = total
    return out


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
