"""Sparse layers in ONNX files: what is written, what runtimes compute, what is read back."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io.gemm_chain import read_gemm_chain
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx
from verifier.io.onnx_export_sparse import prefers_sparse, sparse_bytes

#: Small integers: float32 sums of such products are exact in any order.
WEIGHTS = (-3.0, -1.0, -0.5, 1.0, 2.0)


@pytest.fixture(autouse=True)
def _every_sparse_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write even the smallest sparse layer in the sparse form."""
    monkeypatch.setattr("verifier.io.onnx_export_sparse.LEAST_BYTES", 0)
    monkeypatch.setattr("verifier.io.onnx_export_sparse.ADVANTAGE", 0)


def random_layer(rng: np.random.Generator, n_out: int, n_in: int, style: str) -> Layer:
    """Rows with 0 to 5 nonzeros."""
    weight = np.zeros((n_out, n_in))
    for i in range(n_out):
        count = int(rng.integers(0 if style != "single" else 1, 6)) if style != "single" else 1
        columns = rng.choice(n_in, min(count, n_in), replace=False)
        if style == "ones":
            weight[i, columns] = 1.0
        elif style == "mixed":
            weight[i, columns] = rng.choice(WEIGHTS, len(columns))
        else:  # one factor a row
            weight[i, columns] = rng.choice(WEIGHTS)
    relu = rng.random(n_out) < rng.choice([0.0, 0.5, 1.0])
    matrix = weight if style == "dense" else sp.csr_array(weight)
    return Layer(matrix, rng.integers(-4, 5, n_out).astype(float), relu)


def random_network(seed: int, shape: tuple[int, ...] = ()) -> Network:
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(1, 9)) for _ in range(int(rng.integers(2, 6)))]
    if shape:
        sizes[0] = int(np.prod(shape))
    styles = rng.choice(["ones", "mixed", "rows", "single", "dense"], len(sizes) - 1)
    layers = [
        random_layer(rng, n_out, n_in, str(style))
        for n_in, n_out, style in zip(sizes, sizes[1:], styles, strict=False)
    ]
    return Network(tuple(layers), shape, "random")


def run(path: Path, points: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": points})[0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), opset=st.sampled_from([9, 12, 13, 18]))
def test_every_number_is_read_back(tmp_path_factory, seed, opset):
    path = tmp_path_factory.mktemp("sparse") / "n.onnx"
    network = random_network(seed)
    export_onnx(network, path, opset=opset)
    for read in (read_gemm_chain(path), load_model(path).network):
        assert read.depth == network.depth
        for a, b in zip(read.layers, network.layers, strict=True):
            assert np.array_equal(a.dense, b.dense)
            assert np.array_equal(a.bias, b.bias)
            assert np.array_equal(a.relu, b.relu)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 5))
def test_the_runtime_computes_the_same(tmp_path_factory, seed, batch):
    path = tmp_path_factory.mktemp("sparse") / "n.onnx"
    network = random_network(seed)
    export_onnx(network, path)
    points = np.random.default_rng(seed).integers(-8, 9, (batch, network.n_inputs))
    sparse = any(layer.is_sparse for layer in network.layers)
    given_points = points.astype(np.float32)
    for rows in [given_points] if sparse else given_points[:, None]:
        for x, y in zip(rows, run(path, rows), strict=True):
            assert [Fraction(float(v)) for v in y] == list(network.exact(x.tolist()))


def test_images_are_flattened(tmp_path):
    network = random_network(3, (1, 2, 3))
    export_onnx(network, tmp_path / "n.onnx")
    read = load_model(tmp_path / "n.onnx").network
    assert read.input_shape == (1, 2, 3)
    x = np.arange(6, dtype=np.float32)
    (y,) = run(tmp_path / "n.onnx", x.reshape(1, 1, 2, 3))
    assert [Fraction(float(v)) for v in y] == list(network.exact(x.tolist()))


