"""Trained modules read back from their ONNX files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import nn

from torchbridge.graph import trace
from torchbridge.training.architectures import Shape, build
from verifier.core.errors import ModelError
from verifier.io.model_file import read_model

#: Tensors of a layer in the order in which ``to_onnx`` writes them; those that are there.
_PARTS = ("weight", "bias", "running_mean", "running_var")


def read_module(
    path: str | os.PathLike[str], architecture: str, shape: Shape, classes: int
) -> nn.Sequential:
    """The module of an architecture whose weights a file of ``torchbridge.convert.to_onnx`` holds.

    Written again it gives the same nodes and the same numbers bit for bit, which is checked.

    Args:
        path: the file.
        architecture: one of ``architectures.ARCHITECTURES``.
        shape: of one input.
        classes: number of outputs.

    Returns:
        The module in evaluation mode.

    Raises:
        DataError: there is no such architecture, or it cannot take such inputs.
        ModelError: the file cannot be read, or is not of this architecture.
    """
    module = build(architecture, shape, classes, 0).eval()
    graph = read_model(path).proto.graph
    tensors: dict[str, list[Any]] = {}
    for tensor in graph.initializer:
        tensors.setdefault(tensor.name.rpartition(".")[0], []).append(tensor)
    layers = (nn.Linear, nn.Conv2d, nn.BatchNorm2d)
    for place, part in module.named_modules():
        if isinstance(part, layers):
            _fill(part, tensors.get(place, []), f"{path}: {architecture}: layer {place}")
    written = trace(module, shape if len(shape) != 2 else (1, *shape)).proto.graph
    for field in ("node", "initializer"):
        if list(getattr(written, field)) != list(getattr(graph, field)):
            raise ModelError(f"{path}: is no {architecture} for inputs {shape} written by relucid")
    return module


def _fill(part: nn.Module, tensors: list[Any], where: str) -> None:
    """Numbers of a layer.

    Raises:
        ModelError: others than the layer has.
    """
    own = [value for name in _PARTS if (value := getattr(part, name, None)) is not None]
    found = [_numbers(tensor) for tensor in tensors]
    if [tuple(v.shape) for v in own] != [v.shape for v in found]:
        raise ModelError(
            f"{where}: expected numbers of shapes {[tuple(v.shape) for v in own]}, got "
            f"{[v.shape for v in found]}"
        )
    with torch.no_grad():
        for value, array in zip(own, found, strict=True):
            value.copy_(torch.from_numpy(array.copy()))


def _numbers(tensor: Any) -> np.ndarray:
    """The array of an ONNX tensor."""
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor))
