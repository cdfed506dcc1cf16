"""Every import is compared with onnxruntime, inside a rigorous bound on rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
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
    model: Any,
    network: Network,
    error: np.ndarray | None,
    points: np.ndarray,
    session: Session,
    runtime: str = "onnxruntime",
) -> str | None:
    """Compare the network with a runtime at the sample points.

    Both are compared with the exact function: the runtime's distance from it is at most
    ``error``, that of the network's own float64 evaluation at most ``chain_error``.

    Args:
        model: only named in messages.
        network: the lowered network.
        error: (count, n_outputs) bound on the runtime's error at the points; None if the layers are
            the sums that the runtime computes.
        points: (count, n_inputs).
        session: runs the model up to the same output.
        runtime: its name in messages.

    Returns:
        A note if the runtime's numbers overflow at every point, so that nothing was compared.

    Raises:
        ModelError: they disagree by more than rounding can explain.
    """
    got = session.run(points).astype(np.float64)
    kinds = (True,) if error is not None else (True, session.dtype == np.float64)
    expected, (own_error, *others) = _chain_errors(network, points, kinds)
    error = others[0] if error is None else error
    if got.shape != expected.shape:
        raise ModelError(
            f"{model}: import refused: {runtime} gives {got.shape[1]} outputs, "
            f"the imported network {expected.shape[1]}"
        )
    allowed = error + own_error
    known = np.isfinite(allowed)
    if not known.any():
        return f"not compared with {runtime}: its numbers overflow at every sample point"
    with np.errstate(invalid="ignore"):
        wrong = known & ~(np.abs(got - expected) <= allowed)
    if wrong.any():
        k, i = map(int, np.argwhere(wrong)[0])
        raise ModelError(
            f"{model}: import refused: at sample point {k} output {i} is {got[k, i]:.9g} in "
            f"{runtime} and {expected[k, i]:.9g} in the imported network, and rounding explains "
            f"only {allowed[k, i]:.3g}"
        )
    return None


#: Unit roundoff, what underflow can lose in one product, and the largest safe number, by type.
_KINDS = {True: (2.0**-53, 2.0**-1020, 2.0**1000), False: (2.0**-24, 2.0**-125, 2.0**120)}


def chain_error(
    network: Network, points: np.ndarray, *, double: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The network's values in float64, and a bound on how far an evaluation is from the exact ones.

    Layer by layer  e' = |W| e + γ_n (|W| |a| + |b|) + n η  (Higham, Accuracy and Stability,
    section 3.1), n the row's nonzeros, with constants more than twice those of the formula, so that
    a itself may be the computed value. A row that copies one activation, perhaps times ±2^k, k ≥ 0,
    rounds nothing. Where z + 2 e' < 0, the ReLU gives 0 in either arithmetic.
    A layer without float64 form has no such bound and is not produced by import.

    Args:
        network: layers with float64 numbers.
        points: (count, n_inputs).
        double: whether the evaluation is in float64, else in float32 (whose numbers the weights and
            points then are), summed in any order.

    Returns:
        Two arrays (count, n_outputs).
    """
    value, (error,) = _chain_errors(network, points, (double,))
    return value, error


def _chain_errors(
    network: Network, points: np.ndarray, kinds: tuple[bool, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The same for several kinds of evaluation in one pass."""
    value = points.T
    errors = [np.zeros_like(value) for _ in kinds]
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in network.layers:
            size = abs(layer.weight)
            terms, copied = _terms(layer)
            n = (terms + 8)[:, None]
            exact_size = size @ np.abs(value) + np.abs(layer.bias)[:, None]
            value = layer.weight @ value + layer.bias[:, None]
            for k, double in enumerate(kinds):
                unit, tiny, largest = _KINDS[double]
                spread = size @ errors[k]
                total = exact_size + spread
                rounded = 2.5 * n * unit * total + n * tiny
                error = spread * (1 + 2.0**-30) + np.where(copied[:, None], 0.0, rounded)
                error[~(total + error < largest)] = np.inf
                error[layer.relu[:, None] & (value + 2 * error < 0)] = 0.0
                errors[k] = error
            value = np.where(layer.relu[:, None], np.maximum(value, 0.0), value)
    return value.T, [error.T for error in errors]


def _terms(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """How many weights each row has, and whether it only copies."""
    if isinstance(layer.weight, np.ndarray):
        terms = np.count_nonzero(layer.weight, axis=1)
        largest = np.abs(layer.weight).max(axis=1, initial=0.0)
    else:
        terms = np.diff(layer.weight.indptr)
        largest = np.zeros(layer.n_out)
        filled = terms > 0
        if filled.any():
            starts = layer.weight.indptr[:-1][filled]
            largest[filled] = np.maximum.reduceat(np.abs(layer.weight.data), starts)
    power = (np.frexp(largest)[0] == 0.5) & (largest >= 1)
    return terms, (terms == 1) & power & (layer.bias == 0)
