"""Wrong points close to samples: found, checked from scratch, refused with a field changed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from small_sets import random_set, small_sets

from constructions.memorization import (
    check_wrong_point,
    demonstrate,
    edge_point,
    inner_radius,
    right_in_float64,
    wrong_point,
)
from constructions.memorize_depth2 import dyadic, staircase, zhang
from constructions.memorize_sqrt import vardi
from verifier.core.errors import CertificateError


@settings(max_examples=60, deadline=None)
@given(data=small_sets())
def test_a_wrong_point_exists_exactly_beyond_the_radius(data):
    for build in (zhang, dyadic, staircase):
        found = build(data, fast=False)
        radius = found.built.radius
        for below in (radius, radius * Fraction(99, 100)):
            assert wrong_point(found, below) is None
        wrong = wrong_point(found, 2 * radius)
        if wrong is None:  # every label that is tied somewhere comes back
            continue
        assert radius < wrong.distance <= 2 * radius
        true = check_wrong_point(found.built.network, data, found.built.labels, wrong)
        assert true == data.labels[wrong.sample] != wrong.label


@pytest.mark.parametrize("build", [zhang, dyadic, staircase])
def test_every_memorization_of_many_points_is_wrong_close_by(build):
    data = random_set(100, 4, 5)
    found = build(data)
    wrong = wrong_point(found, found.built.separation / 2)
    assert wrong.distance < found.built.separation / 1000
    check_wrong_point(found.built.network, data, found.built.labels, wrong)


@pytest.fixture(scope="module")
def deep():
    data = random_set(120, 4, 5)
    return data, vardi(data, group=5)


def test_at_a_groups_edge_labels_are_lost_sooner_than_inside(deep):
    data, found = deep
    wrong = edge_point(found)
    inside, radius = inner_radius(found)
    assert wrong.distance < radius / 100
    check_wrong_point(found.built.network, data, found.built.labels, wrong)
    assert inside != wrong.sample
    # Half-way to the radius the label is right, a little beyond it wrong.
    signs = [(w > 0) - (w < 0) for w in found.projection.weights]
    for share, right in ((Fraction(1, 2), True), (Fraction(101, 100), False)):
        x = [v + radius * share * s for v, s in zip(data.sample(inside), signs, strict=True)]
        said = found.built.label(found.built.network.exact(x))
        assert (said == int(data.labels[inside])) is right


@pytest.mark.parametrize("group", [1, 12])
def test_float64_fails_where_the_codes_have_more_bits(group):
    data = random_set(120, 4, 5)
    found = vardi(data, group=group)
    right = right_in_float64(found)
    assert right == 120 if found.bits <= 40 else right < 100
    assert (found.bits <= 40) is (group == 1)


def test_any_other_field_is_refused(deep):
    data, found = deep
    wrong = edge_point(found)
    network, labels = found.built.network, found.built.labels
    check_wrong_point(network, data, labels, wrong)
    true = int(data.labels[wrong.sample])
    other = next(k for k in range(5) if k not in (true, wrong.label))
    moved = (wrong.point[0] + 1, *wrong.point[1:])
    itself = data.sample(wrong.sample)
    for changed, words in (
        (replace(wrong, label=other), "not"),
        (replace(wrong, label=true), "not"),
        (replace(wrong, distance=wrong.distance / 2), "distance"),
        (replace(wrong, point=moved), "distance"),
        (replace(wrong, sample=(wrong.sample + 1) % 120), "distance"),
        (replace(wrong, point=itself, distance=Fraction(0)), "says"),
        (replace(wrong, point=itself, distance=Fraction(0), label=true), "right label"),
    ):
        with pytest.raises(CertificateError, match=words):
            check_wrong_point(network, data, labels, changed)


def test_one_group_has_no_edge():
    assert edge_point(vardi(random_set(10, 2, 3), group=10)) is None


def test_no_point_inside_a_group():
    with pytest.raises(CertificateError, match="no point inside"):
        inner_radius(vardi(random_set(10, 2, 3), group=1))


def test_the_theorem_on_digits():
    found = demonstrate()
    depths = found.values["sqrt_depths"]
    sizes = np.array([int(k) for k in depths])
    assert list(sizes) == [100, 200, 400, 600]
    # Four times as many points, at most twice the depth.
    assert depths["400"] < 2 * depths["100"]
    assert found.values["sqrt_bits"] > 53
    assert found.values["sqrt_right_in_float64"] < 300
    assert [q.refuted for q in found.questions] == [False, True]
    assert len(found.shown) == 10
