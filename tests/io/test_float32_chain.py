"""Models read as the sums that a runtime computes in float32, and models that cannot be."""

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from relucid.bundled import model_path
from tests.onnx_graphs import Writer
from verifier.bounds.float32 import in_float32
from verifier.bounds.linear import root_bounds
from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io.float32_chain import float32_chain
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx

RNG = np.random.default_rng(8)
W, B = RNG.normal(size=(3, 4)), RNG.normal(size=3)
K = RNG.normal(size=(2, 1, 2, 2))


def read(tmp_path, w, output):
    return float32_chain(load_model(w.save(tmp_path / "m.onnx", output)))


def stays_inside(path, network, shape) -> None:
    """What onnxruntime computes lies in the bounds of the layers that were read."""
    lower, upper = -np.ones(network.n_inputs), np.ones(network.n_inputs)
    _, bounds = root_bounds(in_float32(network), lower, upper)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for _ in range(20):
        x = RNG.uniform(lower, upper).astype(np.float32)
        (y,) = session.run(None, {"x": x.reshape(shape)})
        assert (bounds[-1][0] <= y.ravel()).all()
        assert (y.ravel() <= bounds[-1][1]).all()


def test_normalised_input_products_with_a_bias_beside_them_and_moves(tmp_path):
    w = Writer((1, 2, 2))
    centred = w.node("Sub", "x", np.array([[0.1, 0.0], [0.3, 0.4]]))
    turned = w.node("Flatten", w.node("Transpose", centred, perm=[0, 2, 1]))
    z = w.node("Add", B, w.node("MatMul", turned, W.T))
    a = w.node("Relu", w.node("Reshape", z, np.array([3, 1])))
    y = w.node("Gemm", W[:2, :3], w.node("Reshape", a, np.array([3, 1])), B[:2, None])
    network = read(tmp_path, w, w.node("Squeeze", y))
    assert [(y.n_in, y.n_out, y.n_relu) for y in network.layers] == [
        (4, 4, 0),
        (4, 3, 3),
        (3, 2, 0),
    ]
    assert (network.layers[0].bias == -np.float32([0.1, 0.0, 0.3, 0.4]).astype(float)).all()
    assert (network.layers[1].weight == np.float32(W)[:, [0, 2, 1, 3]]).all()
    assert (network.layers[1].bias == np.float32(B)).all()
    stays_inside(tmp_path / "m.onnx", network, (1, 2, 2))


def test_a_constant_of_zeros_is_no_operation(tmp_path):
    w = Writer((1, 4))
    y = w.node("Gemm", w.node("Sub", "x", np.zeros(4)), W.T, B)
    assert len(read(tmp_path, w, y).layers) == 1


def test_convolutions_count_the_weights_of_a_window(tmp_path):
    w = Writer((1, 1, 4, 4))
    padded = w.node("Pad", "x", np.array([0, 0, 1, 1, 0, 0, 0, 0]))
    z = w.node("Relu", w.node("Conv", padded, K, np.array([0.25, -0.5])))
    z = w.node("Add", w.node("Conv", z, RNG.normal(size=(1, 2, 2, 2))), np.array([[[[0.125]]]]))
    network = read(tmp_path, w, w.node("Flatten", w.node("Relu", z)))
    assert [(y.n_in, y.n_out, y.n_relu) for y in network.layers] == [(16, 32, 32), (32, 9, 9)]
    first, second = (y.rounding for y in in_float32(network).layers)
    assert first.relative < 7 * 2.0**-24
    assert second.relative < 11 * 2.0**-24
    assert (network.layers[1].bias == 0.125).all()
    stays_inside(tmp_path / "m.onnx", network, (1, 1, 4, 4))


