"""The separation bound decides which radii a robust memorization can have (THEORY 0).

No network, of whatever size, is right on closed balls of radius μ ≥ λ/2: the midpoint of a closest
pair of enemies lies in both of their balls. Below λ/2 the balls of enemies are disjoint, and the
networks of ``robust`` are right on them.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet, load_dataset
from constructions.demonstration import Demonstration, Question, Shown
from constructions.rational_points import midpoint
from constructions.robust import shallow
from constructions.separation import Separation, separation
from constructions.separation_check import check_meeting, check_separation
from verifier.core.property import Box, Property

#: Below λ/2 by this factor.
_NEARLY = Fraction(999, 1000)


def square() -> DataSet:
    """Nine points of a 3 × 3 grid, labelled like a chessboard: λ = 1 is attained by 12 pairs."""
    points = np.array([[i, j] for i in range(3) for j in range(3)])
    return DataSet(points, points.sum(axis=1) % 2, (2,), 2, "a 3 × 3 chessboard")


def demonstrate() -> Demonstration:
    """A chessboard, where λ is attained everywhere, and the 1797 digits."""
    shown: list[Shown] = []
    values: dict[str, object] = {}
    sets = (square(), load_dataset("digits"))
    for data in sets:
        found = separation(data, nearest=True)
        shown += _proved(data, found)
        values[data.name] = {
            "lambda": str(found.lam),
            "pair": list(found.pair),
            "attained": found.attained,
            "quick_pair": list(separation(data).pair),
        }
    return Demonstration(
        "A robust memorization of radius μ exists if and only if μ < λ/2, where λ is the smallest "
        "ℓ∞ distance between points with different labels.",
        f"{sets[0].name}, and the {len(sets[1])} {sets[1].name} of {sets[1].dimension} pixels",
        tuple(shown),
        values,
        (_reached(sets[0]),),
    )


def _proved(data: DataSet, found: Separation) -> tuple[Shown, Shown]:
    """λ and its nearest enemies; why λ/2 is out of reach."""
    compared = check_separation(data, found)
    i, j = found.pair
    point, half = midpoint(data.sample(i), data.sample(j)), found.lam / 2
    check_meeting(data, found.pair, half, point)
    return (
        Shown(
            f"{data.name}: λ = {found.lam}, attained by {found.attained} of {len(data)} points, "
            f"first by {i} and {j}; the nearest enemy of every point",
            f"all {compared} pairs with different labels, compared as integers, apart from the "
            "search that found them",
        ),
        Shown(
            f"{data.name}: no network is right on all balls of a radius from λ/2 = {half} on",
            f"the midpoint of points {i} and {j}, of labels {data.label_name(found.labels[0])} and "
            f"{data.label_name(found.labels[1])}, is at distance {half} from both",
        ),
    )


def _reached(data: DataSet) -> Question:
    """A network just below λ/2, on each of its balls."""
    built = shallow(data, _NEARLY * separation(data).lam / 2)
    built.claims.check()
    network = built.network
    numbers = [built.labels.index(int(label)) + 1 for label in data.labels]
    balls = tuple(
        Property.near(Box.ball(data.sample(i), built.radius), number, f"ball {i}")
        for i, number in enumerate(numbers)
    )
    return Question(
        f"{data.name}: below λ/2 there are networks; one of depth {network.depth} and width "
        f"{network.width} is right on all {len(balls)} balls of radius {built.radius}",
        network,
        balls,
    )
