"""The checker's bounds in float32 semantics hold for every order of summation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.float32_runs import order_matters, run
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.proof.chain import chain
from verifier.proof.integers import Rows, TooWideError, backward


def float32_network(rng: np.random.Generator) -> Network:
    """Weights of different sizes."""
    sizes = [int(n) for n in rng.integers(1, 9, size=rng.integers(3, 5))] + [1]
    layers = []
    for k, n in enumerate(sizes[:-1]):
        m = sizes[k + 1]
        weight = np.float32(rng.normal(size=(m, n)) * 2.0 ** rng.integers(-8, 9, size=(m, n)))
        layers.append(Layer(weight, np.float32(rng.normal(size=m)), np.full(m, k < len(sizes) - 2)))
    return Network(tuple(layers))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_bounds_and_forms_hold_for_all_orders(seed):
    rng = np.random.default_rng(seed)
    network = float32_network(rng)
    low = np.float32(rng.normal(size=network.n_inputs))
    high = np.float32(low + np.float32(rng.choice([0.0, 1e-6, 0.3])))
    box = Box(tuple(map(float, low)), tuple(map(float, high)))
    found = chain(network.layers, box, (-np.ones((1, 1)), [Fraction(7, 3)]), float32=True)
    one, zero = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    hidden = found.bounds[:-1]
    rows = Rows(
        network.depth, (zero, one), zero, [b[0][None] for b in hidden], [b[1][None] for b in hidden]
    )
    least = backward(found.layers, found.scale, rows, found.bits).least(*found.box)
    bound = Fraction(int(least.mantissa[0])) * Fraction(2) ** int(least.exponent[0])
    for x in (low, high, np.where(rng.random(len(low)) < 0.5, low, high)):
        seen = run(network, x, rng)
        for z, (below, above), layer in zip(seen, found.bounds, found.layers, strict=False):
            unit = Fraction(2) ** layer.scale
            for value, a, b in zip(z, below, above, strict=True):
                assert int(a) <= Fraction(float(value)) * unit <= int(b)
        assert bound <= Fraction(7, 3) - Fraction(float(seen[-1][0]))


def test_exact_bounds_do_not():
    network, box = order_matters(2.0**27), Box((1,), (1,))
    exact, rounded = (chain(network.layers, box, float32=flag) for flag in (False, True))
    assert exact.bounds[-1][0][0] > 0 > rounded.bounds[-1][0][0]


@pytest.mark.parametrize(
    ("weight", "bias", "reach", "message"),
    [
        (0.1, 0.0, 1, "that are float32"),
        (0.5, 0.1, 1, "that are float32"),
        (2.0**120, 0.0, 2**8, "may leave the float32 range"),
    ],
)
def test_what_is_refused(weight, bias, reach, message):
    layers = (Layer(np.array([[weight]]), np.array([bias]), np.zeros(1, dtype=bool)),)
    with pytest.raises(TooWideError, match=message):
        chain(layers, Box((0,), (reach,)), float32=True)
