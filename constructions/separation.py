"""The separation bound λ(D) and every point's nearest enemy, exactly (THEORY 0).

λ(D) = min ‖x_i − x_j‖∞ over differently labelled points. A robust memorization of radius μ exists
exactly for μ < λ/2: the midpoint of the closest pair lies in both balls of radius λ/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from constructions.memory import MEMORY
from constructions.rational_points import distance
from constructions.separation_search import Found, Progress, Search, common_grid, require_memory
from verifier.core.errors import DataError


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each point the nearest point with another label.

    Args:
        enemy: (n,) its index. Among equally near ones the one with the lowest label, then the
            lowest index.
        steps, rest: (n,) distance = (steps + rest) · unit, exactly; ``rest`` is None if it is 0.
        unit: value of one step.
    """

    enemy: np.ndarray
    steps: np.ndarray
    rest: np.ndarray | None
    unit: Fraction

    def __len__(self) -> int:
        return len(self.enemy)

    def distance(self, i: int) -> Fraction:
        """The distance of point i, exactly."""
        rest = Fraction(0) if self.rest is None else Fraction(float(self.rest[i]))
        return (Fraction(self.steps[i].item()) + rest) * self.unit

    def floats(self) -> np.ndarray:
        """All distances, each within an ulp or two: for pictures."""
        return self.steps * float(self.unit)

    def order(self) -> np.ndarray:
        """The points in ascending order of exact distance."""
        keys = (self.steps,) if self.rest is None else (self.rest, self.steps)
        return np.lexsort(keys)

    def quantile(self, share: Fraction) -> Fraction:
        """The smallest of the distances that at least this share of them does not exceed.

        Raises:
            ValueError: a share outside [0, 1].
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a share lies in [0, 1], got {share}")
        return self.distance(int(self.order()[max(0, math.ceil(share * len(self)) - 1)]))

    def share_above(self, eps: Fraction) -> Fraction:
        """Which share of the points is farther than eps from its nearest enemy."""
        ordered = self.order()
        low, high = 0, len(ordered)
        while low < high:
            middle = (low + high) // 2
            if self.distance(int(ordered[middle])) > eps:
                high = middle
            else:
                low = middle + 1
        return Fraction(len(ordered) - low, len(ordered))


@dataclass(frozen=True, eq=False)
class Separation:
    """λ, where it is attained, and, if asked for, all nearest enemies.

    Args:
        lam: the smallest distance between differently labelled points.
        pair: (i, j), the lexicographically first closest pair; i < j if both come from one set,
            else i is a point of the first set and j one of the other.
        labels: of i and j.
        nearest: of every point (of the first set), or None.
    """

    lam: Fraction
    pair: tuple[int, int]
    labels: tuple[int, int]
    nearest: Nearest | None = None

    @property
    def attained(self) -> int | None:
        """How many points have an enemy at distance λ, if nearest enemies were asked for."""
        if self.nearest is None:
            return None
        steps, rest = self.nearest.steps, self.nearest.rest
        first = int(self.nearest.order()[0])
        same = steps == steps[first]
        return int((same if rest is None else same & (rest == rest[first])).sum())


def separation(
    data: DataSet,
    *,
    nearest: bool = False,
    progress: Progress | None = None,
    memory: int = MEMORY,
) -> Separation:
    """λ of a set, exactly. A λ of 0 is an answer; see ``positive_separation``.

    Args:
        data: at least two labels.
        nearest: whether to find every point's nearest enemy too, which takes several times longer.
        progress: called now and then with the share of the work that is done.
        memory: bytes that the search may take.

    Raises:
        DataError: all points have one label, values too far apart for a machine number, or too
            little memory, with the estimate.
    """
    labels = data.labels
    if (labels == labels[0]).all():
        raise DataError(
            f"{data.name}: all {len(data)} points have the label "
            f"{data.label_name(int(labels[0]))}; the separation bound needs two labels"
        )
    require_memory([data], memory)
    grid = common_grid([data])
    search = Search(grid, labels, labels, progress)
    found = search.nearest() if nearest else search.closest()
    return _separation((data, data), found, _first_pair(search, found), grid.unit, nearest)


def separation_between(
    data: DataSet,
    other: DataSet,
    *,
    progress: Progress | None = None,
    memory: int = MEMORY,
) -> Separation:
    """Each point's nearest enemy in another set, and the smallest of these distances.

    Args:
        data: the points asked about, for example a test set.
        other: where enemies come from, for example the training set.
        progress: called now and then with the share of the work that is done.
        memory: bytes that the search may take.

    Raises:
        DataError: sets of different dimension, unit or classes, a point without an enemy, or too
            little memory, with the estimate.
    """
    if data.n_classes != other.n_classes or data.label_names != other.label_names:
        raise DataError(f"{data.name} and {other.name} have different classes")
    require_memory([data, other], memory)
    grid = common_grid([data, other])
    only = int(other.labels[0])
    if (other.labels == only).all() and (data.labels == only).any():
        i = int(np.flatnonzero(data.labels == only)[0])
        raise DataError(
            f"{data.name}: point {i} has no enemy: it and all points of {other.name} have the "
            f"label {data.label_name(only)}"
        )
    search = Search(grid, data.labels, other.labels, progress)
    found = search.nearest()
    i = int(_closest(found)[0])
    pair = (i, int(search.partners(i, found, i)[0]))
    return _separation((data, other), found, pair, grid.unit, True)


def positive_separation(data: DataSet) -> Separation:
    """λ of a set for a construction, which needs λ > 0.

    Raises:
        DataError: λ = 0, with the pair; or as ``separation``.
    """
    found = separation(data)
    if found.lam == 0:
        (i, j), (a, b) = found.pair, found.labels
        raise DataError(
            f"{data.name}: λ = 0: points {i} and {j} are equal, but have the labels "
            f"{data.label_name(a)} and {data.label_name(b)}; no network gives both"
        )
    return found


def _first_pair(search: Search, found: Found) -> tuple[int, int]:
    """The lexicographically first closest pair of one set.

    Of each closest pair at least one point is among the rows found closest, but a point of no such
    row may come first. It is a partner of one of them, and not after the first point known; the
    shorter of these two lists is searched.
    """
    closest = _closest(found)
    known = min(int(closest[0]), int(found.who[closest].min()))
    rows = closest.tolist() if len(closest) <= known else range(known + 1)
    pairs = []
    for i in rows:
        partners = search.partners(i, found, int(closest[0]))
        if len(partners):
            pairs.append(tuple(sorted((i, int(partners[0])))))
    i, j = min(pairs)
    return i, j


def _closest(found: Found) -> np.ndarray:
    """The rows with the smallest distance, ascending."""
    known = np.flatnonzero(found.who >= 0)
    steps = found.steps[known]
    known = known[steps == steps.min()]
    if found.rest is not None:
        rest = found.rest[known]
        known = known[rest == rest.min()]
    return known


def _separation(
    sets: tuple[DataSet, DataSet],
    found: Found,
    pair: tuple[int, int],
    unit: Fraction,
    nearest: bool,
) -> Separation:
    """The answer, with λ computed once more from the pair itself."""
    (first, second), (i, j) = sets, pair
    lam = distance(first.sample(i), second.sample(j))
    everything = Nearest(found.who, found.steps, found.rest, unit) if nearest else None
    labels = (int(first.labels[i]), int(second.labels[j]))
    return Separation(lam, pair, labels, everything)
