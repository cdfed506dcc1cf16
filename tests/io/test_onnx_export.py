"""Export: the file means exactly the network, or nothing is written."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from strategies import random_network

from verifier.core.errors import ExportError
from verifier.core.network import Layer, Network
from verifier.io.onnx import export_onnx, load_model


def _layers(rng: np.random.Generator, sizes: list[int], dtype: type = np.float32) -> Network:
    """A network with ReLU on all hidden coordinates."""
    layers = []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        weight = rng.standard_normal((m, n)).astype(dtype)
        bias = rng.standard_normal(m).astype(dtype)
        layers.append(Layer(weight, bias, np.full(m, k < len(sizes) - 2)))
    return Network(tuple(layers))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_plain_network_comes_back_bit_for_bit(dtype: type, tmp_path: Path) -> None:
    network = _layers(np.random.default_rng(0), [4, 70, 66, 3], dtype)
    path = tmp_path / "m.onnx"
    assert export_onnx(network, path) == np.dtype(dtype).name
    model = load_model(path)
    assert model.input_dtype == np.dtype(dtype).name
    for before, after in zip(network.layers, model.network.layers, strict=True):
        assert before.dense.tobytes() == after.dense.tobytes()
        assert before.bias.tobytes() == after.bias.tobytes()
        assert (before.relu == after.relu).all()
    assert os.listdir(tmp_path) == ["m.onnx"]  # noqa: PTH208


@given(st.integers(0, 2**32 - 1))
def test_random_networks_come_back_as_the_same_function(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    path = tmp_path_factory.getbasetemp() / "exported.onnx"
    export_onnx(network, path)
    again = load_model(path).network
    for _ in range(3):
        x = [Fraction(int(v), 3) for v in rng.integers(-9, 10, network.n_inputs)]
        assert again.exact(x) == network.exact(x)


def test_partial_relu_comes_back_with_the_same_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes, layers = [5, 12, 11, 4], []
    for n, m in itertools.pairwise(sizes):
        layers.append(
            Layer(rng.standard_normal((m, n)), rng.standard_normal(m), rng.random(m) < 0.5)
        )
    network = Network(tuple(layers))
    export_onnx(network, tmp_path / "m.onnx")
    again = load_model(tmp_path / "m.onnx").network
    assert [(a.n_out, a.n_relu, a.nonzeros) for a in again.layers[:2]] == [
        (a.n_out, a.n_relu, a.nonzeros) for a in network.layers[:2]
    ]
    x = [Fraction(k, 5) for k in range(5)]
    assert again.exact(x) == network.exact(x)


def test_the_input_shape_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    network = Network(_layers(rng, [12, 5, 2]).layers, (1, 3, 4))
    export_onnx(network, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    assert model.network.input_shape == (1, 3, 4)
    assert model.input_shape == (1, 1, 3, 4)


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_opsets(opset: int, tmp_path: Path) -> None:
    network = _layers(np.random.default_rng(3), [3, 4, 2])
    export_onnx(network, tmp_path / "m.onnx", opset=opset)
    assert load_model(tmp_path / "m.onnx").network.exact([1, 2, 3]) == network.exact([1, 2, 3])


def test_sparse_and_integer_layers(tmp_path: Path) -> None:
    sparse = Layer(sp.csr_array(np.diag([1.0, 2.0, 3.0])), np.zeros(3), np.ones(3, dtype=bool))
    whole = np.array([[2**23 + 1, Fraction(1, 4), 0]], dtype=object)
    last = Layer(whole, np.array([Fraction(-3, 8)], dtype=object), np.zeros(1, dtype=bool))
    network = Network((sparse, last))
    assert export_onnx(network, tmp_path / "m.onnx") == "float32"
    assert load_model(tmp_path / "m.onnx").network.exact([1, 2, 3]) == network.exact([1, 2, 3])


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1.0, "float32"), (2.0**24 + 1, "float64"), (0.1, "float64"), (2.0**128, "float64")],
)
def test_the_smallest_type_that_is_exact(value: float, kind: str, tmp_path: Path) -> None:
    network = Network((Layer(np.array([[value]]), np.zeros(1), np.zeros(1, dtype=bool)),))
    assert export_onnx(network, tmp_path / "m.onnx") == kind


def _integer_network(value: object) -> Network:
    weight, bias = np.array([[value]], dtype=object), np.array([0], dtype=object)
    return Network((Layer(weight, bias, np.zeros(1, dtype=bool)),))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**53 + 1, "needs 54 bits, a float64 has 53"),
        (3 * 2**200 + 1, "needs 202 bits"),
        (Fraction(2**60 + 1, 4), "needs 61 bits"),
        (Fraction(1, 3), "1/3 is no finite binary fraction"),
        (2**2000, "outside the range of float64"),
        (Fraction(1, 2**1075), "outside the range of float64"),
    ],
)
def test_numbers_that_no_float_holds_are_refused(
    value: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(_integer_network(value), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_would_be_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 30_000
    layer = Layer(sp.eye_array(n, format="csr"), np.zeros(n), np.zeros(n, dtype=bool))
    monkeypatch.setattr("verifier.io.onnx_export_sparse.ADVANTAGE", np.inf)
    with pytest.raises(ExportError, match="3600120000 bytes, an ONNX file holds less than"):
        export_onnx(Network((layer,)), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_opset_without_the_operators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="at least 9"):
        export_onnx(_layers(np.random.default_rng(4), [2, 2]), tmp_path / "m.onnx", opset=6)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be written"):
        export_onnx(_layers(np.random.default_rng(5), [2, 2]), tmp_path / "no" / "m.onnx")


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    export_onnx(_layers(np.random.default_rng(6), [2, 2]), path)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    for fault, expected in ((full_disk, ExportError), (interrupt, KeyboardInterrupt)):
        monkeypatch.setattr(os, "fsync", fault)
        with pytest.raises(expected):
            export_onnx(_layers(np.random.default_rng(7), [2, 3]), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
