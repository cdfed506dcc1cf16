"""Convolution and transposed convolution as sparse matrices."""

from __future__ import annotations

import math

import numpy as np

from verifier.core.sparse import sp
from verifier.io.lowering.exact_affine import csr_from_rows
from verifier.io.lowering.node import MAX_NONZEROS, Node
from verifier.io.lowering.tensor import Lowering, Tensor
from verifier.io.operators.arguments import Value, input_tensor
from verifier.io.operators.window import Window, per_axis, read_window


def convolution(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Conv: Y[n, m, o] = Σ_{c, k} W[m, c, k] X[n, group(m), c, o * stride + k * dilation - pad]."""
    x, weight, bias, groups = _arguments(node, inputs)
    batch, channels, *spatial = x.shape
    if weight.shape[1] * groups != channels or weight.shape[0] % groups:
        raise node.error(
            f"weight {weight.shape} in {groups} groups does not fit an input {x.shape}"
        )
    window = read_window(node, tuple(spatial), weight.shape[2:])
    matrix = _matrix(node, weight, groups, window, channels)
    shape = (batch, weight.shape[0], *window.output)
    return [_apply(build, node, x, matrix, bias, shape)]


def transposed_convolution(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """ConvTranspose: the transpose of the convolution that maps its output shape to its input's."""
    x, weight, bias, groups = _arguments(node, inputs)
    batch, channels, *spatial = x.shape
    if weight.shape[0] != channels or channels % groups:
        raise node.error(
            f"weight {weight.shape} in {groups} groups does not fit an input {x.shape}"
        )
    window = _transposed_window(node, tuple(spatial), weight.shape[2:])
    out_channels = weight.shape[1] * groups
    matrix = sp.csr_array(_matrix(node, weight, groups, window, out_channels).T)
    matrix.sort_indices()
    return [_apply(build, node, x, matrix, bias, (batch, out_channels, *window.spatial))]


def _arguments(
    node: Node, inputs: list[Value]
) -> tuple[Tensor, np.ndarray, np.ndarray | None, int]:
    """Input, weight, bias and number of groups."""
    x = input_tensor(node, inputs[0])
    weight = node.numbers(inputs[1], "weight")
    bias = node.numbers(inputs[2], "bias") if len(inputs) > 2 and inputs[2] is not None else None
    groups = int(node.attributes.get("group", 1))
    if len(x.shape) < 3 or weight.ndim != len(x.shape) or groups < 1:
        raise node.error(f"weight {weight.shape} does not fit an input of shape {x.shape}")
    kernel = node.attributes.get("kernel_shape")
    if kernel is not None and tuple(kernel) != weight.shape[2:]:
        raise node.error(f"kernel_shape {tuple(kernel)} differs from the weight {weight.shape}")
    return x, weight, bias, groups


def _matrix(
    node: Node, weight: np.ndarray, groups: int, window: Window, channels: int
) -> sp.csr_array:
    """The convolution of one image as a (m * outputs, channels * pixels) matrix."""
    m, per_group = weight.shape[0], channels // groups
    index = window.positions()
    outputs, taps = index.shape
    node.check_size((m, outputs, per_group, taps), MAX_NONZEROS)
    pixels = math.prod(window.spatial)
    kind = np.int32 if channels * pixels < 2**31 else np.int64
    first = (np.arange(m) // (m // groups)) * per_group
    channel = first[:, None] + np.arange(per_group)
    columns = np.where(
        index[None, :, None, :] < 0,
        kind(-1),
        (channel * pixels)[:, None, :, None].astype(kind) + index[None, :, None, :].astype(kind),
    ).reshape(m * outputs, per_group * taps)
    values = np.broadcast_to(
        weight.reshape(m, 1, per_group, taps), (m, outputs, per_group, taps)
    ).reshape(columns.shape)
    return csr_from_rows(columns, values, channels * pixels)


def _apply(
    build: Lowering,
    node: Node,
    x: Tensor,
    matrix: sp.csr_array,
    bias: np.ndarray | None,
    shape: tuple[int, ...],
) -> Tensor:
    """The matrix applied to every image of the batch, plus the bias of each channel."""
    batch, channels = shape[0], shape[1]
    node.check_size((batch, matrix.nnz), MAX_NONZEROS)
    if batch > 1:
        matrix = sp.csr_array(sp.block_diag([matrix] * batch, format="csr"))
    offset = np.zeros(channels) if bias is None else bias
    if offset.shape != (channels,):
        raise node.error(f"bias {offset.shape} does not fit {channels} channels")
    spread = np.repeat(np.tile(offset, batch), math.prod(shape[2:]))
    return build.linear(x, matrix, shape, spread)


def _transposed_window(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """The window of the convolution that a ConvTranspose with this input shape is adjoint to."""
    rank = len(spatial)
    strides, dilations = per_axis(node, "strides", rank), per_axis(node, "dilations", rank)
    extra = tuple(int(v) for v in node.attributes.get("output_padding", (0,) * rank))
    pads = tuple(int(v) for v in node.attributes.get("pads", (0,) * (2 * rank)))
    mode = node.attributes.get("auto_pad", "NOTSET")
    wanted = node.attributes.get("output_shape")
    if len(extra) != rank or len(pads) != 2 * rank:
        raise node.error(f"output_padding {extra} or pads {pads} do not fit {rank} spatial axes")
    full = [
        strides[d] * (spatial[d] - 1) + extra[d] + (kernel[d] - 1) * dilations[d] + 1
        for d in range(rank)
    ]
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(spatial, strides, strict=True)]
    if wanted is not None and len(wanted) not in (rank, rank + 2):
        raise node.error(f"output_shape {list(wanted)} does not fit {rank} spatial axes")
    if wanted is not None:
        begin, end = [], []
        for total in (n - int(w) for n, w in zip(full, list(wanted)[-rank:], strict=True)):
            half, rest = total // 2, total - total // 2
            begin.append(half if mode == "SAME_UPPER" else rest)
            end.append(rest if mode == "SAME_UPPER" else half)
    else:
        begin, end = list(pads[:rank]), list(pads[rank:])
    output = tuple(full[d] - begin[d] - end[d] for d in range(rank))
    if min(output, default=1) < 1:
        raise node.error(f"pads {(*begin, *end)} do not fit an output of {tuple(full)}")
    node.check_size((*spatial, *kernel), MAX_NONZEROS)
    node.check_size(output)
    return Window(output, tuple(kernel), strides, dilations, tuple(begin), tuple(end), spatial)
