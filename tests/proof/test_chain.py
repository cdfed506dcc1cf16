"""Networks in integers: every exact value lies within the interval bounds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from tests.proof.networks import KINDS, inputs, point, unpleasant_box, unpleasant_network, weights
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.proof.chain import chain
from verifier.proof.integers import STORED, TooWideError
from verifier.proof.quantised import quantised


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


@pytest.mark.parametrize("sparse", [False, True])
def test_cases_of_a_network_share_its_integers(sparse: bool) -> None:
    """The layers behind the first are the same arrays; the bounds are those of fresh layers."""
    rng = np.random.default_rng(5)
    network = unpleasant_network(rng, "float32", sparse=sparse, sizes=(3, 6, 6, 2))
    boxes = [unpleasant_box(rng, 3) for _ in range(4)]
    shared = [chain(network.layers, box) for box in boxes]
    assert quantised(network.layers[1]) is quantised(network.layers[1])
    for box, view in zip(boxes, shared, strict=True):
        assert view.layers[1].limbs[0] is shared[0].layers[1].limbs[0]
        copies = [Layer(y.weight, y.bias, y.relu) for y in network.layers]
        for mine, theirs in zip(view.bounds, chain(copies, box).bounds, strict=True):
            assert all((a == b).all() for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("power", [0, 30, 90, 400])
def test_the_bias_of_boxes_far_from_0_is_exact(power: int) -> None:
    """W corner + b, with a corner of more bits than a product takes, to two units of 2^-59."""
    rng = np.random.default_rng(power)
    layer = Layer(rng.integers(-9, 10, (5, 4)) / 4.0, np.zeros(5), np.zeros(5, dtype=bool))
    corner = [Fraction(2) ** power * Fraction(int(rng.integers(-9, 9)), 7) for _ in range(4)]
    box = Box(tuple(corner), tuple(c + Fraction(k + 1, 3) for k, c in enumerate(corner)))
    view = chain([layer], box)
    affine = view.layers[0]
    unit = Fraction(2) ** affine.bias_scale
    for z, low, high in zip(
        Network((layer,)).exact(view.corner), affine.bias_low, affine.bias_high, strict=True
    ):
        assert int(low) <= z * unit <= int(high) <= int(low) + 1
        assert abs(int(low)) <= 1 << 59


def test_exact_ties_survive() -> None:
    """Where nothing has many bits, a bound that is exactly 0 is 0."""
    on = np.ones(2, dtype=bool)
    first = Layer(np.array([[3.0], [-3.0]]), np.array([-1.0, 1.0]), on)
    second = Layer(np.array([[0.25, -0.5]]), np.array([-1.25]), np.zeros(1, dtype=bool))
    view = chain([first, second], Box((Fraction(0),), (Fraction(2),)))
    assert view.bounds[1][1].tolist() == [0]


@pytest.mark.parametrize("float32", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_better_bounds_that_are_known(seed: int, float32: bool) -> None:
    """Later ranges follow from them, in whatever units, and hold where they do."""
    rng = np.random.default_rng(seed)
    network = unpleasant_network(rng, "float32", sparse=bool(seed % 2), sizes=(3, 5, 4, 2))
    box = unpleasant_box(rng, 3)
    old = chain(network.layers, box, float32=float32)
    x = inputs(old, point(rng, *old.box))
    better = []
    for (low, high), layer, (z, _) in zip(
        old.bounds[:-1], old.layers, network.exact_trace(x), strict=False
    ):
        # Nothing but this point is left of the second layer.
        exact = [int(v * Fraction(2) ** layer.scale) for v in z]
        pull = 4 if len(better) == 1 else 1
        better.append(
            (
                np.array(
                    [v - abs(v - int(a)) // pull - 2 for v, a in zip(exact, low, strict=True)]
                ),
                np.array(
                    [v + abs(int(a) - v) // pull + 2 for v, a in zip(exact, high, strict=True)]
                ),
            )
        )
    new = chain(network.layers, box, float32=float32, known=(old, better))
    assert (new.layers[0].bias_low == old.layers[0].bias_low).all()
    for (z, _), (low, high), layer in zip(
        network.exact_trace(x), new.bounds, new.layers, strict=True
    ):
        unit = Fraction(2) ** layer.scale
        for v, a, b in zip(z, low.tolist(), high.tolist(), strict=True):
            assert a <= v * unit <= b
    widths = [
        (int((high - low).max()) / Fraction(2) ** view.layers[-1].scale)
        for view in (old, new)
        for low, high in view.bounds[-1:]
    ]
    assert widths[1] <= widths[0]


def test_known_bounds_far_beyond_the_new_ones() -> None:
    """They change nothing and do not overflow."""
    one, on = np.ones((1, 1)), np.ones(1, dtype=bool)
    network = [Layer(one, np.zeros(1), on), Layer(one, np.zeros(1), on)]
    old = chain(network, Box((Fraction(0),), (Fraction(1),)))
    small = np.array([0]), np.array([1])
    huge = np.array([-(1 << 49)]), np.array([1 << 49])
    new = chain(network, Box((Fraction(0),), (Fraction(1),)), known=(old, [small, huge]))
    low, high = new.bounds[1]
    assert 0 <= int(high[0]) / 2.0 ** new.layers[1].scale < 2.0**-40
    assert -1 <= low[0] <= 0