def test_when_the_sparse_form_is_chosen(monkeypatch):
    monkeypatch.setattr("verifier.io.onnx_export_sparse.LEAST_BYTES", 10_000)
    monkeypatch.setattr("verifier.io.onnx_export_sparse.ADVANTAGE", 8)
    eye = sp.eye_array(100, format="csr")
    assert sparse_bytes(eye, 4) == 100 * 8 + 100 * 8
    assert prefers_sparse(eye, 4)
    assert not prefers_sparse(eye.toarray(), 4)
    assert not prefers_sparse(sp.csr_array(eye[:20]), 4)  # small
    assert not prefers_sparse(sp.csr_array(np.tri(100)), 4)  # filled


def test_a_wide_network_in_a_small_file(tmp_path, monkeypatch):
    monkeypatch.setattr("verifier.io.onnx_export_sparse.LEAST_BYTES", 1 << 20)
    monkeypatch.setattr("verifier.io.onnx_export_sparse.ADVANTAGE", 8)
    rng = np.random.default_rng(0)
    n, k = 40_000, 3
    columns = rng.integers(0, n, n * k)
    square = sp.csr_array((np.ones(n * k), columns, np.arange(0, n * k + 1, k)), shape=(n, n))
    thin = sp.csr_array((np.ones(n), rng.integers(0, 60, n), np.arange(n + 1)), shape=(n, 60))
    all_of_them = np.ones(n, dtype=bool)
    network = Network(
        (
            Layer(thin, np.zeros(n), all_of_them),
            Layer(square, np.ones(n), all_of_them),
            Layer(np.ones((1, n)), np.zeros(1), np.zeros(1, dtype=bool)),
        )
    )
    assert export_onnx(network, tmp_path / "n.onnx") == "float32"
    assert (tmp_path / "n.onnx").stat().st_size < 2_000_000
    read = load_model(tmp_path / "n.onnx").network
    assert (read.depth, read.nonzeros) == (3, network.nonzeros)
    assert all(layer.is_sparse for layer in read.layers[:2])
    assert (read.layers[1].weight != network.layers[1].weight).nnz == 0


CORRUPTIONS = {
    "columns_2_0": lambda a: a + 100,
    "shape_2_0": lambda a: np.array([1, 1, -1]),
    "axis0": lambda a: np.array([0]),
    "order0": lambda a: a[:-1],
    "scale0": lambda a: a[:-1],
    "b0": lambda a: a[:-1],
}


def three_rows() -> Network:
    """Rows with 3, 1, 2, 2 nonzeros and one factor each."""
    weight = np.array([[2.0, 2, 2, 0], [0, 1, 0, 0], [0, 0, 3, 3], [-1, -1, 0, 0]])
    flags = np.zeros(4, dtype=bool)
    return Network((Layer(sp.csr_array(weight), np.arange(4.0), flags),))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_other_forms_are_refused(tmp_path, name):
    path = tmp_path / "n.onnx"
    export_onnx(three_rows(), path)
    read_gemm_chain(path)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            changed = CORRUPTIONS[name](numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(changed, name))
            break
    else:
        raise AssertionError(name)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"n\.onnx"):
        read_gemm_chain(path)


@pytest.mark.parametrize("operator", ["Transpose", "Concat", "Reshape", "Add", "ReduceSum"])
def test_a_missing_node_is_refused(tmp_path, operator):
    path = tmp_path / "n.onnx"
    export_onnx(three_rows(), path)
    model = onnx.load(path)
    place = [k for k, node in enumerate(model.graph.node) if node.op_type == operator][-1]
    gone = model.graph.node.pop(place)
    for node in model.graph.node:
        for slot, given_name in enumerate(node.input):
            if given_name == gone.output[0]:
                node.input[slot] = gone.input[0]
    if not any(gone.output[0] in node.output for node in model.graph.node):
        for value in model.graph.output:
            if value.name == gone.output[0]:
                value.name = gone.input[0]
    onnx.save(model, path)
    with pytest.raises(ModelError):
        read_gemm_chain(path)


def test_another_number_is_another_network(tmp_path):
    path = tmp_path / "n.onnx"
    export_onnx(three_rows(), path)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "scale0":
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), "scale0"))
    onnx.save(model, path)
    read = read_gemm_chain(path)
    assert np.array_equal(read.layers[0].dense, 2 * three_rows().layers[0].dense)
