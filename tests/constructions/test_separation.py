"""Separation: every distance against exact arithmetic over all pairs, and what is refused."""

import tracemalloc
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from constructions import separation_search
from constructions.dataset import DataSet, load_dataset
from constructions.separation import positive_separation, separation, separation_between
from constructions.separation_search import bytes_needed, common_grid
from verifier.core.errors import DataError


def make(points, labels, scale=Fraction(1), n_classes=None, name="data"):
    points, labels = np.asarray(points), np.asarray(labels)
    n_classes = int(labels.max()) + 1 if n_classes is None else n_classes
    return DataSet(points, labels, (points.shape[1],), n_classes, name, scale)


def distance(x, y):
    return max(abs(a - b) for a, b in zip(x, y, strict=True))


def all_distances(data, other):
    """Exact distances to every enemy, by (row, column), in Fractions."""
    rows = [data.sample(i) for i in range(len(data))]
    columns = [other.sample(j) for j in range(len(other))]
    return {
        (i, j): distance(rows[i], columns[j])
        for i in range(len(data))
        for j in range(len(other))
        if data.labels[i] != other.labels[j]
    }


def assert_right(found, data, other):
    """λ, the pair, and each nearest enemy with the promised choice among equals."""
    distances = all_distances(data, other)
    assert found.lam == min(distances.values())
    closest = [pair for pair, d in distances.items() if d == found.lam]
    assert found.pair == min(closest)
    assert found.labels == (data.labels[found.pair[0]], other.labels[found.pair[1]])
    if found.nearest is None:
        return
    for i in range(len(data)):
        options = [(d, int(other.labels[j]), j) for (row, j), d in distances.items() if row == i]
        least, _, enemy = min(options)
        assert found.nearest.distance(i) == least
        assert found.nearest.enemy[i] == enemy
        assert abs(found.nearest.floats()[i] - least) <= 1e-12 * abs(least)
    ordered = sorted(found.nearest.distance(i) for i in range(len(data)))
    for share in (Fraction(0), Fraction(1, 3), Fraction(1, 2), Fraction(1)):
        below = [d for d in ordered if ordered.index(d) + ordered.count(d) >= share * len(ordered)]
        assert found.nearest.quantile(share) == below[0]
    assert found.attained == ordered.count(found.lam)


def check(data, other=None):
    assert_right(separation(data), data, data)
    assert_right(separation(data, nearest=True), data, data)
    if other is not None:
        assert_right(separation_between(data, other), data, other)


# Values ------------------------------------------------------------------------------------------

INTEGERS = {
    "uint8": (np.uint8, 0, 255),
    "few values": (np.uint8, 0, 2),
    "int8": (np.int8, -128, 127),
    "int32": (np.int32, -(2**31), 2**31 - 1),
    "int64": (np.int64, -(2**62), 2**62 - 1),
    "uint64": (np.uint64, 2**63, 2**64 - 1),
}


