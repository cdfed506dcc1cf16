"""The layers of a chain of Gemm and Relu nodes as they stand in an ONNX file.

Other graphs are lowered and simplified by ``verifier.io.onnx.load_model``: a ReLU whose input is
known to be ≥ 0 disappears, and layers move. Here nothing is simplified, so that sizes can be read
from a file: one Gemm, or one sum of gathered entries, is one layer.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.core.sparse import sp
from verifier.io.lowering.graph import decode
from verifier.io.model_file import read_model
from verifier.io.sparse_chain import read_sparse_layer

#: Layers with a smaller share of nonzero weights are kept sparse.
_SPARSE_BELOW = 0.25


def read_gemm_chain(path: str | os.PathLike[str]) -> Network:
    """The network in a file of the form that ``export_onnx`` writes.

    Nodes: a Flatten at most at the beginning, then Gemm, or between two Transposes the gathered
    sums of ``onnx_export_sparse``; Relu on all coordinates, or Relu and a Where that keeps the
    others.

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
        #: Whether values stand with the neurons first and the batch last.
        self.turned = False
        #: Type of the input's numbers, as ONNX counts them.
        self.kind = 0

    def network(self) -> Network:
        """All layers, from the input to the output."""
        if len(self.graph.input) != 1 or len(self.graph.output) != 1:
            raise ModelError(f"{self.path}: expected one input and one output")
        self.kind = self.graph.input[0].type.tensor_type.elem_type
        dims = self.graph.input[0].type.tensor_type.shape.dim
        shape = tuple(int(dim.dim_value) for dim in dims[1:])
        value = self.graph.input[0].name
        if self.next_is("Flatten", value):
            value = self.take().output[0]
        layers: list[Layer] = []
        while self.position < len(self.nodes):
            value = self._turned(value)
            if self.position < len(self.nodes):
                n_in = layers[-1].n_out if layers else math.prod(shape)
                layer, value = self._layer(value, n_in)
                layers.append(layer)
        if value != self.graph.output[0].name or self.turned:
            raise ModelError(f"{self.path}: the last node does not give the output")
        return Network(tuple(layers), shape, self.graph.name)

    def _turned(self, value: str) -> str:
        """What a Transpose gives, if the next node is one: the batch first, or the neurons."""
        from onnx import helper

        if not self.next_is("Transpose", value):
            return value
        node = self.take()
        if [helper.get_attribute_value(a) for a in node.attribute] != [[1, 0]]:
            raise ModelError(f"{self.path}: node {node.name!r}: expected perm=[1, 0]")
        self.turned = not self.turned
        return str(node.output[0])

    def _layer(self, value: str, n_in: int) -> tuple[Layer, str]:
        """One Gemm or sparse layer with what follows it, and the name of its result."""
        if self.turned:
            weight, bias, z = read_sparse_layer(self, value, n_in)
            relu, value = self._relu(z, len(bias))
            return Layer(weight, bias, relu), value
        weight, bias, z = self._gemm(value)
        relu, value = self._relu(z, len(bias))
        dense = np.count_nonzero(weight) >= _SPARSE_BELOW * weight.size
        return Layer(weight if dense else sp.csr_array(weight), bias, relu), value

    def _gemm(self, value: str) -> tuple[np.ndarray, np.ndarray, str]:
        """Weight, bias and result of a Gemm."""
        from onnx import helper

        if not self.next_is("Gemm", value):
            raise self.unexpected("a Gemm")
        node = self.take()
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if options != {"transB": 1} or len(node.input) != 3:
            raise ModelError(f"{self.path}: node {node.name!r}: expected a Gemm with only transB=1")
        weight, bias = self.array(node.input[1]), self.array(node.input[2])
        if any(self.tensors[name].data_type != self.kind for name in node.input[1:]):
            raise ModelError(
                f"{self.path}: node {node.name!r}: expected numbers of the input's type"
            )
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ModelError(
                f"{self.path}: node {node.name!r}: weight {weight.shape} and bias {bias.shape} "
                "do not fit"
            )
        return weight, bias, node.output[0]

    def _relu(self, z: str, n: int) -> tuple[np.ndarray, str]:
        """Which of the n coordinates have a ReLU, and the name of the result."""
        value, relu = z, np.zeros(n, dtype=bool)
        if self.next_is("Relu", z):
            value, relu = self.take().output[0], ~relu
            if self.position < len(self.nodes) and self.nodes[self.position].op_type == "Where":
                node = self.take()
                if list(node.input[1:]) != [value, z]:
                    raise ModelError(f"{self.path}: node {node.name!r}: expected (mask, a, z)")
                mask = self.array(node.input[0])
                if mask.ndim != 2 or mask.shape[not self.turned] != n:
                    raise ModelError(f"{self.path}: node {node.name!r}: a mask of {mask.shape}")
                relu, value = mask[:, 0] if self.turned else mask[0], node.output[0]
        return relu, value

    def next_is(self, operator: str, value: str) -> bool:
        """Whether the next node is of this kind and reads this value."""
        if self.position >= len(self.nodes):
            return False
        node = self.nodes[self.position]
        return node.op_type == operator and bool(node.input) and node.input[0] == value

    def take(self) -> Any:
        """The next node; the position moves on."""
        self.position += 1
        return self.nodes[self.position - 1]

    def unexpected(self, expected: str) -> ModelError:
        """What to raise at the next node."""
        if self.position >= len(self.nodes):
            return ModelError(f"{self.path}: the graph ends, expected {expected}")
        node = self.nodes[self.position]
        return ModelError(
            f"{self.path}: node {node.name!r} is {node.op_type}, expected {expected} that reads "
            "the result before it"
        )

    def array(self, name: str) -> np.ndarray:
        """A constant of the model."""
        if name not in self.tensors:
            raise ModelError(f"{self.path}: tensor {name!r} is no constant of the model")
        return decode(self.tensors[name])
