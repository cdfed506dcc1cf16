"""Vertices, minima and cells, against brute force."""

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import generators, random_point

from constructions.arrangement import Interval, cells, minimum, union, vertices
from constructions.rational_points import dot
from verifier.core.errors import DataError
from verifier.core.property import Box


def random_planes(rng, d, n):
    rows = [tuple(Fraction(int(v)) for v in rng.integers(-3, 4, d)) for _ in range(n)]
    return [(row, Fraction(int(rng.integers(-4, 5)), 2)) for row in rows]


def test_a_square_has_its_corners_and_the_crossing():
    box = Box((-1, -1), (1, 1))
    diagonals = [((Fraction(1), Fraction(s)), Fraction(0)) for s in (1, -1)]
    assert vertices([], box) == sorted(product((-1, 1), repeat=2))
    assert vertices(diagonals, box) == sorted([*product((-1, 1), repeat=2), (0, 0)])
    assert vertices([diagonals[0]] * 3, box) == vertices([diagonals[0]], box)


@settings(max_examples=40, deadline=None)
@given(generators(), st.integers(1, 3))
def test_no_point_is_below_the_minimum(rng, d):
    planes = random_planes(rng, d, 3)
    box = Box((-2,) * d, (3,) * d)
    signs = [int(s) for s in rng.choice([-1, 1], 3)]

    def function(x):
        terms = zip(planes, signs, strict=True)
        return sum((s * abs(dot(w, x) - b) for (w, b), s in terms), Fraction(0))

    found = minimum(function, planes, box)
    assert all(function(x) == found.value and box.contains(x) for x in found.where)
    for _ in range(40):
        x = random_point(rng, box)
        assert function(x) >= found.value
        if len(found.where) == 1 and x != found.where[0]:
            assert function(x) > found.value


def test_cells_cut_and_union_mends():
    parts = cells([Fraction(1), Fraction(0), Fraction(7), Fraction(1)], Fraction(-1), Fraction(2))
    assert len(parts) == 7
    assert union(parts) == [Interval(Fraction(-1), Fraction(2))]
    assert [str(p) for p in union([parts[1], parts[3], parts[4]])] == ["(-1, 0)", "(0, 1]"]
    assert [str(p) for p in union([parts[0], parts[1], parts[2], parts[6]])] == ["[-1, 0]", "{2}"]


@given(st.lists(st.fractions(-2, 2), max_size=5), st.fractions(-2, 2))
def test_every_point_lies_in_one_cell(kinks, x):
    parts = cells(kinks, Fraction(-2), Fraction(2))
    inside = [p for p in parts if p.low < x < p.high or p.low == x == p.high]
    assert len(inside) == 1
    assert not any(inside[0].low < k < inside[0].high for k in kinks)


def test_an_empty_interval_is_refused():
    with pytest.raises(DataError):
        cells([], Fraction(1), Fraction(0))
