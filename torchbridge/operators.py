"""The operators of Torch that have an exact piecewise linear form, as ONNX nodes.

A function of ``OPERATORS`` takes the writer and the operator's arguments by name (a ``Value`` where
one depends on the input, a tensor where it is constant) and returns a ``Value``. To add one: write
it, enter it in the table, and give it a case in tests/torchbridge/test_graph.py, which fails while
an operator of the tables has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchbridge.windows import (
    adaptive_average_pool,
    average_pool,
    convolution,
    max_pool,
)
from torchbridge.writing import Arguments, Value, Writer, fixed
from verifier.core.errors import ModelError


def linear(w: Writer, a: Arguments) -> Value:
    """x Wᵀ + b along the last axis."""
    x, weight, bias = a["input"], fixed(a["weight"], "weight"), a["bias"]
    shape = (*x.shape[:-1], weight.shape[0])
    rows = w.reshape(x, (-1 if not x.size else x.size // x.shape[-1], x.shape[-1]))
    w.products += rows.shape[0] * weight.numel()
    inputs = [rows.name, w.numbers(weight)]
    if bias is not None:
        inputs.append(w.numbers(fixed(bias, "bias")))
    flat = (rows.shape[0], weight.shape[0])
    return w.reshape(w.emit("Gemm", inputs, flat, transB=1), shape)


def addmm(w: Writer, a: Arguments) -> Value:
    """C + A B for matrices."""
    if a["alpha"] != 1 or a["beta"] != 1:
        raise ModelError("addmm with alpha or beta other than 1")
    return _sum(w, matmul(w, {"self": a["mat1"], "other": a["mat2"]}), a["self"])


def matmul(w: Writer, a: Arguments) -> Value:
    """A B, one of them constant."""
    left, right = a["self"], a["other"] if "other" in a else a["mat2"]
    if isinstance(left, Value) and isinstance(right, Value):
        raise ModelError("a product of two tensors that both depend on the input is not linear")
    shape = torch.matmul(*(torch.empty(v.shape, device="meta") for v in (left, right))).shape
    return w.emit("MatMul", [w.operand(left), w.operand(right)], shape)


def batch_norm(w: Writer, a: Arguments) -> Value:
    """weight (x − mean) / sqrt(var + eps) + bias by channel, with the statistics that are kept.

    In float64, var + eps is a constant; in float32, eps is an attribute, as exporters write it.
    """
    x, mean, var = a["input"], a["running_mean"], a["running_var"]
    if a.get("training", False) or mean is None or var is None:
        raise ModelError("normalisation by the statistics of the batch is no fixed function")
    mean, var = fixed(mean, "mean"), fixed(var, "variance")
    scale = torch.ones_like(mean) if a["weight"] is None else fixed(a["weight"], "weight")
    shift = torch.zeros_like(mean) if a["bias"] is None else fixed(a["bias"], "bias")
    eps = float(a["eps"])
    if w.kind == "float64":
        var, eps = var + eps, 0.0
    names = [w.numbers(v) for v in (scale, shift, mean, var)]
    return w.emit("BatchNormalization", [x.name, *names], x.shape, epsilon=eps)


def batch_norm_parts(w: Writer, a: Arguments) -> list[Value]:
    """The same operator where steps in place were removed: one of several results."""
    return [batch_norm(w, a)]


def relu(w: Writer, a: Arguments) -> Value:
    """max(x, 0)."""
    return w.emit("Relu", [a["self"].name], a["self"].shape)


def leaky_relu(w: Writer, a: Arguments) -> Value:
    """x where x >= 0, slope x elsewhere; the slope is a number of the module's type."""
    x = a["self"]
    return w.emit("PRelu", [x.name, w.numbers(a["negative_slope"])], x.shape)


def prelu(w: Writer, a: Arguments) -> Value:
    """x where x >= 0, slope x elsewhere, one slope or one a channel."""
    x, slope = a["self"], fixed(a["weight"], "slope")
    if slope.numel() > 1:
        slope = slope.reshape(-1, *([1] * (len(x.shape) - 2)))
    return w.emit("PRelu", [x.name, w.numbers(slope)], x.shape)


def clamp(w: Writer, a: Arguments) -> Value:
    """min(max(x, low), high), each limit a number or none."""
    x = a["self"]
    low = a.get("min", a.get("min_val"))
    high = a.get("max", a.get("max_val"))
    names = ["" if v is None else w.numbers(v) for v in (low, high)]
    return w.emit("Clip", [x.name, *names], x.shape)


