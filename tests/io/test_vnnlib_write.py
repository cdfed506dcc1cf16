"""A written property is the same property when it is read."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from verifier.core.errors import ExportError
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.io.vnnlib import parse_property
from verifier.io.vnnlib_write import property_text

RATIONALS = st.fractions(min_value=-5, max_value=5, max_denominator=900)


def read(text, prop):
    return parse_property(text, n_inputs=prop.n_inputs, n_outputs=prop.n_outputs).prop


@st.composite
def properties(draw):
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ends = [sorted(draw(st.tuples(RATIONALS, RATIONALS))) for _ in range(n)]
    clauses = []
    for _ in range(draw(st.integers(1, 3))):
        clause = []
        for _ in range(draw(st.integers(1, 2))):
            outputs = draw(st.lists(st.integers(0, m - 1), min_size=1, max_size=m, unique=True))
            terms = tuple((i, draw(RATIONALS.filter(bool))) for i in outputs)
            clause.append(LinearConstraint(terms, draw(RATIONALS), draw(st.booleans())))
        clauses.append(tuple(clause))
    clauses = list(dict.fromkeys(clauses))
    box = Box(tuple(e[0] for e in ends), tuple(e[1] for e in ends))
    return Property((Case(box, tuple(clauses)),), n, m)


def between(random):
    """A rational of the range of ``RATIONALS``."""
    denominator = random.randint(1, 900)
    return Fraction(random.randint(-5 * denominator, 5 * denominator), denominator)


@given(properties(), st.randoms(use_true_random=False))
def test_the_text_says_the_same_of_every_point(prop, random):
    try:
        again = read(property_text(prop), prop)
    except ExportError:  # equal clauses, which the reader merges
        assume(False)
    assert again.cases[0].box == prop.cases[0].box
    rows = [c for clause in prop.cases[0].clauses for c in clause]
    for _ in range(20):
        x = [between(random) for _ in range(prop.n_inputs)]
        y = [between(random) for _ in range(prop.n_outputs)]
        # On the boundary of some constraint, where strict and not strict differ.
        row = random.choice(rows)
        (i, weight), rest = row.terms[0], row.terms[1:]
        if random.random() < 0.5:
            y[i] = (row.bound - sum(w * y[j] for j, w in rest)) / weight
        assert again.violation(x, y) == prop.violation(x, y)


def test_bounds_that_are_no_decimals_are_multiplied():
    box = Box.ball([Fraction(1, 2), Fraction(1, 4)], Fraction(8, 255), (0, 1))
    text = property_text(Property.robustness(box, 1, 3, "a\nb ü"))
    assert text.startswith("; a\n; b \\xfc\n(declare-const X_0 Real)\n")
    assert "(assert (>= (* 51.0 X_0) 23.9))" in text
    assert "(assert (or (and (>= Y_0 Y_1)) (and (>= Y_2 Y_1))))" in text
    assert read(text, Property.robustness(box, 1, 3)).cases[0].box == box


def test_finite_decimals_are_written_whole():
    box = Box.ball([Fraction(float(2**-30))], Fraction("0.03"))
    text = property_text(Property.near(box, 2))
    assert "(assert (<= X_0 0.030000000931322574615478515625))" in text
    assert "(assert (or (and (>= Y_0 2.5)) (and (<= Y_0 1.5))))" in text
    assert "(assert (and (<= Y_0 0.0)))" in property_text(Property.sign(box, True))


def test_what_has_no_such_form_is_refused():
    box = Box((0,), (1,))
    case = Case(box, ((LinearConstraint(((0, Fraction(1)),), Fraction(0)),),))
    with pytest.raises(ExportError, match="one box"):
        property_text(Property((case, case), 1, 1))
    with pytest.raises(ExportError, match="one box"):
        property_text(Property((Case(box, ()),), 1, 1))
    with pytest.raises(ExportError, match="digits"):
        property_text(Property.near(Box((Fraction(1, 2**1100),), (1,)), 0))
    with pytest.raises(ExportError, match="digits"):
        property_text(Property.near(Box((Fraction(1, 2**5000),), (1,)), 0))
    # The reader would make a face of the box of it.
    mixed = LinearConstraint(((1, Fraction(1)),), Fraction(1, 2))
    with pytest.raises(ExportError, match="another property"):
        property_text(Property((Case(box, ((mixed,),)),), 1, 1, mixes_inputs=True))
