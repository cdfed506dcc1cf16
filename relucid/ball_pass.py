"""The first pass over the balls of a data set: all of them at once, by intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from verifier.core.decision import Decision
from verifier.core.errors import DataError
from verifier.core.exact import round_down, round_up
from verifier.core.network import Network
from verifier.core.verdict import Proved
from verifier.search.balls import prove_balls
from verifier.search.problem import Deadline

#: Points whose boxes are made at a time.
_BATCH = 2048


@dataclass(frozen=True)
class Ball:
    """Which box to put around a point.

    Args:
        eps: ℓ∞ radius.
        clip: lowest and highest possible value of a coordinate, or None.
        exact_center: the rational value of the data (p/255) instead of its nearest float32.
    """

    eps: Fraction
    clip: tuple[Fraction, Fraction] | None = None
    exact_center: bool = False

    def center(self, data: DataSet, i: int) -> tuple[Fraction, ...]:
        """The middle of the ball around a point, exactly.

        Raises:
            DataError: it lies outside of the clip range, or no float32 is near it.
        """
        middle = (
            data.sample(i)
            if self.exact_center
            else tuple(Fraction(float(v)) for v in data.float32(i))
        )
        if self.clip is not None and not all(self.clip[0] <= v <= self.clip[1] for v in middle):
            raise DataError(
                f"{data.name}: point {i} has values outside of [{self.clip[0]}, {self.clip[1]}]; "
                "give --clip LOW HIGH that holds all of them, or --no-clip"
            )
        return middle


def prove_points(
    network: Network,
    decision: Decision,
    data: DataSet,
    indices: Sequence[int],
    positions: np.ndarray,
    ball: Ball,
    deadline: Deadline,
) -> Iterator[tuple[int, Proved | None]]:
    """Which points' balls have one class, as interval bounds show.

    Args:
        network: a float network.
        decision: how its outputs mean a class.
        data: the points.
        indices: which of them.
        positions: for each of these the class that its ball should have.
        ball: the box around a point.
        deadline: points after it are left out.

    Yields:
        (index, Proved or None), in order; a point outside of the clip range is not proved.
    """
    for start in range(0, len(indices), _BATCH):
        rows = np.asarray(indices[start : start + _BATCH])
        lower, upper, inside = boxes(data, rows, ball)
        wanted = positions[start : start + _BATCH]
        for result in prove_balls(network, decision, wanted, lower, upper, deadline):
            verdict = result.verdict if inside[result.index] else None
            yield int(rows[result.index]), verdict


def boxes(data: DataSet, rows: np.ndarray, ball: Ball) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smallest float64 boxes around the balls of some points.

    Every distinct coordinate is rounded once, which makes pictures cheap.

    Returns:
        (lower, upper, inside): (n, d) faces, and (n,) whether there is such a ball: its middle
        lies in the clip range, and in that of float32 if it is rounded to that.
    """
    found, which = np.unique(data.points[rows], return_inverse=True)
    which = which.reshape(len(rows), -1)
    low, high, good = np.zeros(len(found)), np.zeros(len(found)), np.ones(len(found), dtype=bool)
    values = DataSet(found[None], np.zeros(1, dtype=int), found.shape, 1, data.name, data.scale)
    try:
        middles = values.sample(0) if ball.exact_center else values.float32(0).tolist()
    except DataError:  # which the point itself will report
        return low[which], high[which], np.zeros(len(rows), dtype=bool)
    for k, value in enumerate(middles):
        middle = Fraction(value)
        first, last = middle - ball.eps, middle + ball.eps
        if ball.clip is not None:
            good[k] = ball.clip[0] <= middle <= ball.clip[1]
            first, last = max(first, ball.clip[0]), min(last, ball.clip[1])
        low[k], high[k] = round_down(first), round_up(last)
    return low[which], high[which], np.asarray(good[which].all(axis=1))
