"""The depth-2 network of a data set: right on all balls, or refused with the critical radius."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from point_sets import grid_points
from strategies import generators

from constructions.dataset import DataSet
from constructions.depth_two import critical_radius, pinwheel
from constructions.depth_two_network import depth_two
from constructions.radius import RadiusError
from verifier.core.errors import DataError


def data_set(points, labels, scale=Fraction(1)):
    """Integer multiples of the scale, or floats."""
    labels = np.array(labels)
    points = np.array(points)
    return DataSet(points, labels, points.shape[1:], int(labels.max()) + 1, "d", scale)


def wheel():
    """The pinwheel at s = 2/5, labels 1, 2, 1, 2: critical radius 29/100."""
    return data_set([[0, 0], [5, 2], [3, 7], [-2, 5]], [4, 9, 4, 9], Fraction(1, 5))


def thirds():
    """{0} against the points with three of four ones: every split is a coordinate, and β is 1/3."""
    return data_set(np.vstack([np.zeros(4, int), 1 - np.eye(4, dtype=int)]), [0, 1, 1, 1, 1])


@given(generators())
@settings(max_examples=30, deadline=None)
def test_it_is_right_on_the_balls(rng):
    points = grid_points(rng, max_points=8)
    q = Fraction(1, 12)
    integers = [[int(v / q) for v in x] for x in points.points]
    data = data_set(integers, points.labels, q)
    share = Fraction(int(rng.integers(0, 16)), 16)
    built = depth_two(data, None, share=share)
    built.claims.check()
    ranks = {y: k + 1 for k, y in enumerate(sorted(set(points.labels)))}
    same = type(points)(points.points, tuple(ranks[y] for y in points.labels))
    assert built.radius == share * critical_radius(same).radius
    assert built.network.depth == 2
    for _ in range(20):
        i = int(rng.integers(len(data)))
        shift = [Fraction(int(v), 9) for v in rng.choice([-9, 9, *range(-9, 10)], data.dimension)]
        x = [c + built.radius * s for c, s in zip(data.sample(i), shift, strict=True)]
        assert built.label(built.network.exact(x)) == data.labels[i]
    assert built.closest_claims(data).hold


def test_steps_that_are_no_binary_fractions_are_multiplied_away():
    built = depth_two(thirds(), None, share=Fraction(3, 4))
    built.claims.check()
    assert built.radius == Fraction(3, 8)
    assert built.label_step == 3
    assert built.network.is_float
    assert built.network.exact([0, 0, 0, 0]) == (3,)
    assert built.network.exact([1, 0, 1, 1]) == (6,)
    assert built.label((Fraction(3),)) == 0
    assert built.label((Fraction(6),)) == 1
    for value in (Fraction(1), Fraction(2), Fraction(4), Fraction(9)):
        assert built.label((value,)) is None


def test_refusals_name_the_reason_exactly():
    with pytest.raises(DataError, match=r"no depth-2 network of any width.*3/10.*exactly 29/100"):
        depth_two(wheel(), Fraction(3, 10))
    with pytest.raises(DataError, match=r"29/100.*silent"):
        depth_two(wheel(), Fraction(29, 100))
    with pytest.raises(RadiusError, match="midpoint"):
        depth_two(wheel(), Fraction(1, 2))
    with pytest.raises(DataError, match="at least 0"):
        depth_two(wheel(), Fraction(-1))
    built = depth_two(wheel(), Fraction(28, 100))
    assert built.labels == (4, 9)
    assert critical_radius(pinwheel(Fraction(2, 5))).radius == Fraction(29, 100)


def test_data_without_an_answer():
    with pytest.raises(DataError, match=r"201 points.*at most 200"):
        depth_two(data_set(np.arange(201)[:, None], np.arange(201) % 2), None)
    with pytest.raises(DataError, match="label"):
        depth_two(data_set([[0], [1]], [1, 1]), None)
    with pytest.raises(DataError, match="λ = 0"):
        depth_two(data_set([[0], [1], [1]], [0, 0, 1]), None)
