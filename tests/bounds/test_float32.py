"""Bounds on what float32 computes hold for every order of summation, and for onnxruntime."""

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.float32_runs import order_matters, run
from verifier.bounds.box_kernels import bound_row, bound_split, forms, pack, set_box, tighten
from verifier.bounds.float32 import in_float32, overflows
from verifier.bounds.interval import interval_bounds
from verifier.bounds.linear import root_bounds
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network
from verifier.io.onnx_export import export_onnx


def float32_network(rng: np.random.Generator, *, wild: bool = False) -> Network:
    """Weights of very different sizes that cancel, if wild."""
    sizes = [int(n) for n in rng.integers(1, 12, size=rng.integers(2, 5))] + [2]
    layers = []
    for n, m in pairwise(sizes):
        weight = rng.normal(size=(m, n))
        if wild:
            weight *= 2.0 ** rng.integers(-12, 13, size=(m, n))
        relu = np.full(m, len(layers) < len(sizes) - 2)
        bias = rng.normal(size=m) * (weight.max() if wild else 1.0)
        layers.append(Layer(np.float32(weight), np.float32(bias), relu))
    return Network(tuple(layers))


def random_float32_box(rng, n):
    centre = np.float32(rng.normal(size=n))
    radius = np.float32(rng.choice([0.0, 1e-6, 0.1, 1.0]))
    lower, upper = np.float32(centre - radius), np.float32(centre + radius)
    points = [lower, upper, np.float32((lower + upper) / 2)]
    points += [np.where(rng.random(n) < 0.5, lower, upper) for _ in range(3)]
    return lower.astype(np.float64), upper.astype(np.float64), points


@settings(max_examples=120)
@given(seed=st.integers(0, 2**32 - 1), wild=st.booleans())
def test_all_bounds_hold_for_all_orders(seed, wild):
    rng = np.random.default_rng(seed)
    network = in_float32(float32_network(rng, wild=wild))
    assert network.is_rounded
    lower, upper, points = random_float32_box(rng, network.n_inputs)
    assert not overflows(network, lower, upper)
    plain = interval_bounds(network, lower, upper)
    _, optimised = root_bounds(network, lower, upper)
    net, low, high = pack(network, lower, upper, plain)
    f = forms(net, 2)
    set_box(lower, upper, f)
    assert tighten(net, low, high, f)
    row = rng.normal(size=net.weight.shape[1])
    row[network.n_outputs :] = 0.0
    most = bound_row(net, row, 0.0, 0, low, high, f)
    layer = int(rng.integers(network.depth))
    neuron = int(rng.integers(network.layers[layer].n_out))
    sign = float(rng.choice([-1.0, 1.0]))
    split = bound_split(net, layer, neuron, sign, 1, low, high, f)
    for x in points:
        seen = run(network, x, rng)
        for k, z in enumerate(seen):
            for bounds in (plain[k], optimised[k], (low[k, : len(z)], high[k, : len(z)])):
                assert (bounds[0] <= z).all()
                assert (z <= bounds[1]).all()
        assert row[: network.n_outputs] @ seen[-1] <= most + 1e-12 * np.abs(row).sum()
        assert sign * seen[layer][neuron] <= split


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_onnxruntime_stays_inside(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    network = float32_network(rng, wild=True)
    path = tmp_path_factory.mktemp("float32") / "n.onnx"
    assert export_onnx(network, path) == "float32"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    lower, upper, points = random_float32_box(rng, network.n_inputs)
    _, bounds = root_bounds(in_float32(network), lower, upper)
    for x in points:
        (y,) = session.run(None, {"input": x[None]})
        assert (bounds[-1][0] <= y[0]).all()
        assert (y[0] <= bounds[-1][1]).all()


def test_exact_bounds_are_wrong_in_float32():
    """What the rounding is for: another answer at one point."""
    network = order_matters(2.0**25)
    x = np.ones(1)
    assert network.exact(x) == (3.5,)
    exact = interval_bounds(network, x, x)[-1]
    rounded = interval_bounds(in_float32(network), x, x)[-1]
    values = {run(network, x, np.random.default_rng(s))[-1][0] for s in range(50)}
    assert min(values) < 0 < exact[0][0]
    assert all(rounded[0][0] <= v <= rounded[1][0] for v in values)


def test_what_is_refused():
    network = Network((Layer(np.array([[0.1]]), np.zeros(1), np.zeros(1, dtype=bool)),))
    with pytest.raises(NetworkError, match="that are float32"):
        in_float32(network)
    large = Network((Layer(np.array([[2.0**100]]), np.zeros(1), np.zeros(1, dtype=bool)),))
    assert not overflows(in_float32(large), np.zeros(1), np.ones(1))
    assert overflows(in_float32(large), np.zeros(1), np.full(1, 2.0**27))