def relu6(w: Writer, a: Arguments) -> Value:
    """min(max(x, 0), 6)."""
    return clamp(w, {"self": a["self"], "min": 0.0, "max": 6.0})


def _plain(operator: str) -> Callable[[Writer, Arguments], Value]:
    """An operator of one input without anything else."""

    def emit(w: Writer, a: Arguments) -> Value:
        return w.emit(operator, [a["self"].name], a["self"].shape)

    return emit


def _pair(operator: str) -> Callable[[Writer, Arguments], Value]:
    """An operator of two inputs with broadcasting."""

    def emit(w: Writer, a: Arguments) -> Value:
        return _binary(w, operator, a["self"], a["other"])

    return emit


def add(w: Writer, a: Arguments) -> Value:
    """a + alpha b."""
    return _sum(w, a["self"], _times(w, a["other"], a["alpha"]))


def subtract(w: Writer, a: Arguments) -> Value:
    """a − alpha b."""
    return _binary(w, "Sub", a["self"], _times(w, a["other"], a["alpha"]))


def subtract_from(w: Writer, a: Arguments) -> Value:
    """b − alpha a."""
    return _binary(w, "Sub", a["other"], _times(w, a["self"], a["alpha"]))


def multiply(w: Writer, a: Arguments) -> Value:
    """a b, one of them constant."""
    if isinstance(a["self"], Value) and isinstance(a["other"], Value):
        raise ModelError("a product of two tensors that both depend on the input is not linear")
    return _binary(w, "Mul", a["self"], a["other"])


def divide(w: Writer, a: Arguments) -> Value:
    """a / b, b constant."""
    if isinstance(a["other"], Value):
        raise ModelError("a quotient by a tensor that depends on the input is not linear")
    if a.get("rounding_mode") is not None:
        raise ModelError("a quotient rounded to integers is not linear")
    return _binary(w, "Div", a["self"], a["other"])


def mean(w: Writer, a: Arguments) -> Value:
    """Mean over some axes, or all."""
    axes, shape, kept = _reduced(a)
    return w.emit("ReduceMean", [a["self"].name], shape, axes=axes, keepdims=kept)


def total(w: Writer, a: Arguments) -> Value:
    """Sum over some axes, or all."""
    axes, shape, kept = _reduced(a)
    return w.emit("ReduceSum", [a["self"].name, w.integers(axes)], shape, keepdims=kept)


