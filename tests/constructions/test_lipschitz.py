"""Lipschitz-controlled memorization: values, slopes, radii, sizes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import ball_points, distance, separation, small_sets

from constructions.dataset import DataSet, load_dataset
from constructions.lipschitz import demonstrate, lipschitz, lipschitz_multiclass
from constructions.lipschitz_depth_two import exact_lipschitz, plane_network, ramp_network
from constructions.robust import shallow
from verifier.core.errors import DataError
from verifier.search.lipschitz import lipschitz as exact_search
from verifier.search.lipschitz_evidence import Lipschitz

bits = st.sampled_from([24, 53])
seeds = st.integers(0, 2**32 - 1)

#: What rounding may add to 2/λ where coordinates are below 2^4 and λ above 2^-2.
SLACK = {24: Fraction(1, 2**15), 53: Fraction(1, 2**44)}


def sign(built, label: int) -> int:
    return (-1, 1)[built.labels.index(label)]


def rational_point(rng: np.random.Generator, data: DataSet) -> tuple[Fraction, ...]:
    """A point in or around the data's range."""
    low, high = (Fraction(int(f())) * data.scale for f in (data.points.min, data.points.max))
    width = high - low + data.scale
    return tuple(
        low - width / 2 + 2 * width * Fraction(int(v), 96)
        for v in rng.integers(0, 97, data.dimension)
    )


@given(data=small_sets(classes=2), bits=bits)
def test_samples_have_their_labels_exactly(data, bits):
    built = lipschitz(data, bits=bits)
    for i in range(len(data)):
        assert built.network.exact(data.sample(i)) == (sign(built, data.labels[i]),)


@given(data=small_sets(classes=2), bits=bits)
def test_the_constant_is_two_over_the_separation_rounded_up(data, bits):
    built, least = lipschitz(data, bits=bits), 2 / separation(data)
    assert least <= built.lipschitz
    if data.scale == 1:
        assert built.lipschitz <= least * (1 + 4 / separation(data) * SLACK[bits])
    q = least.denominator
    if data.points.dtype.kind == "i" and data.scale == 1 and q & (q - 1) == 0:
        assert built.lipschitz == least


@given(data=small_sets(classes=2), seed=seeds)
def test_two_scores_differ_by_a_regression(data, seed):
    """(F_1 − F_2)/λ beyond ±1 at the samples, nowhere steeper than 2/λ."""
    built, rng = lipschitz_multiclass(data, bits=53), np.random.default_rng(seed)
    lam = 2 * built.radius

    def value(x):
        first, second = built.network.exact(x)
        return (first - second) / lam

    for i in range(len(data)):
        sign = 1 if data.labels[i] == built.labels[0] else -1
        assert sign * value(data.sample(i)) >= 1
    p, q = (rational_point(rng, data) for _ in range(2))
    assert abs(value(p) - value(q)) <= 2 / lam * distance(p, q)


@settings(max_examples=40)
@given(data=small_sets(classes=2), bits=bits, seed=seeds)
def test_no_two_points_are_steeper_than_the_constant(data, bits, seed):
    built, rng = lipschitz(data, bits=bits), np.random.default_rng(seed)
    points = [rational_point(rng, data) for _ in range(8)]
    points += [data.sample(i) for i in range(len(data))]
    values = [built.network.exact(x)[0] for x in points]
    for x, f in zip(points, values, strict=True):
        for y, g in zip(points, values, strict=True):
            assert abs(f - g) <= built.lipschitz * distance(x, y)


@given(data=small_sets(classes=2), bits=bits, seed=seeds)
def test_the_function_is_what_the_theorem_says(data, bits, seed):
    """Between the samples: max(−1, 1 − c·distance to the nearest positive sample)."""
    built, rng = lipschitz(data, bits=bits), np.random.default_rng(seed)
    positive = [data.sample(i) for i in range(len(data)) if sign(built, data.labels[i]) == 1]
    shift, slope = separation(data) / 2, built.lipschitz
    low = min(min(data.sample(i)) for i in range(len(data))) - shift
    finest = max(max(map(abs, data.sample(i))) for i in range(len(data))) + 2 * shift
    for _ in range(6):
        x = tuple(max(v, low) for v in rational_point(rng, data))
        expected = max(Fraction(-1), 1 - slope * min(distance(x, p) for p in positive))
        off = abs(built.network.exact(x)[0] - expected)
        assert off <= slope * finest / 2 ** (bits - 4)


