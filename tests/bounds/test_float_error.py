"""The a-priori bounds cover what float64 really does, in every order of summation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import generators
from verifier.bounds.float_error import TINY, UNIT, down, gamma, up

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("n", [0, 1, 7, 1000, 10**6, 2**40])
def test_gamma_is_at_least_twice_the_textbook_constant(n):
    u = Fraction(1, 2**53)
    assert Fraction(gamma(n)) >= 2 * (n + 8) * u / (1 - (n + 8) * u)
    assert Fraction(gamma(n)) <= 3 * (n + 8) * u  # and not much more
    assert Fraction(UNIT) == u


@given(finite, st.sampled_from([1, 2, 3, 4]))
@example(1.0, 1)
@example(-1.0, 3)
@example(math.nextafter(1.0, 0.0), 1)
@example(math.nextafter(-1.0, 0.0), 3)
@example(0.0, 1)
@example(5e-324, 4)
@example(-(2.0**-948), 2)
@example(1.7976931348623157e308, 1)
@example(-1.7976931348623157e308, 1)
def test_down_and_up_pass_that_many_floats(value, ulps):
    low, high = value, value
    for _ in range(ulps):
        low, high = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    with np.errstate(over="ignore"):
        assert float(down(value, ulps)) <= low
        assert float(up(value, ulps)) >= high


def dot_orders(a, b):
    """The sum of a_i b_i in float64, in many orders."""
    products = a * b
    yield float(a @ b)
    yield float(np.cumsum(products)[-1])
    yield float(np.cumsum(products[::-1])[-1])
    order = np.argsort(np.abs(products))
    yield float(np.cumsum(products[order])[-1])
    yield float(np.cumsum(products[order[::-1]])[-1])
    halves = [float(np.sum(part)) for part in np.array_split(products, 2)]
    yield halves[0] + halves[1]


@given(generators(), st.sampled_from([0, 5, 60, 300, 500]))
def test_a_sum_of_products_errs_by_at_most_gamma(rng, exponent):
    n = int(rng.integers(1, 60))
    a, b = (
        np.ldexp(rng.normal(size=n), rng.integers(-exponent, exponent + 1, n)) for _ in range(2)
    )
    if n > 1 and rng.random() < 0.5:  # nearly everything cancels
        half = n // 2
        a[half : 2 * half] = -a[:half]
        b[half : 2 * half] = b[:half] * (1 + 2.0**-52 * rng.integers(-1, 2, half))
    pairs = [(Fraction(v), Fraction(w)) for v, w in zip(a.tolist(), b.tolist(), strict=True)]
    exact = sum((v * w for v, w in pairs), Fraction(0))
    allowed = Fraction(gamma(n) * float(np.abs(a) @ np.abs(b)) + TINY)
    for got in dot_orders(a, b):
        assert abs(Fraction(got) - exact) <= allowed


def test_underflow_needs_its_own_term():
    """Relative errors alone do not cover products that vanish."""
    a, b = np.full(64, 2.0**-600), np.full(64, 2.0**-600)
    assert gamma(64) * float(np.abs(a) @ np.abs(b)) == 0.0
    assert float(a @ b) == 0.0 < 64 * Fraction(2) ** -1200 <= Fraction(TINY)
