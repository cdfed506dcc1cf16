"""Reading a chain of layers back from an ONNX file, number by number."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from strategies import random_network

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io.gemm_chain import read_gemm_chain
from verifier.io.onnx import export_onnx, load_model


def network() -> Network:
    """Two layers, the first with a ReLU on one of its coordinates."""
    return Network(
        (
            Layer(np.array([[1.0, 2.0], [0.5, 0.0]]), np.array([1.0, -1.0]), np.array([1, 0])),
            Layer(np.array([[3.0, 4.0]]), np.zeros(1), np.zeros(1, dtype=bool)),
        ),
        (1, 2),
    )


def assert_same(read: Network, written: Network) -> None:
    assert read.depth == written.depth
    assert read.input_shape == written.input_shape
    for a, b in zip(read.layers, written.layers, strict=True):
        assert np.array_equal(a.dense, b.dense)
        assert np.array_equal(a.bias, b.bias)
        assert np.array_equal(a.relu, b.relu)


@given(seed=st.integers(0, 2**32 - 1))
def test_what_was_written_is_read(tmp_path_factory, seed):
    written = random_network(np.random.default_rng(seed))
    path = tmp_path_factory.mktemp("chain") / "n.onnx"
    export_onnx(written, path)
    assert_same(read_gemm_chain(path), written)


def test_pictures_and_float64(tmp_path):
    written = network()
    export_onnx(written, tmp_path / "a.onnx")
    assert_same(read_gemm_chain(tmp_path / "a.onnx"), written)
    first, last = written.layers
    fine = Network((Layer(first.weight + 2**-40, first.bias, first.relu), last), (2, 1, 1))
    assert export_onnx(fine, tmp_path / "b.onnx") == "float64"
    assert_same(read_gemm_chain(tmp_path / "b.onnx"), fine)


def test_sparse_layers_stay_sparse(tmp_path):
    written = Network((Layer(np.eye(70), np.zeros(70), np.zeros(70, dtype=bool)),))
    export_onnx(written, tmp_path / "a.onnx")
    read = read_gemm_chain(tmp_path / "a.onnx")
    assert read.layers[0].is_sparse
    assert_same(read, written)


def changed(tmp_path, change) -> str:
    path = tmp_path / "a.onnx"
    export_onnx(network(), path)
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return str(path)


def other_operator(graph):
    graph.node[2].op_type = "Sigmoid"


def other_order(graph):
    graph.node[4].input[0] = "z0"


def other_scale(graph):
    graph.node[1].attribute.append(helper.make_attribute("alpha", 2.0))


def other_mask(graph):
    graph.node[3].input[1], graph.node[3].input[2] = graph.node[3].input[2], graph.node[3].input[1]


def other_end(graph):
    graph.node[4].output[0] = "elsewhere"
    graph.node.append(helper.make_node("Gemm", ["flat", "W1", "b1"], ["output"], "late", transB=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_operator, "relu0.* is Sigmoid, expected a Gemm"),
        (other_order, "gemm1.* is Gemm, expected a Gemm that reads the result before it"),
        (other_scale, "a Gemm with a bias and transB at most"),
        (other_mask, r"where0.*expected \(mask, a, z\)"),
        (other_end, "late"),
    ],
)
def test_other_graphs_are_refused(tmp_path, change, words):
    with pytest.raises(ModelError, match=words):
        read_gemm_chain(changed(tmp_path, change))


def save(tmp_path, nodes, tensors, shape=(1, 1, 3), name="m.onnx"):
    """A model whose nodes read x and these tensors, and whose last node gives y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in tensors.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / name)
    return tmp_path / name


W = np.arange(6.0).reshape(2, 3) - 2
FLAT = helper.make_node("Flatten", ["x"], ["f"], axis=1)


def product(given="f", bias="b", **options):
    """MatMul and Add."""
    return [
        helper.make_node("MatMul", [given, "W"], ["z"], **options),
        helper.make_node("Add", ["z", bias], ["y"]),
    ]


