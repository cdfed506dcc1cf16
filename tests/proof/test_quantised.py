"""Layers as integers: limbs are the weights, rounded down, whatever joins them."""

from __future__ import annotations

import gc
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from tests.proof.networks import KINDS, weights
from verifier.core.network import Layer
from verifier.proof import quantised as module
from verifier.proof.integers import LIMB, TooWideError
from verifier.proof.quantised import Quantised, fits, limbs, quantised


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparse", [False, True])
def test_limbs_are_the_weight_rounded_down(kind: str, sparse: bool) -> None:
    """W − (limbs) lies in [0, one unit of the third limb), and is 0 where they say so."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        weight = weights(rng, (3, 4), kind)
        parts, exponent, exact = limbs(sp.csr_array(weight) if sparse else weight)
        dense = [limb.toarray() if sparse else limb for limb in parts]
        assert all((limb == np.floor(limb)).all() for limb in dense)
        assert abs(dense[0]).max() <= 2.0 ** (LIMB - 1)
        assert all((limb >= 0).all() and limb.max() < 2.0**LIMB for limb in dense[1:])
        unit = Fraction(2) ** (-exponent - LIMB)
        for at in np.ndindex(weight.shape):
            have = sum(
                Fraction(int(limb[at])) * Fraction(2) ** (-exponent - k * LIMB)
                for k, limb in enumerate(dense)
            )
            error = Fraction(float(weight[at])) - have
            assert 0 <= error < unit
            assert error == 0 or not exact


def test_limbs_of_negative_weights_far_below_the_largest() -> None:
    """-2^-60 beside 1 is rounded down by less than a unit of the last limb, not of the first."""
    parts, exponent, exact = limbs(np.array([[1.0, -(2.0**-60), -(2.0**-100)]]))
    for column in (1, 2):
        first, second = (int(limb[0, column]) for limb in parts)
        assert (first << LIMB) + second == -1
    assert exponent + LIMB == 44
    assert not exact


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_affine_layer_encloses_the_exact_one(kind: str, sparse: bool) -> None:
    """(first + second 2^-LIMB) is W, its last column at most b, and b lies between both ends."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        weight, bias = weights(rng, (3, 4), kind), weights(rng, (3,), kind)
        weight, bias = weight * (rng.random((3, 4)) < 0.7), bias * (rng.random(3) < 0.7)
        relu = np.ones(3, dtype=bool)
        layer = Layer(sp.csr_array(weight) if sparse else weight, bias, relu)
        whole = quantised(layer)
        affine = whole.affine
        dense = [limb.toarray() if sparse else limb for limb in affine.limbs]
        for i in range(3):
            last = sum(
                Fraction(int(limb[i, -1])) * Fraction(2) ** (-affine.bias_exponent - k * LIMB)
                for k, limb in enumerate(dense)
            )
            ends = affine.bias_low[i], affine.bias_high[i]
            low, high = (Fraction(int(v)) / Fraction(2) ** affine.bias_scale for v in ends)
            assert last <= low <= Fraction(float(bias[i])) <= high
            assert high - last <= Fraction(int(affine.width[i])) / Fraction(2) ** affine.width_scale
        assert (dense[0][:, :-1] == (whole.limbs[0].toarray() if sparse else whole.limbs[0])).all()
        both = [limb.toarray() if sparse else limb for limb in whole.signed]
        parts = [limb.toarray() if sparse else limb for limb in whole.limbs]
        for signed, part in zip(both, parts, strict=True):
            assert (signed[:, :4] + signed[:, 4:] == part).all()
        assert (both[0][:, :4] >= 0).all()
        assert (both[0][:, 4:] <= 0).all()


def test_integers_live_as_long_as_their_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed once, and go with the layer; those of large layers are not kept at all."""
    layer = Layer(np.ones((2, 2)), np.zeros(2), np.ones(2, dtype=bool))
    gc.collect()
    before = len(module._LAYERS)
    assert quantised(layer) is quantised(layer)
    assert len(module._LAYERS) == before + 1
    del layer
    gc.collect()
    assert len(module._LAYERS) == before
    monkeypatch.setattr(module, "_KEPT", 3)
    layer = Layer(np.ones((2, 2)), np.zeros(2), np.ones(2, dtype=bool))
    assert quantised(layer) is not quantised(layer)


def test_sizes() -> None:
    """The power of two above a number; 2^900 is too much, and nothing is smaller than 2^-600."""
    assert [fits(v, -3) for v in (0, 1, 7, 8, 9)] == [-600, -2, 0, 1, 1]
    assert fits(1, -2000) == -600
    assert fits(1, 899) == 900
    with pytest.raises(TooWideError, match="900"):
        fits(1, 900)


def test_a_bias_in_an_interval() -> None:
    """Both ends are kept, rounded outwards."""
    one = np.ones((2, 1))
    whole = Quantised.of(one, (np.array([0, 0], dtype=object),) * 2, 0, np.zeros(2, dtype=bool))
    low, high = (np.array(v, dtype=object) for v in ([-(2**70) - 1, 5], [2**70 + 1, 6]))
    affine = whole.with_bias(low, high, 3)
    unit = Fraction(2) ** (3 - affine.bias_scale)
    assert affine.bias_low.dtype == affine.bias_high.dtype == np.int64
    for a, b, exact in zip(
        affine.bias_low.tolist(), affine.bias_high.tolist(), (low, high), strict=False
    ):
        del exact
        assert a <= b
    for i in range(2):
        assert int(affine.bias_low[i]) * unit <= low[i] <= high[i]
        assert high[i] <= int(affine.bias_high[i]) * unit
