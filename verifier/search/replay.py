"""A witness in the deployed arithmetic: what an ONNX runtime computes in float32 near it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from verifier.core.exact import fractions, round_down
from verifier.core.property import Box, Property
from verifier.core.verdict import Replay, Witness


def round_into(box: Box, x: Sequence[Fraction]) -> np.ndarray | None:
    """The float32 point of the box nearest to x, or None if the box holds no float32 point.

    Rounding to nearest may leave the box; the runtime's input must not, so the point is cut to the
    largest float32 box inside.

    Args:
        box: the exact box.
        x: n_inputs exact coordinates.

    Returns:
        (n_inputs,) float32.
    """
    lower, upper = box.inward32()
    if np.any(lower > upper):
        return None
    with np.errstate(over="ignore"):
        nearest = np.array([round_down(v) for v in x]).astype(np.float32)
    return np.asarray(np.minimum(np.maximum(nearest, lower), upper))


def replay(
    witness: Witness, prop: Property, run: Callable[[np.ndarray], np.ndarray]
) -> Replay | None:
    """Run the model at the witness rounded into its box.

    Args:
        witness: an exact witness of the property.
        prop: the property.
        run: float32 inputs (n_inputs,) to outputs (n_outputs,), as deployed.

    Returns:
        What came out, and whether it is unsafe, compared exactly (outputs that are not finite never
        count as unsafe). None if no float32 point lies in the box.
    """
    point = round_into(prop.cases[witness.case].box, witness.x)
    if point is None:
        return None
    y = np.asarray(run(point), dtype=np.float64).ravel()  # exact, whatever the model's type
    finite = bool(np.isfinite(y).all())
    violated = finite and prop.violation(fractions(point), fractions(y)) is not None
    return Replay(tuple(float(v) for v in point), tuple(float(v) for v in y), violated)