def concatenate(w: Writer, a: Arguments) -> Value:
    """Tensors one after the other along an axis."""
    parts, axis = a["tensors"], int(a["dim"])
    shape = list(parts[0].shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    return w.emit("Concat", [w.operand(p) for p in parts], shape, axis=axis)


def stack(w: Writer, a: Arguments) -> Value:
    """Tensors one after the other along a new axis."""
    parts, rank = a["tensors"], len(a["tensors"][0].shape) + 1
    axis = int(a["dim"]) % rank
    shape = [*parts[0].shape[:axis], 1, *parts[0].shape[axis:]]
    widened: list[Any] = [
        w.reshape(p, shape) if isinstance(p, Value) else p.reshape(shape) for p in parts
    ]
    return concatenate(w, {"tensors": widened, "dim": axis})


def same(w: Writer, a: Arguments) -> Value:
    """What changes nothing outside training."""
    if a.get("train") or a.get("training"):
        raise ModelError("in training mode it is random; call eval() first")
    dtype = a.get("dtype")
    if dtype is not None and str(dtype) != f"torch.{w.kind}":
        raise ModelError(f"a conversion to {dtype} rounds")
    x: Value = a["self"] if "self" in a else a["input"]
    return x


def move(w: Writer, target: Any, a: Arguments) -> Any:
    """An operator that only moves the entries of its one input, and may return several parts."""
    name = next(k for k, v in a.items() if isinstance(v, Value))
    x: Value = a[name]
    # In float64, exact up to 2^53, because some operators have no integer form.
    positions = torch.arange(x.size, dtype=torch.float64).reshape(x.shape)
    keyword = {g.name for g in target._schema.arguments if g.kwarg_only}
    given = {
        k: v if not isinstance(v, Value) else positions if k == name else torch.empty(v.shape)
        for k, v in a.items()
    }
    result = target(
        *(v for k, v in given.items() if k not in keyword),
        **{k: v for k, v in given.items() if k in keyword},
    )
    if isinstance(result, Tensor):
        return w.gather(x, result.numpy().astype(np.int64))
    return [w.gather(x, part.numpy().astype(np.int64)) for part in result]


def pad(w: Writer, target: Any, a: Arguments) -> Any:
    """Padding by a constant, by reflection or by the edge."""
    amounts = [int(v) for v in a["pad"]]
    if a.get("mode", "constant") != "constant":
        return move(w, target, a)
    x, axes = a["self"], len(amounts) // 2
    begin, end = [0] * len(x.shape), [0] * len(x.shape)
    for k in range(axes):
        begin[-1 - k], end[-1 - k] = amounts[2 * k], amounts[2 * k + 1]
    shape = [n + b + e for n, b, e in zip(x.shape, begin, end, strict=True)]
    names = [x.name, w.integers([*begin, *end]), w.numbers(a["value"] or 0.0)]
    return w.emit("Pad", names, shape, mode="constant")


def _times(w: Writer, value: Any, alpha: Any) -> Any:
    """alpha times a value or constant."""
    if alpha == 1:
        return value
    return _binary(w, "Mul", value, alpha) if isinstance(value, Value) else value * alpha


def _sum(w: Writer, left: Any, right: Any) -> Value:
    return _binary(w, "Add", left, right)


def _binary(w: Writer, operator: str, left: Any, right: Any) -> Value:
    """An operator of two inputs with broadcasting, at least one of them a value."""
    shapes = [() if not isinstance(v, Value | Tensor) else tuple(v.shape) for v in (left, right)]
    return w.emit(operator, [w.operand(left), w.operand(right)], np.broadcast_shapes(*shapes))


def _reduced(a: Arguments) -> tuple[list[int], tuple[int, ...], int]:
    """(axes, shape that is left, whether axes of length 1 stay)."""
    rank = len(a["self"].shape)
    dims = a.get("dim")
    axes = sorted({int(d) % rank for d in dims} if dims else range(rank))
    kept = int(bool(a.get("keepdim", False)))
    if a.get("dtype") is not None:
        raise ModelError("a reduction in another type")
    shape = [1 if k in axes else n for k, n in enumerate(a["self"].shape)]
    left = shape if kept else [n for k, n in enumerate(shape) if k not in axes]
    return axes, tuple(left), kept


OPERATORS: dict[str, Callable[[Writer, Arguments], Value | list[Value]]] = {
    "_native_batch_norm_legit_no_training": batch_norm_parts,
    "_to_copy": same,
    "abs": _plain("Abs"),
    "adaptive_avg_pool1d": adaptive_average_pool,
    "adaptive_avg_pool2d": adaptive_average_pool,
    "adaptive_avg_pool3d": adaptive_average_pool,
    "add": add,
    "addmm": addmm,
    "avg_pool1d": average_pool,
    "avg_pool2d": average_pool,
    "avg_pool3d": average_pool,
    "batch_norm": batch_norm,
    "cat": concatenate,
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "conv1d": convolution,
    "conv2d": convolution,
    "conv3d": convolution,
    "div": divide,
    "dropout": same,
    "feature_dropout": same,
    "hardtanh": clamp,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "matmul": matmul,
    "max_pool1d": max_pool,
    "max_pool2d": max_pool,
    "max_pool3d": max_pool,
    "maximum": _pair("Max"),
    "mean": mean,
    "minimum": _pair("Min"),
    "mm": matmul,
    "mul": multiply,
    "neg": _plain("Neg"),
    "prelu": prelu,
    "relu": relu,
    "relu6": relu6,
    "rsub": subtract_from,
    "stack": stack,
    "sub": subtract,
    "sum": total,
    "to": same,
}

MOVING: dict[str, Callable[[Writer, Any, Arguments], Any]] = {
    **dict.fromkeys(
        (
            "chunk", "clone", "contiguous", "detach", "expand", "expand_as",
            "flatten", "flip", "movedim", "numpy_T", "permute", "pixel_shuffle",
            "pixel_unshuffle", "repeat", "reshape", "roll", "select", "slice", "split",
            "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unflatten", "unsqueeze",
            "upsample_nearest1d", "upsample_nearest2d", "view", "view_as",
        ),
        move,
    ),
    "constant_pad_nd": pad,
    "pad": pad,
}  # fmt: skip
