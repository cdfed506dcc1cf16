"""One node of an ONNX graph, with its attributes read and its constants checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verifier.core.errors import ModelError, UnsupportedOperatorError
from verifier.io.protobuf import attributes

#: Entries of one tensor; the tensors of a network that can be verified are far smaller.
MAX_ELEMENTS = 1 << 26
#: Dimensions of one tensor; NumPy broadcasts no more.
MAX_RANK = 32
#: Nonzeros of one operator's matrix (12 bytes each).
MAX_NONZEROS = 1 << 28


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the graph.

    Args:
        name: the node's name, or the name of its first output if it has none.
        operator: ONNX operator type.
        opset: version of the default operator set of the model.
        proto: the ONNX node.
        attributes: name -> Python value (str rather than bytes).
    """

    name: str
    operator: str
    opset: int
    proto: Any
    attributes: dict[str, Any]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs; an empty name is an input left out."""
        return tuple(self.proto.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(self.proto.output)

    def error(self, problem: str) -> ModelError:
        """A ModelError that says where the problem is."""
        return ModelError(f"node {self.name!r} ({self.operator}): {problem}")

    def unsupported(self, reason: str) -> UnsupportedOperatorError:
        """An UnsupportedOperatorError about this node."""
        return UnsupportedOperatorError(self.name, self.operator, reason)

    def constant(self, value: Any, what: str) -> np.ndarray:
        """An input that must not depend on the network's input.

        Raises:
            UnsupportedOperatorError: it does, or is missing.
        """
        if not isinstance(value, np.ndarray):
            found = "is missing" if value is None else "depends on the network's input"
            raise self.unsupported(f"its {what} {found}, and must be a constant")
        return value

    def numbers(self, value: Any, what: str) -> np.ndarray:
        """A constant input of finite numbers as float64."""
        array = self.constant(value, what)
        if array.dtype.kind not in "fiu" or array.dtype.itemsize < 4:
            raise self.error(f"its {what} has type {array.dtype}, expected float32 or float64")
        if not np.isfinite(array).all():
            raise self.error(f"its {what} has a NaN or infinite entry")
        wide = array.astype(np.float64)
        if array.dtype.kind != "f" and (wide.astype(array.dtype) != array).any():
            raise self.error(f"its {what} has integers that no float64 holds")
        return wide

    def number(self, name: str, default: float) -> float:
        """A float attribute; its default is meant as the float32 that the standard has."""
        value = float(self.attributes.get(name, np.float32(default)))
        if not np.isfinite(value):
            raise self.error(f"attribute {name} is {value}")
        return value

    def integers(self, value: Any, what: str) -> list[int]:
        """A constant input as a flat list of integers."""
        array = self.constant(value, what)
        if array.dtype.kind not in "iu":
            raise self.error(f"its {what} has type {array.dtype}, expected integers")
        return [int(v) for v in array.ravel()]

    def axis(self, rank: int, default: int) -> int:
        """The attribute ``axis`` as 0 <= axis <= rank."""
        axis = int(self.attributes.get("axis", default))
        if not -rank <= axis <= rank:
            raise self.error(f"axis {axis} does not fit a tensor of {rank} dimensions")
        return axis + rank if axis < 0 else axis

    def check_size(self, shape: Sequence[int], limit: int = MAX_ELEMENTS) -> None:
        """Refuse, before allocating, what is too large.

        Raises:
            ModelError: more than ``limit`` entries, or more than 32 dimensions.
        """
        if len(shape) > MAX_RANK:
            raise self.error(f"a tensor has {len(shape)} dimensions, limit {MAX_RANK}")
        total = 1
        for n in shape:
            total *= max(int(n), 0)
        if total > limit:
            raise self.error(f"shape {tuple(map(int, shape))} has {total} entries, limit {limit}")


def read_node(proto: Any, opset: int) -> Node:
    """The node with its attributes as Python values."""
    given = attributes(proto)
    for name, value in given.items():
        if isinstance(value, bytes):
            given[name] = value.decode("utf-8", "replace")
    if proto.domain:
        plain = type(proto)()
        plain.CopyFrom(proto)
        plain.domain = "" if proto.domain == "ai.onnx" else proto.domain
        proto = plain
    name = proto.name or next((o for o in proto.output if o), "?")
    return Node(name, proto.op_type, opset, proto, given)
