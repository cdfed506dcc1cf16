"""Existence: the bias part is one-hot on all boxes, for all patterns."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import ball_points, separation, small_sets
from strategies import generators, random_point

from constructions.bias_bounds import BiasIntervals
from constructions.bias_boxes import BoxCover, bias, box_distance, box_network, one_hot
from constructions.bias_part import bias_values
from constructions.bias_regions import Regions
from constructions.claims import ClaimError
from constructions.dataset import DataSet
from constructions.radius import RadiusError
from verifier.core.errors import DataError
from verifier.core.property import Box


def random_cover(rng):
    """Up to 6 boxes with quarter faces; those of different labels are at least 1 apart."""
    d = int(rng.integers(1, 4))
    boxes, labels = [], []
    for _ in range(6):
        low = [Fraction(int(v), 4) for v in rng.integers(-12, 13, d)]
        high = [v + Fraction(int(w), 4) for v, w in zip(low, rng.integers(0, 6, d), strict=True)]
        box, label = Box(tuple(low), tuple(high)), int(rng.integers(3))
        near = [k for k, other in enumerate(boxes) if box_distance(box, other) < 1]
        if all(labels[k] == label for k in near):
            boxes.append(box)
            labels.append(label)
    return BoxCover(tuple(boxes), tuple(labels), 3)


@settings(max_examples=40, deadline=None)
@given(generators())
def test_one_hot_on_all_inflated_boxes(rng):
    cover = random_cover(rng)
    network, d, n = box_network(cover), len(cover.boxes[0]), len(cover.boxes)
    assert network.depth == 4
    assert network.width <= max(2 * d * n, 3)
    intervals = BiasIntervals(network)
    for i, label in enumerate(cover.labels):
        box = cover.inflated(i)
        assert intervals.on(box).shows(one_hot(label, 3))
        for _ in range(4):
            x = random_point(rng, box)
            assert network.exact(x) == one_hot(label, 3)
            if n * d <= 4:
                assert bias_values(network, x) == {one_hot(label, 3)}


def test_all_patterns_of_a_box_next_to_one_of_the_same_label():
    boxes = [Box((Fraction(k), Fraction(0)), (Fraction(k + 1), Fraction(1))) for k in (0, 1, 3)]
    cover = BoxCover(tuple(boxes), (0, 0, 1), 2)
    network = box_network(cover)
    for i, label in enumerate(cover.labels):
        found = list(Regions(network, cover.inflated(i)))
        assert len(found) > 4
        for region in found:
            assert tuple(region.outputs.constant) == one_hot(label, 2)
            assert not region.outputs.slope.any()


@settings(max_examples=40, deadline=None)
@given(small_sets(), st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(999, 1000)]))
def test_the_bias_part_of_a_data_set(data, ratio):
    radius = ratio * separation(data) / 2
    built = bias(data, radius)
    rng = np.random.default_rng(0)
    intervals, m = BiasIntervals(built.network), len(built.labels)
    for i in range(len(data)):
        wanted = one_hot(built.labels.index(int(data.labels[i])), m)
        assert intervals.on(Box.ball(data.sample(i), radius)).shows(wanted)
        for x in ball_points(data, i, radius, rng, 2):
            assert built.network.exact(x) == wanted
    assert built.closest_claims(data).hold


def test_what_is_refused():
    data = DataSet(np.array([[0], [2]]), np.array([0, 1]), (1,), 2)
    with pytest.raises(RadiusError):
        bias(data, Fraction(1))
    with pytest.raises(DataError):
        bias(data, Fraction(1, 2), memory=100)
    with pytest.raises(DataError):
        bias(DataSet(np.array([[0], [2]]), np.array([1, 1]), (1,), 2), Fraction(1, 2))


@pytest.mark.parametrize(
    ("labels", "n_classes"), [((0,), 2), ((0, 1), 1), ((0, 2), 2), ((0, 1), 2)]
)
def test_covers_are_checked(labels, n_classes):
    with pytest.raises(DataError):
        BoxCover((Box.ball((0,), 1), Box.ball((2,), 1)), labels, n_classes)


def test_faces_must_be_floats():
    cover = BoxCover((Box.ball((0,), Fraction(1, 3)), Box.ball((3,), 1)), (0, 1), 2)
    with pytest.raises(DataError, match="float64"):
        box_network(cover)


def test_a_network_that_breaks_its_claim_is_not_returned(monkeypatch):
    data = DataSet(np.array([[0], [2]]), np.array([0, 1]), (1,), 2)
    monkeypatch.setattr("constructions.bias_boxes.ceil_log2", lambda value: -3)
    with pytest.raises(ClaimError, match="B_C"):
        bias(data, Fraction(1, 2))
