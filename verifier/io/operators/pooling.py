"""Pools and reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from verifier.io.lowering.exact_affine import csr_from_rows
from verifier.io.lowering.node import MAX_NONZEROS, Node
from verifier.io.lowering.tensor import Lowering, Tensor
from verifier.io.operators.arguments import Value, input_tensor
from verifier.io.operators.window import Window, read_window


def max_pool(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """MaxPool: a tournament of max(a, b) = b + relu(a - b), one axis after the other.

    Axis by axis, overlapping windows share their partial maxima.
    """
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("its output Indices is not piecewise linear")
    x, window = _pool(node, inputs)
    axes = [_clamped(node, window, d) for d in range(len(window.kernel))]
    index = window.combined(axes)
    planes = x.positions().reshape(-1, math.prod(window.spatial))
    node.check_size((len(planes), *index.shape))
    positions = planes[:, index].reshape(-1, *window.kernel)
    for _ in window.kernel:
        x, positions = _tournament(build, x, positions)
    return [build.select([x], positions, _pooled_shape(inputs, window))]


def global_max_pool(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """GlobalMaxPool: the largest entry of each channel."""
    x = input_tensor(node, inputs[0])
    if len(x.shape) < 3:
        raise node.error(f"needs at least 3 dimensions, got shape {x.shape}")
    positions = x.positions().reshape(x.shape[0] * x.shape[1], -1)
    x, positions = _tournament(build, x, positions)
    return [build.select([x], positions, _global_shape(inputs[0]))]


def average_pool(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """AveragePool: the mean of each window, over its entries inside the (padded) input."""
    x, window = _pool(node, inputs)
    counts = window.counts(bool(node.attributes.get("count_include_pad", 0))).ravel()
    if (counts == 0).any():
        raise node.error("a window lies in the padding altogether")
    index = window.positions()
    planes = x.positions().reshape(-1, math.prod(window.spatial))
    node.check_size((len(planes), *index.shape), MAX_NONZEROS)
    columns = np.where(index < 0, -1, planes[:, index]).reshape(-1, index.shape[1])
    values = np.tile(_inverse(build, node, counts), len(planes))[:, None]
    matrix = csr_from_rows(columns, values, x.size)
    return [build.linear(x, matrix, _pooled_shape(inputs, window))]


def global_average_pool(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """GlobalAveragePool: the mean of each channel."""
    x = input_tensor(node, inputs[0])
    if len(x.shape) < 3:
        raise node.error(f"needs at least 3 dimensions, got shape {x.shape}")
    columns = x.positions().reshape(x.shape[0] * x.shape[1], -1)
    return [_mean(build, node, x, columns, _global_shape(x))]


def reduce_sum(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """ReduceSum over some axes."""
    x, columns, shape = _reduced(node, inputs)
    if shape == x.shape and columns.shape[1] == 1:
        return [x]
    return [build.linear(x, csr_from_rows(columns, np.ones((1, 1)), x.size), shape)]


def reduce_mean(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """ReduceMean over some axes."""
    x, columns, shape = _reduced(node, inputs)
    return [_mean(build, node, x, columns, shape)]


def _mean(
    build: Lowering, node: Node, x: Tensor, columns: np.ndarray, shape: tuple[int, ...]
) -> Tensor:
    """The mean of the entries in each row of ``columns``."""
    values = _inverse(build, node, np.array([columns.shape[1]]))
    return build.linear(x, csr_from_rows(columns, values[:, None], x.size), shape)


def _inverse(build: Lowering, node: Node, counts: np.ndarray) -> np.ndarray:
    """1 / counts, with a note where that had to be rounded."""
    if (counts & (counts - 1)).any():
        build.notes.append(
            f"node {node.name!r} ({node.operator}): 1/{int(counts.max())} was rounded to float64"
        )
    return np.asarray(1.0 / counts)


def _pool(node: Node, inputs: list[Value]) -> tuple[Tensor, Window]:
    """Input and window of a pool."""
    x = input_tensor(node, inputs[0])
    if len(x.shape) < 3:
        raise node.error(f"needs at least 3 dimensions, got shape {x.shape}")
    kernel = node.attributes.get("kernel_shape", ())
    return x, read_window(node, tuple(x.shape[2:]), kernel, pool=True)


def _pooled_shape(inputs: list[Value], window: Window) -> tuple[int, ...]:
    first = inputs[0]
    return (*(first.shape[:2] if first is not None else ()), *window.output)


def _global_shape(value: Value) -> tuple[int, ...]:
    shape = value.shape if value is not None else ()
    return (*shape[:2], *([1] * (len(shape) - 2)))


def _clamped(node: Node, window: Window, d: int) -> np.ndarray:
    """Positions along axis d with those outside replaced by one of the same window inside."""
    inside = window.inside(d)
    if not inside.any(axis=1).all():
        raise node.error("a window lies in the padding altogether")
    index = window.axis(d)
    first = np.take_along_axis(index, inside.argmax(axis=1)[:, None], axis=1)
    return np.where(inside, index, first)


def _tournament(build: Lowering, x: Tensor, positions: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """The maximum over the last axis of ``positions``: a tensor, and where each maximum stands."""
    while positions.shape[-1] > 1:
        paired = positions.shape[-1] // 2 * 2
        left = build.select([x], positions[..., 0:paired:2])
        right = build.select([x], positions[..., 1:paired:2])
        winners = build.maximum(left, right)
        places = winners.positions()
        if paired < positions.shape[-1]:
            byes = build.select([x], positions[..., paired:])
            places = np.concatenate([places, byes.positions() + winners.size], axis=-1)
            total = winners.size + byes.size
            x = build.select([winners, byes], np.arange(total))
        else:
            x = winners
        positions = places
    return x, positions[..., 0]


def reduced_axes(node: Node, inputs: Sequence[Any], rank: int) -> list[int]:
    """The axes of a ReduceSum or ReduceMean, from an attribute or an input, in order.

    Raises:
        ModelError: one does not fit.
    """
    axes = node.attributes.get("axes")
    if len(inputs) > 1 and inputs[1] is not None:
        axes = node.integers(inputs[1], "axes")
    if not axes:
        axes = [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    axes = sorted({int(a) + rank if a < 0 else int(a) for a in axes})
    if any(not 0 <= a < rank for a in axes):
        raise node.error(f"axes {axes} do not fit shape {rank} dimensions")
    return axes


def _reduced(node: Node, inputs: list[Value]) -> tuple[Tensor, np.ndarray, tuple[int, ...]]:
    """Input, the positions that each output reads (outputs, entries), and the output's shape."""
    x = input_tensor(node, inputs[0])
    rank = len(x.shape)
    axes = reduced_axes(node, inputs, rank)
    kept = [d for d in range(rank) if d not in axes]
    count = math.prod(x.shape[a] for a in axes)
    columns = x.positions().transpose(*kept, *axes).reshape(-1, count)
    if node.attributes.get("keepdims", 1):
        shape = tuple(1 if d in axes else n for d, n in enumerate(x.shape))
    else:
        shape = tuple(x.shape[d] for d in kept)
    return x, columns, shape
