"""What outputs mean: exactly, as properties, and by bounds."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.core.decision import Decision, Rule
from verifier.core.errors import PropertyError
from verifier.core.property import Box

HALF = Fraction(1, 2)
quarters = st.integers(-12, 24).map(lambda n: Fraction(n, 4))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 0), (Fraction(3, 4), 0), (HALF, None), (Fraction(3, 2), None), (2, 1), (0, None), (3, 2)],
)
def test_labels(value, expected):
    assert Decision(Rule.label).choice([Fraction(value)]) == expected


def test_a_label_beyond_the_classes_means_nothing():
    decision = Decision(Rule.label, ("a", "b"))
    assert [decision.choice([Fraction(v)]) for v in (1, 2, 3)] == [0, 1, None]


def test_signs_and_largest_outputs():
    sign = Decision(Rule.sign)
    assert [sign.choice([Fraction(v)]) for v in (-1, 0, 1)] == [0, None, 1]
    assert Decision(Rule.argmax).choice([Fraction(v) for v in (1, 3, 3)]) == 1


def outputs_and_classes(rule):
    return (3, range(3)) if rule is Rule.argmax else (1, range(2))


@given(st.sampled_from(Rule), st.data())
def test_property_choice_and_bounds_agree(rule, data):
    n, classes = outputs_and_classes(rule)
    y = tuple(data.draw(quarters) for _ in range(n))
    decision, box = Decision(rule), Box((0,), (1,))
    point = np.array([[float(v) for v in y]])
    for k in classes:
        safe = decision.property(box, k, n, "p").violation((HALF,), y) is None
        assert safe == bool(decision.certain(np.array([k]), point, point)[0])
        if safe:
            assert decision.choice(y) == k


@given(st.sampled_from(Rule), st.data())
def test_bounds_are_certain_only_of_what_every_value_between_them_says(rule, data):
    n, classes = outputs_and_classes(rule)
    ends = [sorted([data.draw(quarters), data.draw(quarters)]) for _ in range(n)]
    low, high = (np.array([[float(pair[k]) for pair in ends]]) for k in (0, 1))
    decision = Decision(rule)
    for k in classes:
        if decision.certain(np.array([k]), low, high)[0]:
            y = tuple(data.draw(st.sampled_from([a, (a + b) / 2, b])) for a, b in ends)
            assert decision.property(Box((0,), (1,)), k, n, "p").violation((HALF,), y) is None


@pytest.mark.parametrize(
    ("decision", "n", "words"),
    [
        (Decision(Rule.argmax), 1, "--outputs label"),
        (Decision(Rule.argmax, ("a", "b")), 3, "2 classes for 3 outputs"),
        (Decision(Rule.label), 2, "one output, the network has 2"),
        (Decision(Rule.sign), 3, "one output"),
    ],
)
def test_rules_that_do_not_fit(decision, n, words):
    with pytest.raises(PropertyError, match=words):
        decision.check_fits(n)


def test_rules_that_fit():
    Decision(Rule.argmax, ("a", "b")).check_fits(2)
    Decision(Rule.label, ("a", "b", "c")).check_fits(1)
    Decision(Rule.sign, ("a", "b")).check_fits(1)


def test_impossible_decisions():
    with pytest.raises(PropertyError, match="twice"):
        Decision(Rule.label, ("a", "a"))
    with pytest.raises(PropertyError, match="two classes"):
        Decision(Rule.sign, ("a", "b", "c"))
    with pytest.raises(PropertyError, match="not 2"):
        Decision(Rule.sign).property(Box((0,), (1,)), 2, 1, "p")
