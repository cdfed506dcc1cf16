"""Sliding windows: which input positions each output of a convolution or pool reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verifier.io.lowering.node import MAX_NONZEROS, Node


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution or pool along each of the spatial axes."""

    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    output: tuple[int, ...]

    def axis(self, d: int) -> np.ndarray:
        """(output, kernel) positions along axis d; < 0 or >= its size outside the input."""
        start = np.arange(self.output[d])[:, None] * self.strides[d] - self.begin[d]
        return start + np.arange(self.kernel[d])[None, :] * self.dilations[d]

    def inside(self, d: int) -> np.ndarray:
        """(output, kernel) mask of the positions along axis d that lie in the input."""
        index = self.axis(d)
        return np.asarray((index >= 0) & (index < self.spatial[d]))

    def counts(self, padded: bool) -> np.ndarray:
        """How many entries each window has in the input; with the padding if ``padded``: output."""
        out = np.ones((), dtype=np.int64)
        for d in range(len(self.kernel)):
            index, valid = self.axis(d), self.inside(d)
            if padded:
                valid = (index >= -self.begin[d]) & (index < self.spatial[d] + self.end[d])
            out = out[..., None] * valid.sum(axis=1)
        return out

    def positions(self) -> np.ndarray:
        """(outputs, kernel size) flat spatial positions, -1 outside the input."""
        axes = [np.where(self.inside(d), self.axis(d), -1) for d in range(len(self.kernel))]
        return self.combined(axes)

    def combined(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """(outputs, kernel size) flat positions from one array an axis; -1 where one is -1."""
        rank = len(self.kernel)
        flat = np.zeros((1,) * (2 * rank), dtype=np.int64)
        outside = np.zeros((1,) * (2 * rank), dtype=bool)
        for d, index in enumerate(axes):
            shape = [1] * (2 * rank)
            shape[d], shape[rank + d] = index.shape
            flat = flat * self.spatial[d] + index.reshape(shape)
            outside = outside | (index < 0).reshape(shape)
        count = int(np.prod(self.output))
        return np.where(outside, -1, flat).reshape(count, -1)


def read_window(
    node: Node, spatial: tuple[int, ...], kernel: Sequence[int], pool: bool = False
) -> Window:
    """The window that a Conv or pool node slides over an input of this spatial shape.

    Args:
        node: with attributes strides, dilations, pads, auto_pad, ceil_mode.
        spatial: the input's spatial shape.
        kernel: the kernel's shape.
        pool: a pool's last window must start inside the input or its left padding.

    Raises:
        ModelError: attributes that do not fit.
    """
    rank = len(spatial)
    kernel = tuple(int(k) for k in kernel)
    strides = per_axis(node, "strides", rank)
    dilations = per_axis(node, "dilations", rank)
    if len(kernel) != rank or min(kernel, default=1) < 1:
        raise node.error(f"kernel {kernel} does not fit spatial shape {spatial}")
    begin, end = _padding(node, spatial, kernel, strides, dilations)
    ceil = bool(node.attributes.get("ceil_mode", 0))
    output = []
    for d in range(rank):
        room = spatial[d] + begin[d] + end[d] - dilations[d] * (kernel[d] - 1) - 1
        count = (-(-room // strides[d]) if ceil else room // strides[d]) + 1
        if ceil and pool and (count - 1) * strides[d] >= spatial[d] + begin[d]:
            count -= 1
        if count < 1:
            raise node.error(f"kernel {kernel} is larger than the padded input {spatial}")
        output.append(count)
    node.check_size((*output, *kernel), MAX_NONZEROS)
    return Window(spatial, kernel, strides, dilations, begin, end, tuple(output))


def per_axis(node: Node, name: str, rank: int) -> tuple[int, ...]:
    """An attribute with one positive number an axis, by default 1."""
    values = tuple(int(v) for v in node.attributes.get(name, (1,) * rank))
    if len(values) != rank or min(values, default=1) < 1:
        raise node.error(f"{name} {values} does not fit {rank} spatial axes")
    return values


def _padding(
    node: Node,
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each axis."""
    rank, mode = len(spatial), node.attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads: Any = tuple(int(p) for p in node.attributes.get("pads", (0,) * (2 * rank)))
        if len(pads) != 2 * rank or min(pads, default=0) < 0:
            raise node.error(f"pads {pads} do not fit {rank} spatial axes")
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.error(f"auto_pad {mode!r} is unknown")
    begin, end = [], []
    for d in range(rank):
        reach = dilations[d] * (kernel[d] - 1) + 1
        total = max(0, (-(-spatial[d] // strides[d]) - 1) * strides[d] + reach - spatial[d])
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return tuple(begin), tuple(end)
