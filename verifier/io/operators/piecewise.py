"""Piecewise linear operators: each adds neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from verifier.io.lowering.node import Node
from verifier.io.lowering.tensor import Lowering, Tensor
from verifier.io.operators.arguments import Value, broadcast_shape, input_tensor


def relu(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """max(X, 0)."""
    return [build.relu(input_tensor(node, inputs[0]))]


def leaky_relu(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """X where X >= 0, alpha X elsewhere."""
    x = input_tensor(node, inputs[0])
    return [build.leaky(x, np.full(x.size, node.number("alpha", 0.01)))]


def prelu(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """X where X >= 0, slope X elsewhere; slope is broadcast to X."""
    x = input_tensor(node, inputs[0])
    slope = node.numbers(inputs[1], "slope")
    if node.opset < 7 and slope.ndim == 1 and len(x.shape) > 2:
        slope = slope.reshape(-1, *([1] * (len(x.shape) - 2)))  # by channel
    if broadcast_shape(node, x.shape, slope.shape) != x.shape:
        raise node.error(f"slope {slope.shape} cannot be broadcast to {x.shape}")
    return [build.leaky(x, np.broadcast_to(slope, x.shape).ravel())]


def absolute(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """|X|."""
    return [build.absolute(input_tensor(node, inputs[0]))]


def maximum(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """The largest of all inputs, broadcast to their common shape."""
    return [_extreme(build, node, inputs, upper=True)]


def minimum(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """The smallest of all inputs: -max(-X, ...)."""
    return [_extreme(build, node, inputs, upper=False)]


def _extreme(build: Lowering, node: Node, inputs: list[Value], upper: bool) -> Tensor:
    """Maximum or minimum; constants are limits, tensors meet in a tournament."""
    tensors = [v for v in inputs if isinstance(v, Tensor)]
    limits = [node.numbers(v, "operand") for v in inputs if not isinstance(v, Tensor)]
    shape = broadcast_shape(node, *(v.shape for v in tensors), *(v.shape for v in limits))
    players = [build.broadcast(t, shape) for t in tensors]
    while len(players) > 1:
        left, right, *rest = players
        if upper:
            winner = build.maximum(left, right)
        else:
            winner = build.negate(build.maximum(build.negate(left), build.negate(right)))
        players = [*rest, winner]
    result = players[0]
    for limit in limits:
        flat = np.broadcast_to(limit, shape).ravel()
        result = build.clip(result, flat, None) if upper else build.clip(result, None, flat)
    return result


def clip(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """min(max(X, min), max). A limit at the end of its type's range is none, as in opset 6."""
    x = input_tensor(node, inputs[0])
    low = limit(node, inputs, 1, "min")
    high = limit(node, inputs, 2, "max")
    return [
        build.clip(
            x,
            None if low is None else np.full(x.size, low),
            None if high is None else np.full(x.size, high),
        )
    ]


def limit(node: Node, inputs: Sequence[Any], slot: int, name: str) -> float | None:
    """One limit of a Clip, from an attribute (before opset 11) or an input."""
    value, kind = node.attributes.get(name), np.dtype(np.float32)
    if node.opset >= 11:
        given = inputs[slot] if len(inputs) > slot else None
        value = None
        if given is not None:
            array = node.constant(given, name)
            if array.size != 1 or array.dtype not in (np.float32, np.float64):
                raise node.error(f"{name} must be one float")
            value, kind = float(array.ravel()[0]), array.dtype
    if value is None:
        return None
    if np.isnan(value):
        raise node.error(f"{name} is NaN")
    largest = float(np.finfo(kind).max)
    absent = value <= -largest if name == "min" else value >= largest
    if not absent and np.isinf(value):
        raise node.error(f"{name} is {value}")
    return None if absent else float(value)
