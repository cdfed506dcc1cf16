"""Vardi et al.: the fold lemma exhaustively, every point exactly, T7's formulas."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import random_set, small_sets

from constructions.dataset import DataSet, load_dataset
from constructions.exact_layer import exact_layer
from constructions.memorize_sqrt import Schedule, _claims, encode, vardi
from verifier.core.errors import DataError, ExportError
from verifier.core.network import Network
from verifier.io.onnx_export import export_onnx


@pytest.mark.parametrize("k", range(1, 9))
def test_folds_read_back_every_code(k):
    codes = set()
    for bits in itertools.product((0, 1), repeat=k):
        code = encode(bits)
        assert code % 2 == 1
        assert 0 < code < 2 ** (k + 1)
        codes.add(code)
        read = []
        for unread in range(k, 0, -1):
            above, next_to = max(0, code - 2**unread), max(0, code - 2**unread + 1)
            read.append(next_to - above)
            code -= 2 * above
        assert tuple(read) == bits
        assert code == 1
    assert len(codes) == 2**k


@settings(deadline=None, max_examples=40)
@given(
    data=small_sets(max_points=12),
    group=st.one_of(st.none(), st.integers(1, 5)),
    fast=st.booleans(),
)
def test_every_point_has_its_label(data, group, fast):
    found = vardi(data, group=group, fast=fast)
    for i in range(len(data)):
        outputs = found.built.network.exact(data.sample(i))
        y = found.built.labels.index(data.labels[i]) + 1
        m = len(found.built.labels)
        assert list(outputs) == [k * y - Fraction(k * k, 2) for k in range(1, m + 1)]
    assert found.built.claims.hold
    assert found.built.closest_claims(data).hold
    assert found.built.network.width <= 11


def test_a_shift_with_more_bits_than_the_codes():
    """Keys 0 and 3 of points at 5 and 8: the first layer has z − 5 − 3."""
    found = vardi(DataSet(np.array([[5], [8]]), np.array([0, 1]), (1,), 2))
    assert found.built.claims.hold
    assert (found.schedule.code_bits, found.bits) == (3, 4)


@pytest.mark.parametrize("n", [12, 64, 600])
def test_sizes(n):
    found = vardi(random_set(n, 5, 10))
    network, s = found.built.network, found.schedule
    assert (s.n, s.d, s.m) == (n, 5, 10)
    assert 4 * s.key_bits * s.group**2 >= n > 4 * s.key_bits * (s.group - 1) ** 2
    assert network.depth == -(-(-(-n // s.group) - 1) // 4) + s.group * s.key_bits + 3
    assert network.depth <= (n * s.key_bits) ** 0.5 + s.key_bits + 4
    assert network.width == 11
    assert found.bits <= s.group * s.key_bits + 1


def test_depth_grows_like_the_root():
    depths = [Schedule.choose(4**k, 5, 10, 2**30 - 1).depth for k in range(6, 13)]
    ratios = [b / a for a, b in itertools.pairwise(depths)]
    assert all(1.5 < r < 2.2 for r in ratios)


def test_export_says_how_many_bits(tmp_path):
    found = vardi(random_set(300, 5, 10), group=8)
    with pytest.raises(ExportError, match=r"needs \d{3} bits, a float64 has 53"):
        export_onnx(found.built.network, tmp_path / "n.onnx")


def test_small_groups_fit_into_a_file(tmp_path):
    found = vardi(random_set(40, 3, 4), group=1)
    assert export_onnx(found.built.network, tmp_path / "n.onnx") in ("float32", "float64")


def test_digits():
    data = load_dataset("digits")
    found = vardi(data)
    assert found.built.network.depth < 250
    assert found.built.network.nonzeros < 1797 * 64 // 10
    for i in (0, 900, 1796):
        outputs = found.built.network.exact(data.sample(i))
        assert found.built.label(outputs) == data.labels[i]


def test_inside_a_group_the_radius_is_that_of_theory():
    """Distance 1/(2m) of the key, exactly, where both neighbours are farther than 1 (T7)."""
    found = vardi(random_set(64, 3, 10), group=4)
    order, walk, shown = found.projection.order, found.evaluator, 0
    z = found.projection.values
    for k in range(1, 63):
        i, y = order[k], int(found.points.ranks[order[k]])
        if k % 4 in (0, 3) or y == 1 or min(z[i] - z[order[k - 1]], z[order[k + 1]] - z[i]) < 2:
            continue
        for side in (1, -1):
            signs = [side * ((w > 0) - (w < 0)) for w in found.projection.weights]
            t, rival = walk.first_tie(found.points.point(i), signs, y, 50)
            assert (t * found.projection.norm, rival) == (Fraction(1, 20), y - 1)
        shown += 1
    assert shown >= 15


def test_claims_refuse_a_network_with_another_number():
    data = random_set(20, 2, 3)
    found = vardi(data, group=3)
    layers = list(found.built.network.layers)
    arguments = (found.schedule, found.points, found.projection, found.shift, found.bits, False)
    assert _claims(found.built.network, *arguments).hold
    for k in (0, 3, len(layers) - 2):
        rows = [[Fraction(v) for v in row] for row in layers[k].dense]
        bias = [Fraction(v) for v in layers[k].bias]
        for other in range(len(bias)):
            changed = [*bias[:other], bias[other] + 100, *bias[other + 1 :]]
            layer = exact_layer(rows, changed, relu=True)
            network = Network((*layers[:k], layer, *layers[k + 1 :]))
            if "points with other logits" in [c.name for c in _claims(network, *arguments).broken]:
                break
        else:
            pytest.fail(f"no bias of layer {k} matters")
    shorter = Network((*layers[:4], *layers[5:])) if layers[4].n_out == layers[3].n_out else None
    if shorter is not None:
        assert "depth" in [c.name for c in _claims(shorter, *arguments).broken]


def test_what_cannot_be_memorized():
    with pytest.raises(DataError, match="at least 1 point"):
        vardi(random_set(8, 2, 3), group=0)
    with pytest.raises(DataError, match="GiB"):
        vardi(random_set(50, 2, 3), memory=1000)
    with pytest.raises(DataError, match="λ = 0"):
        vardi(DataSet(np.array([[1], [1]]), np.array([0, 1]), (1,), 2))
