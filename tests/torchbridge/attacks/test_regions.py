"""Points end in the exact ball, whatever the radius, the middle and the point are."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.core.errors import DataError, PropertyError

pytest.importorskip("torch")

from torchbridge.attacks.regions import L2Ball, LinfBall, PixelBall

UNIT = (Fraction(0), Fraction(1))
#: Radii that no float is, none, smaller than any float32, larger than the range.
RADII = [
    Fraction(1, 3), Fraction(0), Fraction(1, 2**149), Fraction(1, 10**60), Fraction(3, 2),
    Fraction(8, 255), Fraction(10**50), Fraction(1, 10),
]  # fmt: skip
floats32 = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0**-149, 1 - 2.0**-24]), st.floats(0, 1, width=32)
)
middles = st.lists(floats32, min_size=4, max_size=4)
points = st.lists(
    st.one_of(floats32, st.floats(-(2.0**100), 2.0**100, width=32), st.floats(0, 1)),
    min_size=4,
    max_size=4,
)


def exact(values):
    return tuple(Fraction(v) for v in values)


@given(middles, points, st.sampled_from(RADII), st.booleans())
def test_linf_points_end_inside(middle, point, radius, cut):
    ball = LinfBall(exact(middle), radius, UNIT if cut else None)
    inside = ball.inward(np.array(point))
    assert inside is not None  # the middle is float32 itself
    for v, c, p in zip(inside, middle, point, strict=True):
        assert abs(v - Fraction(c)) <= radius
        assert not cut or 0 <= v <= 1
        assert Fraction(float(np.float32(float(v)))) == v
        low, high = Fraction(c) - radius, Fraction(c) + radius
        if low <= Fraction(p) <= high and (not cut or 0 <= p <= 1):
            # A float32 point inside stays; another one moves to a neighbour.
            assert abs(v - Fraction(p)) <= Fraction(abs(np.spacing(np.float32(p))).item())
    assert ball.contains(inside)


@given(middles, points, st.sampled_from(RADII), st.booleans())
def test_l2_points_end_inside(middle, point, radius, cut):
    ball = L2Ball(exact(middle), radius, UNIT if cut else None)
    inside = ball.inward(np.array(point))
    assert inside is not None
    assert sum((v - Fraction(c)) ** 2 for v, c in zip(inside, middle, strict=True)) <= radius**2
    assert not cut or all(0 <= v <= 1 for v in inside)


@given(middles, points, st.integers(0, 5), st.sampled_from([1, 2]))
def test_pixels_end_inside(middle, point, count, channels):
    ball = PixelBall(exact(middle), Fraction(count), UNIT, channels)
    inside = ball.inward(np.array(point))
    changed = {j % (4 // channels) for j, c in enumerate(middle) if inside[j] != Fraction(c)}
    assert len(changed) <= count
    assert all(0 <= v <= 1 for v in inside)
    assert ball.contains(inside)


def test_the_faces_of_a_ball_that_no_float_is():
    """1/3 above 0: the float32 below it is in, the one above it is out."""
    ball = LinfBall(exact([0.0]), Fraction(1, 3), UNIT)
    third = np.float32(1 / 3)
    assert Fraction(float(third)) > Fraction(1, 3)
    (v,) = ball.inward(np.array([third]))
    assert v == Fraction(float(np.nextafter(third, np.float32(0))))
    assert not ball.contains((Fraction(float(third)),))


def test_a_ball_without_a_float32_point():
    """Around 1/3, radius 2^-40: no float32 is that near."""
    for kind in (LinfBall, L2Ball):
        ball = kind((Fraction(1, 3),), Fraction(1, 2**40), UNIT)
        assert ball.inward(np.array([1 / 3])) is None
        lower, upper = ball.search_box
        assert lower == upper == np.float32(1 / 3)


def test_pixels_that_do_not_change_keep_an_exact_value():
    ball = PixelBall((Fraction(1, 3), Fraction(1, 7)), Fraction(1), UNIT)
    assert ball.inward(np.array([1.0, 1 / 7])) == (Fraction(1), Fraction(1, 7))


def test_what_is_refused():
    with pytest.raises(PropertyError, match="at least 0"):
        LinfBall((Fraction(0),), Fraction(-1), UNIT)
    with pytest.raises(PropertyError, match="outside of"):
        LinfBall((Fraction(2),), Fraction(1), UNIT)
    with pytest.raises(DataError, match="range for their values"):
        PixelBall((Fraction(0),), Fraction(1), None)