@pytest.mark.parametrize("bias", [[3.0, 4.0], [[3.0, 4.0]]])
def test_products_with_an_add_after_a_sub_of_zeros(tmp_path, bias):
    """The form of ACAS Xu's networks."""
    sub = helper.make_node("Sub", ["x", "zeros"], ["s"])
    flat = helper.make_node("Flatten", ["s"], ["f"])
    tensors = {"zeros": np.zeros((1, 1, 3)), "W": W.T, "b": bias}
    path = save(tmp_path, [sub, flat, *product()], tensors)
    expected = Network((Layer(W, np.array([3.0, 4.0]), np.zeros(2, dtype=bool)),), (1, 3))
    assert_same(read_gemm_chain(path), expected)
    model = load_model(path)
    assert model.literal
    assert model.run(np.array([1, 2, 3])).tolist() == expected.float64(np.array([1, 2, 3])).tolist()


@pytest.mark.parametrize("options", [{}, {"transB": 0}, {"alpha": 1.0, "beta": 1.0}])
def test_gemm_of_a_matrix_the_other_way_round(tmp_path, options):
    path = save(
        tmp_path,
        [FLAT, helper.make_node("Gemm", ["f", "W", "b"], ["y"], **options)],
        {"W": W.T, "b": [3, 4]},
    )
    assert np.array_equal(read_gemm_chain(path).layers[0].dense, W)
    assert load_model(path).literal


@pytest.mark.parametrize(
    ("nodes", "tensors", "words"),
    [
        ([helper.make_node("Sub", ["x", "c"], ["f"]), *product()], {"c": np.ones(1)}, "of zeros"),
        ([helper.make_node("Flatten", ["x"], ["f"], axis=2), *product()], {}, "axis=1"),
        (product("x"), {}, "not flattened"),
        ([FLAT, helper.make_node("MatMul", ["f", "W"], ["y"])], {}, "expected an Add"),
        ([FLAT, *product(bias="c")], {"c": np.ones(1)}, "do not fit"),
        ([FLAT, *product(bias="c")], {"c": np.ones((2, 2))}, "do not fit"),
        ([FLAT, helper.make_node("MatMul", ["f"], ["y"])], {}, "too few inputs"),
        (
            [FLAT, helper.make_node("Gemm", ["f", "W", "b"], ["y"], transA=1)],
            {},
            "a bias and transB at most",
        ),
        ([FLAT, helper.make_node("Gemm", ["f", "W"], ["y"])], {}, "a bias and transB at most"),
        ([FLAT, *product(domain="com.example")], {}, "expected a Gemm"),
    ],
)
def test_nodes_of_another_form_are_refused(tmp_path, nodes, tensors, words):
    path = save(tmp_path, nodes, {"W": W.T, "b": [3, 4], **tensors})
    with pytest.raises(ModelError, match=words):
        read_gemm_chain(path)


def test_numbers_of_another_type_are_refused(tmp_path):
    path = save(tmp_path, [FLAT, *product()], {"W": W.T, "b": [3, 4]})
    model = onnx.load(path)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([3.0, 4.0]), "b"))
    onnx.save(model, path)
    with pytest.raises(ModelError, match="numbers of the input's type"):
        read_gemm_chain(path)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load_model(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_gemm_chain(tmp_path / "none.onnx")


def other_type(graph):
    graph.initializer[0].data_type = 81


def other_size(graph):
    graph.initializer[0].dims[0] += 1


def other_input(graph):
    graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1


@pytest.mark.parametrize("change", [other_type, other_size, other_input])
def test_damaged_chains_are_refused_when_a_model_is_loaded(tmp_path, change):
    path = tmp_path / "n.onnx"
    weights = np.array([[1.0, -2.0], [0.5, 1.0]])
    export_onnx(Network((Layer(weights, np.zeros(2), np.zeros(2, dtype=bool)),)), path)
    model = onnx.load(path)
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"n\.onnx"):
        load_model(path)


def test_one_number_as_bias_is_added_to_every_output(tmp_path):
    path = tmp_path / "n.onnx"
    weights = np.array([[1.0, -2.0], [0.5, 1.0]])
    export_onnx(Network((Layer(weights, np.zeros(2), np.zeros(2, dtype=bool)),)), path)
    model = onnx.load(path)
    bias = next(t for t in model.graph.initializer if len(t.dims) == 1)
    bias.CopyFrom(numpy_helper.from_array(np.array(1.5, np.float32), bias.name))
    path.write_bytes(model.SerializeToString())
    assert load_model(path).network.exact((1, 1)) == (Fraction(1, 2), Fraction(3))
