"""Payoffs: the inequalities between them, and logarithms against floats."""

import math
from fractions import Fraction

import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from constructions.game_losses import (
    MARGIN_LOSS,
    adversarial_accuracy,
    cross_entropy_below,
    ramp_loss,
    truncated_loss,
)

margin_lists = st.lists(st.fractions(-20, 20, max_denominator=50), min_size=1, max_size=6)
levels = st.fractions(Fraction(1, 50), 20)


@given(margin_lists, levels)
def test_the_ramp_lies_between_two_indicators(margins, tau):
    value = ramp_loss(tau)(margins)
    assert 1 - adversarial_accuracy(margins) <= value
    assert value <= Fraction(sum(t < tau for t in margins), len(margins))


@given(margin_lists, levels)
def test_the_truncated_loss_reaches_its_least_value_only_where_all_margins_do(margins, tau):
    value = truncated_loss(tau)(margins)
    assert value >= max(-tau, MARGIN_LOSS(margins))
    assert (value == -tau) == (min(margins) >= tau)


def test_ties_are_errors():
    assert adversarial_accuracy((Fraction(0), Fraction(1))) == Fraction(1, 2)
    assert ramp_loss(Fraction(1))((Fraction(0),)) == 1


@given(margin_lists, st.floats(0.1, 60))
def test_cross_entropy_agrees_with_floats(margins, bound):
    total = math.fsum(math.log1p(math.exp(-float(t))) for t in margins)
    if abs(total - bound) > 1e-9 * (1 + total):
        assert cross_entropy_below(margins, arb(bound)) == (total < bound)


@pytest.mark.parametrize("t", [0, -1])
def test_a_lost_point_alone_has_at_least_ln_2(t):
    assert not cross_entropy_below((Fraction(t),), arb(2).log())
