"""The nearest box: its outputs by definition, its depth, its accuracy elsewhere.

The label on the balls is tested beside that of ``compact``.
"""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import separation, small_sets

from constructions.compact import compact
from constructions.dataset import DataSet, load_dataset
from constructions.nearest_box import nearest_box


def test_where_compact_abstains_and_the_nearest_box_does_not():
    data = DataSet(np.array([[0], [64]]), np.array([0, 1]), (1,), 2)
    label, nearest = compact(data, Fraction(10)), nearest_box(data, Fraction(10))
    for x, near in ((0, 0), (10, 0), (31, 0), (33, 1), (54, 1), (64, 1)):
        found = label.label(label.network.exact([x]))
        assert found == (near if x <= 10 or x >= 54 else None)
        assert nearest.label(nearest.network.exact([x])) == near


@settings(max_examples=30)
@given(data=small_sets(max_points=12), seed=st.integers(0, 99))
def test_nearest_box_by_definition(data, seed):
    """The outputs are minus the least excess over the faces of a class's boxes."""
    built = nearest_box(data, separation(data) / 4)
    label = compact(data, separation(data) / 4)
    first, hits, classes = label.network.layers[:3]
    rng = np.random.default_rng(seed)
    x = [Fraction(int(v), 8) for v in rng.integers(-30, 120, data.dimension)]
    (_, excess), *_ = label.network.exact_trace(x)
    sums = [
        sum(
            (excess[j] for j in hits.weight.indices[hits.weight.indptr[q] :][: hits_of(hits, q)]),
            Fraction(0),
        )
        for q in range(hits.n_out)
    ]
    expected = [-min(sums[q] for q in np.flatnonzero(row)) for row in classes.dense]
    assert list(built.network.exact(x)) == expected
    assert first.n_out == built.network.layers[0].n_out


def hits_of(layer, q):
    return int(layer.weight.indptr[q + 1] - layer.weight.indptr[q])


def test_depth_and_accuracy_on_digits():
    data, test = load_dataset("digits:train"), load_dataset("digits:test")
    built = nearest_box(data, Fraction(7, 64))
    most = max(np.bincount(boxes_of(built)))
    assert built.network.depth == int(np.ceil(np.log2(most))) + 3
    x = test.points / 16
    right = np.mean(np.array(built.labels)[built.network.float64(x).argmax(axis=1)] == test.labels)
    assert right > 0.7


def boxes_of(built):
    """The class of each box, from the depth-4 network's boxes."""
    label = compact(load_dataset("digits:train"), built.radius)
    return np.concatenate(
        [np.full(np.count_nonzero(row), k) for k, row in enumerate(label.network.layers[2].dense)]
    )
