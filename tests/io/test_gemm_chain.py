"""Reading a chain of layers back from an ONNX file, number by number."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from strategies import random_network

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io.gemm_chain import read_gemm_chain
from verifier.io.onnx import export_onnx, load_model
from verifier.io.onnx_export_sparse import sparse_initializer


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


def deep(rng, depth=40, width=90):
    """A chain of sparse layers, one of them empty, in small whole numbers."""
    layers = []
    for k in range(depth):
        n_out = width if k < depth - 1 else 3
        weight = sp.random_array((n_out, width), density=0.02, rng=rng, format="csr")
        weight.data = rng.integers(1, 4, weight.nnz) * rng.choice([-0.5, 0.5], weight.nnz)
        if k == 5:
            weight = sp.csr_array((n_out, width))
        relu = rng.random(n_out) < (0.9 if k < depth - 1 else 0)
        layers.append(Layer(weight, rng.integers(-2, 3, n_out).astype(float), relu))
    return Network(tuple(layers))


@pytest.fixture
def initializers(monkeypatch):
    """Sparse weights are stored as such in small files too."""
    monkeypatch.setattr("verifier.io.onnx_export._LARGE", 0)


def test_sparse_weights_are_stored_by_their_nonzeros(tmp_path, initializers):
    written = deep(np.random.default_rng(1))
    export_onnx(written, tmp_path / "n.onnx")
    proto = onnx.load(tmp_path / "n.onnx")
    onnx.checker.check_model(proto)
    assert len(proto.graph.sparse_initializer) == written.depth - 1
    stored = sum(t.values.dims[0] for t in proto.graph.sparse_initializer)
    assert stored == sum(layer.weight.nnz for layer in written.layers)
    assert_same(read_gemm_chain(tmp_path / "n.onnx"), written)
    model = load_model(tmp_path / "n.onnx")
    assert model.literal
    assert model.network.layers[0].is_sparse
    x = np.random.default_rng(2).integers(-4, 5, 90)
    assert model.run(x).tolist() == written.float64(x).tolist()


def test_which_files_have_sparse_weights(tmp_path, monkeypatch):
    written = deep(np.random.default_rng(1))
    export_onnx(written, tmp_path / "small.onnx")
    assert not onnx.load(tmp_path / "small.onnx").graph.sparse_initializer
    monkeypatch.setattr("verifier.io.onnx_export._LARGE", 39 * 90 * 90 * 4 + 3 * 90 * 4)
    export_onnx(written, tmp_path / "large.onnx")
    assert onnx.load(tmp_path / "large.onnx").graph.sparse_initializer
    monkeypatch.setattr("verifier.io.onnx_export.ADVANTAGE", 100)
    export_onnx(written, tmp_path / "full.onnx")
    assert not onnx.load(tmp_path / "full.onnx").graph.sparse_initializer


def test_a_sparse_weight_the_other_way_round(tmp_path):
    layer = Layer(sp.csr_array(np.array([[0, 2.0, 0], [1, 0, 0]])), np.zeros(2), np.zeros(2, bool))
    stored = sparse_initializer("W", sp.csr_array(layer.weight.T), "float32")
    path = save(tmp_path, [FLAT, helper.make_node("Gemm", ["f", "W", "b"], ["y"])], {"b": [0, 0]})
    model = onnx.load(path)
    model.graph.sparse_initializer.append(stored)
    onnx.save(model, path)
    assert np.array_equal(load_model(path).network.layers[0].dense, layer.dense)


def replaced(tensor, array):
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.dims.append(1),
        lambda t: t.dims.__setitem__(0, 1),
        lambda t: t.dims.__setitem__(0, -90),
        lambda t: replaced(t.indices, numpy_helper.to_array(t.indices)[::-1].copy()),
        lambda t: replaced(t.indices, numpy_helper.to_array(t.indices) - 10**6),
        lambda t: replaced(t.indices, numpy_helper.to_array(t.indices)[1:]),
        lambda t: replaced(t.indices, np.zeros((t.values.dims[0], 2), np.int64)),
        lambda t: replaced(t.indices, numpy_helper.to_array(t.indices).astype(np.int32)),
        lambda t: replaced(t.values, numpy_helper.to_array(t.values).astype(np.float64)),
        lambda t: replaced(t.values, numpy_helper.to_array(t.values)[None]),
        lambda t: t.values.ClearField("raw_data"),
    ],
)
def test_damaged_sparse_weights_are_refused(tmp_path, initializers, change):
    path = tmp_path / "n.onnx"
    export_onnx(deep(np.random.default_rng(1), 3), path)
    model = onnx.load(path)
    change(model.graph.sparse_initializer[0])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"n\.onnx"):
        read_gemm_chain(path)
    with pytest.raises(ModelError, match=r"n\.onnx"):
        load_model(path)
