"""The running-maximum network as a loop is the running-maximum network, weight by weight."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import ball_points, separation, small_sets

from constructions.dataset import DataSet
from constructions.radius import RadiusError
from constructions.robust import running_maximum
from constructions.robust_scan import running_maximum_scan
from verifier.core.errors import DataError

ratios = st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(99, 100), Fraction(999, 1000)])


@settings(max_examples=60)
@given(data=small_sets(), ratio=ratios)
def test_the_layers_are_those_of_the_chain(data, ratio):
    radius = ratio * separation(data) / 2
    chain = running_maximum(data, radius)
    built = running_maximum_scan(data, radius)
    loop = built.network
    layers = list(loop.layers())
    assert len(layers) == chain.network.depth == loop.depth
    for ours, theirs in zip(layers, chain.network.layers, strict=True):
        assert np.array_equal(ours.dense, theirs.dense)
        assert np.array_equal(ours.bias, theirs.bias)
        assert np.array_equal(ours.relu, theirs.relu)
    assert loop.nonzeros == chain.network.nonzeros
    assert loop.dense_parameters == chain.dense_parameters
    assert loop.width == chain.network.width
    assert (built.closest.lam, built.closest.pair) == (chain.separation, chain.closest.pair)
    assert built.labels == chain.labels
    assert built.claims.hold
    assert built.closest_claims(data).hold


@settings(max_examples=30)
@given(data=small_sets(), ratio=ratios, seed=st.integers(0, 2**32 - 1))
def test_exact_values_are_those_of_the_chain(data, ratio, seed):
    radius = ratio * separation(data) / 2
    chain = running_maximum(data, radius).network
    loop = running_maximum_scan(data, radius).network
    rng = np.random.default_rng(seed)
    for i in range(min(len(data), 4)):
        for x in ball_points(data, i, radius, rng):
            assert loop.exact(x) == chain.exact(x)
    for _ in range(4):  # anywhere, below −σ too
        x = [Fraction(int(v), 7) for v in rng.integers(-300, 300, data.dimension)]
        assert loop.exact(x) == chain.exact(x)


def test_what_is_refused():
    data = DataSet(np.array([[0], [4]]), np.array([0, 1]), (1,), 2, "two")
    with pytest.raises(RadiusError, match="not below λ/2 = 2"):
        running_maximum_scan(data, Fraction(2))
    one = DataSet(np.array([[0], [4]]), np.array([1, 1]), (1,), 2, "one")
    with pytest.raises(DataError, match="all 2 points have the label"):
        running_maximum_scan(one, Fraction(1))
