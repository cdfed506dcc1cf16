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
from verifier.core.sparse import is_sparse, sp
from verifier.io.meaning import write_decision
from verifier.io.onnx_export_sparse import (
    ADVANTAGE,
    prefers_sparse,
    sparse_bytes,
    sparse_initializer,
    sparse_layer,
)

OPSET = 13
IR_VERSION = 8
#: Protocol buffers hold less than 2 GiB; some room is left for names.
MAX_BYTES = (1 << 31) - (1 << 20)
#: Bytes of all dense weights from which on they are stored by their nonzeros if these are few.
_LARGE = 1 << 22


def export_onnx(
    network: Network,
    path: str | os.PathLike[str],
    *,
    opset: int = OPSET,
    decision: Decision | None = None,
) -> str:
    """Write the network as an ONNX model with exactly its numbers.

    A layer is a Gemm, or, where that would be large and much larger than its nonzeros, a sum of
    gathered entries (``verifier.io.onnx_export_sparse``); then the model takes batches. Where all
    layers together would be large and much larger than their nonzeros, as in networks of thousands
    of layers, the Gemms' weights are sparse initializers, which runtimes expand. ReLU on all
    coordinates is a Relu, on some of them a Relu with a Where that chooses between z and max(z, 0).
    The file appears under its name only when it is complete.

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
    item = np.dtype(kind).itemsize
    size = sum(_bytes(weight, item) + bias.size * item for weight, bias, _ in layers)
    if size > MAX_BYTES:
        raise ExportError(
            f"{network.name}: its weights take {size} bytes, an ONNX file holds less than "
            f"{MAX_BYTES}"
        )
    model = _model(network, layers, kind, opset)
    if decision is not None:
        write_decision(model, decision)
    _write(Path(path), model.SerializeToString())
    return kind


def _bytes(weight: np.ndarray | sp.csr_array, item: int) -> int:
    """What a weight takes in the file."""
    if not isinstance(weight, np.ndarray) and prefers_sparse(weight, item):
        return sparse_bytes(weight, item)
    return int(weight.shape[0]) * int(weight.shape[1]) * item


def _prefers_initializers(layers: list[Any], kind: str) -> bool:
    """Whether sparse weights of Gemms are stored as such: if all dense ones would be large."""
    item = np.dtype(kind).itemsize
    gemms = [w for w, _, _ in layers if not prefers_sparse(w, item)]
    dense = sum(w.shape[0] * w.shape[1] * item for w in gemms)
    stored = sum(
        w.size * item if isinstance(w, np.ndarray) else sparse_bytes(w, item) for w in gemms
    )
    return dense >= _LARGE and dense >= ADVANTAGE * stored


def _numbers(network: Network) -> tuple[str, list[tuple[Any, np.ndarray, np.ndarray]]]:
    """The type that holds every number, and (weight, bias, relu mask) of each layer."""
    layers = []
    for k, layer in enumerate(network.layers):
        layers.append((*_as_floats(layer, k, network.name), layer.relu))
    with np.errstate(over="ignore"):
        single = all(
            (array.astype(np.float32).astype(np.float64) == array).all()
            for weight, bias, _ in layers
            for array in (weight.data if is_sparse(weight) else weight, bias)
        )
    return ("float32" if single else "float64"), layers


def _as_floats(layer: Layer, k: int, name: str) -> tuple[Any, np.ndarray]:
    """Weight and bias of a layer as float64, exactly; sparse ones stay sparse."""
    if layer.is_float:
        return layer.weight, layer.bias
    arrays = []
    for array in (layer.dense, layer.bias):
        exact = fractions(array.ravel())
        floats = [_nearest(v) for v in exact]
        lost = [v for v, f in zip(exact, floats, strict=True) if f is None or Fraction(f) != v]
        if lost:
            raise ExportError(f"{name}: layer {k}: {_bits_needed(lost)}")
        arrays.append(np.array(floats, dtype=np.float64).reshape(array.shape))
    return arrays[0], arrays[1]


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
    from onnx import TensorProto, helper

    element = TensorProto.FLOAT if kind == "float32" else TensorProto.DOUBLE
    graph = _Graph(kind, opset, "output", len(layers), _prefers_initializers(layers, kind))
    if len(network.input_shape) > 1:
        graph.value = graph.node("Flatten", [graph.value], "flat", axis=1)
    for weight, bias, relu in layers:
        graph.layer(weight, bias, relu)
    graph.turn(False)
    # Without a sparse layer the batch size is 1, as other tools expect it.
    batch = "batch" if graph.sparse else 1
    made = helper.make_graph(
        graph.nodes,
        network.name or "network",
        [helper.make_tensor_value_info("input", element, [batch, *network.input_shape])],
        [helper.make_tensor_value_info("output", element, [batch, network.n_outputs])],
        graph.tensors,
        sparse_initializer=graph.expanded,
    )
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSION,
        producer_name="relucid",
    )


class _Graph:
    """A graph that grows layer by layer.

    Args:
        kind: "float32" or "float64".
        opset: version of ONNX's operators.
        output: name of the result of the last layer.
        depth: number of layers.
        initializers: whether a Gemm's weight may be a sparse initializer.
    """

    def __init__(self, kind: str, opset: int, output: str, depth: int, initializers: bool) -> None:
        self.kind, self.opset, self.output, self.depth = kind, opset, output, depth
        self.initializers = initializers
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.expanded: list[Any] = []
        self.value = "input"
        self.k = 0
        #: Whether values stand with the neurons first and the batch last, for sparse layers.
        self.turned = self.sparse = False

    def node(self, operator: str, inputs: list[str], result: str, **options: Any) -> str:
        """A node with one result; the result's name."""
        from onnx import helper

        name = f"{operator.lower()}{self.k}"
        self.nodes.append(helper.make_node(operator, inputs, [result], name, **options))
        return result

    def constant(self, name: str, array: np.ndarray) -> str:
        """A named constant; its name."""
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, weight: np.ndarray | sp.csr_array) -> str:
        """A named matrix, stored by its nonzeros where that is wanted; its name."""
        if isinstance(weight, np.ndarray):
            return self.constant(name, weight.astype(self.kind))
        if not self.initializers or not weight.nnz:
            return self.constant(name, weight.toarray().astype(self.kind))
        self.expanded.append(sparse_initializer(name, weight, self.kind))
        return name

    def turn(self, turned: bool) -> None:
        """Neurons first, or the batch first; the last result gets the output's name."""
        done = self.k == self.depth
        if self.turned != turned:
            result = self.output if done else f"turned{self.k}"
            self.value = self.node("Transpose", [self.value], result, perm=[1, 0])
            self.turned = turned

    def layer(self, weight: np.ndarray | sp.csr_array, bias: np.ndarray, relu: np.ndarray) -> None:
        """z = W a + b, then the ReLUs."""
        k = self.k
        sparse = prefers_sparse(weight, np.dtype(self.kind).itemsize)
        self.turn(sparse)
        last = "output" if k == self.depth - 1 and not sparse else ""
        if not isinstance(weight, np.ndarray) and sparse:
            self.sparse = True
            nodes, tensors, z = sparse_layer(k, weight, bias, self.value, self.kind, self.opset)
            self.nodes += nodes
            self.tensors += tensors
        else:
            names = [
                self.weight(f"W{k}", weight),
                self.constant(f"b{k}", bias.astype(self.kind)),
            ]
            z = last if last and not relu.any() else f"z{k}"
            z = self.node("Gemm", [self.value, *names], z, transB=1)
        self.value = z
        if relu.any():
            positive = (last or f"a{k}") if relu.all() else f"r{k}"
            self.value = self.node("Relu", [z], positive)
            if not relu.all():
                mask = self.constant(f"mask{k}", relu[:, None] if sparse else relu[None])
                self.value = self.node("Where", [mask, positive, z], last or f"a{k}")
        self.k += 1


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
