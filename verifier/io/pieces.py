"""A long chain run by onnxruntime piece by piece: memory for one piece, not for all.

A runtime expands sparse initializers, and a network of thousands of layers takes hundreds of
megabytes in it that its nonzeros do not. Between two layers nothing but one row of numbers passes,
in the model's own type, so that pieces one after another compute what the whole computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from verifier.core.network import Network
from verifier.io.protobuf import messages
from verifier.io.runtime import Session

#: Bytes of the dense weights of one piece.
PIECE = 1 << 25
#: Operators between which a chain is cut: each Gemm begins a layer.
_CHAIN = {"Sub", "Flatten", "Gemm", "Relu", "Where"}


class PiecewiseSession(Session):
    """A chain of layers that runs in pieces, each with a session of its own while it runs.

    Args:
        model: an ONNX model that ``can_run`` accepts.
        network: its layers.
        name: of the model's input.
        shape: the input's shape.
        double: whether the input is float64.
    """

    def __init__(
        self, model: Any, network: Network, name: str, shape: tuple[int, ...], double: bool
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(np.float64 if double else np.float32)
        self._model, self._name = model, name
        graph = model.graph
        self._dense = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        starts = [k for k, node in enumerate(graph.node) if node.op_type == "Gemm"]
        limit = max(1, PIECE // self.dtype.itemsize)
        self._cuts, size = [(0, network.n_inputs)], 0
        for start, layer in zip(starts, network.layers, strict=True):
            if size and size + layer.n_in * layer.n_out > limit:
                self._cuts.append((start, layer.n_in))
                size = 0
            size += layer.n_in * layer.n_out

    @staticmethod
    def can_run(model: Any) -> bool:
        """Whether a model that is read as it stands consists of Gemms, some of them sparse."""
        graph = model.graph
        return bool(graph.sparse_initializer) and {n.op_type for n in graph.node} <= _CHAIN

    def run(self, points: np.ndarray) -> np.ndarray:
        """The outputs at each point.

        Args:
            points: (count, n_inputs).

        Returns:
            (count, n_outputs) in the model's output type.

        Raises:
            ModelError: onnxruntime refuses a piece, or cannot run it.
        """
        ends = [start for start, _ in self._cuts[1:]] + [len(self._model.graph.node)]
        values = np.asarray(points)
        for (start, width), end in zip(self._cuts, ends, strict=True):
            name = self._model.graph.node[start].input[0] if start else self._name
            shape = (1, width) if start else self.shape
            data = self._piece(start, end, name, shape)
            values = Session(data, name, shape, self.dtype == np.float64).run(values)
        return values

    def _piece(self, start: int, end: int, name: str, shape: tuple[int, ...]) -> bytes:
        """Nodes from one cut to the next as a model."""
        whole = self._model.graph
        piece = messages().ModelProto(ir_version=self._model.ir_version)
        piece.opset_import.extend(self._model.opset_import)
        graph = piece.graph
        graph.name = "piece"
        graph.node.extend(whole.node[start:end])
        last = end == len(whole.node)
        kind = whole.output[0].type.tensor_type.elem_type
        given, result = graph.input.add(name=name), graph.output.add()
        result.name = whole.output[0].name if last else whole.node[end].input[0]
        result.type.tensor_type.elem_type = given.type.tensor_type.elem_type = kind
        for size in shape:
            given.type.tensor_type.shape.dim.add(dim_value=size)
        for constant in sorted({value for node in graph.node for value in node.input}):
            if constant in self._dense:
                graph.initializer.append(self._dense[constant])
            elif constant in self._sparse:
                graph.sparse_initializer.append(self._sparse[constant])
        data: bytes = piece.SerializeToString()
        return data
