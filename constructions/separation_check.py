"""λ(D), its pair and all nearest enemies, checked with integer arithmetic over all pairs of points.

Nothing here knows how they were found: no bit tests, no compiled loops, no early exit.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from constructions.separation import Separation
from verifier.core.errors import CertificateError

#: Differences of this many numbers at a time.
_CHUNK = 2**22


def check_separation(data: DataSet, claim: Separation) -> int:
    """The claim is true of the set: λ, the first closest pair, every nearest enemy if it has them.

    Args:
        data: integer coordinates (times ``data.scale``) of less than 62 bits.
        claim: an answer of ``separation``.

    Returns:
        How many pairs of points with different labels were compared.

    Raises:
        CertificateError: it is not true, or the coordinates are floats.
    """
    if data.points.dtype.kind == "f":
        raise CertificateError(f"{data.name}: floats are not compared here")
    if max(abs(int(data.points.min())), abs(int(data.points.max()))) >= 2**62:
        raise CertificateError(f"{data.name}: coordinates of 62 bits or more are not compared here")
    points, least = data.points.astype(np.int64), -1
    first: tuple[int, int] | None = None
    compared, attained = 0, 0
    for i in range(len(data)):
        enemies = np.flatnonzero(data.labels != data.labels[i])
        steps = _distances(points, i, enemies)
        compared += len(enemies)
        nearest = int(steps.min())
        if claim.nearest is not None:
            _check_nearest(data, claim, i, (enemies, steps))
        attained = 1 if first is None or nearest < least else attained + (nearest == least)
        if first is None or nearest < least:
            least, first = nearest, (i, int(enemies[steps.argmin()]))
    if claim.lam != least * data.scale or claim.pair != first:
        raise CertificateError(
            f"{data.name}: λ is {least * data.scale}, first attained by {first}, "
            f"not {claim.lam} by {claim.pair}"
        )
    if claim.labels != tuple(int(data.labels[i]) for i in claim.pair):
        raise CertificateError(f"{data.name}: points {claim.pair} have other labels")
    if claim.attained is not None and claim.attained != attained:
        raise CertificateError(f"{data.name}: {attained} points have an enemy at distance λ")
    return compared // 2


def _distances(points: np.ndarray, i: int, others: np.ndarray) -> np.ndarray:
    """ℓ∞ distances of point i to the others, as int64."""
    size = max(1, _CHUNK // points.shape[1])
    parts = [others[k : k + size] for k in range(0, len(others), size)]
    return np.concatenate([np.abs(points[part] - points[i]).max(axis=1) for part in parts])


def _check_nearest(
    data: DataSet, claim: Separation, i: int, enemies: tuple[np.ndarray, np.ndarray]
) -> None:
    """The enemy claimed for point i is one, at the distance claimed, and none is nearer."""
    indices, steps = enemies
    if claim.nearest is None or len(claim.nearest) != len(data):
        raise CertificateError(f"{data.name}: expected a nearest enemy for each point")
    where = np.flatnonzero(indices == claim.nearest.enemy[i])
    if len(where) != 1 or steps[where[0]] != steps.min():
        raise CertificateError(
            f"{data.name}: {claim.nearest.enemy[i]} is not a nearest enemy of {i}"
        )
    if claim.nearest.distance(i) != int(steps.min()) * data.scale:
        raise CertificateError(f"{data.name}: the distance of point {i} is wrong")


def check_meeting(
    data: DataSet, pair: tuple[int, int], radius: Fraction, point: tuple[Fraction, ...]
) -> None:
    """No network is right on both closed balls of this radius: they share a point.

    Args:
        data: the set.
        pair: two of its points.
        radius: of the balls.
        point: what they share.

    Raises:
        CertificateError: equal labels, or the point lies outside one of the balls.
    """
    i, j = pair
    if data.labels[i] == data.labels[j]:
        raise CertificateError(f"{data.name}: points {i} and {j} have the same label")
    for k in pair:
        reach = max(abs(a - b) for a, b in zip(data.sample(k), point, strict=True))
        if reach > radius:
            raise CertificateError(f"{data.name}: the point is {reach} from {k}, not {radius}")
