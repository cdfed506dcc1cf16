"""Integer projections that keep the points of a data set apart (THEORY T7, Lemma P).

For distinct points x_1, ..., x_N there is a ∈ Z^d with |a_k| ≤ ⌈N(N−1)/4⌉ and all a·x_i different:
coordinate by coordinate, take the first number in 0, 1, −1, 2, −2, ... that keeps points with
different prefixes apart. Every pair of points rules out at most one number.

Small numbers are slow to find when N is large. The fast variant tries eight of them, and then all
numbers of [0, 2^q), 2^q ≥ 2N(N−1), in the order t·g mod 2^q with g odd; at least three in four of
them will do, so that few passes are needed and |a_k| < 4N².
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import count, pairwise
from math import isqrt

import numpy as np

from constructions.construction import ranked_labels
from constructions.dataset import DataSet
from verifier.core.exact import scaled_integers

_MACHINE = 2**62
_SMALL = 8


@dataclass(frozen=True, eq=False)
class GridPoints:
    """The distinct points of a data set on a grid: point i is rows[i] / denominator, exactly.

    Args:
        rows: (n, d) distinct rows of integers, int64 where all fit, else Python integers.
        denominator: D0 > 0.
        ranks: (n,) labels 1..m.
        labels: which class of the data set each of 1..m is.
        index: (n,) the first point of the data set that is equal to this one.
    """

    rows: np.ndarray
    denominator: int
    ranks: np.ndarray
    labels: tuple[int, ...]
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.ranks)

    @property
    def dimension(self) -> int:
        """Coordinates of a point."""
        return int(self.rows.shape[1])

    def point(self, i: int) -> tuple[Fraction, ...]:
        """Point i exactly."""
        return tuple(Fraction(int(v), self.denominator) for v in self.rows[i])


def grid_points(data: DataSet) -> GridPoints:
    """A data set's points as integers over one denominator; of equal points the first one.

    Args:
        data: equal points with equal labels, as a positive separation says.

    Raises:
        DataError: fewer than two classes occur.
    """
    ranks, labels = ranked_labels(data)
    # + 0 makes one of the two zeros that floats have.
    index = np.sort(np.unique(data.points + 0, axis=0, return_index=True)[1])
    points = data.points[index]
    if points.dtype.kind == "f":
        flat, shift = scaled_integers(points.ravel())
        factor, denominator = 1 << max(0, -shift), 1 << max(0, shift)
        rows = flat.reshape(points.shape) * factor
    else:
        factor, denominator = data.scale.numerator, data.scale.denominator
        fits = max(abs(int(points.min())), abs(int(points.max()))) * factor < _MACHINE
        rows = points.astype(np.int64 if fits else object) * factor
    if rows.dtype == object and max(abs(int(rows.min())), abs(int(rows.max()))) < _MACHINE:
        rows = rows.astype(np.int64)
    return GridPoints(rows, denominator, ranks[index], labels, index)


@dataclass(frozen=True, eq=False)
class Projection:
    """Distinct integers z_i = D0 a·x_i.

    Args:
        a: (d,) Python integers.
        values: (n,) the z_i as Python integers.
        denominator: D0; z_i = a · rows[i].
        passes: how many candidates were tried.
    """

    a: tuple[int, ...]
    values: tuple[int, ...]
    denominator: int
    passes: int

    @property
    def weights(self) -> tuple[int, ...]:
        """w = D0 a, so that z_i = w·x_i."""
        return tuple(self.denominator * v for v in self.a)

    @cached_property
    def norm(self) -> int:
        """|w|₁: on the ℓ∞ ball of radius r around x, w·x moves by up to r |w|₁ both ways."""
        return sum(map(abs, self.weights))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The points in ascending order of z."""
        return tuple(sorted(range(len(self.values)), key=self.values.__getitem__))

    @cached_property
    def smallest_gap(self) -> int:
        """The smallest difference of two z_i."""
        ordered = [self.values[i] for i in self.order]
        return min(b - a for a, b in pairwise(ordered))


def project(points: GridPoints, *, fast: bool = True) -> Projection:
    """Lemma P.

    Args:
        points: at least two.
        fast: the variant with |a_k| < 4N² and few passes; else the smallest numbers, with
            |a_k| ≤ ⌈N(N−1)/4⌉, which takes about 2 max|a_k| passes a coordinate.
    """
    n, d = points.rows.shape
    spread = sum(max(abs(int(c.min())), abs(int(c.max()))) for c in points.rows.T)
    kind = np.int64 if 4 * n * n * spread < _MACHINE else object
    sums, prefixes = np.zeros(n, dtype=kind), np.zeros(n, dtype=np.int64)
    a, passes = [0] * d, 0
    for k in range(d):
        column = points.rows[:, k].astype(kind)
        values, ranks = np.unique(column, return_inverse=True)
        joint = prefixes * len(values) + ranks.reshape(-1)
        _, first, prefixes = np.unique(joint, return_index=True, return_inverse=True)
        prefixes = prefixes.reshape(-1)
        for v in _fast_candidates(n) if fast else _small_candidates():
            passes += 1
            if len(np.unique(sums[first] + v * column[first])) == len(first):
                break
        a[k] = v
        sums = sums + v * column
        if len(first) == n:  # the points are apart: 0 is the first candidate, and does, from here
            break
    return Projection(tuple(a), tuple(int(v) for v in sums), points.denominator, passes)


def _small_candidates() -> Iterator[int]:
    """0, 1, −1, 2, −2, ..."""
    for t in count():
        yield (t + 1) // 2 if t % 2 else -(t // 2)


def _fast_candidates(n: int) -> Iterator[int]:
    """Eight small numbers, then a permutation of [0, 2^q)."""
    for t, v in enumerate(_small_candidates()):
        if t == _SMALL:
            break
        yield v
    q = max(3, (2 * n * (n - 1)).bit_length())
    golden = (isqrt(5 << 2 * q) - (1 << q)) // 2 | 1
    for t in count(1):
        yield t * golden % (1 << q)
