"""What an imported model is: its layers, its meaning, its tail, its properties."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save
from onnx_graphs import Writer, mlp

from verifier.core.errors import ModelError, PropertyError, UnsupportedOperatorError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx

ONE = Fraction(1)


# ---- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_plain_network_comes_out_as_its_own_layers(dtype: type, tmp_path: Path) -> None:
    writer, output, layers = mlp(np.random.default_rng(0), [5, 70, 80, 3], dtype)
    model = load_model(writer.save(tmp_path / "m.onnx", output))
    assert model.network.depth == 3
    for k, (layer, (weight, bias)) in enumerate(zip(model.network.layers, layers, strict=True)):
        assert isinstance(layer.weight, np.ndarray)
        assert (layer.weight == weight).all()
        assert (layer.bias == bias).all()
        assert layer.relu.all() == (k < 2)
    assert model.network.input_shape == (5,)
    assert model.input_shape == (1, 5)
    assert model.input_dtype == np.dtype(dtype).name
    assert (model.input_name, model.output_name, model.tail) == ("x", output, None)
    assert model.network.notes == ()


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 2**32 - 1))
def test_random_plain_networks(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int
) -> None:
    writer, output, layers = mlp(np.random.default_rng(seed), sizes)
    path = tmp_path_factory.getbasetemp() / "random.onnx"
    network = load_model(writer.save(path, output)).network
    assert [layer.dense.tolist() for layer in network.layers] == [w.tolist() for w, _ in layers]
    assert [layer.bias.tolist() for layer in network.layers] == [b.tolist() for _, b in layers]


def test_matmul_and_add_after_a_shifted_input(tmp_path: Path) -> None:
    # As in ACAS Xu: (x - mean) W + b. W mean is not representable, so the shift stays a layer;
    # with mean 0 nothing is left of it.
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal((4, 3)), rng.standard_normal(3)
    for mean, depth in ((np.zeros(4), 1), (np.array([1.1e-6, 0.3, -7e5, 2.2]), 2)):
        writer = Writer((1, 1, 1, 4))
        value = writer.node("Flatten", writer.node("Sub", "x", mean.reshape(1, 1, 1, 4)))
        value = writer.node("Add", writer.node("MatMul", value, weight), bias)
        network = load_model(writer.save(tmp_path / "m.onnx", value)).network
        assert network.depth == depth
        assert network.input_shape == (1, 1, 4)
        assert network.n_relu == 0
        w, b, m = (v.astype(np.float32).astype(object) for v in (weight, bias, mean))
        x = [Fraction(k, 7) for k in range(4)]
        shifted = [a - Fraction(float(c)) for a, c in zip(x, m, strict=True)]
        expected = tuple(
            sum((Fraction(float(w[i, j])) * shifted[i] for i in range(4)), Fraction(float(b[j])))
            for j in range(3)
        )
        assert network.exact(x) == expected


def test_a_residual_network_is_a_compact_chain(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    writer, n = Writer((1, 6)), 6
    value = writer.node("Relu", writer.node("Gemm", "x", rng.standard_normal((6, n)), np.zeros(n)))
    for _ in range(3):
        inner = writer.node("Relu", writer.node("MatMul", value, rng.standard_normal((n, n))))
        outer = writer.node("MatMul", inner, rng.standard_normal((n, n)))
        value = writer.node("Relu", writer.node("Add", value, outer))
    network = load_model(writer.save(tmp_path / "m.onnx", value)).network
    assert network.depth == 7
    assert network.n_relu == 7 * n
    assert [layer.n_out for layer in network.layers] == [6, 12, 6, 12, 6, 12, 6]


def test_a_residual_without_relu_carries_one_value_not_all_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    writer, n = Writer((1, 6)), 6
    value = writer.node("Gemm", "x", rng.standard_normal((6, n)), np.zeros(n))
    for _ in range(4):
        inner = writer.node(
            "Gemm", writer.node("Relu", value), rng.standard_normal((n, n)), np.ones(n)
        )
        value = writer.node(
            "Add",
            value,
            writer.node("MatMul", writer.node("Relu", inner), rng.standard_normal((n, n))),
        )
    network = load_model(writer.save(tmp_path / "m.onnx", value)).network
    assert network.n_relu == 8 * n
    assert network.depth == 9
    assert network.width <= 3 * n


def test_dead_neurons_are_left_out_and_equal_ones_shared(tmp_path: Path) -> None:
    writer = Writer((1, 2))
    weight = np.array([[1.0, 1.0, 2.0, 5.0], [3.0, 3.0, 4.0, 6.0]])
    hidden = writer.node("Relu", writer.node("MatMul", "x", weight))
    out = writer.node("MatMul", hidden, np.array([[1.0], [2.0], [4.0], [0.0]]))
    network = load_model(writer.save(tmp_path / "m.onnx", out)).network
    assert network.layers[0].n_out == 2  # columns 0 and 1 are one neuron, column 3 is not read
    assert network.layers[1].dense.tolist() == [[3.0, 4.0]]


def test_a_relu_of_a_relu_is_no_new_neuron(tmp_path: Path) -> None:
    writer = Writer((1, 2))
    value = writer.node(
        "Relu", writer.node("Relu", writer.node("MatMul", "x", np.ones((2, 3)) * [1, 2, 3]))
    )
    network = load_model(writer.save(tmp_path / "m.onnx", value)).network
    assert (network.depth, network.n_relu) == (1, 3)


def test_leaky_relu_and_abs_cost_one_relu_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for operator, attributes in (("LeakyRelu", {"alpha": 0.1}), ("Abs", {})):
        writer = Writer((1, 3))
        value = writer.node("Gemm", "x", rng.standard_normal((3, 5)), np.ones(5))
        value = writer.node(operator, value, **attributes)
        value = writer.node("Gemm", value, rng.standard_normal((5, 2)), np.ones(2))
        network = load_model(writer.save(tmp_path / "m.onnx", value)).network
        assert (network.depth, network.n_relu) == (2, 5)


def test_overlapping_windows_share_their_neurons(tmp_path: Path) -> None:
    # 9 convolution outputs and 4 windows of 2 x 2: along the rows 6 maxima of pairs, then 4.
    writer = Writer((1, 1, 4, 4))
    value = writer.node("Conv", "x", np.random.default_rng(1).standard_normal((1, 1, 2, 2)))
    value = writer.node("MaxPool", value, kernel_shape=[2, 2])
    network = load_model(writer.save(tmp_path / "m.onnx", value)).network
    assert network.n_relu == 6 + 4
    assert [layer.n_out for layer in network.layers] == [6 + 6, 4 + 4, 4]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_limit_at_the_end_of_the_type_is_none(dtype: type, tmp_path: Path) -> None:
    for largest, n_relu in ((np.finfo(dtype).max, 3), (np.finfo(dtype).max / 2, 6)):
        writer = Writer((1, 3), dtype)
        value = writer.node("Clip", "x", np.array(0.0), np.array(float(largest)))
        network = load_model(writer.save(tmp_path / "m.onnx", value)).network
        assert network.n_relu == n_relu
        assert network.exact([-1, 2, 3]) == (0, 2, 3)


def test_a_convolution_is_stored_sparse(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    writer = Writer(("batch", 1, 28, 28))
    value = writer.node("Conv", "x", rng.standard_normal((8, 1, 3, 3)), strides=[2, 2])
    value = writer.node("Flatten", writer.node("Relu", value))
    value = writer.node("Gemm", value, rng.standard_normal((8 * 13 * 13, 10)), np.zeros(10))
    network = load_model(writer.save(tmp_path / "m.onnx", value)).network
    assert [layer.is_sparse for layer in network.layers] == [True, False]
    assert network.layers[0].nonzeros == 8 * 13 * 13 * 9
    assert network.input_shape == (1, 28, 28)


def test_shape_arithmetic_of_exporters_folds_away(tmp_path: Path) -> None:
    # What the TorchScript exporter writes for x.view(x.size(0), -1).
    rng = np.random.default_rng(6)
    writer = Writer(("N", 2, 3, 4))
    shape = writer.node("Shape", "x")
    batch = writer.node("Gather", shape, np.array(0), axis=0)
    batch = writer.node("Unsqueeze", batch, np.array([0]))
    rest = writer.node("Constant", value_ints=[-1])
    target = writer.node("Concat", batch, rest, axis=0)
    value = writer.node("Reshape", "x", target)
    scale = writer.node("Constant", value_float=2.0)
    value = writer.node("Mul", value, writer.node("Identity", scale))
    value = writer.node("MatMul", value, rng.standard_normal((24, 3)))
    model = load_model(writer.save(tmp_path / "m.onnx", value))
    assert model.network.depth == 1
    assert model.network.notes == ()
    assert model.input_shape == (1, 2, 3, 4)


def test_all_forms_of_constant_nodes(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.array([1.0, 2.0], dtype=np.float32))
    forms = [
        {"value": tensor},
        {"value_floats": [1.0, 2.0]},
    ]
    for form in forms:
        writer = Writer((1, 2))
        value = writer.node("Add", "x", writer.node("Constant", **form))
        network = load_model(writer.save(tmp_path / "m.onnx", value)).network
        assert network.layers[0].bias.tolist() == [1.0, 2.0]


def test_initializers_listed_as_inputs(tmp_path: Path) -> None:
    writer, output, _ = mlp(np.random.default_rng(7), [3, 4, 2])
    model = writer.model(output)
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert load_model(path).network.depth == 2


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    writer = Writer((1, 3))
    body = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["r"], ["b"])]
    function = helper.make_function(
        "own", "NegRelu", ["a"], ["b"], body, [helper.make_opsetid("", 13)]
    )
    model = writer.model(writer.node("NegRelu", "x", domain="own"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(function)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert load_model(path).network.exact([-1, 2, 3]) == (0, -2, -3)


def test_nodes_that_the_output_does_not_need_are_ignored(tmp_path: Path) -> None:
    writer = Writer((1, 3))
    writer.node("Sin", "x")
    value = writer.node("Relu", "x")
    assert load_model(writer.save(tmp_path / "m.onnx", value)).network.n_relu == 3


def test_an_output_that_ignores_the_input(tmp_path: Path) -> None:
    writer = Writer((1, 3))
    value = writer.node("Add", writer.node("Mul", "x", np.zeros(3)), np.array([1.0, 2.0, 3.0]))
    assert load_model(writer.save(tmp_path / "m.onnx", value)).network.exact([9, 9, 9]) == (1, 2, 3)


# ---- rounding is reported ----------------------------------------------------------------------


def test_what_is_rounded_is_named(tmp_path: Path) -> None:
    writer = Writer((1, 3, 3, 3))
    value = writer.node("BatchNormalization", "x", *[np.full(3, v) for v in (1.1, 0.2, 0.3, 2.0)])
    value = writer.node("Div", value, np.array(3.0))
    value = writer.node("GlobalAveragePool", value)
    shift = writer.node("Mul", writer.constant(np.array([0.1])), writer.constant(np.array([0.7])))
    value = writer.node("Add", value, shift)
    notes = load_model(writer.save(tmp_path / "m.onnx", value)).network.notes
    assert len(notes) == 4
    for node, operator in (("n0", "BatchNorm"), ("n1", "Div"), ("n2", "GlobalAv"), ("n3", "Mul")):
        assert any(node in note and operator in note for note in notes)


def test_powers_of_two_need_no_rounding(tmp_path: Path) -> None:
    writer = Writer((1, 2, 4, 4))
    value = writer.node("Div", "x", np.array(8.0))
    value = writer.node("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = writer.node("ReduceMean", value, axes=[2, 3])
    network = load_model(writer.save(tmp_path / "m.onnx", value)).network
    assert network.notes == ()
    assert network.exact([Fraction(1, 3)] * 32) == (Fraction(1, 24),) * 2


# ---- run ---------------------------------------------------------------------------------------


def test_run_is_the_runtime_point_by_point(tmp_path: Path) -> None:
    writer, output, _ = mlp(np.random.default_rng(8), [3, 8, 2])
    model = load_model(writer.save(tmp_path / "m.onnx", output))
    points = np.random.default_rng(9).standard_normal((5, 3))
    batch = model.run(points)
    assert batch.dtype == np.float32
    assert batch.shape == (5, 2)
    for row, point in zip(batch, points, strict=True):
        assert (model.run(point) == row).all()
        assert model.run(point).shape == (2,)
    assert model.run(np.zeros((0, 3))).shape[0] == 0
    with pytest.raises(ModelError, match="expected 3 inputs"):
        model.run(np.zeros(4))


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    writer, output, _ = mlp(np.random.default_rng(10), [2, 2])
    path = writer.save(tmp_path / "m.onnx", output)
    assert load_model(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_model(path).path == path


# ---- tails -------------------------------------------------------------------------------------


def _with_tail(tmp_path: Path, tail: str, after: bool = False) -> Path:
    writer, output, _ = mlp(np.random.default_rng(11), [3, 6, 4])
    attributes = {} if tail == "Sigmoid" else {"axis": 1}
    value = writer.node(tail, output, **attributes)
    if after:
        value = writer.node("Reshape", writer.node("Dropout", value), np.array([4]))
    return writer.save(tmp_path / f"{tail}.onnx", value)


@pytest.mark.parametrize("tail", ["Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize("after", [False, True])
def test_a_tail_is_dropped_and_reported(tail: str, after: bool, tmp_path: Path) -> None:
    model = load_model(_with_tail(tmp_path, tail, after))
    assert model.tail == tail
    assert model.network.depth == 2
    assert len(model.network.notes) == 1
    assert tail in model.network.notes[0]
    x = np.random.default_rng(12).standard_normal((6, 3)).astype(np.float32)
    got, inner = model.run(x), model.network.float64(x)
    assert (np.argsort(got, axis=1) == np.argsort(inner, axis=1)).all()
    assert not np.allclose(got, inner)


def _property(*constraints: LinearConstraint, n: int = 4, mixes: bool = False) -> Property:
    box = Box((0, 0, 0), (1, 1, 1))
    return Property((Case(box, (constraints,)),), 3, n, mixes_inputs=mixes)


def _terms(*terms: tuple[int, int], bound: int = 0, strict: bool = False) -> LinearConstraint:
    return LinearConstraint(tuple((i, Fraction(c)) for i, c in terms), Fraction(bound), strict)


@pytest.mark.parametrize("tail", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_which_properties_survive_a_tail(tail: str, tmp_path: Path) -> None:
    model = load_model(_with_tail(tmp_path, tail))
    model.check_property(Property.robustness(Box((0, 0, 0), (1, 1, 1)), 2, 4))
    model.check_property(_property(_terms((0, 3), (1, -3), strict=True)))
    model.check_property(_property(_terms((0, 1), (2, 2), (0, 1), (3, -1), (2, -2), (3, -1))))
    model.check_property(_property(_terms((5, 1), bound=1), mixes=True))
    for bad in (
        _terms((0, 1)),
        _terms((0, 1), bound=1),
        _terms((0, 1), (1, 1)),
        _terms((0, 2), (1, -1)),
        _terms((0, 1), (5, -1)),
    ):
        with pytest.raises(PropertyError, match=tail):
            model.check_property(_property(_terms((0, 1), (1, -1)), bad, mixes=True))
    for only_log in (_terms((0, 1), (1, -1), bound=1), _terms((0, 2), (1, -1), (2, -1))):
        if tail == "LogSoftmax":
            model.check_property(_property(only_log))
        else:
            with pytest.raises(PropertyError, match="order"):
                model.check_property(_property(only_log))


def test_a_model_without_a_tail_decides_every_property(tmp_path: Path) -> None:
    writer, output, _ = mlp(np.random.default_rng(13), [3, 4])
    model = load_model(writer.save(tmp_path / "m.onnx", output))
    model.check_property(_property(_terms((0, 1), bound=1)))
    with pytest.raises(PropertyError, match="5 outputs"):
        model.check_property(_property(_terms((0, 1)), n=5))


@pytest.mark.parametrize(("opset", "axis", "fits"), [(13, 1, False), (13, 2, False), (11, 1, True)])
def test_a_softmax_over_a_part_of_the_outputs_is_refused(
    opset: int, axis: int, fits: bool, tmp_path: Path
) -> None:
    # Before opset 13 the axes from ``axis`` on are taken together.
    writer = Writer((1, 2, 3), opset=opset)
    path = writer.save(tmp_path / "m.onnx", writer.node("Softmax", "x", axis=axis))
    if fits:
        assert load_model(path).tail == "Softmax"
    else:
        with pytest.raises(UnsupportedOperatorError, match="a part of the 6 outputs"):
            load_model(path)


@pytest.mark.parametrize("which", [0, 1])
def test_an_output_of_a_split_without_a_name_is_refused(tmp_path: Path, which: int) -> None:
    """onnxruntime ends the whole process by a segmentation fault there."""
    writer = Writer((1, 4))
    parts = writer.node("Split", "x", np.array([1, 3]), outputs=2, axis=1)
    writer.nodes[-1].output[which] = ""
    path = writer.save(tmp_path / "model.onnx", writer.node("Relu", parts[1 - which]))
    with pytest.raises(ModelError, match="no name"):
        load_model(path)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("operator", ["Max", "Min", "Sum", "Mean", "Concat"])
def test_an_input_of_many_without_a_name_is_refused(
    tmp_path: Path, operator: str, used: bool
) -> None:
    """Of a Max onnxruntime does not survive it, whether anything reads the result or not."""
    writer = Writer((1, 4))
    made = writer.node(operator, "x", None, **({"axis": 1} if operator == "Concat" else {}))
    path = writer.save(tmp_path / "model.onnx", made if used else writer.node("Relu", "x"))
    with pytest.raises(ModelError, match="no name"):
        load_model(path)


def test_a_softmax_in_the_middle_is_refused(tmp_path: Path) -> None:
    writer = Writer((1, 3))
    value = writer.node("Relu", writer.node("Softmax", "x"))
    with pytest.raises(UnsupportedOperatorError, match="only as the last operator"):
        load_model(writer.save(tmp_path / "m.onnx", value))


# ---- start-up ----------------------------------------------------------------------------------


def test_importing_the_module_does_not_import_onnx() -> None:
    code = (
        "import sys, verifier.io.onnx; "
        "print([m for m in ('onnx', 'onnxruntime', 'google.protobuf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_layers_that_are_those_of_the_file(tmp_path):
    """A chain of Gemm and Relu nodes is literal, dense or sparse; anything else is not."""
    chain = Network(
        (
            Layer(np.ones((3, 2)), np.zeros(3), np.ones(3, dtype=bool)),
            Layer(np.ones((1, 3)), np.zeros(1), np.zeros(1, dtype=bool)),
        )
    )
    export_onnx(chain, tmp_path / "chain.onnx")
    assert load_model(tmp_path / "chain.onnx").literal
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    save(model, tmp_path / "sum.onnx")
    assert not load_model(tmp_path / "sum.onnx").literal