def test_the_output_may_be_turned(tmp_path):
    w = Writer((1, 4))
    y = w.node(
        "Reshape", w.node("Gemm", "x", np.tile(W, (2, 1)).T, np.tile(B, 2)), np.array([2, 3])
    )
    model = load_model(w.save(tmp_path / "m.onnx", w.node("Transpose", y, perm=[1, 0])))
    network, x = float32_chain(model), [0.5, 1.0, -2.0, 0.25]
    assert network.exact(x) == model.network.exact(x)
    assert (network.layers[0].bias == np.repeat(np.float32(B), 2)).all()


def test_a_chain_of_the_own_export_is_read_as_it_stands(tmp_path):
    layer = Layer(np.eye(2), np.zeros(2), np.array([True, False]))
    export_onnx(Network((layer, layer)), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    assert float32_chain(model) is model.network


def test_bundled_models():
    sizes = [y.n_out for y in float32_chain(load_model(model_path("digits-mlp"))).layers]
    assert sizes == [32, 32, 10]
    with pytest.raises(
        ModelError, match=r"no float32 semantics: node .*\(MaxPool\): what it rounds"
    ):
        float32_chain(load_model(model_path("digits-conv")))


def refused(tmp_path, w, output, words):
    model = load_model(w.save(tmp_path / "m.onnx", output))
    with pytest.raises(ModelError, match=words):
        float32_chain(model)


def gemm(w, x="x"):
    return w.node("Gemm", x, W.T, B)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (lambda w: w.node("Mul", gemm(w), np.float32(3.0)), r"\(Mul\): what it rounds"),
        (lambda w: w.node("Div", gemm(w), np.float32(2.0)), r"\(Div\): what it rounds"),
        (lambda w: w.node("Add", gemm(w), B), "the one bias of the sum"),
        (lambda w: w.node("Add", w.node("Relu", w.node("MatMul", "x", W.T)), B), "the one bias"),
        (lambda w: w.node("Sub", B, w.node("MatMul", "x", W.T)), "add a constant to each entry"),
        (lambda w: w.node("Gemm", "x", W.T, B, alpha=0.5), "alpha and beta must be 1"),
        (lambda w: w.node("Gemm", "x", W.T, B, beta=2.0), "alpha and beta must be 1"),
        (lambda w: w.node("Gemm", w.node("Relu", "x"), W.T, B), "a sum must come before it"),
        (lambda w: w.node("Add", gemm(w), w.node("MatMul", "x", W.T)), "must read the result"),
        (lambda w: w.node("Gemm", "x", w.node("Mul", W, 2 * np.ones((3, 4))), B, transB=1), "read"),
        (lambda w: w.node("Slice", gemm(w), [0], [2], [1]), None),
        (lambda w: w.node("Flatten", "x"), "no chain"),
        (lambda w: w.node("Softmax", gemm(w)), "ends in Softmax"),
    ],
)
def test_what_has_no_float32_semantics(tmp_path, graph, words):
    w = Writer((1, 4))
    output = graph(w)
    if words is None:  # a part of the outputs is as good as all
        assert read(tmp_path, w, output).n_outputs == 2
    else:
        refused(tmp_path, w, output, words)


def test_float64_models_are_refused(tmp_path):
    w = Writer((1, 4), np.float64)
    refused(tmp_path, w, gemm(w), "the model computes in float64")


def test_constants_are_moved_but_not_computed(tmp_path):
    w = Writer((1, 4))
    y = w.node("Gemm", "x", w.node("Transpose", W, perm=[1, 0]), B)
    assert (read(tmp_path, w, y).layers[0].weight == np.float32(W)).all()


def test_two_readings_that_differ_are_refused(tmp_path):
    """The chain is compared with the function that the import found, at a point."""
    from dataclasses import replace

    w = Writer((1, 4))
    model = load_model(w.save(tmp_path / "m.onnx", w.node("Identity", gemm(w))))
    proto = model.proto
    array = numpy_helper.to_array(proto.graph.initializer[1]) + np.float32(1)
    proto.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(array, proto.graph.initializer[1].name)
    )
    with pytest.raises(ModelError, match="another function"):
        float32_chain(replace(model, data=proto.SerializeToString()))
