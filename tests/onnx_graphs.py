"""Small ONNX models written node by node, for the tests of the importer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

IR_VERSION = 8


class Writer:
    """Collects nodes and constants, and writes a model with one input and one output."""

    def __init__(self, shape: Sequence[Any], dtype: Any = np.float32, opset: int = 13) -> None:
        self.shape, self.dtype, self.opset = tuple(shape), np.dtype(dtype), opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        """The name of a new initializer; float arrays get the model's type."""
        array = np.asarray(array)
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; arrays among the inputs become initializers, None is an input left out."""
        names = ["" if v is None else v if isinstance(v, str) else self.constant(v) for v in inputs]
        made = [f"t{len(self.nodes)}_{k}" for k in range(outputs)]
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, made, name, **attributes))
        return made[0] if outputs == 1 else made

    def model(self, output: str) -> ModelProto:
        """The model whose output is the tensor of this name."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("x", kind, self.shape)],
            [helper.make_tensor_value_info(output, kind, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def save(self, path: Path, output: str) -> Path:
        """Write the model."""
        path.write_bytes(self.model(output).SerializeToString())
        return path


def mlp(
    rng: np.random.Generator, sizes: Sequence[int], dtype: Any = np.float32
) -> tuple[Writer, str, list[tuple[np.ndarray, np.ndarray]]]:
    """A plain network of Gemm and Relu: (writer, output, [(weight, bias), ...])."""
    writer = Writer((1, sizes[0]), dtype)
    value, layers = "x", []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        weight = rng.standard_normal((m, n)).astype(dtype)
        bias = rng.standard_normal(m).astype(dtype)
        value = writer.node("Gemm", value, weight, bias, transB=1)
        if k < len(sizes) - 2:
            value = writer.node("Relu", value)
        layers.append((weight.astype(np.float64), bias.astype(np.float64)))
    return writer, value, layers


def string_tensor(name: str) -> TensorProto:
    """An initializer of text."""
    return helper.make_tensor(name, TensorProto.STRING, [2], [b"a", b"b"])
