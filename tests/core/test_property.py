"""Boxes and unsafe sets, exactly: no tolerance anywhere."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators, random_box, random_network, random_point, random_property
from verifier.core.errors import PropertyError
from verifier.core.property import Box, Case, LinearConstraint, Property

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)
TINY = Fraction(1, 10**300)

floats = st.floats(allow_nan=False, allow_infinity=False)
fractions = st.one_of(st.fractions(), floats.map(Fraction))


@st.composite
def boxes(draw):
    pairs = draw(st.lists(st.tuples(fractions, fractions), min_size=1, max_size=4))
    return Box(tuple(min(p) for p in pairs), tuple(max(p) for p in pairs))


# ----- boxes


@given(boxes())
def test_a_box_contains_its_faces_and_nothing_beyond(box):
    for corner in itertools.product(*zip(box.lower, box.upper, strict=True)):
        assert box.contains(corner)
    for j in range(len(box)):
        for face, step in ((box.lower, -TINY), (box.upper, TINY)):
            assert not box.contains([*face[:j], face[j] + step, *face[j + 1 :]])


def test_a_point_of_another_length_is_not_in_the_box():
    box = Box((0, 0), (1, 1))
    assert not box.contains([HALF])
    assert not box.contains([HALF] * 3)


def test_floats_are_compared_as_what_they_are():
    tenth = Fraction(1, 10)
    assert Fraction(0.1) > tenth
    assert not Box((0,), (tenth,)).contains([0.1])
    assert Box((0,), (0.1,)).contains([tenth])


@given(st.lists(fractions, min_size=1, max_size=4), fractions.map(abs))
def test_a_ball(center, eps):
    box = Box.ball(center, eps)
    assert box == Box(tuple(c - eps for c in center), tuple(c + eps for c in center))
    assert box.contains(center)


@given(st.lists(st.fractions(0, 1), min_size=1, max_size=4), st.fractions(0, 2))
def test_a_clipped_ball_is_the_intersection(center, eps):
    box = Box.ball(center, eps, (0, 1))
    for c, low, high in zip(center, box.lower, box.upper, strict=True):
        assert low == (c - eps if c - eps > 0 else 0)
        assert high == (c + eps if c + eps < 1 else 1)


def test_a_ball_of_floats_is_exact():
    box = Box.ball([0.1, np.float32(0.3)], 0.2)
    centre = (Fraction(0.1), Fraction(float(np.float32(0.3))))
    assert box.lower == tuple(c - Fraction(0.2) for c in centre)
    assert box.upper == tuple(c + Fraction(0.2) for c in centre)


@given(boxes())
def test_outward_is_the_smallest_float64_box_around(box):
    low, high = box.outward()
    assert low.dtype == high.dtype == np.float64
    for got, value in zip(low.tolist(), box.lower, strict=True):
        assert got == -math.inf or Fraction(got) <= value
        above = math.nextafter(got, math.inf)
        assert above == math.inf or Fraction(above) > value
    for got, value in zip(high.tolist(), box.upper, strict=True):
        assert got == math.inf or Fraction(got) >= value
        below = math.nextafter(got, -math.inf)
        assert below == -math.inf or Fraction(below) < value


@given(boxes())
def test_inward32_is_the_largest_float32_box_inside(box):
    low, high = box.inward32()
    assert low.dtype == high.dtype == np.float32
    inf32 = np.float32(np.inf)
    with np.errstate(over="ignore"):
        for got, value in zip(low, box.lower, strict=True):
            assert got == inf32 or Fraction(float(got)) >= value
            below = np.nextafter(got, -inf32)
            assert below == -inf32 or Fraction(float(below)) < value
        for got, value in zip(high, box.upper, strict=True):
            assert got == -inf32 or Fraction(float(got)) <= value
            above = np.nextafter(got, inf32)
            assert above == inf32 or Fraction(float(above)) > value


def test_where_no_float32_fits_the_inward_box_is_empty():
    low, high = Box((THIRD,), (THIRD,)).inward32()
    assert low[0] > high[0]


@given(boxes(), st.data())
def test_clip_is_the_nearest_point(box, data):
    x = data.draw(st.lists(fractions, min_size=len(box), max_size=len(box)))
    y = box.clip(x)
    assert box.contains(y)
    for v, w, low, high in zip(x, y, box.lower, box.upper, strict=True):
        assert w == (v if low <= v <= high else low if v < low else high)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        ((0, 0), (1,), "as many lower as upper bounds, got 2 and 1"),
        ((0, 2), (1, 1), "box is empty: input 1 has lower bound 2.0 > upper bound 1.0"),
        ((THIRD + TINY,), (THIRD,), "> upper bound 1/3"),
        ((10**400,), (0,), "box is empty: input 0"),
        ((0,), (-(10**400),), "box is empty: input 0"),
        ((math.nan,), (1,), "a bound of a box is not a number: nan"),
        ((0,), (math.inf,), "a bound of a box is not a number: inf"),
    ],
)
def test_boxes_that_are_none(lower, upper, message):
    with pytest.raises(PropertyError, match=message):
        Box(lower, upper)


@pytest.mark.parametrize(
    ("center", "eps", "clip", "message"),
    [
        ([0], -1, None, "eps must be at least 0, got -1"),
        ([0], math.nan, None, "eps is not a number: nan"),
        ([math.nan], 1, None, "the center of a ball is not a number"),
        ([0], 1, (0, math.inf), "a face of the clip box is not a number"),
        ([5], 1, (0, 1), "box is empty"),
        ([0], 1, (1, 0), "box is empty"),
    ],
)
def test_balls_that_are_none(center, eps, clip, message):
    with pytest.raises(PropertyError, match=message):
        Box.ball(center, eps, clip)


# ----- constraints and the unsafe set


@given(generators())
def test_violation_is_the_definition(rng):
    """Over several boxes, clauses, strict and mixed constraints, at points on the faces too."""
    network = random_network(rng)
    prop = random_property(rng, network, max_cases=3)
    around = Box.ball([0] * network.n_inputs, 3)
    for _ in range(5):
        x = random_point(rng, prop.cases[0].box if rng.random() < 0.7 else around)
        y = network.exact(x)
        values = list(y) + (list(x) if prop.mixes_inputs else [])
        expected = None
        for c, case in enumerate(prop.cases):
            inside = all(
                a <= v <= b for a, v, b in zip(case.box.lower, x, case.box.upper, strict=True)
            )
            for k, clause in enumerate(case.clauses):
                sums = [sum(c * values[i] for i, c in t.terms) - t.bound for t in clause]
                hold = [s > 0 if t.strict else s >= 0 for s, t in zip(sums, clause, strict=True)]
                if inside and all(hold) and expected is None:
                    expected = (c, k)
        assert prop.violation(x, y) == expected


def test_strictness_matters_only_at_equality():
    for strict in (False, True):
        constraint = LinearConstraint(((0, Fraction(2)),), Fraction(1), strict)
        assert constraint.holds([HALF]) is not strict
        assert constraint.holds([HALF + TINY])
        assert not constraint.holds([HALF - TINY])


def test_repeated_terms_add_up():
    constraint = LinearConstraint(((0, HALF), (0, HALF), (1, Fraction(-1))), Fraction(0))
    assert constraint.slack([Fraction(3), Fraction(2)]) == 1


def test_a_constraint_of_floats_is_exact():
    constraint = LinearConstraint(((0, 0.1), (1, 0.2)), 0.3)
    assert constraint.slack([Fraction(1), Fraction(1)]) == (
        Fraction(0.1) + Fraction(0.2) - Fraction(0.3)
    )
    assert type(constraint.slack([Fraction(1), Fraction(1)])) is Fraction
    for terms, bound in ((((0, math.nan),), 0), (((0, 1),), math.inf)):
        with pytest.raises(PropertyError, match="is not a number"):
            LinearConstraint(terms, bound)


def test_the_empty_clause_is_unsafe_and_no_clause_is_safe():
    box = Box((0,), (1,))
    assert Property((Case(box, ((),)),), 1, 1).violation([HALF], [HALF]) == (0, 0)
    assert Property((Case(box, ()),), 1, 1).violation([HALF], [HALF]) is None
    assert Property((), 1, 1).violation([HALF], [HALF]) is None
    assert Property((Case(box, ((),)),), 1, 1).violation([Fraction(2)], [HALF]) is None


@given(st.integers(2, 5), st.data())
def test_robustness_means_that_the_label_is_strictly_largest(n, data):
    label = data.draw(st.integers(0, n - 1))
    y = data.draw(st.lists(st.integers(-2, 2).map(Fraction), min_size=n, max_size=n))
    prop = Property.robustness(Box((0,), (1,)), label, n)
    safe = all(y[label] > y[j] for j in range(n) if j != label)
    assert (prop.violation([HALF], y) is None) is safe
    assert prop.label == label


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_does_not_exist(label):
    with pytest.raises(PropertyError, match=f"label {label} is not one of the 3 classes"):
        Property.robustness(Box((0,), (1,)), label, 3)


def test_properties_that_do_not_fit():
    box = Box((0, 0), (1, 1))
    with pytest.raises(PropertyError, match="p: a box has 2 inputs, expected 1"):
        Property((Case(box, ()),), 1, 1, "p")
    for index, mixes, known in ((1, False, 1), (3, True, 3), (-1, False, 1)):
        clause = (LinearConstraint(((index, Fraction(1)),), Fraction(0)),)
        with pytest.raises(PropertyError, match=f"reads variable {index} of {known}"):
            Property((Case(box, (clause,)),), 2, 1, mixes_inputs=mixes)
    with pytest.raises(PropertyError, match="2 inputs and 1 outputs, but the network has 2 and 3"):
        Property((Case(box, ()),), 2, 1).check_fits(2, 3)


@given(generators())
def test_random_boxes_contain_their_random_points(rng):
    box = random_box(rng, 3)
    assert box.contains(random_point(rng, box))


# ----- one output


def unsafe_at(prop, y):
    return prop.violation(prop.cases[0].box.lower, (Fraction(y),)) is not None


@pytest.mark.parametrize("label", [-2, 1, 3])
def test_near_is_strict_on_both_sides(label):
    prop = Property.near(Box.ball([0, 0], 1), label)
    prop.check_fits(2, 1)
    for y in (label, label + HALF - TINY, label - HALF + TINY):
        assert not unsafe_at(prop, y)
    for y in (label + HALF, label - HALF, label + 1, label - 100):
        assert unsafe_at(prop, y)


def test_near_with_another_tolerance():
    prop = Property.near(Box.ball([0], 1), THIRD, tolerance=THIRD)
    assert [unsafe_at(prop, y) for y in (0, TINY, THIRD, 2 * THIRD - TINY, 2 * THIRD)] == [
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("tolerance", [0, -1, math.nan])
def test_near_needs_a_positive_tolerance(tolerance):
    with pytest.raises(PropertyError, match="tolerance"):
        Property.near(Box.ball([0], 1), 1, tolerance=tolerance)


@pytest.mark.parametrize("positive", [True, False])
def test_a_zero_has_no_sign(positive):
    prop = Property.sign(Box.ball([0], 1), positive)
    assert [unsafe_at(prop, y) for y in (-TINY, 0, TINY)] == [positive, True, not positive]
