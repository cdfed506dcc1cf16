"""An ONNX model as a Torch module that runs the file's own operators on batches.

``torchbridge.convert.to_module`` makes a module of a network's layers, in which a convolution is a
sparse matrix. This one keeps convolutions and pools: the gradients that an attack wants cost many
times less. It computes in the model's type, and only rounding separates its values from
``Network.exact``; it is compared with the network when it is made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from torchbridge.onnx_operators import OPERATORS, Input, Step
from verifier.core.errors import ModelError
from verifier.io.lowering.graph import decode, read_graph
from verifier.io.lowering.node import Node
from verifier.io.lowering.reference import constant_value, evaluate
from verifier.io.onnx import Model
from verifier.io.validation import sample_points

#: Torch may differ from the network by this share of the outputs' size at the sample points, and
#: by this share of the inputs' where outputs cancel.
_APART, _ZERO = 1e-4, 1e-9


class OnnxModule(nn.Module):
    """The operators of a model, up to its tail (Softmax and the like).

    Input: (batch, ...) with n_inputs numbers a row, in the model's type; output: (batch,
    n_outputs). The weights are buffers, so that the module moves between devices; gradients flow to
    the input.

    Attributes:
        kind: the model's type.

    Args:
        model: as ``verifier.io.onnx.load_model`` gives it.

    Raises:
        UnsupportedOperatorError: an operator that is not in this file's table.
        ModelError: nodes that do not fit together, or outputs other than the network's.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        graph = read_graph(model.proto)
        self.kind = torch.float64 if graph.double else torch.float32
        self._shape, self._count = graph.input_shape, itertools.count()
        self._input = graph.input_name
        self._output = graph.output_name if graph.tail is None else graph.tail.inputs[0]
        self._steps: list[tuple[Step, list[str], tuple[str, ...]]] = []
        values: dict[str, Input] = {self._input: torch.zeros(1, *self._shape, dtype=self.kind)}
        for node in graph.nodes:
            if self._output in values:
                break
            for name in node.inputs:
                if name and name not in values:
                    if name not in graph.constants:
                        raise node.error(f"reads {name!r}, which no earlier node gives")
                    values[name] = decode(graph.constants[name])
            self._add(node, values)
        if not isinstance(values.get(self._output), Tensor):
            raise ModelError(f"{model.path}: the output does not depend on the input")
        self.eval()
        self._compare(model)

    def _add(self, node: Node, values: dict[str, Input]) -> None:
        """One node: a step, or constants."""
        inputs = [values[name] if name else None for name in node.inputs]
        names = [name for name in node.inputs if isinstance(values.get(name), Tensor)]
        tensors = [values[name] for name in names]
        if not tensors:
            constants = constant_value(node, [v for v in inputs if not isinstance(v, Tensor)])
            values.update(zip(node.outputs, constants, strict=False))
            return
        if node.operator in ("Shape", "Size"):
            shape = inputs[0].shape[1:] if inputs[0] is not None else ()
            values.update(
                zip(node.outputs, evaluate(node, [np.broadcast_to(np.float32(0), shape)]),
                    strict=False)
            )  # fmt: skip
            return
        make = OPERATORS.get(node.operator)
        if make is None:
            raise node.unsupported("Torch runs it as a matrix only")
        step = make(self._hold, node, inputs)
        try:
            with torch.no_grad():
                made = step(*tensors)
        except (RuntimeError, IndexError, ValueError) as problem:
            raise node.error(f"Torch cannot run it: {problem}") from problem
        outputs = made if isinstance(made, list) else [made]
        self._steps.append((step, names, node.outputs[: len(outputs)]))
        values.update(zip(node.outputs, outputs, strict=False))

    def _hold(self, array: np.ndarray) -> Callable[[], Tensor]:
        """Keep numbers as a buffer; what comes back reads it where the module is."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        name = f"constant{next(self._count)}"
        self.register_buffer(name, tensor.to(self.kind) if array.dtype.kind == "f" else tensor)
        return lambda: self.get_buffer(name)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs for a batch of inputs."""
        values = {self._input: x.reshape(len(x), *self._shape)}
        for step, names, outputs in self._steps:
            made = step(*(values[name] for name in names))
            values.update(zip(outputs, made if isinstance(made, list) else [made], strict=True))
        y = values[self._output]
        return y.reshape(len(y), math.prod(y.shape[1:]))

    def _compare(self, model: Model) -> None:
        """Compare with the network at sample points of ordinary size, both in float64.

        Only what constants are rounded to in the model's type lies between.

        Raises:
            ModelError: they differ by more than a ten-thousandth of the largest output.
        """
        points = sample_points(model.network.n_inputs, double=True)[:3]
        with torch.no_grad():
            got = self.double()(torch.from_numpy(points)).numpy()
        self.to(self.kind)
        expected = model.network.float64(points)
        size = np.abs(expected).max(axis=1, keepdims=True)
        allowed = _APART * size + _ZERO * np.abs(points).max()
        if got.shape != expected.shape or not (np.abs(got - expected) <= allowed).all():
            raise ModelError(f"{model.path}: Torch gives other outputs than the network")


def has_convolutions(model: Model) -> bool:
    """Whether the file's own operators are much smaller than their matrices."""
    return any(node.op_type == "Conv" for node in model.proto.graph.node)