@settings(max_examples=40)
@given(data=small_sets(classes=2), bits=bits, seed=seeds)
def test_one_network_for_every_radius(data, bits, seed):
    built, rng = lipschitz(data, bits=bits), np.random.default_rng(seed)
    assert built.open_radius
    assert built.radius == 1 / built.lipschitz <= separation(data) / 2
    for ratio in (Fraction(1, 2), Fraction(999, 1000), 1 - Fraction(1, 10**9)):
        radius = ratio * built.radius
        for i in range(len(data)):
            for x in ball_points(data, i, radius, rng, count=2):
                value = sign(built, data.labels[i]) * built.network.exact(x)[0]
                assert value >= 1 - built.lipschitz * radius > 0


@given(data=small_sets(classes=2))
def test_sizes(data):
    network, d = (built := lipschitz(data)).network, data.dimension
    fewer = min(c for c in np.bincount(data.labels) if c)
    assert network.width == 3 * d + 1
    assert network.depth == fewer * (int(np.ceil(np.log2(d))) + 2) + 1
    assert built.claims.hold
    assert sum(built.labels.count(label) for label in set(data.labels.tolist())) == 2
    for layer in network.layers:
        for numbers in (layer.weight.data, layer.bias):
            assert (numbers.astype(np.float32) == numbers).all()


@settings(max_examples=40)
@given(data=small_sets(), bits=bits, seed=seeds)
def test_the_nearest_class_wins(data, bits, seed):
    built, rng = lipschitz_multiclass(data, bits=bits), np.random.default_rng(seed)
    exact_points = all(
        v.denominator & (v.denominator - 1) == 0 and v.denominator < 2**10
        for i in range(len(data))
        for v in data.sample(i)
    )
    if exact_points:
        assert built.radius == separation(data) / 2
    assert built.radius <= separation(data) / 2
    for i in range(len(data)):
        label = built.labels.index(data.labels[i])
        here = built.network.exact(data.sample(i))
        assert here[label] == 0
        assert all(v <= -2 * built.radius for k, v in enumerate(here) if k != label)
        for x in ball_points(data, i, built.radius * Fraction(999, 1000), rng, count=2):
            values = built.network.exact(x)
            assert all(v < values[label] for k, v in enumerate(values) if k != label)


@settings(max_examples=40)
@given(data=small_sets(), seed=seeds)
def test_outputs_are_distances_to_the_classes(data, seed):
    rng = np.random.default_rng(seed)
    built = lipschitz_multiclass(data, bits=53)
    low = min(min(data.sample(i)) for i in range(len(data))) - separation(data) / 2
    largest = max(max(map(abs, data.sample(i))) for i in range(len(data))) + separation(data)
    points = [tuple(max(v, low) for v in rational_point(rng, data)) for _ in range(5)]
    values = [built.network.exact(x) for x in points]
    for x, found in zip(points, values, strict=True):
        for label, value in zip(built.labels, found, strict=True):
            members = np.flatnonzero(data.labels == label)
            expected = -min(distance(x, data.sample(int(i))) for i in members)
            assert abs(value - expected) <= largest / 2**48
    for x, f in zip(points, values, strict=True):
        for y, g in zip(points, values, strict=True):
            assert distance(f, g) <= distance(x, y)


@given(data=small_sets())
def test_sizes_of_the_multiclass_network(data):
    counts = np.bincount(data.labels)
    m, d = int((counts > 0).sum()), data.dimension
    network = lipschitz_multiclass(data).network
    assert network.width == 3 * d + m - int(counts.max() == 1)
    assert network.depth == len(data) * (int(np.ceil(np.log2(d))) + 2) + 1
    assert network.n_outputs == m


def test_digits_as_a_classifier():
    data = load_dataset("digits:test").subset(slice(0, 60))
    built = lipschitz_multiclass(data)
    x = np.array([[float(v) for v in data.sample(i)] for i in range(len(data))])
    assert built.network.float64(x).argmax(axis=1).tolist() == data.labels.tolist()
    assert built.radius == built.separation / 2


def points(*rows: tuple[int, ...], labels: tuple[int, ...]) -> DataSet:
    return DataSet(np.array(rows), np.array(labels), (len(rows[0]),), 3, "points")


