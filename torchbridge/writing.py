"""What the translation of operators writes into: ONNX nodes and tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verifier.core.errors import ModelError

#: An operator's arguments by name: a ``Value`` where one depends on the input, a tensor where it is
#: constant, else what Torch's schema says.
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the input.

    Args:
        name: in the ONNX graph.
        shape: of the tensor.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


class Writer:
    """An ONNX graph that grows node by node.

    Attributes:
        kind: "float32" or "float64".
        nodes, tensors: of the graph so far.
        notes: what was rounded.
        place: name for the next nodes: which module they come from.
        products: multiplications of the graph, about as many as nonzeros of its network.

    Args:
        kind: type of the numbers.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.notes: list[str] = []
        self.place = "module"
        self.products = 0
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"{self.place}_{self._count}"

    def constant(self, array: np.ndarray | Tensor) -> str:
        """A constant of the graph."""
        from onnx import numpy_helper

        if isinstance(array, Tensor):
            array = array.detach().cpu().numpy()
        name = self._name()
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def numbers(self, value: Any) -> str:
        """Numbers of the module's type as a constant.

        Raises:
            ModelError: numbers of another type, or that the type cannot hold.
        """
        dtype = torch.float32 if self.kind == "float32" else torch.float64
        if not isinstance(value, Tensor):
            value = torch.tensor(float(value), dtype=dtype)
        if value.dtype != dtype:
            same = value.to(dtype)
            if not torch.equal(same.to(value.dtype), value):
                raise ModelError(f"constants of type {value.dtype} do not fit into {self.kind}")
            value = same
        if not bool(torch.isfinite(value).all()):
            raise ModelError("a constant is NaN or infinite")
        return self.constant(value)

    def integers(self, values: Sequence[int]) -> str:
        """A list of integers as a constant."""
        return self.constant(np.array(values, dtype=np.int64))

    def operand(self, value: Any) -> str:
        """The name of a value, or of a constant made of numbers."""
        return value.name if isinstance(value, Value) else self.numbers(value)

    def emit(
        self, operator: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any
    ) -> Value:
        """One node with one output of a known shape."""
        from onnx import helper

        name = self._name()
        node = helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return Value(name, tuple(int(n) for n in shape))

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """The same entries, in the same order, in another shape."""
        if value.shape == tuple(shape):
            return value
        if len(shape) == 2 and shape[0] == value.shape[0] and shape[1] > 0:
            # Says no batch size, so that a reader may run batches.
            return self.emit("Flatten", [value.name], shape, axis=1)
        return self.emit("Reshape", [value.name, self.integers(shape)], shape)

    def gather(self, value: Value, positions: np.ndarray) -> Value:
        """The entries at flat positions, in the shape of these."""
        flat = positions.ravel()
        if len(flat) == value.size and (flat == np.arange(len(flat))).all():
            return self.reshape(value, positions.shape)
        row = self.reshape(value, (value.size,))
        taken = self.emit(
            "Gather", [row.name, self.constant(flat.astype(np.int64))], flat.shape, axis=0
        )
        return self.reshape(taken, positions.shape)


def fixed(value: Any, what: str) -> Tensor:
    """A tensor that must not depend on the input.

    Raises:
        ModelError: it does.
    """
    if not isinstance(value, Tensor):
        raise ModelError(f"its {what} depends on the input, and must be a constant")
    return value
