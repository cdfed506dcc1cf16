"""The comparison with onnxruntime: the bound holds in every order, and catches wrong imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from onnx_graphs import Writer, mlp

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io.lowering.graph import read_graph
from verifier.io.lowering.lower import lower
from verifier.io.lowering.tensor import Lowering
from verifier.io.onnx import export_onnx, load_model
from verifier.io.operators import OPERATORS, linear, moving, piecewise, pooling
from verifier.io.runtime import Session
from verifier.io.validation import chain_error, sample_points


def _convolutional(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    writer = Writer((1, 2, 6, 6))
    value = writer.node("Conv", "x", rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3))
    value = writer.node("Add", writer.node("Relu", value), rng.standard_normal((3, 1, 1)))
    value = writer.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = writer.node("Transpose", value, perm=[0, 2, 3, 1])
    value = writer.node("Flatten", value)
    value = writer.node("Gemm", value, rng.standard_normal((12, 4)), rng.standard_normal(4))
    return writer.save(tmp_path / "m.onnx", value)


def _no_bias(build: Any, node: Any, inputs: Any) -> Any:
    return OPERATORS["MatMul"](build, node, inputs[:2])


def _half(build: Any, node: Any, inputs: Any) -> Any:
    (made,) = piecewise.relu(build, node, inputs)
    return [build.scale(made, np.full(made.size, 1.0 - 2.0**-12))]


@pytest.mark.parametrize(
    ("operator", "wrong"),
    [
        ("Relu", moving.identity),
        ("Relu", piecewise.absolute),
        ("Relu", _half),
        ("Add", linear.subtract),
        ("MaxPool", pooling.average_pool),
        (
            "Transpose",
            lambda b, n, i: [b.reshape(i[0], tuple(i[0].shape[k] for k in (0, 2, 3, 1)))],
        ),
        ("Gemm", _no_bias),
    ],
)
def test_a_wrong_import_is_refused(
    operator: str, wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _convolutional(tmp_path)
    load_model(path)
    monkeypatch.setitem(OPERATORS, operator, wrong)
    load_model(path, validate=False)
    with pytest.raises(ModelError, match="import refused: at sample point") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_wrong_number_of_outputs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _convolutional(tmp_path)
    monkeypatch.setitem(OPERATORS, "Gemm", lambda b, n, i: [b.select([i[0]], np.arange(3))])
    with pytest.raises(ModelError, match="onnxruntime gives 4 outputs, the imported network 3"):
        load_model(path)


def _bound(path_or_model: Any, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    graph = read_graph(path_or_model)
    build = Lowering(points, graph.single)
    output = lower(graph, build)
    return output.value.T, output.error.T


@pytest.mark.parametrize("seed", range(20))
def test_float32_sums_in_any_order_stay_inside_the_bound(seed: int) -> None:
    # The same network, its sums taken in a random order in float32, with terms of very different
    # sizes: often far from the exact value, never farther than the bound.
    rng = np.random.default_rng(seed)
    writer, value, layers = Writer((1, 30)), "x", []
    for n, m in ((30, 40), (40, 3)):
        weight = rng.standard_normal((n, m)) * 2.0 ** rng.integers(-12, 13, (n, m))
        weight, bias = weight.astype(np.float32), rng.standard_normal(m).astype(np.float32)
        value = writer.node("Relu", writer.node("Gemm", value, weight, bias))
        layers.append((weight, bias))
    points = sample_points(30, double=False)
    exact, error = _bound(writer.model(value), points)
    for point, middle, bound in zip(points, exact, error, strict=True):
        for _ in range(5):
            a = point.astype(np.float32)
            for weight, bias in layers:
                terms = np.concatenate([a[:, None] * weight, bias[None]])
                total = np.zeros(terms.shape[1], dtype=np.float32)
                for k in rng.permutation(len(terms)):
                    total = total + terms[k]
                a = np.maximum(total, np.float32(0))
            assert (np.abs(a.astype(np.float64) - middle) <= bound).all()


def test_the_bound_is_small_where_numbers_are_tame() -> None:
    writer, output, _ = mlp(np.random.default_rng(2), [50, 60, 60, 5])
    value, error = _bound(writer.model(output), sample_points(50, double=False))
    assert (error < 1e-2 * np.abs(value).max(axis=1, keepdims=True)).all()
    writer, output, _ = mlp(np.random.default_rng(2), [50, 60, 60, 5], np.float64)
    value, error = _bound(writer.model(output), sample_points(50, double=True))
    assert (error < 2e-11 * np.abs(value).max(axis=1, keepdims=True)).all()


def test_cancellation_that_a_runtime_gets_wrong_is_no_disagreement(tmp_path: Path) -> None:
    # 2^30 + 3.5 - 2^30 is 3.5; in float32 it is 0 or 3.5, depending on the order.
    writer = Writer((1, 1))
    weight = np.array([[2.0**30, 3.5, -(2.0**30)]])
    hidden = writer.node("Relu", writer.node("Gemm", "x", np.ones((1, 3)), np.array([5.0, 4, 5])))
    value = writer.node("Gemm", hidden, weight.T)
    model = load_model(writer.save(tmp_path / "m.onnx", value))
    assert model.network.exact([0]) == (14,)


def test_overflow_at_every_point_is_said(tmp_path: Path) -> None:
    writer = Writer((1, 2))
    value = "x"
    for _ in range(3):
        value = writer.node("Gemm", value, np.full((2, 2), 1e25), np.ones(2))
    network = load_model(writer.save(tmp_path / "m.onnx", value)).network
    assert any("overflow" in note for note in network.notes)
    assert network.exact([0, 0])[0] > 10**50


def test_not_a_number_from_the_runtime_is_a_disagreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, output, _ = mlp(np.random.default_rng(1), [2, 2])
    path = writer.save(tmp_path / "m.onnx", output)
    for value in (np.nan, np.inf):
        monkeypatch.setattr(Session, "run", lambda s, p, v=value: np.full((len(p), 2), v))
        with pytest.raises(ModelError, match="import refused"):
            load_model(path)


@pytest.mark.parametrize("seed", range(5))
def test_the_chain_error_contains_the_exact_value(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    writer, output, _ = mlp(rng, [6, 20, 20, 3], np.float64)
    network = load_model(writer.save(tmp_path / "m.onnx", output)).network
    points = rng.standard_normal((4, 6)) * 10.0 ** rng.integers(-3, 4, (4, 6))
    value, error = chain_error(network, points)
    for point, middle, bound in zip(points, value, error, strict=True):
        for exact, v, e in zip(network.exact(point), middle, bound, strict=True):
            assert abs(exact - type(exact)(float(v))) <= type(exact)(float(e))
    assert (error < 1e-9 * (1 + np.abs(value))).all()


def test_sample_points_are_representable_and_the_same_every_time() -> None:
    points = sample_points(7, double=False)
    assert points.shape == (6, 7)
    assert (points.astype(np.float32) == points).all()
    assert (points == sample_points(7, double=False)).all()
    assert np.abs(points).max() > 100


def chain_of(rng: np.random.Generator, depth: int) -> Network:
    """Float32 weights, carried values, ReLUs that are far off."""
    layers = []
    for k in range(depth):
        weight = rng.standard_normal((4, 3 if k == 0 else 4)).astype(np.float32).astype(float)
        bias = rng.standard_normal(4).astype(np.float32).astype(float)
        weight[0], bias[0] = 0.0, 0.0
        weight[0, 0] = 2.0
        bias[1] = -50.0
        layers.append(Layer(sp.csr_array(weight) if k % 2 else weight, bias, np.ones(4, bool)))
    return Network(tuple(layers))


@pytest.mark.parametrize("seed", range(5))
def test_the_runtimes_error_lies_within_its_bound(seed: int, tmp_path: Path) -> None:
    network = chain_of(np.random.default_rng(seed), 5)
    export_onnx(network, tmp_path / "c.onnx")
    model = load_model(tmp_path / "c.onnx")
    points = sample_points(3, double=False)
    _, error = chain_error(network, points, double=False)
    got = model.run(points)
    for point, y, bound in zip(points, got, error, strict=True):
        for exact, v, e in zip(network.exact(point), y, bound, strict=True):
            assert abs(exact - type(exact)(float(v))) <= type(exact)(float(e))
    assert (error[:4] < 1e-3 * (1 + np.abs(got[:4]))).all()


def test_copied_values_have_no_error() -> None:
    copy = Layer(np.array([[0.0, -2.0]]), np.zeros(1), np.zeros(1, bool))
    for layer in (copy, Layer(sp.csr_array(copy.weight), copy.bias, copy.relu)):
        _, error = chain_error(Network((layer,)), np.array([[1 / 3, 2 / 3]]))
        assert error.tolist() == [[0.0]]
    scaled = Layer(np.array([[0.0, 3.0]]), np.zeros(1), np.zeros(1, bool))
    assert chain_error(Network((scaled,)), np.array([[1 / 3, 2 / 3]]))[1] > 0


def test_a_chain_keeps_its_layers_and_is_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Carried values would be merged away in any other graph."""
    carry = Layer(np.eye(2), np.zeros(2), np.ones(2, bool))
    path = tmp_path / "deep.onnx"
    export_onnx(Network((carry,) * 300), path)
    network = load_model(path).network
    assert (network.depth, network.width, network.n_relu) == (300, 2, 600)
    assert network.name == "deep"
    assert network.notes == ()
    monkeypatch.setattr(Session, "run", lambda s, p: np.maximum(p, 0) * (1 + 1e-5))
    with pytest.raises(ModelError, match="import refused"):
        load_model(path)