@pytest.mark.parametrize("build", [lipschitz, lipschitz_multiclass])
def test_what_is_refused(build):
    with pytest.raises(DataError, match="all 2 points have the label 2"):
        build(points((0, 0), (1, 1), labels=(2, 2)))
    with pytest.raises(DataError, match="points 0 and 1 are equal"):
        build(points((1, 1), (1, 1), labels=(0, 2)))
    with pytest.raises(DataError, match="24 bits"):
        build(points((0, 0), (1, 1), labels=(0, 2)), bits=32)
    with pytest.raises(DataError, match="GiB"):
        build(points((0, 0), (1, 1), labels=(0, 2)), memory=100)
    with pytest.raises(DataError, match="24 bits"):
        build(points((0, 2**40), (1, 2**40), labels=(0, 2)))
    assert build(points((0, 2**40), (1, 2**40), labels=(0, 2)), bits=53).claims.hold


def test_more_than_two_classes_are_refused():
    with pytest.raises(DataError, match=r"two classes.*lipschitz-multiclass"):
        lipschitz(points((0,), (2,), (4,), labels=(0, 1, 2)))


def test_the_smaller_class_is_positive():
    built = lipschitz(points((0,), (2,), (8,), labels=(1, 2, 1)))
    assert built.labels == (1, 2)
    assert [built.network.exact([x])[0] for x in (0, 1, 2, 8)] == [-1, 0, 1, -1]


@pytest.mark.parametrize("build", [lipschitz, lipschitz_multiclass])
def test_the_closest_pair_keeps_its_labels(build):
    data = points((0, 0), (5, 1), (9, 9), labels=(0, 2, 2))
    built = build(data)
    assert len(built.closest_claims(data).check()) == 2
    others = points((0, 0), (5, 1), (9, 9), labels=(2, 0, 2))
    assert [claim.actual for claim in built.closest_claims(others).broken] == ["0", "2"]
    ties = [0] * built.network.n_outputs
    assert built.label([Fraction(v) for v in ties]) is None


def exact(network, rows=None) -> Lipschitz:
    """The exact computation, which knows nothing of the construction."""
    found = exact_search(network, rows=rows)
    assert found.exact
    return found


SMALL = DataSet(np.array([[0, 0], [4, 1], [1, 5], [6, 6]]), np.array([0, 1, 0, 1]), (2,), 2)


def test_the_exact_constant_of_a_binary_network_is_its_claim():
    built = lipschitz(SMALL)
    assert exact(built.network).lower == built.lipschitz == Fraction(1, 2)


@pytest.mark.parametrize("bits", [24, 53])
def test_with_coordinates_of_all_bits_it_is_the_rounded_slope(bits):
    rng = np.random.default_rng(4)
    data = DataSet(rng.random((3, 2)), np.array([0, 1, 1]), (2,), 2)
    built = lipschitz(data, bits=bits)
    assert exact(built.network).lower == built.lipschitz > 2 / separation(data)


def test_every_score_and_no_difference_beyond_two():
    data = DataSet(SMALL.points, np.array([0, 1, 2, 0]), (2,), 3)
    network = lipschitz_multiclass(data).network
    for k in range(3):
        assert exact(network, [[int(k == i) for i in range(3)]]).lower == 1
    assert exact(network, [[1, -1, 0]]).lower == 2


@pytest.mark.parametrize("d", [1, 3])
def test_in_other_dimensions_too(d):
    data = DataSet(np.array([[0] * d, [4] + [1] * (d - 1)]), np.array([0, 1]), (d,), 2)
    assert exact(lipschitz(data).network).lower == Fraction(1, 2)
    assert exact(lipschitz_multiclass(data).network).lower == 1


def test_the_label_of_a_robust_network_is_steep():
    """Between two balls at distance λ − 2μ it rises by 1 (THEORY 1)."""
    built = shallow(SMALL, Fraction(9, 5))
    assert exact(built.network).lower >= 1 / (4 - 2 * Fraction(9, 5))


def test_depth_two_needs_a_slope_that_grows_with_the_dimension():
    """THEORY 6: 2d/(1 − 2μ) for the ramps, 2 for the exception in the plane."""
    for d, mu in ((2, Fraction(1, 4)), (3, Fraction(2, 5))):
        assert exact(ramp_network(d, mu)).lower == 2 * d / (1 - 2 * mu)
    assert exact(plane_network()).lower == exact_lipschitz(plane_network()) == 2


def test_the_demonstration_asks_for_what_it_claims():
    shown = demonstrate()
    assert shown.values["slope"] == "1/2"
    assert [(q.constant, q.least) for q in shown.slopes] == [
        (Fraction(1, 2), False),
        (Fraction(1), False),
        (Fraction(25), True),
    ]
