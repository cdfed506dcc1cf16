"""ONNX's operators in Torch, on batches: one function each, and the table of them.

A function takes where to keep its constants, the node and its inputs, and returns what the node
does to tensors. Attributes are read as ``verifier.io.operators`` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from verifier.io.lowering.node import Node
from verifier.io.lowering.reference import evaluate
from verifier.io.operators.moving import pad_widths
from verifier.io.operators.piecewise import limit
from verifier.io.operators.pooling import reduced_axes
from verifier.io.operators.window import Window, read_window

#: An input of a node while the module is made: what depends on the network's input as a tensor
#: (1, *its shape in the file), a constant as an array.
Input = Tensor | np.ndarray | None
#: What a node does to the tensors (batch, *shape in the file) among its inputs, in their order.
Step = Callable[..., Tensor | list[Tensor]]
#: Keeps numbers beside the weights; what comes back reads them where they are.
Hold = Callable[[np.ndarray], Callable[[], Tensor]]

_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_MAX_POOLS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_MEAN_POOLS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


def _data(node: Node, value: Input) -> Tensor:
    """An input that depends on the network's input."""
    if not isinstance(value, Tensor):
        raise node.unsupported("its data is a constant while another input is not")
    return value


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """An operator on some inputs, broadcast to their common shape."""

    def make(hold: Hold, node: Node, inputs: list[Input]) -> Step:
        if node.opset < 7 and "axis" in node.attributes:
            raise node.unsupported("with the attribute axis of old operator sets")
        shapes = [
            tuple(v.shape[1:]) if isinstance(v, Tensor) else np.shape(v)
            for v in inputs if v is not None
        ]  # fmt: skip
        rank = max(map(len, shapes))
        constants = [
            None if isinstance(v, Tensor) else hold(node.numbers(v, "operand")) for v in inputs
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
    return lambda hold, node, inputs: function


def _leaky(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    slope = node.number("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, slope)


def _clip(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    low, high = limit(node, inputs, 1, "min"), limit(node, inputs, 2, "max")
    return lambda x: x if low is None and high is None else torch.clamp(x, low, high)


def _same(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    """Identity, and Dropout at inference."""
    if len(inputs) > 2 and inputs[2] is not None and node.constant(inputs[2], "mode").any():
        raise node.unsupported("in training mode it is random")
    return lambda x: x


def _gemm(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    _data(node, inputs[0])
    flips = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]
    weight = node.numbers(inputs[1], "factor")
    matrix = hold(weight.T if flips[1] else weight)
    addend = None
    if len(inputs) > 2 and inputs[2] is not None and beta:
        addend = hold(node.numbers(inputs[2], "C"))

    def step(x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if flips[0] else x
        y = x @ matrix() if alpha == 1 else alpha * (x @ matrix())
        if addend is None:
            return y
        return y + (addend() if beta == 1 else beta * addend())

    return step


def _matmul(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    left, right = inputs
    tensor_left = isinstance(left, Tensor)
    x = _data(node, left if tensor_left else right)
    weight = node.numbers(right if tensor_left else left, "factor")
    if x.ndim < 3 or weight.ndim != 2:
        raise node.unsupported("a product with a vector or a stack of matrices")
    matrix = hold(weight)
    if tensor_left:
        return lambda x: x @ matrix()
    return lambda x: matrix() @ x


def _planes(node: Node, value: Input) -> Tensor:
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


def _convolution(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    x = _planes(node, inputs[0])
    weight = node.numbers(inputs[1], "weight")
    window = read_window(node, tuple(x.shape[3:]), weight.shape[2:])
    kernel, bias = hold(weight), None
    if len(inputs) > 2 and inputs[2] is not None:
        bias = hold(node.numbers(inputs[2], "bias"))
    groups = int(node.attributes.get("group", 1))
    convolve: Any = _CONVOLUTIONS[len(window.kernel) - 1]

    def step(x: Tensor) -> Tensor:
        y = convolve(
            _padded(x, window, 0.0), kernel(), None if bias is None else bias(),
            window.strides, 0, window.dilations, groups,
        )  # fmt: skip
        return _unflat(y, x)

    return step


def _pool_window(node: Node, value: Input) -> Window:
    x = _planes(node, value)
    kernel = node.attributes.get("kernel_shape", ())
    return read_window(node, tuple(x.shape[3:]), kernel, pool=True)


def _max_pool(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("its output Indices is not piecewise linear")
    window = _pool_window(node, inputs[0])
    pool: Any = _MAX_POOLS[len(window.kernel) - 1]

    def step(x: Tensor) -> Tensor:
        padded = _padded(x, window, -math.inf)
        y = pool(padded, window.kernel, window.strides, 0, window.dilations)
        return _unflat(y, x)

    return step


def _average_pool(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    window = _pool_window(node, inputs[0])
    if any(d != 1 for d in window.dilations):
        raise node.unsupported("with dilations")
    counts = window.counts(bool(node.attributes.get("count_include_pad", 0)))
    share = hold(math.prod(window.kernel) / counts)
    pool: Any = _MEAN_POOLS[len(window.kernel) - 1]

    def step(x: Tensor) -> Tensor:
        return _unflat(pool(_padded(x, window, 0.0), window.kernel, window.strides) * share(), x)

    return step


def _global_pool(function: Any) -> Any:
    def make(hold: Hold, node: Node, inputs: list[Input]) -> Step:
        axes = tuple(range(3, _planes(node, inputs[0]).ndim))
        return lambda x: function(x, axes, True)

    return make


def _reduction(function: Any) -> Any:
    """ReduceSum and ReduceMean."""

    def make(hold: Hold, node: Node, inputs: list[Input]) -> Step:
        rank = _data(node, inputs[0]).ndim - 1
        dims = tuple(axis + 1 for axis in reduced_axes(node, inputs, rank))
        if not dims:
            return lambda x: x
        keep = bool(node.attributes.get("keepdims", 1))
        return lambda x: function(x, dims, keep)

    return make


def _batch_normalization(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    _data(node, inputs[0])
    if node.attributes.get("training_mode", 0):
        raise node.unsupported("training mode depends on the whole batch")
    scale, bias, mean, variance = (
        node.numbers(v, what)
        for v, what in zip(inputs[1:5], ("scale", "bias", "mean", "variance"), strict=True)
    )
    factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
    times, plus = hold(factor), hold(bias - mean * factor)

    def step(x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 3))
        return x * times().reshape(shape) + plus().reshape(shape)

    return step


def _pad(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    """Pad with a constant."""
    rank = _data(node, inputs[0]).ndim - 1
    if node.attributes.get("mode", "constant") != "constant":
        raise node.unsupported("in other modes than constant")
    width, fill = pad_widths(node, inputs, rank)
    around = [n for pair in reversed(width) for n in pair]
    return lambda x: functional.pad(x, around, value=fill)


def _move(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    """What moves entries of its first input only, applied to their positions."""
    shape = tuple(_data(node, inputs[0]).shape[1:])
    rest = [None if v is None else node.constant(v, "further input") for v in inputs[1:]]
    count = math.prod(shape)
    outputs = evaluate(node, [np.arange(count).reshape(shape), *rest])
    if len(outputs) == 1 and np.array_equal(outputs[0].ravel(), np.arange(count)):
        return lambda x: x.reshape(len(x), *outputs[0].shape)
    shapes = [o.shape for o in outputs]
    taken = [hold(o.ravel().astype(np.int64)) for o in outputs]

    def step(x: Tensor) -> list[Tensor]:
        flat = x.flatten(1)
        return [
            flat[:, index()].reshape(len(x), *s) for index, s in zip(taken, shapes, strict=True)
        ]

    return step


def _concat(hold: Hold, node: Node, inputs: list[Input]) -> Step:
    parts = [None if isinstance(v, Tensor) else hold(node.numbers(v, "part")) for v in inputs]
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


OPERATORS: dict[str, Callable[[Hold, Node, list[Input]], Step]] = {
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
