"""ONNX's messages without the rest of its package, and attributes and tensors out of them.

Importing ``onnx`` also loads its checker, its operators' schemas and its shape inference, which
takes longer than reading most models; a chain of sums and ReLUs needs only the messages.
"""

from __future__ import annotations

import functools
import importlib
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

_NAME = "onnx.onnx_ml_pb2"
#: NumPy's types of the numbers that ONNX counts as 1, 6, 7, 9, 11; raw data is little-endian.
_RAW = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 11: "<f8"}
FLOAT, INT64, DOUBLE = 1, 7, 11


@functools.cache
def messages() -> Any:
    """The module of ONNX's messages (``ModelProto`` and so on).

    It stands under its own name, so that ``import onnx`` later on finds this one and its classes
    are the same.
    """
    package = None if "onnx" in sys.modules else find_spec("onnx")
    source = None if package is None or package.origin is None else Path(package.origin)
    if source is None or not source.with_name("onnx_ml_pb2.py").is_file():
        return importlib.import_module(_NAME)
    spec = spec_from_file_location(_NAME, source.with_name("onnx_ml_pb2.py"))
    if spec is None or spec.loader is None:
        return importlib.import_module(_NAME)
    module = module_from_spec(spec)
    sys.modules[_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_NAME]
        raise
    return module


def attribute(given: Any) -> Any:
    """The value of an ONNX attribute: a number, bytes, a list of numbers, or what ONNX makes."""
    kind = given.type
    if kind == 1:
        return given.f
    if kind == 2:
        return given.i
    if kind == 3:
        return given.s
    if kind == 6:
        return list(given.floats)
    if kind == 7:
        return list(given.ints)
    from onnx import helper

    return helper.get_attribute_value(given)


def attributes(node: Any) -> dict[str, Any]:
    """All attributes of an ONNX node by name."""
    return {given.name: attribute(given) for given in node.attribute}


def raw_array(tensor: Any) -> np.ndarray | None:
    """The array of a tensor that is stored as raw bytes of a common type, read-only; else None.

    None is also the answer where bytes and dimensions do not fit.
    """
    name = _RAW.get(tensor.data_type)
    if name is None or not tensor.HasField("raw_data"):
        return None
    data, shape = tensor.raw_data, tuple(tensor.dims)
    kind = np.dtype(name)
    if min(shape, default=0) < 0 or len(data) != kind.itemsize * int(np.prod(shape, dtype=object)):
        return None
    return np.frombuffer(data, dtype=kind).reshape(shape)
