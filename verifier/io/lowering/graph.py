"""An ONNX graph as the lowering reads it: one input, one output, the nodes between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from verifier.core.errors import ModelError
from verifier.io.lowering.node import MAX_ELEMENTS, MAX_RANK, Node, read_node
from verifier.io.protobuf import DOUBLE, FLOAT, messages, raw_array

#: Operators at the very end that keep the order of the outputs.
TAILS = ("Softmax", "LogSoftmax", "Sigmoid")
#: Operators with any number of inputs, none of which may be left out.
_MANY_INPUTS = ("Concat", "Max", "Mean", "Min", "Sum")
#: What may follow them without changing any value.
_AFTER_TAIL = ("Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class Graph:
    """The part of a model's graph that its output depends on.

    Args:
        nodes: in an order in which each reads only what earlier ones gave.
        constants: name -> ONNX tensor, of the initializers.
        input_name: the one input that is not an initializer.
        input_shape: its shape, an unknown batch size fixed to 1.
        double: whether the input is float64 (else float32).
        output_name: the one output.
        tail: the node of a trailing Softmax, LogSoftmax or Sigmoid.
        single: whether anything is computed in float32.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Any]
    input_name: str
    input_shape: tuple[int, ...]
    double: bool
    output_name: str
    tail: Node | None
    single: bool


def read_graph(model: Any, *, sparse: bool = False) -> Graph:
    """The graph of an ONNX ModelProto whose tensors are all in memory.

    Args:
        model: the ONNX model.
        sparse: whether it may have sparse initializers, which are not among the constants.

    Raises:
        ModelError: not one input and one output, types or shapes that cannot be handled.
        UnsupportedOperatorError: an operator of another domain.
    """
    graph = model.graph
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if graph.sparse_initializer and not sparse:
        raise ModelError("the model has sparse initializers, expected dense ones")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    for what, values in (("input", inputs), ("output", list(graph.output))):
        if len(values) != 1:
            names = ", ".join(v.name for v in values) or "none"
            raise ModelError(f"expected a model with one {what}, found {len(values)}: {names}")
    shape, double = _input_type(inputs[0])
    output = graph.output[0].name
    every = [read_node(p, opset) for p in graph.node]
    for node in every:
        split, joined = node.operator == "Split", node.operator in _MANY_INPUTS
        if (split and "" in node.outputs) or (joined and "" in node.inputs):
            raise node.error("an input or output has no name, which onnxruntime does not survive")
    nodes = _needed(every, output)
    tail = _tail(nodes, output)
    single = not double or any(n.operator in ("Cast", "CastLike") for n in nodes)
    return Graph(nodes, constants, inputs[0].name, shape, double, output, tail, single)


def _input_type(value: Any) -> tuple[tuple[int, ...], bool]:
    """(shape with the batch size fixed to 1 if unknown, whether float64)."""
    kind = value.type.tensor_type.elem_type
    if kind not in (FLOAT, DOUBLE):
        types = messages().TensorProto.DataType
        name = types.Name(kind) if kind in types.values() else f"number {kind}"
        raise ModelError(f"input {value.name!r} has type {name}, expected FLOAT or DOUBLE")
    if not value.type.tensor_type.HasField("shape"):
        raise ModelError(f"input {value.name!r} has no shape")
    shape = []
    for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
        if dimension.HasField("dim_value") and (dimension.dim_value > 0 or axis > 0):
            shape.append(int(dimension.dim_value))
        elif axis == 0:
            shape.append(1)
        else:
            given = dimension.dim_param or "unknown"
            raise ModelError(
                f"input {value.name!r}: dimension {axis} is {given}, expected a number "
                "(only the first, the batch size, may be left open)"
            )
    total = math.prod(shape)
    if min(shape, default=1) < 1 or len(shape) > MAX_RANK or total > MAX_ELEMENTS:
        raise ModelError(
            f"input {value.name!r} has shape {tuple(shape)}, expected 1 to {MAX_ELEMENTS} numbers"
        )
    return tuple(shape), kind == DOUBLE


def _needed(nodes: list[Node], output: str) -> tuple[Node, ...]:
    """The nodes that the output depends on, in their order."""
    wanted, needed = {output}, []
    for node in reversed(nodes):
        if wanted.isdisjoint(name for name in node.outputs if name):
            continue
        if node.proto.domain:
            raise node.unsupported(f"it belongs to the domain {node.proto.domain!r}")
        wanted.update(name for name in node.inputs if name)
        needed.append(node)
    return tuple(reversed(needed))


def _tail(nodes: tuple[Node, ...], output: str) -> Node | None:
    """The trailing order-preserving node, if there is one."""
    producer = {name: node for node in nodes for name in node.outputs}
    node = producer.get(output)
    while node is not None and node.operator in _AFTER_TAIL:
        node = producer.get(node.inputs[0]) if node.inputs else None
    return node if node is not None and node.operator in TAILS else None


def decode(tensor: Any) -> np.ndarray:
    """An ONNX tensor as an array.

    Raises:
        ModelError: dimensions that do not fit the data, or a type without a NumPy form.
    """
    total = math.prod(max(int(d), 0) for d in tensor.dims)
    if min(tensor.dims, default=0) < 0 or len(tensor.dims) > MAX_RANK or total > 8 * MAX_ELEMENTS:
        raise ModelError(f"tensor {tensor.name!r} declares dimensions {list(tensor.dims)}")
    array = raw_array(tensor)
    if array is not None:
        return array
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (LookupError, TypeError, ValueError) as problem:
        raise ModelError(f"tensor {tensor.name!r} cannot be read: {problem}") from problem
