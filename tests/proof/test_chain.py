"""Networks in integers: every exact value lies within the interval bounds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from tests.proof.networks import KINDS, inputs, point, unpleasant_box, unpleasant_network, weights
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.proof.chain import _limbs, chain
from verifier.proof.integers import LIMB, STORED, TooWideError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparse", [False, True])
def test_limbs_are_the_weight_rounded_down(kind: str, sparse: bool) -> None:
    """W − (limbs) lies in [0, one unit of the third limb), and is 0 where they say so."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        weight = weights(rng, (3, 4), kind)
        limbs, exponent, exact = _limbs(sp.csr_array(weight) if sparse else weight)
        dense = [limb.toarray() if sparse else limb for limb in limbs]
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
    limbs, exponent, exact = _limbs(np.array([[1.0, -(2.0**-60), -(2.0**-100)]]))
    for column in (1, 2):
        first, second = (int(limb[0, column]) for limb in limbs)
        assert (first << LIMB) + second == -1
    assert exponent + LIMB == 44
    assert not exact


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_bounds_contain_exact_values(kind: str, seed: int) -> None:
    """The interval bounds contain every layer's exact pre-activations at exact points."""
    rng = np.random.default_rng(seed)
    network = unpleasant_network(rng, kind, sparse=bool(seed % 3 == 0))
    box = unpleasant_box(rng, network.n_inputs)
    rows = rng.integers(-(2**53) + 1, 2**53, (2, network.n_outputs)).astype(np.float64)
    bias = [Fraction(int(rng.integers(-99, 99)), 7) for _ in rows]
    view = chain(network.layers, box, (rows, bias))
    assert all(c <= v for c, v in zip(view.corner, box.lower, strict=True))
    assert all(v <= u for v, u in zip(box.upper, inputs(view, view.box[1].tolist()), strict=True))
    for _ in range(10):
        x = inputs(view, point(rng, *view.box))
        values = [z for z, _ in network.exact_trace(x)]
        y = network.exact(x)
        exact = [[Fraction(int(v)) for v in row] for row in rows]
        values.append(
            tuple(
                b + sum(v * o for v, o in zip(row, y, strict=True))
                for row, b in zip(exact, bias, strict=True)
            )
        )
        for z, (low, high), layer in zip(values, view.bounds, view.layers, strict=True):
            assert max(abs(low).max(), abs(high).max()) < 1 << STORED
            unit = Fraction(2) ** -layer.scale
            for v, a, b in zip(z, low.tolist(), high.tolist(), strict=True):
                assert a * unit <= v <= b * unit


def test_bounds_are_tight() -> None:
    """On the box of ACAS Xu's kind of numbers, bounds are the true intervals to nine digits."""
    network = Network((Layer(np.array([[0.1, -0.3]]), np.array([0.7]), np.array([True])),))
    box = Box((Fraction(-1, 3), Fraction(0)), (Fraction(1), Fraction(2, 7)))
    view = chain(network.layers, box)
    low, high = (int(end[0]) / 2.0 ** view.layers[0].scale for end in view.bounds[0])
    assert low == pytest.approx(-0.1 / 3 - 0.6 / 7 + 0.7, abs=1e-9)
    assert high == pytest.approx(0.8, abs=1e-9)


def test_boxes_of_one_point_and_layers_without_outputs() -> None:
    """Neither is an error."""
    empty = Layer(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=bool))
    third = Fraction(1, 3)
    view = chain([empty], Box((third, third), (third, third)))
    assert view.bounds[0][0].shape == (0,)


def test_many_wide_inputs_do_not_overflow() -> None:
    """Sums of 60-bit inputs with weights that do not fit into three limbs."""
    rng = np.random.default_rng(0)
    n = 100
    network = Network(
        (Layer(weights(rng, (2, n), "spread"), np.zeros(2), np.zeros(2, dtype=bool)),)
    )
    box = Box((Fraction(0),) * n, (Fraction(1),) * n)
    view = chain(network.layers, box)
    x = inputs(view, [Fraction(int(v)) for v in view.box[1]])
    z = network.exact(x)
    unit = Fraction(2) ** -view.layers[0].scale
    low, high = view.bounds[0]
    assert all(int(a) * unit <= v <= int(b) * unit for v, a, b in zip(z, low, high, strict=True))
    assert view.layers[0].bias_low[0] < view.layers[0].bias_high[0]


def test_refused() -> None:
    """Numbers beyond the range, layers that are too wide, weights that are no floats."""
    one = Box((Fraction(0),), (Fraction(1),))
    on = np.ones(1, dtype=bool)
    huge = Layer(np.array([[1e300]]), np.zeros(1), on)
    with pytest.raises(TooWideError, match="900"):
        chain([huge], one)
    with pytest.raises(TooWideError, match="65536"):
        chain([Layer(sp.csr_array((70000, 1)), np.zeros(70000), np.ones(70000, dtype=bool))], one)
    exact = Layer(np.array([[Fraction(1, 3)]], dtype=object), np.array([0], dtype=object), on)
    with pytest.raises(TooWideError, match="float64"):
        chain([exact], one)
