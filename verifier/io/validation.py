"""Every import is compared with onnxruntime, inside a rigorous bound on rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from verifier.core.errors import ModelError
from verifier.core.network import Network
from verifier.io.lowering.tensor import Tensor
from verifier.io.runtime import Session


def sample_points(n_inputs: int, double: bool, seed: int = 20) -> np.ndarray:
    """Six points, representable in the model's type, of magnitudes from 1 to 1000.

    Returns:
        (6, n_inputs) float64.
    """
    rng = np.random.default_rng(seed)
    points = np.stack(
        [
            rng.uniform(0.0, 1.0, n_inputs),
            rng.uniform(-1.0, 1.0, n_inputs),
            rng.standard_normal(n_inputs),
            rng.standard_normal(n_inputs) * 10.0,
            rng.integers(-3, 4, n_inputs).astype(np.float64),
            rng.standard_normal(n_inputs) * 1000.0,
        ]
    )
    return points if double else points.astype(np.float32).astype(np.float64)


def compare(
    model: Any, network: Network, output: Tensor, points: np.ndarray, session: Session
) -> str | None:
    """Compare the network with a runtime at the sample points.

    Both are compared with the exact function: the runtime's distance from it is at most
    ``output.error`` (see ``verifier.io.lowering.tensor``), that of the network's own float64
    evaluation at most ``chain_error``.

    Args:
        model: only named in messages.
        network: the lowered network.
        output: its output tensor with the runtime's error bound at the points.
        points: (count, n_inputs).
        session: runs the model up to the same output.

    Returns:
        A note if the runtime's numbers overflow at every point, so that nothing was compared.

    Raises:
        ModelError: they disagree by more than rounding can explain.
    """
    got = session.run(points).astype(np.float64)
    expected, own_error = chain_error(network, points)
    if got.shape != expected.shape:
        raise ModelError(
            f"{model}: import refused: onnxruntime gives {got.shape[1]} outputs, "
            f"the imported network {expected.shape[1]}"
        )
    allowed = output.error.T + own_error
    known = np.isfinite(allowed)
    if not known.any():
        return "not compared with onnxruntime: its numbers overflow at every sample point"
    with np.errstate(invalid="ignore"):
        wrong = known & ~(np.abs(got - expected) <= allowed)
    if wrong.any():
        k, i = map(int, np.argwhere(wrong)[0])
        raise ModelError(
            f"{model}: import refused: at sample point {k} output {i} is {got[k, i]:.9g} in "
            f"onnxruntime and {expected[k, i]:.9g} in the imported network, and rounding explains "
            f"only {allowed[k, i]:.3g}"
        )
    return None


def chain_error(network: Network, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network's values in float64, and a bound on their distance from the exact ones.

    Layer by layer  e' = |W| e + γ_n (|W| |a| + |b|) + n η  (Higham, Accuracy and Stability,
    section 3.1), with constants more than twice those of the formula, so that a itself may be the
    computed value. A layer without float64 form has no such bound and is not produced by import.

    Args:
        network: layers with float64 numbers.
        points: (count, n_inputs).

    Returns:
        Two arrays (count, n_outputs).
    """
    value = points.T
    error = np.zeros_like(value)
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in network.layers:
            size = abs(layer.weight)
            n = layer.n_in + 8
            spread = size @ error
            total = size @ np.abs(value) + spread + np.abs(layer.bias)[:, None]
            value = layer.weight @ value + layer.bias[:, None]
            value = np.where(layer.relu[:, None], np.maximum(value, 0.0), value)
            error = 1.01 * spread + 2.5 * n * 2.0**-53 * total + n * 2.0**-1020
            error[~np.isfinite(total + error)] = np.inf
    return value.T, error.T
