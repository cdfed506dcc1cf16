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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from verifier.core.errors import ModelError
from verifier.io.lowering.graph import decode, read_graph
from verifier.io.lowering.node import Node
from verifier.io.lowering.reference import constant_value, evaluate
from verifier.io.onnx import Model
from verifier.io.operators.window import Window, read_window
from verifier.io.validation import sample_points

#: An input of a node while the module is made: what depends on the network's input as a tensor
#: (1, *its shape in the file), a constant as an array.
_Input = Tensor | np.ndarray | None
#: What a node does to the tensors (batch, *shape in the file) among its inputs, in their order.
_Step = Callable[..., Tensor | list[Tensor]]

#: Torch may differ from the network by this share of the outputs' size at the sample points, and
#: by this share of the inputs' where outputs cancel.
_APART, _ZERO = 1e-4, 1e-9
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_MAX_POOLS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_MEAN_POOLS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


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
        self._steps: list[tuple[_Step, list[str], tuple[str, ...]]] = []
        values: dict[str, _Input] = {self._input: torch.zeros(1, *self._shape, dtype=self.kind)}
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

    def _add(self, node: Node, values: dict[str, _Input]) -> None:
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
        step = make(self, node, inputs)
        try:
            with torch.no_grad():
                made = step(*tensors)
        except (RuntimeError, IndexError, ValueError) as problem:
            raise node.error(f"Torch cannot run it: {problem}") from problem
        outputs = made if isinstance(made, list) else [made]
        self._steps.append((step, names, node.outputs[: len(outputs)]))
        values.update(zip(node.outputs, outputs, strict=False))

    def hold(self, array: np.ndarray) -> Callable[[], Tensor]:
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

        What a batch normalisation rounds to the model's type, and nearly nothing else, lies between.

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


