"""Running-maximum Scans: written, run, read back; other files refused."""

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from verifier.core.errors import ExportError, ModelError
from verifier.core.network import Layer, Network
from verifier.core.scan import ScanNetwork
from verifier.io import onnx as onnx_import
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx
from verifier.io.onnx_scan import export_scan, is_scan, read_scan


def scan_network(seed: int, kind: type = np.uint8) -> ScanNetwork:
    """Small numbers, so that float32 computes without rounding."""
    rng = np.random.default_rng(seed)
    n, d, size = rng.integers(1, 6), rng.integers(1, 5), rng.integers(1, 5)
    below = rng.integers(0, 20, size) / 4
    return ScanNetwork(
        rng.integers(0, size, (n, d)).astype(kind),
        below + rng.integers(0, 4, size) / 4,
        below,
        rng.integers(1, 4, n).astype(np.float64),
        float(rng.integers(0, 8) / 4),
        2.0 ** int(rng.integers(-1, 4)),
        (int(d),),
    )


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from([np.uint8, np.uint16, np.uint32]))
def test_written_run_and_read(tmp_path_factory, seed, kind):
    network = scan_network(seed, kind)
    path = tmp_path_factory.mktemp("scan") / "n.onnx"
    assert export_scan(network, path) == "float32"
    read = read_scan(path)
    for name in ("which", "above", "below", "labels", "shift", "slope", "input_shape"):
        assert np.array_equal(getattr(read, name), getattr(network, name))
    points = np.random.default_rng(seed).integers(-8, 40, (7, network.n_inputs)) / 4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = session.run(None, {"input": points.astype(np.float32)})[0]
    assert values.shape == (7, 1)
    for point, value in zip(points, values, strict=True):
        assert network.exact(point) == (Fraction(float(value[0])),)


def test_more_bits_than_float32(tmp_path):
    network = scan_network(0)
    fine = ScanNetwork(
        network.which,
        network.above + 2.0**-40,
        network.below,
        network.labels,
        network.shift,
        network.slope,
        network.input_shape,
    )
    assert export_scan(fine, tmp_path / "n.onnx") == "float64"
    assert np.array_equal(read_scan(tmp_path / "n.onnx").above, fine.above)


def change_constant(model, name, change):
    """The constant with its array changed."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = change(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(array, name))


CHANGES = {
    "a node's operator": lambda m: setattr(m.graph.node[-1], "op_type", "Sub"),
    "an input": lambda m: m.graph.node[-1].input.__setitem__(0, "r_last"),
    "the body": lambda m: setattr(m.graph.node[4].attribute[0].g.node[0], "op_type", "Neg"),
    "the axis": lambda m: change_constant(m, "axis", lambda a: a - 1),
    "a name": lambda m: setattr(m.graph.initializer[0], "name", "other"),
    "a NaN": lambda m: change_constant(m, "above", lambda a: a * np.float32("nan")),
    "an index": lambda m: change_constant(m, "which", lambda a: a + np.uint8(200)),
    "a slope of 0": lambda m: change_constant(m, "slope", lambda a: a * np.float32(0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_graph_is_refused(tmp_path, change):
    path = tmp_path / "n.onnx"
    export_scan(scan_network(3), path)
    model = onnx.load(path)
    before = model.SerializeToString()
    CHANGES[change](model)
    assert model.SerializeToString() != before
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"n\.onnx"):
        read_scan(path)


def test_a_chain_is_no_scan(tmp_path):
    path = tmp_path / "n.onnx"
    chain = Network((Layer(np.eye(2), np.zeros(2), np.zeros(2, dtype=bool)),))
    export_onnx(chain, path)
    assert not is_scan(onnx.load(path))
    with pytest.raises(ModelError, match="expected the constants"):
        read_scan(path)
    export_scan(scan_network(1), path)
    assert is_scan(onnx.load(path))


def test_no_place_to_write(tmp_path):
    with pytest.raises(ExportError, match="cannot be written"):
        export_scan(scan_network(1), tmp_path / "missing" / "n.onnx")


def test_the_importer_unrolls_it(tmp_path):
    path = tmp_path / "n.onnx"
    network = scan_network(7)
    export_scan(network, path)
    model = load_model(path)
    assert (model.network.depth, model.network.width) == (network.depth, network.width)
    for a, b in zip(model.network.layers, network.layers(), strict=True):
        assert np.array_equal(a.dense, b.dense)
        assert np.array_equal(a.bias, b.bias)


def test_too_large_to_unroll(tmp_path, monkeypatch):
    path = tmp_path / "n.onnx"
    export_scan(scan_network(7), path)
    monkeypatch.setattr(onnx_import, "_UNROLLED", 3)
    with pytest.raises(ModelError, match="up to 3 weights are unrolled"):
        load_model(path)
