"""Labelled rational points: what they accept, refuse and measure."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from strategies import generators

from constructions.rational_points import RationalPoints, distance, in_ball, origin_and_units
from verifier.core.errors import DataError


@given(generators())
def test_separation_against_numpy(rng):
    n, d = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    points = rng.integers(-9, 10, (n, d))
    labels = rng.integers(0, 3, n)
    enemies = labels[:, None] != labels[None, :]
    gaps = abs(points[:, None] - points[None, :]).max(axis=2)
    exact = tuple(tuple(Fraction(int(v), 7) for v in x) for x in points)
    if not enemies.any():
        with pytest.raises(DataError, match="same label"):
            RationalPoints(exact, tuple(labels))
    elif gaps[enemies].min() == 0:
        with pytest.raises(DataError, match="are equal"):
            RationalPoints(exact, tuple(labels))
    else:
        assert RationalPoints(exact, tuple(labels)).separation == Fraction(
            int(gaps[enemies].min()), 7
        )


def test_floats_mean_their_exact_value():
    data = RationalPoints(((0.1,), (np.float32(0.5),)), (1, 2))
    assert data.points == ((Fraction(0.1),), (Fraction(1, 2),))


def test_origin_and_units():
    data = origin_and_units(3, origin=5, units=7)
    assert data.points == ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert data.labels == (5, 7, 7, 7)
    assert data.separation == 1
    with pytest.raises(DataError, match="at least 1"):
        origin_and_units(0, origin=1, units=2)
    with pytest.raises(DataError, match="same label"):
        origin_and_units(2, origin=1, units=1)


def test_balls_are_closed():
    centre, point = (Fraction(0), Fraction(1)), (Fraction(1, 2), Fraction(1))
    assert distance(centre, point) == Fraction(1, 2)
    assert in_ball(point, centre, Fraction(1, 2))
    assert not in_ball(point, centre, Fraction(1, 2) - Fraction(1, 10**30))


def test_bad_data():
    for points, labels, words in (
        (((0,), (1,)), (1, 1), "same label"),
        (((0,), (0,)), (1, 2), "points 0 and 1 are equal"),
        (((0,), (1,)), (1, 2, 3), "2 points but 3 labels"),
        (((0,), (1, 2)), (1, 2), "same number of coordinates"),
        (((), ()), (1, 2), "at least 1"),
        (((0,), (float("nan"),)), (1, 2), "not a number"),
    ):
        with pytest.raises(DataError, match=words):
            RationalPoints(points, labels)
