"""Networks written as ONNX models."""

from __future__ import annotations

import os
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from verifier.core.decision import Decision
from verifier.core.errors import ExportError
from verifier.core.exact import fractions
from verifier.core.network import Layer, Network
from verifier.io.meaning import write_decision

OPSET = 13
IR_VERSION = 8
#: Protocol buffers hold less than 2 GiB; some room is left for names.
MAX_BYTES = (1 << 31) - (1 << 20)


def export_onnx(
    network: Network,
    path: str | os.PathLike[str],
    *,
    opset: int = OPSET,
    decision: Decision | None = None,
) -> str:
    """Write the network as an ONNX model with exactly its numbers.

    A layer is a Gemm; ReLU on all coordinates is a Relu, on some of them a Relu with a Where that
    chooses between z and max(z, 0). The file appears under its name only when it is complete.

    Args:
        network: what to write.
        path: the file to create or replace.
        opset: version of ONNX's operators, at least 9.
        decision: what the outputs mean, written beside the graph.

    Returns:
        "float32" if every number is exactly a float32, else "float64".

    Raises:
        ExportError: a number needs more bits than a float64 has, the model would exceed 2 GiB, or
            the file cannot be written.
    """
    if opset < 9:
        raise ExportError(f"opset must be at least 9, got {opset}")
    kind, layers = _numbers(network)
    size = sum(w.size + b.size for w, b, _ in layers) * np.dtype(kind).itemsize
    if size > MAX_BYTES:
        raise ExportError(
            f"{network.name}: written densely its weights take {size} bytes, an ONNX file holds "
            f"less than {MAX_BYTES}"
        )
    model = _model(network, layers, kind, opset)
    if decision is not None:
        write_decision(model, decision)
    _write(Path(path), model.SerializeToString())
    return kind


def _numbers(
    network: Network,
) -> tuple[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """The type that holds every number, and (weight, bias, relu mask) of each layer."""
    layers = []
    lost: list[tuple[int, Fraction]] = []
    for k, layer in enumerate(network.layers):
        if layer.n_in * layer.n_out * 4 > MAX_BYTES:
            raise ExportError(
                f"{network.name}: layer {k} is {layer.n_out} x {layer.n_in}; written densely it "
                "does not fit into an ONNX file of less than 2 GiB"
            )
        weight, bias, missing = _as_floats(layer)
        layers.append((weight, bias, layer.relu))
        lost += [(k, v) for v in missing]
    if lost:
        words = f"{len(lost)} numbers are" if len(lost) > 1 else "one number is"
        raise ExportError(
            f"{network.name}: {_bits_needed([v for _, v in lost])} ({words} no float64, the first "
            f"in layer {lost[0][0]})"
        )
    with np.errstate(over="ignore"):
        single = all(
            (array.astype(np.float32).astype(np.float64) == array).all()
            for weight, bias, _ in layers
            for array in (weight, bias)
        )
    return ("float32" if single else "float64"), layers


def _as_floats(layer: Layer) -> tuple[np.ndarray, np.ndarray, list[Fraction]]:
    """Weight and bias of a layer as float64, and the numbers that no float64 is."""
    if layer.is_float:
        return layer.dense, layer.bias, []
    arrays, lost = [], []
    for array in (layer.dense, layer.bias):
        exact = fractions(array.ravel())
        floats = [_nearest(v) for v in exact]
        lost += [v for v, f in zip(exact, floats, strict=True) if f is None or Fraction(f) != v]
        arrays.append(np.array(floats, dtype=np.float64).reshape(array.shape))
    return arrays[0], arrays[1], lost


def _nearest(value: Fraction) -> float | None:
    """The nearest float64, or None beyond their range."""
    try:
        return float(value)
    except OverflowError:
        return None


def _bits_needed(values: list[Fraction]) -> str:
    """Why these numbers are not float64."""
    for value in values:
        if value.denominator & (value.denominator - 1):
            return f"{_short(value)} is no finite binary fraction, so no float holds it"
    bits = max(_odd_part(abs(v.numerator)).bit_length() for v in values)
    if bits <= 53:
        return f"{_short(values[0])} is outside the range of float64"
    return f"a number needs {bits} bits, a float64 has 53"


def _short(value: Fraction) -> str:
    """The number, or its size if it is long."""
    text = str(value)
    return text if len(text) <= 40 else f"a number of {len(text)} digits"


def _odd_part(n: int) -> int:
    """n without its factors of two."""
    return n >> ((n & -n).bit_length() - 1) if n else 0


def _model(network: Network, layers: list[Any], kind: str, opset: int) -> Any:
    """The ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    element = TensorProto.FLOAT if kind == "float32" else TensorProto.DOUBLE
    nodes, tensors = [], []
    value = "input"
    if len(network.input_shape) > 1:
        nodes.append(helper.make_node("Flatten", [value], ["flat"], name="flatten", axis=1))
        value = "flat"
    for k, (weight, bias, relu) in enumerate(layers):
        last = k == len(layers) - 1
        for name, array in ((f"W{k}", weight), (f"b{k}", bias)):
            tensors.append(numpy_helper.from_array(array.astype(kind), name))
        z = f"z{k}" if relu.any() or not last else "output"
        gemm = helper.make_node("Gemm", [value, f"W{k}", f"b{k}"], [z], f"gemm{k}", transB=1)
        nodes.append(gemm)
        value = z
        if relu.any():
            a = "output" if last else f"a{k}"
            positive = a if relu.all() else f"r{k}"
            nodes.append(helper.make_node("Relu", [z], [positive], f"relu{k}"))
            if not relu.all():
                tensors.append(numpy_helper.from_array(relu[None], f"mask{k}"))
                mix = helper.make_node("Where", [f"mask{k}", positive, z], [a], f"where{k}")
                nodes.append(mix)
            value = a
    graph = helper.make_graph(
        nodes,
        network.name or "network",
        [helper.make_tensor_value_info("input", element, [1, *network.input_shape])],
        [helper.make_tensor_value_info("output", element, [1, network.n_outputs])],
        tensors,
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSION,
        producer_name="relucid",
    )


def _write(path: Path, data: bytes) -> None:
    """The bytes under the name, or nothing."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
    except OSError as problem:
        raise ExportError(f"{path}: cannot be written: {problem.strerror}") from problem
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
