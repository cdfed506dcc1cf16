"""Optimal robust memorization: labels on the balls, sizes, and what is refused."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import ball_points, separation, small_sets

from constructions.dataset import DataSet, load_dataset
from constructions.radius import RadiusError
from constructions.robust import blocks, class_sum, running_maximum, shallow
from verifier.bounds.interval import interval_bounds
from verifier.core.errors import DataError
from verifier.core.exact import round_down, round_up

BUILDERS = {
    "optimal-robust": running_maximum,
    "class-sum": class_sum,
    "blocks": lambda data, radius: blocks(data, radius, 2),
    "shallow": shallow,
}
RATIOS = [Fraction(0), Fraction(1, 2), Fraction(99, 100), Fraction(999, 1000)]

ratios = st.sampled_from(RATIOS)


def line(*points: int, labels: tuple[int, ...] | None = None) -> DataSet:
    """Points on a line, labelled 0, 1, 0, 1, ... unless said otherwise."""
    given_labels = labels or tuple(i % 2 for i in range(len(points)))
    return DataSet(
        np.array(points)[:, None], np.array(given_labels), (1,), max(given_labels) + 1, "line"
    )


@pytest.mark.parametrize("name", BUILDERS)
@settings(max_examples=40)
@given(data=small_sets(), ratio=ratios, seed=st.integers(0, 2**32 - 1))
def test_the_label_on_every_ball(name, data, ratio, seed):
    radius = ratio * separation(data) / 2
    built = BUILDERS[name](data, radius)
    assert built.claims.hold
    assert (built.radius, built.ratio) == (radius, ratio)
    assert built.separation == separation(data)
    rng = np.random.default_rng(seed)
    for i in range(len(data)):
        for x in ball_points(data, i, radius, rng):
            (value,) = built.network.exact(x)
            assert built.labels[int(value) - 1] == data.labels[i]
            assert value in range(1, len(built.labels) + 1)


@settings(max_examples=40)
@given(data=small_sets(), ratio=ratios)
def test_the_corners_between_the_closest_enemies(data, ratio):
    """The points where two balls nearly touch."""
    radius = ratio * separation(data) / 2
    networks = [build(data, radius) for build in BUILDERS.values()]
    for i, j in itertools.permutations(range(len(data)), 2):
        x, y = data.sample(i), data.sample(j)
        step = [max(-radius, min(radius, (b - a) / 2)) for a, b in zip(x, y, strict=True)]
        towards = tuple(a + s for a, s in zip(x, step, strict=True))
        for built in networks:
            (value,) = built.network.exact(towards)
            assert value == built.labels.index(data.labels[i]) + 1


@pytest.mark.parametrize("name", ["class-sum", "blocks", "shallow"])
@given(data=small_sets(), ratio=ratios)
def test_interval_arithmetic_proves_class_sums(name, data, ratio):
    radius = ratio * separation(data) / 2
    built = BUILDERS[name](data, radius)
    for i in range(len(data)):
        centre = data.sample(i)
        low = np.array([round_down(c - radius) for c in centre])
        high = np.array([round_up(c + radius) for c in centre])
        least, most = interval_bounds(built.network, low, high)[-1]
        label = built.labels.index(data.labels[i]) + 1
        assert label - 0.5 < least[0] <= most[0] < label + 0.5


def test_interval_arithmetic_does_not_prove_the_running_maximum():
    """True, and hard for a bound propagator: v + relu(y - v) loses what its terms share."""
    built = running_maximum(line(0, 1, 8, labels=(0, 0, 1)), Fraction(3))
    _, most = interval_bounds(built.network, np.array([-2.0]), np.array([4.0]))[-1]
    assert most[0] >= 2
    assert {built.network.exact([Fraction(t, 8)])[0] for t in range(-16, 33)} == {1}


def zero_biases(built, first_rows):
    """Biases of the given rows that happen to be 0."""
    return sum(
        int((layer.bias[rows] == 0).sum())
        for layer, rows in zip(built.network.layers, first_rows, strict=True)
    )


@given(data=small_sets(), ratio=ratios)
def test_sizes_of_the_running_maximum(data, ratio):
    n, d = len(data), data.dimension
    network = (built := running_maximum(data, ratio * separation(data) / 2)).network
    assert network.width == 3 * d + 1
    assert network.depth == 2 * n + 1
    assert [layer.n_out for layer in network.layers[:3]] == [3 * d, d + 1, 3 * d + 1]
    thresholds = [slice(0, 3 * d)] + [slice(0, 0), slice(d, 3 * d)] * n
    missing = zero_biases(built, [*thresholds[: 2 * n], slice(0, 0)])
    assert network.nonzeros == n * (8 * d + 5) - 3 - missing
    assert all(layer.is_sparse and layer.n_relu == layer.n_out for layer in network.layers[:-1])
    assert network.layers[-1].n_relu == 0
    assert built.dense_parameters == sum(layer.dense.size + layer.n_out for layer in network.layers)


@given(data=small_sets(), ratio=ratios, k=st.integers(1, 4))
def test_sizes_of_blocks(data, ratio, k):
    n, d = len(data), data.dimension
    counts = np.bincount(data.labels)
    counts = counts[counts > 0]
    network = (built := blocks(data, ratio * separation(data) / 2, k)).network
    number = sum(-(-int(c) // k) for c in counts)
    assert network.width == (2 * min(k, int(counts.max())) + 1) * d + 2
    assert network.depth == 2 * number + 2
    missing = int((network.layers[0].bias[: network.layers[0].n_out - 2] == 0).sum())
    for layer in network.layers[2:-2:2]:
        missing += int((layer.bias[d:-2] == 0).sum())
    formula = (2 * d + 4) * number + n * (6 * d + 2) + 2 * len(counts) + 2
    assert network.nonzeros == formula - missing
    assert built.claims.hold


def test_sizes_of_the_class_sum():
    data = line(0, 4, 8, 12, labels=(0, 1, 1, 2))
    network = class_sum(data, Fraction(1)).network
    assert (network.width, network.depth, network.name) == (3 + 2, 2 * 4 + 2, "class-sum")


def test_shallow_shares_its_first_layer():
    data = load_dataset("digits:test").subset(slice(0, 120))
    built = shallow(data, Fraction(3, 32))
    network = built.network
    assert network.depth == 4
    assert network.layers[0].n_out <= 2 * 17 * 64
    assert network.layers[0].n_out < network.layers[1].n_out * 2 * 64 / 10
    rows = [tuple(row) for row in np.c_[network.layers[0].dense, network.layers[0].bias]]
    assert len(set(rows)) == len(rows)
    x = np.array([[float(v) for v in data.sample(i)] for i in range(len(data))])
    labels = network.float64(x)[:, 0]
    assert [built.labels[int(v) - 1] for v in labels] == data.labels.tolist()


def test_weights_are_floats_with_few_bits():
    data = load_dataset("digits").subset(slice(0, 60))
    for build in BUILDERS.values():
        for layer in build(data, Fraction(1, 16)).network.layers:
            for numbers in (layer.weight.data, layer.bias):
                assert (numbers.astype(np.float32) == numbers).all()


@pytest.mark.parametrize("name", BUILDERS)
def test_where_the_network_lets_go(name):
    """The label up to the rounded face, 0 between the boxes, never beyond the largest label."""
    data = line(0, 64, labels=(0, 1))
    built = BUILDERS[name](data, Fraction(10))
    values = [built.network.exact([Fraction(t, 8)])[0] for t in range(-200, 8 * 64 + 200)]
    assert built.network.exact([10]) == (1,)
    assert built.network.exact([54]) == (2,)
    assert built.network.exact([32]) == (0,)
    assert min(values) == 0
    assert max(values) == 2


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("excess", [Fraction(0), Fraction(1, 10**9), Fraction(5)])
def test_a_radius_of_half_the_separation_is_refused(name, excess):
    data = DataSet(
        np.array([[0, 0], [6, 3], [20, 0]]), np.array([0, 1, 1]), (2,), 2, "three", Fraction(1, 2)
    )
    with pytest.raises(RadiusError, match=r"midpoint \(3/2, 3/4\) of points 0 .* and 1 ") as caught:
        BUILDERS[name](data, Fraction(3, 2) + excess)
    assert caught.value.pair == (0, 1)
    for i in caught.value.pair:
        centre = data.sample(i)
        assert all(
            abs(a - b) <= Fraction(3, 2) for a, b in zip(centre, caught.value.midpoint, strict=True)
        )


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(
    ("data", "radius", "words"),
    [
        (line(0, 4, labels=(1, 1)), 1, "all 2 points have the label 1"),
        (line(3, 7, 3, labels=(0, 0, 1)), 0, "λ = 0: points 0 and 2 are equal"),
        (line(0, 4), -1, "at least 0"),
        (line(0, 2**60, 2**60 + 2, labels=(0, 0, 1)), 0, "bits"),
    ],
)
def test_what_is_refused(name, data, radius, words):
    with pytest.raises(DataError, match=words):
        BUILDERS[name](data, Fraction(radius))


def test_too_fine_a_radius_is_refused():
    data = line(0, 1024)
    with pytest.raises(DataError, match="bits beside the data's range"):
        running_maximum(data, Fraction(512) - Fraction(1, 2**60))
    assert running_maximum(data, Fraction(512) - Fraction(1, 2**30)).claims.hold


@pytest.mark.parametrize("build", [running_maximum, class_sum, shallow])
def test_too_large_is_said_before_anything_is_built(build):
    data = line(*range(0, 4000, 4))
    with pytest.raises(DataError, match=r"weights would need about .* GiB .* the limit is 0.0 GiB"):
        build(data, Fraction(1), memory=1000)


def test_a_block_has_at_least_one_sample():
    with pytest.raises(DataError, match="at least 1"):
        blocks(line(0, 4), Fraction(1), 0)


def test_labels_are_mapped():
    data = line(0, 4, 8, labels=(7, 2, 5))
    built = running_maximum(data, Fraction(1))
    assert built.labels == (2, 5, 7)
    assert [int(built.network.exact([x])[0]) for x in (0, 4, 8)] == [3, 1, 2]


@pytest.mark.parametrize("name", BUILDERS)
def test_the_closest_pair_keeps_its_labels(name):
    data = DataSet(np.array([[0, 0], [5, 1], [9, 9]]), np.array([0, 1, 2]), (2,), 3)
    built = BUILDERS[name](data, Fraction(249, 100))
    assert len(built.closest_claims(data).check()) == 2
    others = DataSet(data.points, np.array([1, 0, 2]), (2,), 3)
    assert [claim.actual for claim in built.closest_claims(others).broken] == ["0", "1"]


def test_outputs_that_mean_no_label():
    built = running_maximum(line(0, 4, labels=(3, 1)), Fraction(1))
    assert [built.label([Fraction(v)]) for v in (1, 2)] == [1, 3]
    assert [built.label([Fraction(v, 2)]) for v in (0, 3, 6, -2)] == [None] * 4