def _data(node: Node, value: _Input) -> Tensor:
    """An input that depends on the network's input."""
    if not isinstance(value, Tensor):
        raise node.unsupported("its data is a constant while another input is not")
    return value


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """An operator on some inputs, broadcast to their common shape."""

    def make(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
        if node.opset < 7 and "axis" in node.attributes:
            raise node.unsupported("with the attribute axis of old operator sets")
        shapes = [
            tuple(v.shape[1:]) if isinstance(v, Tensor) else np.shape(v)
            for v in inputs if v is not None
        ]  # fmt: skip
        rank = max(map(len, shapes))
        constants = [
            None if isinstance(v, Tensor) else module.hold(node.numbers(v, "operand"))
            for v in inputs
        ]

        def step(*tensors: Tensor) -> Tensor:
            rest = iter(tensors)
            operands = [
                _raised(next(rest), rank) if constant is None else constant()
                for constant in constants
            ]
            total = operands[0]
            for operand in operands[1:]:
                total = function(total, operand)
            return total

        return step

    return make


def _raised(x: Tensor, rank: int) -> Tensor:
    """(batch, *shape) with ones in front of the shape until it has the rank."""
    return x.reshape(len(x), *(1,) * (rank + 1 - x.ndim), *x.shape[1:])


def _unary(function: Callable[[Tensor], Tensor]) -> Any:
    """An operator on one input without attributes."""
    return lambda module, node, inputs: function


def _leaky(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    slope = node.number("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, slope)


def _clip(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    low, high = (
        node.attributes.get(name) if node.opset < 11
        else None if len(inputs) <= slot or inputs[slot] is None
        else float(node.constant(inputs[slot], name).ravel()[0])
        for slot, name in ((1, "min"), (2, "max"))
    )  # fmt: skip
    return lambda x: x if low is None and high is None else torch.clamp(x, low, high)


def _same(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    """Identity, and Dropout at inference."""
    if len(inputs) > 2 and inputs[2] is not None and node.constant(inputs[2], "mode").any():
        raise node.unsupported("in training mode it is random")
    return lambda x: x


def _gemm(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    _data(node, inputs[0])
    flips = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]
    weight = node.numbers(inputs[1], "factor")
    matrix = module.hold(weight.T if flips[1] else weight)
    addend = None
    if len(inputs) > 2 and inputs[2] is not None and beta:
        addend = module.hold(node.numbers(inputs[2], "C"))

    def step(x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if flips[0] else x
        y = x @ matrix() if alpha == 1 else alpha * (x @ matrix())
        if addend is None:
            return y
        return y + (addend() if beta == 1 else beta * addend())

    return step


def _matmul(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    left, right = inputs
    tensor_left = isinstance(left, Tensor)
    x = _data(node, left if tensor_left else right)
    weight = node.numbers(right if tensor_left else left, "factor")
    if x.ndim < 3 or weight.ndim != 2:
        raise node.unsupported("a product with a vector or a stack of matrices")
    matrix = module.hold(weight)
    if tensor_left:
        return lambda x: x @ matrix()
    return lambda x: matrix() @ x


def _planes(node: Node, value: _Input) -> Tensor:
    """The data of a convolution or pool: (1, n, channels, *spatial), one to three axes."""
    x = _data(node, value)
    if not 4 <= x.ndim <= 6:
        raise node.unsupported("of one to three spatial axes only")
    return x


def _padded(x: Tensor, window: Window, fill: float) -> Tensor:
    """(batch · n, channels, *spatial), grown or cut so that the windows fill it exactly."""
    amounts: list[int] = []
    for d in reversed(range(len(window.kernel))):
        reach = (window.kernel[d] - 1) * window.dilations[d] + 1
        needed = (window.output[d] - 1) * window.strides[d] + reach
        amounts += (window.begin[d], needed - window.begin[d] - window.spatial[d])
    x = x.flatten(0, 1)
    return functional.pad(x, amounts, value=fill) if any(amounts) else x


def _unflat(y: Tensor, x: Tensor) -> Tensor:
    """(batch · n, ...) as (batch, n, ...)."""
    return y.reshape(len(x), x.shape[1], *y.shape[1:])


def _convolution(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    x = _planes(node, inputs[0])
    weight = node.numbers(inputs[1], "weight")
    window = read_window(node, tuple(x.shape[3:]), weight.shape[2:])
    kernel, bias = module.hold(weight), None
    if len(inputs) > 2 and inputs[2] is not None:
        bias = module.hold(node.numbers(inputs[2], "bias"))
    groups = int(node.attributes.get("group", 1))
    convolve: Any = _CONVOLUTIONS[len(window.kernel) - 1]

    def step(x: Tensor) -> Tensor:
        y = convolve(
            _padded(x, window, 0.0), kernel(), None if bias is None else bias(),
            window.strides, 0, window.dilations, groups,
        )  # fmt: skip
        return _unflat(y, x)

    return step


def _pool_window(node: Node, value: _Input) -> Window:
    x = _planes(node, value)
    kernel = node.attributes.get("kernel_shape", ())
    return read_window(node, tuple(x.shape[3:]), kernel, pool=True)


def _max_pool(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("its output Indices is not piecewise linear")
    window = _pool_window(node, inputs[0])
    pool: Any = _MAX_POOLS[len(window.kernel) - 1]

    def step(x: Tensor) -> Tensor:
        padded = _padded(x, window, -math.inf)
        y = pool(padded, window.kernel, window.strides, 0, window.dilations)
        return _unflat(y, x)

    return step


def _average_pool(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    window = _pool_window(node, inputs[0])
    if any(d != 1 for d in window.dilations):
        raise node.unsupported("with dilations")
    padding = bool(node.attributes.get("count_include_pad", 0))
    counts = np.ones(())
    for d in range(len(window.kernel)):
        index, inside = window.axis(d), window.inside(d)
        if padding:
            inside = (index >= -window.begin[d]) & (index < window.spatial[d] + window.end[d])
        counts = counts[..., None] * inside.sum(axis=1)
    share = module.hold(math.prod(window.kernel) / counts)
    pool: Any = _MEAN_POOLS[len(window.kernel) - 1]

    def step(x: Tensor) -> Tensor:
        return _unflat(pool(_padded(x, window, 0.0), window.kernel, window.strides) * share(), x)

    return step


def _global_pool(function: Any) -> Any:
    def make(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
        axes = tuple(range(3, _planes(node, inputs[0]).ndim))
        return lambda x: function(x, axes, True)

    return make


def _reduction(function: Any) -> Any:
    """ReduceSum and ReduceMean."""

    def make(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
        rank = _data(node, inputs[0]).ndim - 1
        axes = node.attributes.get("axes")
        if len(inputs) > 1 and inputs[1] is not None:
            axes = node.integers(inputs[1], "axes")
        if not axes:
            if node.attributes.get("noop_with_empty_axes", 0):
                return lambda x: x
            axes = range(rank)
        dims = tuple(int(a) % rank + 1 for a in axes)
        keep = bool(node.attributes.get("keepdims", 1))
        return lambda x: function(x, dims, keep)

    return make


def _batch_normalization(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    _data(node, inputs[0])
    if node.attributes.get("training_mode", 0):
        raise node.unsupported("training mode depends on the whole batch")
    scale, bias, mean, variance = (
        node.numbers(v, what)
        for v, what in zip(inputs[1:5], ("scale", "bias", "mean", "variance"), strict=True)
    )
    factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
    times, plus = module.hold(factor), module.hold(bias - mean * factor)

    def step(x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 3))
        return x * times().reshape(shape) + plus().reshape(shape)

    return step


def _pad(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    """Pad with a constant."""
    rank = _data(node, inputs[0]).ndim - 1
    if node.attributes.get("mode", "constant") != "constant":
        raise node.unsupported("in other modes than constant")
    fill, axes = node.number("value", 0.0), list(range(rank))
    if node.opset < 11:
        amounts = [int(v) for v in node.attributes.get("pads", ())]
    else:
        amounts = node.integers(inputs[1], "pads")
        if len(inputs) > 2 and inputs[2] is not None:
            fill = float(node.numbers(inputs[2], "constant_value"))
        if len(inputs) > 3 and inputs[3] is not None:
            axes = [a % rank for a in node.integers(inputs[3], "axes")]
    if len(amounts) != 2 * len(axes):
        raise node.error(f"pads {amounts} do not fit {len(axes)} axes")
    around = [0] * (2 * rank)
    for k, axis in enumerate(axes):
        around[2 * (rank - 1 - axis)] = amounts[k]
        around[2 * (rank - 1 - axis) + 1] = amounts[len(axes) + k]
    return lambda x: functional.pad(x, around, value=fill)


def _move(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    """What moves entries of its first input only, applied to their positions."""
    shape = tuple(_data(node, inputs[0]).shape[1:])
    rest = [None if v is None else node.constant(v, "further input") for v in inputs[1:]]
    count = math.prod(shape)
    outputs = evaluate(node, [np.arange(count).reshape(shape), *rest])
    if len(outputs) == 1 and np.array_equal(outputs[0].ravel(), np.arange(count)):
        return lambda x: x.reshape(len(x), *outputs[0].shape)
    shapes = [o.shape for o in outputs]
    taken = [module.hold(o.ravel().astype(np.int64)) for o in outputs]

    def step(x: Tensor) -> list[Tensor]:
        flat = x.flatten(1)
        return [
            flat[:, index()].reshape(len(x), *s) for index, s in zip(taken, shapes, strict=True)
        ]

    return step


def _concat(module: OnnxModule, node: Node, inputs: list[_Input]) -> _Step:
    parts = [
        None if isinstance(v, Tensor) else module.hold(node.numbers(v, "part")) for v in inputs
    ]
    rank = max(v.ndim - 1 for v in inputs if isinstance(v, Tensor))
    axis = node.axis(rank, 1) + 1

    def step(*tensors: Tensor) -> Tensor:
        rest, batch = iter(tensors), len(tensors[0])
        return torch.cat(
            [
                next(rest) if part is None else part().expand(batch, *part().shape)
                for part in parts
            ],
            axis,
        )  # fmt: skip

    return step


OPERATORS: dict[str, Callable[[OnnxModule, Node, list[_Input]], _Step]] = {
    "Abs": _unary(torch.abs),
    "Add": _elementwise(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "Div": _elementwise(torch.div),
    "Dropout": _same,
    "Flatten": _move,
    "Gather": _move,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool(torch.mean),
    "GlobalMaxPool": _global_pool(torch.amax),
    "Identity": _same,
    "LeakyRelu": _leaky,
    "MatMul": _matmul,
    "Max": _elementwise(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _elementwise(torch.minimum),
    "Mul": _elementwise(torch.mul),
    "Neg": _unary(torch.neg),
    "Pad": _pad,
    "ReduceMean": _reduction(torch.mean),
    "ReduceSum": _reduction(torch.sum),
    "Relu": _unary(torch.relu),
    "Reshape": _move,
    "Slice": _move,
    "Split": _move,
    "Squeeze": _move,
    "Sub": _elementwise(torch.sub),
    "Sum": _elementwise(torch.add),
    "Transpose": _move,
    "Unsqueeze": _move,
}
