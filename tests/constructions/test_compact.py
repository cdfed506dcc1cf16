"""Compact memorization: labels on the balls, exactly, by intervals and in onnxruntime."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import ball_points, separation, small_sets

from constructions.claims import ClaimError
from constructions.compact import compact
from constructions.dataset import DataSet, load_dataset
from constructions.nearest_box import nearest_box
from constructions.radius import RadiusError
from verifier.bounds.interval import interval_bounds
from verifier.core.errors import DataError
from verifier.core.exact import round_down, round_down32, round_up, round_up32
from verifier.io.onnx_export import export_onnx

BUILDERS = {"compact": compact, "compact-nearest": nearest_box}
ratios = st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(99, 100), Fraction(999, 1000)])


@pytest.mark.parametrize("name", BUILDERS)
@settings(max_examples=40)
@given(data=small_sets(), ratio=ratios, every=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_the_label_on_every_ball(name, data, ratio, every, seed):
    radius = ratio * separation(data) / 2
    built = BUILDERS[name](data, radius, every=every)
    assert built.claims.hold
    assert (built.radius, built.separation) == (radius, separation(data))
    rng = np.random.default_rng(seed)
    for i in range(len(data)):
        for x in ball_points(data, i, radius, rng):
            assert built.label(built.network.exact(x)) == data.labels[i]
    assert built.closest_claims(data).hold


@given(data=small_sets(), ratio=ratios, every=st.booleans())
def test_interval_arithmetic_proves_the_label(data, ratio, every):
    radius = ratio * separation(data) / 2
    built = compact(data, radius, every=every)
    for i in range(len(data)):
        centre = data.sample(i)
        low = np.array([round_down(c - radius) for c in centre])
        high = np.array([round_up(c + radius) for c in centre])
        least, most = interval_bounds(built.network, low, high)[-1]
        label = built.labels.index(data.labels[i]) + 1
        assert label - 0.5 < least[0] <= most[0] < label + 0.5


@pytest.mark.parametrize("name", BUILDERS)
def test_float32_in_onnxruntime(name, tmp_path):
    """Random points and corners of the balls, rounded inwards: bit-exactly the label."""
    import onnxruntime

    data = load_dataset("digits")
    radius = Fraction(7, 32) * Fraction(99, 100)
    built = BUILDERS[name](data, radius)
    assert export_onnx(built.network, tmp_path / "n.onnx") == "float32"
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    values = [Fraction(k, 16) for k in range(17)]
    low = np.array([round_up32(v - radius) for v in values])
    high = np.array([round_down32(v + radius) for v in values])
    rng = np.random.default_rng(0)
    labels = np.array(built.labels)
    for i in rng.choice(len(data), 300, replace=False):
        a, b = low[data.points[i]], high[data.points[i]]
        inner = np.clip(rng.uniform(a, b).astype(np.float32), a, b)
        corner = np.where(rng.random(64) < 0.5, a, b)
        for x in (inner, corner):
            (out,) = session.run(None, {"input": x.reshape(1, 8, 8)})
            found = labels[out[0].argmax()] if name != "compact" else labels[int(out[0, 0]) - 1]
            assert found == data.labels[i]
            if name == "compact":
                assert out[0, 0] == int(out[0, 0])


def test_sizes_on_digits():
    data = load_dataset("digits")
    built = compact(data, Fraction(7, 32) * Fraction(99, 100))
    network = built.network
    first, boxes = (layer.n_out for layer in network.layers[:2])
    assert (network.depth, network.layers[2].n_out) == (4, 10)
    assert boxes <= 200
    assert network.width == first <= 700
    rows = np.c_[network.layers[0].dense, network.layers[0].bias]
    assert len(np.unique(rows, axis=0)) == first
    smaller = compact(data, Fraction(1, 32), every=False)
    assert smaller.network.layers[1].n_out < boxes / 2


def test_boxes_do_not_depend_on_the_radius():
    """One cover serves every radius below λ/2: only thresholds and the steepness differ."""
    data = load_dataset("digits:test")
    shapes = set()
    for ratio in (Fraction(1, 10), Fraction(9, 10), Fraction(9999, 10000)):
        built = compact(data, ratio * separation_of(data) / 2)
        counted = [c.actual for c in built.claims if c.name in ("boxes", "faces")]
        shapes.add(tuple(counted))
    assert len(shapes) == 1


def separation_of(data):
    return compact(data, Fraction(0)).separation


@pytest.mark.parametrize("name", BUILDERS)
def test_what_is_refused(name):
    line = DataSet(np.array([[0], [4]]), np.array([0, 1]), (1,), 2, "line")
    with pytest.raises(RadiusError, match="midpoint"):
        BUILDERS[name](line, Fraction(2))
    with pytest.raises(DataError, match="at least 0"):
        BUILDERS[name](line, Fraction(-1))
    with pytest.raises(DataError, match="bits beside the data's range"):
        BUILDERS[name](line, Fraction(2) - Fraction(1, 2**60))
    same = DataSet(np.array([[0], [0]]), np.array([0, 1]), (1,), 2, "line")
    with pytest.raises(DataError, match="λ = 0"):
        BUILDERS[name](same, Fraction(0))
    alone = DataSet(np.array([[0], [1]]), np.array([1, 1]), (1,), 2, "line")
    with pytest.raises(DataError, match="all 2 points"):
        BUILDERS[name](alone, Fraction(0))
    with pytest.raises(DataError, match=r"line: .* the limit is 0.0 GiB"):
        BUILDERS[name](line, Fraction(1), memory=10)


@pytest.mark.parametrize("name", BUILDERS)
def test_boxes_that_are_wrong_break_a_claim(name, monkeypatch):
    """What the search returns is counted, not believed."""
    import constructions.compact as module

    right = module.find_boxes

    def wrong(grid, ranks, **options):
        boxes = right(grid, ranks, **options)
        boxes.cell[0] += 3
        return boxes

    data = DataSet(np.array([[0], [4], [8]]), np.array([0, 1, 0]), (1,), 2)
    monkeypatch.setattr(module, "find_boxes", wrong)
    with pytest.raises(ClaimError, match=r"enemies δ beyond|samples in a box"):
        BUILDERS[name](data, Fraction(1))
