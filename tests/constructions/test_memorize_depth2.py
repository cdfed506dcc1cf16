"""Depth-2 memorization: exact labels, T7's sizes, and the exact radius."""

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import small_sets

from constructions.claims import ClaimError
from constructions.dataset import DataSet, load_dataset
from constructions.exact_layer import exact_layer
from constructions.memorize_depth2 import _claims, dyadic, staircase, zhang
from constructions.ridge import Ridge
from verifier.core.errors import DataError, ExportError
from verifier.core.network import Network
from verifier.io.onnx_export import export_onnx

kinds = st.sampled_from([zhang, dyadic, staircase])


def labels_on_a_line(labels) -> DataSet:
    """Points 0, 3, 10, 13, 20, ... with these labels."""
    x = [[10 * (k // 2) + 3 * (k % 2)] for k in range(len(labels))]
    return DataSet(np.array(x), np.array(labels), (1,), max(labels) + 1)


@given(data=small_sets(), build=kinds, fast=st.booleans())
def test_every_point_has_its_label(data, build, fast):
    built = build(data, fast=fast).built
    for i in range(len(data)):
        outputs = built.network.exact(data.sample(i))
        y = built.labels.index(data.labels[i]) + 1
        m = len(built.labels)
        assert list(outputs) == [k * y - Fraction(k * k, 2) for k in range(1, m + 1)]
        assert built.label(outputs) == data.labels[i]
    assert built.claims.hold
    assert built.network.depth == 2


@given(data=small_sets(), fast=st.booleans())
def test_width(data, fast):
    n = len(data)
    assert zhang(data, fast=fast).built.network.width <= n - 1
    assert dyadic(data, fast=fast).built.network.width <= n - 1
    assert staircase(data, fast=fast).built.network.width <= 2 * (n - 1)


def test_width_where_nothing_can_be_left_out():
    data = labels_on_a_line([0, 1] * 5)
    assert zhang(data).built.network.width == 9
    assert staircase(data).built.network.width == 18
    # Zhang et al. at N = 10, d = 1 with one output per label: 9 rows of 2, 2 rows of 9 + 1.
    assert zhang(data).built.dense_parameters == 9 * 2 + 2 * 10


def test_points_in_line_need_one_neuron():
    """Labels 1, 2, 3, 4, 1 at 0, 5, 10, 15, 20: two slopes."""
    x = np.array([[0], [5], [10], [15], [20]])
    data = DataSet(x, np.array([0, 1, 2, 3, 0]), (1,), 4)
    assert zhang(data).built.network.width == 2
    claims = {claim.name: claim for claim in zhang(data).built.claims}
    assert claims["bits"].actual == 5  # the 16 of 4 · (−3/5 − 1/5)


@given(data=small_sets(), build=kinds)
def test_the_radius_is_exact(data, build):
    found = build(data, fast=False)
    built = found.built
    assert 0 < built.radius <= built.separation / 2
    worst = min(found.breaches, key=lambda b: b.radius)
    assert worst.radius == built.radius
    label = int(found.points.ranks[worst.sample])
    at = built.network.exact(found.witness(worst, worst.radius))
    assert at[worst.rival - 1] == max(at) >= at[label - 1]
    before = built.network.exact(found.witness(worst, worst.radius * Fraction(999, 1000)))
    assert max(range(len(before)), key=before.__getitem__) == label - 1
    assert built.closest_claims(data).hold


@given(data=small_sets())
def test_stairs_are_flat_on_the_promised_radius(data):
    found = staircase(data, one_hot=True, fast=False)
    z, norm = found.projection.values, found.projection.norm
    gap = min(abs(p - q) for k, p in enumerate(z) for q in z[:k])
    radius = Fraction(gap, 3 * norm) * Fraction(99, 100)
    for i in range(len(found.points)):
        x = found.points.point(i)
        expected = [int(k + 1 == found.points.ranks[i]) for k in range(len(found.points.labels))]
        for step in (-radius, 0, radius / 2, radius):
            signs = [(w > 0) - (w < 0) for w in found.projection.weights]
            at = [v + step * s for v, s in zip(x, signs, strict=True)]
            assert list(found.built.network.exact(at)) == expected


@settings(max_examples=30)
@given(data=small_sets())
def test_dyadic_networks_can_be_written(data, tmp_path_factory):
    network = dyadic(data).built.network
    if network.is_float:
        path = tmp_path_factory.mktemp("n") / "n.onnx"
        assert export_onnx(network, path) in ("float32", "float64")
    layers = [v for layer in network.layers for v in (*layer.dense.ravel(), *layer.bias)]
    denominators = [Fraction(v).denominator for v in layers]
    assert all(q & (q - 1) == 0 for q in denominators)


def test_thirds_are_refused_as_what_they_are(tmp_path):
    network = zhang(labels_on_a_line([0, 1, 0])).built.network
    with pytest.raises(ExportError, match="1/3 is no finite binary fraction"):
        export_onnx(network, tmp_path / "n.onnx")


def test_digits_in_onnxruntime(tmp_path):
    data = load_dataset("digits")
    built = dyadic(data).built
    assert export_onnx(built.network, tmp_path / "n.onnx") == "float64"
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
    pixels = data.points / 16
    outputs = [session.run(None, {"input": x.reshape(1, 8, 8)})[0][0] for x in pixels]
    y = data.labels[:, None] + 1
    k = np.arange(1, 11)
    assert (np.array(outputs) == k * y - k * k / 2).all()


def test_equal_points_with_one_label():
    data = DataSet(np.array([[0], [5], [0], [9]]), np.array([0, 1, 0, 1]), (1,), 2)
    found = zhang(data)
    assert len(found.points) == 3
    assert found.built.label(found.built.network.exact([0])) == 0


def test_claims_refuse_a_network_with_another_number():
    data = labels_on_a_line([0, 1, 2, 0])
    found = zhang(data)
    first, last = found.built.network.layers
    rows = [[int(v) for v in row] for row in first.dense]
    y = [int(found.points.ranks[i]) for i in found.projection.order]

    def claims(bias, start, factor=1):
        layers = (
            exact_layer([[factor * v for v in row] for row in rows], bias, relu=True),
            exact_layer(last.dense.tolist(), start, relu=False),
        )
        network = Network(layers)
        ridge = Ridge.of(network)
        return _claims("zhang", network, found.points, found.projection, ridge, y)

    bias, start = [int(v) for v in first.bias], [Fraction(v) for v in last.bias]
    assert claims(bias, start).hold
    for other in (
        claims([bias[0] - 2, *bias[1:]], start),
        claims(bias, [start[0] + 3, *start[1:]]),
    ):
        assert [c.name for c in other.broken] == ["points with another label"]
        with pytest.raises(ClaimError, match="every point"):
            other.check()
    broken = [c.name for c in claims(bias, start, 2).broken]
    assert broken == ["points with another label", "points projected right"]


def test_what_cannot_be_memorized():
    with pytest.raises(DataError, match="λ = 0"):
        zhang(DataSet(np.array([[1], [1]]), np.array([0, 1]), (1,), 2))
    with pytest.raises(DataError, match="label 0"):
        dyadic(DataSet(np.array([[1], [2]]), np.array([0, 0]), (1,), 1))
    with pytest.raises(DataError, match="GiB"):
        staircase(load_dataset("digits"), memory=2**20)
