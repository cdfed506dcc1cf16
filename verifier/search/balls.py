"""The interval pass for many boxes at once: the labels of a data set's balls, and single problems.

Incomplete: what it does not prove it knows nothing about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from verifier.bounds.ball_batch import output_bounds, plan
from verifier.core.decision import Decision
from verifier.core.network import Network
from verifier.core.verdict import Proved
from verifier.search.problem import Deadline


@dataclass(frozen=True, eq=False)
class EnclosureEvidence:
    """The outputs lie in these intervals on the whole box, which leaves one class.

    Args:
        low, high: (n_outputs,) float64, from ``verifier.bounds.ball_batch``.
    """

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class BallResult:
    """What the pass says of one box.

    Args:
        index: position of the box.
        verdict: Proved, or None where bounds leave another class too.
    """

    index: int
    verdict: Proved | None


def prove_balls(
    network: Network,
    decision: Decision,
    classes: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    deadline: Deadline,
) -> Iterator[BallResult]:
    """Which boxes have one class, as bounds show.

    Args:
        network: a float network.
        decision: how its outputs mean a class.
        classes: (count,) the class that each box should have.
        lower, upper: (count, n_inputs) float64 faces that contain the boxes.
        deadline: looked at before each batch; boxes after it are left out.

    Yields:
        one result a box, in order.

    Raises:
        PropertyError: the network's outputs cannot be read like this.
        NetworkError: the network has no float64 form.
    """
    decision.check_fits(network.n_outputs)
    prepared = plan(network)
    statistics = pass_statistics(prepared.n_pairs)
    finite = np.isfinite(lower).all(axis=1) & np.isfinite(upper).all(axis=1)
    lower, upper = np.where(finite[:, None], lower, 0.0), np.where(finite[:, None], upper, 0.0)
    for part, low, high, known in output_bounds(
        prepared, lower, upper, stop=lambda: deadline.passed
    ):
        certain = known & finite[part] & decision.certain(classes[part], low, high)
        for i, holds in enumerate(certain.tolist()):
            proved = Proved(EnclosureEvidence(low[i], high[i]), statistics) if holds else None
            yield BallResult(part.start + i, proved)


def pass_statistics(pairs: int) -> dict[str, float]:
    """What a verdict of this pass says of itself."""
    return {"interval pass": 1.0, "max rules": float(pairs)}
