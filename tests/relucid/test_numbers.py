"""Numbers are typed and shown exactly."""

from fractions import Fraction

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from relucid.numbers import above, approximate, below, nearest, rational


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", Fraction(1, 10)),
        ("8/255", Fraction(8, 255)),
        ("1e-3", Fraction(1, 1000)),
        ("-2.5E+1", Fraction(-25)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
    ],
)
def test_rationals_are_exact(text, value):
    assert rational(text, "--eps") == value


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "1/0", "1/-2", "1e9999", "0x10", "1_0", "1,5", "1" * 101, "٣"]
)
def test_other_texts_are_refused_with_the_option(text):
    with pytest.raises(typer.BadParameter, match="--eps: expected a decimal"):
        rational(text, "--eps")


@given(st.fractions(-(10**9), 10**9), st.integers(1, 6))
def test_bounds_are_rounded_outwards(value, digits):
    low, high = below(value, digits), above(value, digits)
    for number in (low, high):
        assert float(f"{number:.{digits}g}") == number
    # As they are read.
    assert Fraction(repr(low)) <= value <= Fraction(repr(high))
    assert (low == high) == (Fraction(repr(low)) == value)
    assert Fraction(repr(high)) - Fraction(repr(low)) <= abs(value) * Fraction(10) ** (1 - digits)


def test_bounds_of_long_numbers():
    third = Fraction(10**400, 3 * 10**400 + 1)
    assert (below(third), above(third), below(-third)) == (0.3333, 0.3334, -0.3334)
    assert f"{above(Fraction(0))} {below(Fraction(0))}" == "0.0 0.0"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_approximate_marks_what_it_rounds(value):
    exact = Fraction(value)
    text = approximate(exact, 4)
    if text.startswith("≈"):
        assert Fraction(text[1:]) != exact
        assert abs(Fraction(text[1:]) - exact) <= abs(exact) / 1000 + Fraction(1, 10**323)
    else:
        assert Fraction(text) == exact


def test_values_beyond_float64_are_shown_all_the_same():
    assert nearest(Fraction(10) ** 400) == float("inf")
    assert approximate(-(Fraction(10) ** 400)) == "≈-1.00000e+400"
    assert approximate(Fraction(2, 3 * 10**400), 3) == "≈6.67e-401"