@st.composite
def labelled(draw, values, dtype):
    """Up to 30 points of 1 to 5 coordinates, with two or three labels that all occur."""
    n, d = draw(st.integers(2, 30)), draw(st.integers(1, 5))
    row = st.lists(values, min_size=d, max_size=d)
    points = draw(st.lists(row, min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    return np.array(points, dtype=dtype), np.array([0, 1, *labels[2:]])


@pytest.fixture
def small_steps(monkeypatch):
    """Every stage of the search on small sets: few probes, tests chosen on few pairs, no floor."""
    for name, value in {"_PROBES": 2, "_FEW": 0, "_ROWS_A_BLOCK": 3, "_CHUNK": 3}.items():
        monkeypatch.setattr(separation_search, name, value)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_are_compared_exactly(kind):
    dtype, low, high = INTEGERS[kind]

    @settings(max_examples=25, deadline=None)
    @given(labelled(st.integers(low, high), dtype))
    def run(case):
        points, labels = case
        check(make(points, labels, Fraction(1, 3)))

    run()


FLOATS = {
    "short": st.floats(-4, 4, width=16),
    "any": st.floats(-1e300, 1e300),
    "close to rounding": st.sampled_from(
        [0.0, 1.0, 2.0**-60, -(2.0**-60), 3 * 2.0**-62, 1 + 2.0**-52, 1 - 2.0**-53, -(2.0**-1074)]
    ),
}


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("kind", FLOATS)
def test_floats_are_compared_exactly(kind):
    @settings(max_examples=25, deadline=None)
    @given(labelled(FLOATS[kind], np.float64))
    def run(case):
        points, labels = case
        check(make(points, labels))

    run()


def test_float_differences_that_round_to_the_same_number_are_told_apart():
    """1 + 2^-60 and 1 + 2^-61 both round to 1; the wide exponents rule out a common unit."""
    points = np.array([[1.0, 0.0], [-(2.0**-60), 0.0], [-(2.0**-61), 0.0], [9.0, 2.0**-80]])
    data = make(points, [0, 1, 1, 1])
    assert common_grid([data]).is_float
    found = separation(data, nearest=True)
    assert found.pair == (0, 2)
    assert found.lam == 1 + Fraction(1, 2**61)
    assert found.attained == 2
    check(data)


def test_floats_on_a_common_grid_become_integers():
    points = np.float32(np.arange(256) / 255).astype(np.float64)[:, None]
    data = make(points, np.arange(256) % 2)
    assert not common_grid([data]).is_float
    check(data)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_rows_against_another_set(dtype):
    rng = np.random.default_rng(3)
    points = rng.integers(0, 200, (90, 6)).astype(dtype)
    if dtype == np.float64:
        points = points + rng.normal(size=points.shape) * 1e-30 ** rng.integers(0, 2, points.shape)
    labels = rng.integers(0, 4, 90)
    data, other = make(points[:40], labels[:40], n_classes=4), make(points[40:], labels[40:])
    check(data, other)


@pytest.mark.usefixtures("small_steps")
def test_more_points_than_a_tile_and_a_word():
    """Distances of 9000 points by NumPy, in integers."""
    rng = np.random.default_rng(4)
    points = rng.integers(0, 256, (9000, 5), dtype=np.uint8)
    labels = rng.integers(0, 3, 9000)
    found = separation(make(points, labels, n_classes=3), nearest=True)
    for i in range(0, 9000, 97):
        gaps = np.abs(points.astype(int) - points[i].astype(int)).max(axis=1)
        gaps[labels == labels[i]] = 999
        assert found.nearest.distance(i) == gaps.min()
    quick = separation(make(points, labels, n_classes=3))
    assert quick.lam == found.lam
    assert found.lam == min(found.nearest.distance(i) for i in range(9000))


def test_digits():
    """λ = 7/16, with every distance computed by NumPy in integers."""
    data = load_dataset("digits")
    points = data.points.astype(int)
    gaps = np.array([np.abs(points - p).max(axis=1) for p in points])
    gaps[data.labels[:, None] == data.labels] = 99
    found = separation(data, nearest=True)
    assert found.lam == separation(data).lam == Fraction(int(gaps.min()), 16) == Fraction(7, 16)
    steps = [found.nearest.distance(i) * 16 for i in range(len(data))]
    assert steps == gaps.min(axis=1).tolist()
    assert gaps[found.pair] == 7
    assert found.attained == (gaps.min(axis=1) == 7).sum()
    train, test = load_dataset("digits:train"), load_dataset("digits:test")
    between = separation_between(test, train)
    assert between.lam * 16 == gaps[1437:, :1437].min()
    assert between.nearest.share_above(Fraction(9, 16)) == Fraction(
        int((gaps[1437:, :1437].min(axis=1) > 9).sum()), 360
    )


def test_the_same_answer_whatever_the_number_of_threads(monkeypatch):
    data = load_dataset("digits")
    many = separation(data, nearest=True)
    monkeypatch.setattr(separation_search.os, "sched_getaffinity", lambda _: {0}, raising=False)
    one = separation(data, nearest=True)
    assert (one.pair, one.lam) == (many.pair, many.lam)
    assert np.array_equal(one.nearest.enemy, many.nearest.enemy)


def test_progress_ends_at_one_and_never_goes_back():
    seen = []
    separation(load_dataset("digits:test"), nearest=True, progress=seen.append)
    assert seen[-1] == 1.0
    assert seen == sorted(seen)


# What is refused ---------------------------------------------------------------------------------


def test_equal_points_with_different_labels_are_an_answer_and_stop_a_construction():
    data = make(np.array([[5, 1], [2, 9], [5, 1], [2, 9]], np.uint8), [0, 1, 0, 0])
    found = separation(data)
    assert (found.lam, found.pair, found.labels) == (0, (1, 3), (1, 0))
    with pytest.raises(DataError, match=r"data: λ = 0: points 1 and 3 are equal.* labels 1 and 0"):
        positive_separation(data)
    assert positive_separation(make(np.array([[5], [2]]), [0, 1])).lam == 3


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.array([[0, 1], [2, 3]], np.uint8)])
def test_one_label_has_no_separation(points):
    with pytest.raises(DataError, match="have the label 2; the separation bound needs two labels"):
        separation(make(points, [2] * len(points)))


