"""Floats are rationals, and roundings go the way their names say; judged by Fractions alone."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from verifier.core.exact import (
    common_denominator,
    fractions,
    round_down,
    round_down32,
    round_up,
    round_up32,
    scaled_integers,
)

LARGEST = Fraction(float(np.finfo(np.float64).max))
LARGEST32 = Fraction(float(np.finfo(np.float32).max))

finite = st.floats(allow_nan=False, allow_infinity=False)
finite32 = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def rationals(draw, floats=finite):
    """Rationals of every size: floats, ties between floats, next to floats, beyond all floats."""
    near = Fraction(draw(floats))
    kind = draw(st.sampled_from(["float", "tie", "near", "quotient", "huge"]))
    if kind == "tie":
        other = Fraction(draw(floats))
        return (near + other) / 2
    if kind == "near":
        return near + Fraction(draw(st.sampled_from([-1, 1])), 10 ** draw(st.integers(0, 1200)))
    if kind == "quotient":
        return near / draw(st.integers(1, 10**30))
    if kind == "huge":
        return near * 2 ** draw(st.integers(0, 1100))
    return near


@given(rationals())
@example(Fraction(1, 3))
@example(-Fraction(1, 3))
@example(Fraction(1, 2**1075))
@example(-Fraction(1, 2**1075))
@example(Fraction(3, 2**1075))
@example(Fraction(1, 2**5000))
@example(-Fraction(1, 2**5000))
@example(LARGEST)
@example(LARGEST + 1)
@example(-LARGEST - 1)
@example(Fraction(2) ** 1024)
@example(-(Fraction(2) ** 1024))
@example(Fraction(0))
def test_rounding_to_float64_gives_the_two_neighbours(value):
    low, high = round_down(value), round_up(value)
    assert low == -math.inf or Fraction(low) <= value
    assert high == math.inf or Fraction(high) >= value
    # No float lies between the value and its rounding.
    above, below = math.nextafter(low, math.inf), math.nextafter(high, -math.inf)
    assert above == math.inf or Fraction(above) > value
    assert below == -math.inf or Fraction(below) < value


@given(rationals(finite32))
@example(Fraction(1, 3))
@example(-Fraction(1, 3))
@example(Fraction(1, 2**150))
@example(-Fraction(1, 2**150))
@example(Fraction(1, 2**1075))
@example(-Fraction(1, 2**5000))
@example(LARGEST32 + Fraction(1, 10))
@example(-LARGEST32 - Fraction(1, 10))
@example(-LARGEST32 - Fraction(2) ** 103)
@example(LARGEST + 1)
@example(-LARGEST - 1)
@example(Fraction(1) + Fraction(1, 2**24) + Fraction(1, 2**60))  # a tie after rounding to float64
@example(Fraction(1) + Fraction(1, 2**24) - Fraction(1, 2**60))
@example(-Fraction(1) - Fraction(1, 2**24) - Fraction(1, 2**60))
def test_rounding_to_float32_gives_the_two_neighbours(value):
    low, high = round_down32(value), round_up32(value)
    assert low.dtype == high.dtype == np.float32
    assert np.isneginf(low) or Fraction(float(low)) <= value
    assert np.isposinf(high) or Fraction(float(high)) >= value
    with np.errstate(over="ignore"):
        above, below = (
            np.nextafter(low, np.float32(np.inf)),
            np.nextafter(high, np.float32(-np.inf)),
        )
    assert np.isposinf(above) or Fraction(float(above)) > value
    assert np.isneginf(below) or Fraction(float(below)) < value


@given(finite, finite32)
def test_a_float_rounds_to_itself(wide, narrow):
    assert round_down(Fraction(wide)) == round_up(Fraction(wide)) == wide
    assert round_down32(Fraction(narrow)) == round_up32(Fraction(narrow)) == narrow


def test_integers_round_too():
    assert (round_down(2**53 + 1), round_up(2**53 + 1)) == (2.0**53, 2.0**53 + 2)
    assert (round_down(10**400), round_up(10**400)) == (float(LARGEST), math.inf)
    assert (round_down(-(10**400)), round_up(-(10**400))) == (-math.inf, -float(LARGEST))


def means(integers, shift):
    return [Fraction(n) * Fraction(2) ** -shift for n in integers.ravel()]


@given(st.lists(finite, max_size=12))
@example([5e-324, 1.7976931348623157e308])
@example([5e-324, -5e-324, 0.0, -0.0])
@example([0.0, -0.0])
@example([2.0**1000, 2.0**990, -(2.0**1023)])  # a negative shift
@example([2.0**-1074 * (2**52 - 1)])
@example([2.2250738585072014e-308])
@example([])
def test_scaled_integers_are_exact(values):
    array = np.array(values, dtype=np.float64)
    integers, shift = scaled_integers(array)
    assert integers.shape == array.shape
    assert all(type(n) is int for n in integers)
    assert means(integers, shift) == [Fraction(v) for v in values]


def test_scaled_integers_keep_the_shape_and_few_bits():
    array = np.array([[0.5, -3.0], [0.0, 2.0**-20]])
    integers, shift = scaled_integers(array)
    assert integers.shape == (2, 2)
    assert shift == 20
    assert integers.tolist() == [[2**19, -3 * 2**20], [0, 1]]
    integers, shift = scaled_integers(np.array([3 * 2.0**900, 2.0**901]))
    assert (integers.tolist(), shift) == ([3, 2], -900)


@given(st.lists(finite32, max_size=8))
def test_scaled_integers_of_float32(values):
    integers, shift = scaled_integers(np.array(values, dtype=np.float32))
    assert means(integers, shift) == [Fraction(v) for v in values]


@given(st.lists(st.fractions(), max_size=6))
def test_the_common_denominator(values):
    integers, denominator = common_denominator(values)
    assert denominator > 0
    assert [Fraction(n, denominator) for n in integers] == values
    # No smaller one would do.
    assert math.gcd(denominator, *integers) == 1


def test_fractions_are_the_numbers_that_were_given():
    third = Fraction(1, 3)
    values = [1, True, third, 0.1, np.float32(0.1), np.int64(-(2**63)), np.uint64(2**64 - 1)]
    assert fractions(values) == (
        1, 1, third, Fraction(0.1), Fraction(float(np.float32(0.1))), -(2**63), 2**64 - 1
    )  # fmt: skip
    assert all(type(v) is Fraction for v in fractions(values))
    assert fractions(np.array([0.1, -0.0])) == (Fraction(0.1), 0)


def test_numbers_with_more_bits_than_a_float_keep_them():
    assert fractions([Decimal("0.1")]) == (Fraction(1, 10),)
    wide = np.longdouble(1) + np.finfo(np.longdouble).eps
    assert fractions([wide]) == (1 + Fraction(*np.finfo(np.longdouble).eps.as_integer_ratio()),)


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf"), Decimal("NaN")]
)
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="is not a finite number"):
        fractions([1, bad])
