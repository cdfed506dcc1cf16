"""The layers of a chain of Gemm and Relu nodes as they stand in an ONNX file.

Other graphs are lowered and simplified by ``verifier.io.onnx.load_model``: a ReLU whose input is
known to be ≥ 0 disappears, and layers move. Here nothing is simplified, so that sizes can be read
from a file: one Gemm is one layer.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import scipy.sparse as sp

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io.model_file import read_model

#: Layers with a smaller share of nonzero weights are kept sparse.
_SPARSE_BELOW = 0.25


def read_gemm_chain(path: str | os.PathLike[str]) -> Network:
    """The network in a file of the form that ``export_onnx`` writes.

    Nodes: a Flatten at most at the beginning, then Gemm, Relu on all coordinates, or Relu and a
    Where that keeps the other coordinates.

    Args:
        path: the file.

    Raises:
        ModelError: no ONNX model, or one of another form (the message names the node).
    """
    model, _ = read_model(path)
    return chain_network(model, str(path))


def chain_network(model: Any, path: str) -> Network:
    """The same for a model that has been read.

    Args:
        model: the ONNX model with all tensors in memory.
        path: for messages.

    Raises:
        ModelError: a model of another form.
    """
    return _Chain(model.graph, path).network()


class _Chain:
    """Walks along the nodes of a graph.

    Args:
        graph: an ONNX graph.
        path: for messages.
    """

    def __init__(self, graph: Any, path: str) -> None:
        self.path, self.graph = path, graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = list(graph.node)
        self.position = 0

    def network(self) -> Network:
        """All layers, from the input to the output."""
        if len(self.graph.input) != 1 or len(self.graph.output) != 1:
            raise ModelError(f"{self.path}: expected one input and one output")
        dims = self.graph.input[0].type.tensor_type.shape.dim
        shape = tuple(int(dim.dim_value) for dim in dims[1:])
        value = self.graph.input[0].name
        if self._next("Flatten", value):
            value = self._take().output[0]
        layers = []
        while self.position < len(self.nodes):
            layer, value = self._layer(value)
            layers.append(layer)
        if value != self.graph.output[0].name:
            raise ModelError(f"{self.path}: the last node does not give the output")
        return Network(tuple(layers), shape, self.graph.name)

    def _layer(self, value: str) -> tuple[Layer, str]:
        """One Gemm with what follows it, and the name of its result."""
        from onnx import helper

        if not self._next("Gemm", value):
            raise self._unexpected("a Gemm")
        node = self._take()
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if options != {"transB": 1} or len(node.input) != 3:
            raise ModelError(f"{self.path}: node {node.name!r}: expected a Gemm with only transB=1")
        weight, bias = self._array(node.input[1]), self._array(node.input[2])
        z, relu = node.output[0], np.zeros(len(bias), dtype=bool)
        value = z
        if self._next("Relu", z):
            value, relu = self._take().output[0], ~relu
            if self.position < len(self.nodes) and self.nodes[self.position].op_type == "Where":
                node = self._take()
                if list(node.input[1:]) != [value, z]:
                    raise ModelError(f"{self.path}: node {node.name!r}: expected (mask, a, z)")
                relu, value = self._array(node.input[0])[0], node.output[0]
        dense = np.count_nonzero(weight) >= _SPARSE_BELOW * weight.size
        return Layer(weight if dense else sp.csr_array(weight), bias, relu), value

    def _next(self, operator: str, value: str) -> bool:
        """Whether the next node is of this kind and reads this value."""
        if self.position >= len(self.nodes):
            return False
        node = self.nodes[self.position]
        return node.op_type == operator and bool(node.input) and node.input[0] == value

    def _take(self) -> Any:
        self.position += 1
        return self.nodes[self.position - 1]

    def _unexpected(self, expected: str) -> ModelError:
        node = self.nodes[self.position]
        return ModelError(
            f"{self.path}: node {node.name!r} is {node.op_type}, expected {expected} that reads "
            "the result before it"
        )

    def _array(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        if name not in self.tensors:
            raise ModelError(f"{self.path}: tensor {name!r} is no constant of the model")
        return numpy_helper.to_array(self.tensors[name])