def test_a_point_without_an_enemy_in_the_other_set():
    one = make(np.array([[1], [2]], np.uint8), [0, 1])
    other = make(np.array([[3], [4]], np.uint8), [1, 1])
    with pytest.raises(DataError, match="point 1 has no enemy"):
        separation_between(one, other)
    assert separation_between(make(np.array([[1]], np.uint8), [0], n_classes=2), other).lam == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((2, 3), np.uint8)}, "3 coordinates, those of data have 2"),
        ({"scale": Fraction(1, 16)}, "multiples of 1/16, those of data are multiples of 1;"),
        ({"points": np.zeros((2, 2))}, "values are floats, those of data are multiples of 1"),
        ({"n_classes": 3}, "data and other have different classes"),
    ],
)
def test_sets_that_do_not_fit_together(change, message):
    points = np.array([[1, 2], [3, 4]], np.uint8)
    other = {"points": points, "labels": [0, 1], "name": "other", **change}
    with pytest.raises(DataError, match=message):
        separation_between(make(points, [0, 1]), make(**other))


def test_differences_beyond_float64_are_refused():
    points = np.array([[-1.7e308, 0.0], [1.7e308, 1e-300]])
    with pytest.raises(DataError, match="differ by more than a float64"):
        separation(make(points, [0, 1]))


def test_integers_that_differ_by_more_than_63_bits_are_refused():
    widest = make(np.array([[2**63 - 2], [-1]], np.int64), [0, 1])
    assert separation(widest, nearest=True).lam == 2**63 - 1
    with pytest.raises(DataError, match="from -1 to 9223372036854775807 differ by more than 63"):
        separation(make(np.array([[2**63 - 1], [-1]], np.int64), [0, 1]))
    low = make(np.array([[-1]], np.int64), [0], n_classes=2)
    high = make(np.array([[2**64 - 1]], np.uint64), [1])
    with pytest.raises(DataError, match="from -1 to 18446744073709551615 differ"):
        separation_between(low, high)


# Memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(8, 50_000), (2000, 200), (10_000, 2)])
def test_the_estimate_is_an_upper_bound(n, d, dtype):
    rng = np.random.default_rng(0)
    points = rng.integers(0, 200, (n, d)).astype(dtype)
    if dtype is np.float64:
        points += rng.random((n, 1)) * 2.0**-40
    data = make(points, np.arange(n) % 3)
    small = make(points[:4], np.arange(4) % 3)
    separation(small)  # compiled, and loaded
    tracemalloc.start()
    separation(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= bytes_needed([data])


def test_too_much_is_refused_with_the_estimate():
    data = make(np.zeros((100, 1000), dtype=np.int16), np.arange(100) % 2)
    words = r"data: finding .* 100 points in 1000 dimensions would need about 0\.\d GiB.* 0\.0 GiB"
    with pytest.raises(DataError, match=words):
        separation(data, memory=2**20)
    with pytest.raises(DataError, match="of 100 and 100 points"):
        separation_between(data, data, memory=2**20)
