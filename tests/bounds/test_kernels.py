"""The line above a ReLU."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from verifier.bounds import kernels

finite = st.floats(min_value=2.0**-1074, max_value=float(np.finfo(np.float64).max))


@given(finite, finite)
def test_the_chord_is_above_the_relu(minus_lower, upper):
    slope, intercept = kernels.chord_above(-minus_lower, upper)
    if math.isfinite(intercept):
        s, t = Fraction(slope), Fraction(intercept)
        assert 0 <= s <= 1
        assert s * Fraction(-minus_lower) + t >= 0
        assert s * Fraction(upper) + t >= Fraction(upper)
        height = Fraction(minus_lower) * Fraction(upper) / (Fraction(minus_lower) + Fraction(upper))
        if minus_lower + upper < math.inf and upper / minus_lower > 2.0**-900:
            assert t <= height + Fraction(upper) / 2**48 + Fraction(1, 2**999)
