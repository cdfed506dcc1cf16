"""Small labelled point sets, points of balls around them, and exact distances."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from constructions.dataset import DataSet

SCALES = [Fraction(1), Fraction(1, 16), Fraction(1, 255), Fraction(3, 10), Fraction(1000)]


@st.composite
def small_sets(draw, *, classes: int = 4, max_points: int = 8) -> DataSet:
    """2 to 8 distinct points in 1 to 4 dimensions, of at least two classes.

    Integers times a rational scale, or float64 numbers with all their bits.
    """
    d = draw(st.integers(1, 4))
    n = draw(st.integers(2, max_points))
    coordinate = st.integers(-3, 12)
    rows = draw(st.lists(st.tuples(*[coordinate] * d), min_size=n, max_size=n, unique=True))
    labels = draw(
        st.lists(st.integers(0, classes - 1), min_size=n, max_size=n).filter(
            lambda chosen: len(set(chosen)) > 1
        )
    )
    points = np.array(rows)
    if draw(st.booleans()):
        noise = np.random.default_rng(draw(st.integers(0, 99))).random(points.shape)
        return DataSet(points + noise / 4, np.array(labels), (d,), classes)
    scale = draw(st.sampled_from(SCALES))
    return DataSet(points, np.array(labels), (d,), classes, scale=scale)


def random_set(n: int, d: int, m: int, seed: int = 7) -> DataSet:
    """n different points of d bytes, labels 0..m-1 in turn, shuffled."""
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, 256, (2 * n, d)), axis=0)
    points = points[rng.permutation(len(points))[:n]]
    return DataSet(points, rng.permutation(np.arange(n) % m), (d,), m, "random")


def distance(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """‖a − b‖_∞."""
    return max(abs(p - q) for p, q in zip(a, b, strict=True))


def separation(data: DataSet) -> Fraction:
    """λ(D) by its definition."""
    return min(
        distance(data.sample(i), data.sample(j))
        for i, j in itertools.combinations(range(len(data)), 2)
        if data.labels[i] != data.labels[j]
    )


def ball_points(
    data: DataSet, i: int, radius: Fraction, rng: np.random.Generator, count: int = 4
) -> Iterator[tuple[Fraction, ...]]:
    """The centre, some corners and some other rational points of the ball around a sample."""
    centre = data.sample(i)
    yield centre
    for k in range(2 * count):
        choices = (-1, 1) if k < count else range(-97, 98)
        steps = [Fraction(int(rng.choice(choices)), 1 if k < count else 97) for _ in centre]
        yield tuple(c + radius * s for c, s in zip(centre, steps, strict=True))
