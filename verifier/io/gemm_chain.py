"""The layers of a chain of affine nodes and ReLUs as they stand in an ONNX file.

Other graphs are lowered and simplified by ``verifier.io.onnx.load_model``: a ReLU whose input is
known to be ≥ 0 disappears, and layers move. Here nothing is simplified, so that sizes can be read
from a file, nothing of it is held twice, and thousands of layers are no trouble: one Gemm, one
MatMul with its Add, or one sum of gathered entries is one layer.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.core.sparse import is_sparse, sp
from verifier.io.lowering.graph import decode
from verifier.io.model_file import read_model
from verifier.io.protobuf import attributes
from verifier.io.sparse_chain import read_sparse_initializer, read_sparse_layer

#: Layers with a smaller share of nonzero weights are kept sparse, unless they are small.
_SPARSE_BELOW = 0.25
_SMALL = 64 * 64
#: What a Gemm may say of itself.
_GEMM = {"transA": (0,), "transB": (0, 1), "alpha": (1.0,), "beta": (1.0,)}


def read_gemm_chain(path: str | os.PathLike[str]) -> Network:
    """The network in a file of the form that ``export_onnx`` writes.

    Nodes: at most a Sub of zeros and a Flatten at the beginning, then Gemm or MatMul and Add, or
    between two Transposes the gathered sums of ``onnx_export_sparse``; Relu on all coordinates, or
    Relu and a Where that keeps the others. A Gemm's weight may be a sparse initializer.

    Args:
        path: the file.

    Raises:
        ModelError: no ONNX model, or one of another form (the message names the node).
    """
    return chain_network(read_model(path).proto, str(path))


def chain_network(model: Any, path: str) -> Network:
    """The same for a model that has been read.

    Args:
        model: the ONNX model with all tensors in memory.
        path: for messages.

    Raises:
        ModelError: a model of another form.
    """
    if model.functions:
        raise ModelError(f"{path}: the model has functions of its own")
    try:
        return _Chain(model.graph, path).network()
    except IndexError as problem:
        raise ModelError(f"{path}: a node has too few inputs or outputs") from problem


class _Chain:
    """Walks along the nodes of a graph.

    Args:
        graph: an ONNX graph.
        path: for messages.
    """

    def __init__(self, graph: Any, path: str) -> None:
        self.path, self.graph = path, graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self.nodes = list(graph.node)
        self.position = 0
        #: Whether values stand with the neurons first and the batch last.
        self.turned = False
        #: Type of the input's numbers, as ONNX counts them.
        self.kind = 0

    def network(self) -> Network:
        """All layers, from the input to the output."""
        inputs = [given for given in self.graph.input if given.name not in self.tensors]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise ModelError(f"{self.path}: expected one input and one output")
        self.kind = inputs[0].type.tensor_type.elem_type
        dims = inputs[0].type.tensor_type.shape.dim
        shape = tuple(int(dim.dim_value) for dim in dims[1:])
        value = self._flat(inputs[0].name, (1, *shape))
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

    def _flat(self, value: str, shape: tuple[int, ...]) -> str:
        """The input as a row: what a Sub of zeros and a Flatten give, if they are there."""
        if self.next_is("Sub", value):
            node = self.take()
            zeros = self.array(node.input[1])
            if node.attribute or zeros.shape not in ((), (1,), shape) or zeros.any():
                raise ModelError(f"{self.path}: node {node.name!r}: expected a Sub of zeros")
            value = node.output[0]
        if self.next_is("Flatten", value):
            node = self.take()
            if attributes(node) not in ({}, {"axis": 1}):
                raise ModelError(f"{self.path}: node {node.name!r}: expected axis=1")
            return str(node.output[0])
        if len(shape) != 2:
            raise ModelError(f"{self.path}: an input of shape {shape} is not flattened")
        return value

    def _turned(self, value: str) -> str:
        """What a Transpose gives, if the next node is one: the batch first, or the neurons."""
        if not self.next_is("Transpose", value):
            return value
        node = self.take()
        if attributes(node) != {"perm": [1, 0]}:
            raise ModelError(f"{self.path}: node {node.name!r}: expected perm=[1, 0]")
        self.turned = not self.turned
        return str(node.output[0])

    def _layer(self, value: str, n_in: int) -> tuple[Layer, str]:
        """One Gemm or sparse layer with what follows it, and the name of its result."""
        if self.turned:
            weight, bias, z = read_sparse_layer(self, value, n_in)
            relu, value = self._relu(z, len(bias))
            return Layer(weight, bias, relu), value
        weight, bias, z = (
            self._product(value) if self.next_is("MatMul", value) else self._gemm(value)
        )
        relu, value = self._relu(z, len(bias))
        if is_sparse(weight):
            return Layer(weight, bias, relu), value
        dense = weight.size <= _SMALL or np.count_nonzero(weight) >= _SPARSE_BELOW * weight.size
        return Layer(weight if dense else sp.csr_array(weight), bias, relu), value

    def _gemm(self, value: str) -> tuple[Any, np.ndarray, str]:
        """Weight, bias and result of a Gemm."""
        if not self.next_is("Gemm", value):
            raise self.unexpected("a Gemm")
        node = self.take()
        options = attributes(node)
        if len(node.input) != 3 or any(v not in _GEMM.get(k, ()) for k, v in options.items()):
            raise ModelError(
                f"{self.path}: node {node.name!r}: expected a Gemm with a bias and transB at most"
            )
        bias = self._numbers(node, 2)
        if node.input[1] in self.sparse:
            tensor = self.sparse[node.input[1]]
            weight: Any = read_sparse_initializer(tensor, self.kind, self.path)
        else:
            weight = self._numbers(node, 1)
        if not options.get("transB", 0):
            weight = sp.csr_array(weight.T) if is_sparse(weight) else weight.T
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ModelError(
                f"{self.path}: node {node.name!r}: weight {weight.shape} and bias {bias.shape} "
                "do not fit"
            )
        return weight, bias, node.output[0]

    def _product(self, value: str) -> tuple[np.ndarray, np.ndarray, str]:
        """Weight, bias and result of a MatMul and the Add after it."""
        node = self.take()
        weight, z = self._numbers(node, 1).T, node.output[0]
        if not self.next_is("Add", z):
            raise self.unexpected("an Add")
        node = self.take()
        bias = self._numbers(node, 1)
        if (
            node.attribute
            or weight.ndim != 2
            or bias.shape
            not in (
                weight.shape[:1],
                (1, *weight.shape[:1]),
            )
        ):
            raise ModelError(
                f"{self.path}: node {node.name!r}: weight {weight.shape} and bias {bias.shape} "
                "do not fit"
            )
        return weight, bias.ravel(), node.output[0]

    def _numbers(self, node: Any, k: int) -> np.ndarray:
        """The constant that a node reads as its input k, in the input's type."""
        array = self.array(node.input[k])
        if self.tensors[node.input[k]].data_type != self.kind:
            raise ModelError(
                f"{self.path}: node {node.name!r}: expected numbers of the input's type"
            )
        return array

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
        if node.op_type != operator or node.domain:
            return False
        return bool(node.input) and node.input[0] == value

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
