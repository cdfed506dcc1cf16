"""Nodes that are refused: the error names the node, the operator, and what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_graphs import Writer

from verifier.core.errors import ModelError, UnsupportedOperatorError
from verifier.io.onnx import load_model
from verifier.io.operators import OPERATORS

X = "x"


def ints(*shape: int) -> np.ndarray:
    return 1.0 + np.arange(float(np.prod(shape))).reshape(shape)


def index(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def refused(shape: tuple[int, ...], operator: str, *inputs: Any, **attributes: Any) -> Any:
    return pytest.param(shape, operator, inputs, attributes, id=operator)


@pytest.mark.parametrize(
    ("shape", "operator", "inputs", "attributes"),
    [
        refused((1, 3), "Sin", X),
        refused((1, 3), "Exp", X),
        refused((1, 3), "Tanh", X),
        refused((1, 3), "Mul", X, X),
        refused((1, 3), "Div", ints(3), X),
        refused((3, 3), "MatMul", X, X),
        refused((1, 3), "Cast", X, to=7),
        refused((1, 2, 4), "Resize", X, None, np.array([1.0, 1, 2]), mode="linear"),
        refused((1, 2), "Dropout", X, np.array(0.5), np.array(True)),
        refused((1, 2, 2, 2), "BatchNormalization", X, *[np.ones(2)] * 4, training_mode=1),
        refused((1, 3), "ArgMax", X),
        refused((1, 3), "Greater", X, ints(3)),
    ],
)
def test_an_operator_without_exact_form_is_refused(
    shape: tuple[int, ...], operator: str, inputs: Any, attributes: Any, tmp_path: Path
) -> None:
    writer = Writer(shape, opset=14)
    inputs = [
        v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for v in inputs
    ]
    path = writer.save(tmp_path / "m.onnx", writer.node(operator, *inputs, **attributes))
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_model(path)
    assert caught.value.operator == operator
    assert caught.value.node == "n0"
    text = str(caught.value)
    assert "\n" not in text
    assert "n0" in text
    if operator in ("Sin", "Exp", "Tanh", "ArgMax", "Greater"):
        assert all(name in text for name in OPERATORS)


@pytest.mark.parametrize(
    ("shape", "operator", "inputs", "attributes"),
    [
        refused((1, 3), "Gemm", X, ints(4, 2)),
        refused((1, 3), "MatMul", X, ints(2, 2)),
        refused((1, 3), "Add", X, ints(2)),
        refused((1, 2, 4, 4), "Conv", X, ints(2, 3, 3, 3)),
        refused((1, 2, 4, 4), "Conv", X, ints(2, 2, 7, 7)),
        refused((1, 2, 4, 4), "Conv", X, ints(2, 2, 3, 3), strides=[0, 1]),
        refused((1, 2, 4, 4), "Conv", X, ints(2, 2, 3, 3), pads=[-1, 0, 0, 0]),
        refused((1, 2, 4, 4), "Conv", X, ints(2, 2, 3, 3), ints(5)),
        refused((1, 2, 4, 4), "Conv", X, ints(2, 2, 3, 3), kernel_shape=[2, 2]),
        refused((1, 2, 4, 4), "ConvTranspose", X, ints(3, 2, 3, 3)),
        refused((1, 2, 4, 4), "MaxPool", X, kernel_shape=[2, 2], pads=[2, 2, 2, 2]),
        refused((1, 2, 4, 4), "MaxPool", X, kernel_shape=[2, 2, 2]),
        refused((1, 4), "MaxPool", X, kernel_shape=[2]),
        refused((1, 3), "Div", X, np.array([1.0, 0.0, 2.0])),
        refused((1, 3), "Gather", X, index(5), axis=1),
        refused((1, 3), "Reshape", X, index(2, 2)),
        refused((1, 3), "Transpose", X, perm=[0, 0]),
        refused((1, 3), "Squeeze", X, index(1)),
        refused((1, 3), "Concat", X, ints(2, 2), axis=1),
        refused((1, 3), "Flatten", X, axis=9),
        refused((1, 3), "Pad", X, index(1, 1)),
        refused((1, 3), "Pad", X, index(0, 9, 0, 0), mode="nowhere"),
        refused((1, 3), "Tile", X, index(1, 2**40)),
        refused((1, 3), "Expand", X, index(2**40, 3)),
        refused((1, 3), "Pad", X, index(0, 2**40, 0, 0)),
        refused((1, 1, 3), "Resize", X, None, np.array([1, 1, 1e12]), mode="nearest"),
        refused((1, 1, 3), "Resize", X, None, np.array([1, 1, -1.0]), mode="nearest"),
        refused((1, 3), "Clip", X, np.array(np.nan)),
        refused((1, 3), "ReduceSum", X, index(7)),
        refused((1, 3), "BatchNormalization", X, *[np.ones(3)] * 3, np.full(3, -1.0)),
        refused((1, 3), "BatchNormalization", X, *[np.ones(2)] * 4),
        refused((1, 3), "LeakyRelu", X, alpha=float("inf")),
        refused((1, 3), "PRelu", X, ints(2, 3)),
        refused((1, 3), "Add", X, np.array([1.0, np.inf, 0.0])),
        refused((1, 3), "Split", X, index(1, 1), axis=1),
    ],
)
def test_inputs_that_do_not_fit_give_one_clear_line(
    shape: tuple[int, ...], operator: str, inputs: Any, attributes: Any, tmp_path: Path
) -> None:
    writer = Writer(shape, opset=13)
    inputs = [
        v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for v in inputs
    ]
    path = writer.save(tmp_path / "m.onnx", writer.node(operator, *inputs, **attributes))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert operator in text
    assert "n0" in text
    assert "\n" not in text
