"""An ONNX graph, as read, becomes a tensor over neurons, node by node."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from verifier.core.errors import ModelError, UnsupportedOperatorError
from verifier.io.lowering.graph import TAILS, Graph, decode
from verifier.io.lowering.node import Node
from verifier.io.lowering.reference import ROUNDING, constant_value, evaluate
from verifier.io.lowering.tensor import Lowering, Tensor
from verifier.io.operators import OPERATORS


def lower(graph: Graph, build: Lowering) -> Tensor:
    """The network's output, without its tail, as a tensor over neurons.

    Raises:
        ModelError: tensors that do not fit.
        UnsupportedOperatorError: a node that has no exact piecewise linear form here.
    """
    target = graph.output_name if graph.tail is None else graph.tail.inputs[0]
    values: dict[str, Tensor | np.ndarray] = {graph.input_name: build.input(graph.input_shape)}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers[target] += 1
    for node in graph.nodes:
        if target in values:
            break
        inputs = [_value(graph, values, node, name) if name else None for name in node.inputs]
        outputs = _apply(build, node, inputs)
        for value in outputs:
            node.check_size(value.shape)
        for name, value in zip(node.outputs, outputs, strict=False):
            if name:
                values[name] = value
        for name in node.inputs:
            readers[name] -= 1
            if name and readers[name] == 0:
                del values[name]
    result = _final(graph, values, target, build)
    if graph.tail is not None:
        _check_tail(graph.tail, result)
    return result


def _final(
    graph: Graph, values: Mapping[str, Tensor | np.ndarray], target: str, build: Lowering
) -> Tensor:
    """The tensor named ``target``."""
    if target not in values and target in graph.constants:
        raise ModelError(f"output {target!r} is a constant of the model")
    if target not in values:
        raise ModelError(f"nothing computes the output {target!r}")
    result = values[target]
    if not isinstance(result, Tensor):
        if result.dtype.kind != "f" or not np.isfinite(result).all():
            raise ModelError(f"output {target!r} is a constant, and not of finite floats")
        result = build.constant(result)
    if result.size == 0:
        raise ModelError(f"output {target!r} has no entries")
    return result


def _value(
    graph: Graph, values: dict[str, Tensor | np.ndarray], node: Node, name: str
) -> Tensor | np.ndarray:
    """What the name stands for; initializers are decoded when they are first read."""
    if name not in values:
        if name not in graph.constants:
            raise node.error(f"reads {name!r}, which no earlier node gives")
        values[name] = decode(graph.constants[name])
    return values[name]


def _apply(build: Lowering, node: Node, inputs: list[Any]) -> list[Any]:
    """The outputs of one node."""
    if not any(isinstance(value, Tensor) for value in inputs):
        outputs = constant_value(node, inputs)
        if node.operator in ROUNDING and any(o.dtype.kind == "f" for o in outputs):
            build.notes.append(
                f"node {node.name!r} ({node.operator}): constants were combined in the model's type"
            )
        return outputs
    if node.operator in ("Shape", "Size"):
        # Only the shape counts: a broadcast zero stands for the data.
        return evaluate(node, [np.broadcast_to(np.float32(0), inputs[0].shape)])
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise UnsupportedOperatorError(node.name, node.operator, _reason(node.operator))
    if node.operator not in ("Reshape",) and any(
        isinstance(v, Tensor | np.ndarray) and 0 in v.shape for v in inputs[:1]
    ):
        raise node.error("its input has no entries")
    return list(operator(build, node, inputs))


def _reason(operator: str) -> str:
    """Why an operator is not in the table."""
    supported = f"supported are {', '.join(sorted(OPERATORS))}"
    if operator in TAILS:
        return f"only as the last operator of the model; {supported}"
    return supported


def _check_tail(node: Node, result: Tensor) -> None:
    """A Softmax must range over all outputs together to keep their order.

    Raises:
        UnsupportedOperatorError: it ranges over a part of them.
    """
    if node.operator == "Sigmoid":
        return
    rank = len(result.shape)
    axis = node.axis(rank, -1 if node.opset >= 13 else 1)
    span = result.shape[axis : axis + 1] if node.opset >= 13 else result.shape[axis:]
    if math.prod(span) != result.size:
        raise node.unsupported(
            f"along axis {axis} it ranges over a part of the {result.size} outputs only"
        )
