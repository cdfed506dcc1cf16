"""Operators that only move entries.

One mechanism for all: the operator is applied, by ONNX's reference implementation, to the array of
positions 0, 1, 2, ... of its data; what comes out says which entry stands where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from verifier.io.lowering.node import Node, read_node
from verifier.io.lowering.reference import evaluate
from verifier.io.lowering.tensor import Lowering, Tensor
from verifier.io.operators.arguments import Value, as_tensor, input_tensor


def move(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """An operator whose data is its first input; the others are constants."""
    return _moved(build, node, inputs, {0})


def concat(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Concat: every input is data."""
    return _moved(build, node, inputs, set(range(len(inputs))))


def where(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Where with a constant condition."""
    return _moved(build, node, inputs, {1, 2})


def _moved(build: Lowering, node: Node, inputs: list[Value], data: set[int]) -> list[Tensor]:
    """The node applied to positions in the inputs ``data``; the other inputs are constants."""
    parts: list[Tensor] = []
    feeds: list[np.ndarray | None] = []
    offset = 0
    for slot, value in enumerate(inputs):
        if slot in data:
            tensor = as_tensor(build, node, value)
            feeds.append(tensor.positions() + offset)
            parts.append(tensor)
            offset += tensor.size
        else:
            feeds.append(None if value is None else node.constant(value, f"input {slot}"))
    outputs = evaluate(node, feeds)
    return [build.select(parts, positions.astype(np.int64)) for positions in outputs]


def identity(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Identity, and Dropout at inference."""
    training = inputs[2] if len(inputs) > 2 else None
    if training is not None and node.constant(training, "training_mode").any():
        raise node.unsupported("in training mode it is random; export in eval mode")
    return [input_tensor(node, inputs[0])]


def cast(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Cast or CastLike to a float type: the exact value stays; a runtime may round it."""
    from onnx import TensorProto

    x = input_tensor(node, inputs[0])
    if node.operator == "CastLike":
        target = node.constant(inputs[1], "target type").dtype
        if target not in (np.float32, np.float64):
            raise node.unsupported(f"a conversion to {target} is not linear")
        return [build.rounded(x)]
    to = node.attributes.get("to", TensorProto.FLOAT)
    names = {"FLOAT": TensorProto.FLOAT, "DOUBLE": TensorProto.DOUBLE}
    if names.get(str(to), to) not in names.values():
        kind = TensorProto.DataType.Name(to) if isinstance(to, int) else to
        raise node.unsupported(f"a conversion to {kind} is not linear")
    return [build.rounded(x)]


def pad(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Pad in modes constant, reflect, edge, wrap; negative pads cut entries away."""
    x = input_tensor(node, inputs[0])
    rank = len(x.shape)
    width, number = pad_widths(node, inputs, rank)
    fill = build.constant(np.array(number))
    node.check_size([n + max(b, 0) + max(e, 0) for n, (b, e) in zip(x.shape, width, strict=True)])
    cut = tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in zip(x.shape, width, strict=True))
    grow = [(max(b, 0), max(e, 0)) for b, e in width]
    mode = node.attributes.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise node.error(f"mode {mode!r} is unknown")
    options = {"constant_values": x.size} if mode == "constant" else {}
    try:
        positions = np.pad(x.positions()[cut], grow, mode=mode, **options)
    except ValueError as problem:
        raise node.error(f"pads {width} do not fit shape {x.shape}: {problem}") from problem
    return [build.select([x, fill], positions)]


def pad_widths(node: Node, inputs: Sequence[Any], rank: int) -> tuple[list[tuple[int, int]], float]:
    """What a Pad adds before and after each axis (negative: cuts away), and the number it adds.

    Raises:
        ModelError: amounts that do not fit.
    """
    attributes = node.attributes
    fill = node.number("value", 0.0)
    axes = list(range(rank))
    if node.opset < 11:
        amounts = [int(v) for v in attributes.get("pads", attributes.get("paddings", ()))]
    else:
        amounts = node.integers(inputs[1], "pads")
        if len(inputs) > 2 and inputs[2] is not None:
            value = node.numbers(inputs[2], "constant_value")
            if value.size != 1:
                raise node.error(f"constant_value has shape {value.shape}, expected one number")
            fill = float(value.ravel()[0])
        if len(inputs) > 3 and inputs[3] is not None:
            axes = [a + rank if a < 0 else a for a in node.integers(inputs[3], "axes")]
    if len(amounts) != 2 * len(axes) or any(not 0 <= a < rank for a in axes):
        raise node.error(f"pads {amounts} do not fit axes {axes} of {rank} dimensions")
    width = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        width[axis] = (amounts[k], amounts[k + len(axes)])
    return width, fill


def resize(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Resize and Upsample in mode nearest; the positions are found axis by axis."""
    x = input_tensor(node, inputs[0])
    rank = len(x.shape)
    attributes = node.attributes
    if attributes.get("mode", "nearest") != "nearest":
        raise node.unsupported("only mode nearest moves entries without mixing them")
    if attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise node.unsupported("coordinate_transformation_mode tf_crop_and_resize")
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unsupported("only keep_aspect_ratio_policy stretch")
    scales, sizes = _resize_arguments(node, inputs, rank)
    axes = [int(a) + rank if a < 0 else int(a) for a in attributes.get("axes", range(rank))]
    given = scales if scales is not None else sizes
    if given is None or len(given) != len(axes) or any(not 0 <= a < rank for a in axes):
        raise node.error(f"scales or sizes do not fit axes {axes} of shape {x.shape}")
    grown = [
        math.floor(x.shape[a] * g) if scales is not None else int(g)
        for a, g in zip(axes, given, strict=True)
    ]
    node.check_size(grown)
    if min(grown, default=1) < 1:
        raise node.error(f"an output would be empty: {grown}")
    positions = x.positions()
    for axis, value in zip(axes, given, strict=True):
        index = _nearest(node, x.shape[axis], value, scales is not None)
        positions = np.take(positions, index, axis=axis)
    return [build.select([x], positions)]


def _resize_arguments(
    node: Node, inputs: list[Value], rank: int
) -> tuple[list[float] | None, list[int] | None]:
    """(scales, sizes), one of them None."""
    if len(inputs) > 3 and inputs[3] is not None:
        return None, node.integers(inputs[3], "sizes")
    scales = _scales(node, inputs, rank)
    if not all(np.isfinite(s) and s > 0 for s in scales):
        raise node.error(f"scales {scales} are not all positive numbers")
    return scales, None


def _scales(node: Node, inputs: list[Value], rank: int) -> list[float]:
    """The scale of each axis."""
    if node.operator == "Upsample":
        if node.opset >= 9:
            return [float(v) for v in node.numbers(inputs[1], "scales").ravel()]
        if "scales" in node.attributes:
            return [float(v) for v in node.attributes["scales"]]
        width, height = (float(node.attributes.get(f"{n}_scale", 1.0)) for n in ("width", "height"))
        return [*([1.0] * (rank - 2)), height, width]
    if node.opset < 11:
        scales = [float(v) for v in node.numbers(inputs[1], "scales").ravel()]
        if min(scales, default=1.0) < 1.0:
            raise node.unsupported("Resize of opset 10 does not say which entry it keeps")
        return scales
    scales_input = inputs[2] if len(inputs) > 2 else None
    return [float(v) for v in node.numbers(scales_input, "scales").ravel()]


def _nearest(node: Node, length: int, value: float, is_scale: bool) -> np.ndarray:
    """Which of ``length`` positions each output reads along one axis."""
    from onnx import helper

    if (is_scale and value == 1.0) or (not is_scale and value == length):
        return np.arange(length)
    modes = ("coordinate_transformation_mode", "nearest_mode")
    options = {n: node.attributes[n] for n in modes if n in node.attributes}
    if node.opset < 11 or node.operator == "Upsample":
        options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    names = ["x", "", "scales"] if is_scale else ["x", "", "", "sizes"]
    proto = helper.make_node("Resize", names, ["y"], name=node.name, mode="nearest", **options)
    target = np.array([value], dtype=np.float32) if is_scale else np.array([int(value)])
    feeds = [np.arange(float(length)), *([None] * (len(names) - 2)), target]
    (found,) = evaluate(read_node(proto, max(node.opset, 13)), feeds)
    return np.round(found).astype(np.int64)
