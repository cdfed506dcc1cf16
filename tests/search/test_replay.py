"""Replays stay inside the box and are judged exactly."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Witness
from verifier.search.replay import replay, round_into

rationals = st.fractions(min_value=-10, max_value=10, max_denominator=10**9)


@given(st.lists(st.tuples(rationals, rationals, st.fractions(0, 1)), min_size=1, max_size=4))
def test_the_rounded_point_never_leaves_the_box(coordinates):
    lower = tuple(min(a, b) for a, b, _ in coordinates)
    upper = tuple(max(a, b) for a, b, _ in coordinates)
    x = tuple(
        low + (high - low) * t
        for low, high, (_, _, t) in zip(lower, upper, coordinates, strict=True)
    )
    box = Box(lower, upper)
    point = round_into(box, x)
    if point is None:
        low32, high32 = box.inward32()
        assert any(low32 > high32)
        return
    assert point.dtype == np.float32
    assert box.contains([float(v) for v in point])
    for p, exact, low, high in zip(point, x, lower, upper, strict=True):
        for direction in (-np.inf, np.inf):
            neighbour = np.nextafter(p, np.float32(direction))
            if low <= Fraction(float(neighbour)) <= high:
                ulp = abs(Fraction(float(neighbour)) - Fraction(float(p)))
                assert abs(Fraction(float(p)) - exact) <= ulp


def test_plain_rounding_would_leave_the_box():
    tenth = Fraction(1, 10)
    box = Box((Fraction(0),), (tenth,))
    assert Fraction(float(np.float32(0.1))) > tenth
    (point,) = round_into(box, (tenth,))
    assert point == np.nextafter(np.float32(0.1), np.float32(0))


def at_least(bound, strict=False):
    """One input in [0, 1/10], unsafe if the output is at least the bound."""
    constraint = LinearConstraint(((0, Fraction(1)),), Fraction(bound), strict)
    box = Box((Fraction(0),), (Fraction(1, 10),))
    return Property((Case(box, ((constraint,),)),), 1, 1)


WITNESS = Witness((Fraction(1, 10),), (Fraction(1),), 0, 0)


@pytest.mark.parametrize(
    ("output", "bound", "strict", "violated"),
    [
        (1.0, 1, False, True),
        (1.0, 1, True, False),
        (0.1, Fraction(1, 10), True, True),
        (0.1, Fraction(float(np.float32(0.1))), True, False),
        (np.inf, 1, False, False),
        (np.nan, 1, False, False),
    ],
)
def test_outputs_are_compared_exactly(output, bound, strict, violated):
    seen = []

    def run(x):
        seen.append(x)
        return np.array([output], dtype=np.float32)

    result = replay(WITNESS, at_least(bound, strict), run)
    assert result.violated == violated
    assert result.x == (float(seen[0][0]),)
    np.testing.assert_array_equal(result.y, np.float32(output))


def test_a_box_without_float32_points_is_not_replayed():
    third = Fraction(1, 3)
    prop = Property((Case(Box((third,), (third,)), ((),)),), 1, 1)
    witness = Witness((third,), (Fraction(0),), 0, 0)

    def run(x):
        raise AssertionError("must not be called")

    assert replay(witness, prop, run) is None
