"""What the operators have in common when they read their inputs."""

from __future__ import annotations

import numpy as np

from verifier.io.lowering.node import Node
from verifier.io.lowering.tensor import Lowering, Tensor

#: An input of a node: depends on the network's input, is constant, or is left out.
Value = Tensor | np.ndarray | None


def input_tensor(node: Node, value: Value) -> Tensor:
    """An input that depends on the network's input.

    Raises:
        UnsupportedOperatorError: it is constant or missing where the operator's data belongs.
    """
    if not isinstance(value, Tensor):
        raise node.unsupported("its data is a constant while another input is not")
    return value


def as_tensor(build: Lowering, node: Node, value: Value) -> Tensor:
    """An input as a tensor, a constant one as constant expressions."""
    if isinstance(value, Tensor):
        return value
    return build.constant(node.numbers(value, "operand"))


def broadcast_shape(node: Node, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape under NumPy's rules.

    Raises:
        ModelError: there is none, or it is too large.
    """
    try:
        shape = np.broadcast_shapes(*shapes)
    except (RuntimeError, ValueError) as problem:
        listed = ", ".join(str(tuple(s)) for s in shapes)
        raise node.error(f"shapes {listed} cannot be broadcast together") from problem
    node.check_size(shape)
    return shape
