"""Convolutions and pools of Torch as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torchbridge.writing import Arguments, Value, Writer, fixed
from verifier.core.errors import ModelError


def convolution(w: Writer, a: Arguments) -> Value:
    """Convolution along one to three axes; ``padding`` may be "same" or "valid"."""
    x, weight = a["input"], fixed(a["weight"], "weight")
    rank = weight.ndim - 2
    stride, dilation = _each(a["stride"], rank), _each(a["dilation"], rank)
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if a["padding"] == "same":
        begin = [r // 2 for r in reach]
        end = [r - b for r, b in zip(reach, begin, strict=True)]
    else:
        begin = [0] * rank if a["padding"] == "valid" else _each(a["padding"], rank)
        end = begin
    batched = x if len(x.shape) == rank + 2 else w.reshape(x, (1, *x.shape))
    size = [
        (n + b + e - r - 1) // s + 1
        for n, b, e, r, s in zip(batched.shape[2:], begin, end, reach, stride, strict=True)
    ]
    w.products += math.prod(size) * weight.numel()
    inputs = [batched.name, w.numbers(weight)]
    if a["bias"] is not None:
        inputs.append(w.numbers(fixed(a["bias"], "bias")))
    y = w.emit(
        "Conv", inputs, (batched.shape[0], weight.shape[0], *size), strides=stride,
        dilations=dilation, pads=[*begin, *end], group=int(a["groups"]),
        kernel_shape=list(weight.shape[2:]),
    )  # fmt: skip
    return y if batched is x else w.reshape(y, y.shape[1:])


def max_pool(w: Writer, a: Arguments) -> Value:
    """Maxima over windows."""
    return _pool(w, a, "MaxPool", _each(a["dilation"], len(a["self"].shape) - 2))


def average_pool(w: Writer, a: Arguments) -> Value:
    """Means over windows."""
    if a.get("divisor_override") is not None:
        raise ModelError("divisor_override is not supported")
    return _pool(w, a, "AveragePool", None, count_include_pad=int(a["count_include_pad"]))


def _pool(
    w: Writer, a: Arguments, operator: str, dilation: list[int] | None, **attributes: Any
) -> Value:
    """A pool; Torch itself says what shape comes out."""
    x = a["self"]
    rank = len(x.shape) - 2
    if rank < 1:
        raise ModelError(f"pools need a batch and a channel dimension, got shape {x.shape}")
    kernel = _each(a["kernel_size"], rank)
    stride = _each(a["stride"], rank) if a["stride"] else kernel
    padding = _each(a["padding"], rank)
    reach = [(k - 1) * d for k, d in zip(kernel, dilation or [1] * rank, strict=True)]
    shape = []
    for n, p, r, s in zip(x.shape[2:], padding, reach, stride, strict=True):
        room = n + 2 * p - r - 1
        count = (-(-room // s) if a["ceil_mode"] else room // s) + 1
        shape.append(count - int(a["ceil_mode"] and (count - 1) * s >= n + p))
    if dilation is not None:
        attributes["dilations"] = dilation
    return w.emit(
        operator, [x.name], (*x.shape[:2], *shape), kernel_shape=kernel, strides=stride,
        pads=[*padding, *padding], ceil_mode=int(a["ceil_mode"]), **attributes,
    )  # fmt: skip


def adaptive_average_pool(w: Writer, a: Arguments) -> Value:
    """Means over a grid of equal windows."""
    x = a["self"]
    wanted = _each(a["output_size"], len(x.shape) - 2)
    sizes = list(zip(x.shape[2:], wanted, strict=True))
    if any(n % k for n, k in sizes):
        raise ModelError(f"windows of different sizes: {x.shape[2:]} into {tuple(wanted)}")
    kernel = [n // k for n, k in sizes]
    shape = (*x.shape[:2], *wanted)
    return w.emit("AveragePool", [x.name], shape, kernel_shape=kernel, strides=kernel)


def _each(values: Any, rank: int) -> list[int]:
    """One number an axis; a single one stands for all."""
    numbers = [int(v) for v in (values if isinstance(values, Sequence) else [values])]
    return numbers * rank if len(numbers) == 1 else numbers
