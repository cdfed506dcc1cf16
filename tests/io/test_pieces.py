"""A chain run in pieces gives the bits that it gives as a whole."""

import numpy as np
import onnx
import pytest
import scipy.sparse as sp

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io import pieces
from verifier.io.onnx import export_onnx, load_model
from verifier.io.pieces import PiecewiseSession
from verifier.io.runtime import Session

SIZE = 70


@pytest.fixture(params=[np.float32, np.float64])
def path(request, tmp_path, monkeypatch):
    """Twelve layers of 70 neurons, some without ReLU, and three outputs."""
    monkeypatch.setattr("verifier.io.onnx_export._LARGE", 0)
    rng = np.random.default_rng(5)
    layers = []
    for k in range(12):
        n_out = SIZE if k < 11 else 3
        weight = sp.random_array((n_out, SIZE), density=0.03, rng=rng, format="csr")
        weight.data = (weight.data + 0.5).astype(request.param)
        bias = rng.normal(size=n_out).astype(request.param)
        layers.append(Layer(weight, bias, (rng.random(n_out) < 0.8) & (k < 11)))
    network = Network(tuple(layers), (7, 10))
    assert export_onnx(network, tmp_path / "n.onnx") == np.dtype(request.param).name
    return tmp_path / "n.onnx"


def piecewise(model):
    return PiecewiseSession(
        model.proto, model.network, model.input_name, model.input_shape,
        model.input_dtype == "float64",
    )  # fmt: skip


@pytest.mark.parametrize("layers", [1, 2, 5, 100])
def test_pieces_compute_what_the_whole_computes(path, monkeypatch, layers):
    model = load_model(path)
    assert PiecewiseSession.can_run(model.proto)
    assert model.session is None
    sizes = []

    class Counting(Session):
        def __init__(self, data, *rest):
            sizes.append(len(onnx.ModelProto.FromString(data).graph.node))
            super().__init__(data, *rest)

    item = np.dtype(model.input_dtype).itemsize
    monkeypatch.setattr(pieces, "PIECE", layers * SIZE * SIZE * item)
    monkeypatch.setattr(pieces, "Session", Counting)
    points = np.random.default_rng(6).normal(size=(5, SIZE))
    assert np.array_equal(piecewise(model).run(points), model.run(points))
    assert len(sizes) == -(-12 // layers)
    assert sum(sizes) == len(model.proto.graph.node)


def test_a_wrong_import_is_refused(path, monkeypatch):
    right = Session.run
    monkeypatch.setattr(Session, "run", lambda s, p: right(s, p) * (1 + 2.0**-6))
    with pytest.raises(ModelError, match="import refused"):
        load_model(path)


def test_models_that_run_as_a_whole(path, monkeypatch):
    monkeypatch.setattr("verifier.io.onnx_export._LARGE", 1 << 30)
    network = load_model(path).network
    export_onnx(network, path)
    model = load_model(path)
    assert not PiecewiseSession.can_run(model.proto)
    assert isinstance(model.session, Session)
