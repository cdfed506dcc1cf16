"""Running-maximum networks as one ONNX Scan over their samples, written and read literally."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from verifier.core.decision import Decision
from verifier.core.errors import ExportError, ModelError, NetworkError
from verifier.core.files import write_atomic
from verifier.core.scan import ScanNetwork
from verifier.io.lowering.graph import decode
from verifier.io.meaning import write_decision
from verifier.io.model_file import read_model
from verifier.io.onnx_export import IR_VERSION, MAX_BYTES, OPSET

_TENSORS = ("above", "below", "labels", "shift", "slope", "which")


def export_scan(
    network: ScanNetwork, path: str | os.PathLike[str], *, decision: Decision | None = None
) -> str:
    """Write the network as an ONNX model; its size is that of the N d indices.

    One input of shape (batch, *input_shape), one output of shape (batch, 1).

    Args:
        network: what to write.
        path: the file to create or replace; it appears when it is complete.
        decision: what the output means, for the file's metadata.

    Returns:
        "float32" if every number is exactly a float32, else "float64".

    Raises:
        ExportError: the indices take 2 GiB or more, or the file cannot be written.
    """
    if network.which.nbytes > MAX_BYTES:
        raise ExportError(
            f"{network.name}: the samples' {network.which.size} indices take "
            f"{network.which.nbytes} bytes, an ONNX file holds less than {MAX_BYTES}"
        )
    kind = _kind(network)
    model = _model(network, kind)
    if decision is not None:
        write_decision(model, decision)
    try:
        write_atomic(Path(path), model.SerializeToString())
    except OSError as problem:
        raise ExportError(f"{path}: cannot be written: {problem.strerror}") from problem
    return kind


def read_scan(path: str | os.PathLike[str]) -> ScanNetwork:
    """The network in a file that ``export_scan`` wrote.

    The numbers are taken from the file, the graph is built again from them, and every node of the
    file must be the node that belongs there.

    Raises:
        ModelError: no ONNX model, or one of another form.
    """
    return scan_network(read_model(path).checked().proto, str(path))


def scan_network(model: Any, path: str) -> ScanNetwork:
    """The same for a model that has been read.

    Raises:
        ModelError: a model of another form.
    """
    found = {t.name: decode(t) for t in model.graph.initializer if t.name != "axis"}
    if sorted(found) != sorted(_TENSORS):
        raise ModelError(
            f"{path}: expected the constants {', '.join(_TENSORS)} of a running-maximum network, "
            f"got {', '.join(sorted(found)[:8]) or 'none'}"
        )
    dims = model.graph.input[0].type.tensor_type.shape.dim if model.graph.input else ()
    try:
        network = ScanNetwork(
            found["which"],
            found["above"].astype(np.float64),
            found["below"].astype(np.float64),
            found["labels"].astype(np.float64).ravel(),
            float(found["shift"]),
            float(found["slope"]),
            tuple(int(dim.dim_value) for dim in dims[1:]),
            model.graph.name,
        )
        again = _model(network, _kind(network))
    except (NetworkError, TypeError, ValueError) as problem:
        raise ModelError(f"{path}: no running-maximum network: {problem}") from problem
    if model.graph != again.graph:
        raise ModelError(f"{path}: the graph is not that of a running-maximum network")
    return network


def is_scan(model: Any) -> bool:
    """Whether an ONNX model has the constants of a running-maximum Scan."""
    return {t.name for t in model.graph.initializer} == {*_TENSORS, "axis"}


def _kind(network: ScanNetwork) -> str:
    """The type that holds every number."""
    numbers = np.concatenate(
        [network.above, network.below, network.labels, [network.shift, network.slope]]
    )
    with np.errstate(over="ignore"):
        return "float32" if (numbers.astype(np.float32) == numbers).all() else "float64"


def _model(network: ScanNetwork, kind: str) -> Any:
    """The ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    element = TensorProto.FLOAT if kind == "float32" else TensorProto.DOUBLE
    node = helper.make_node
    d = network.n_inputs
    arrays = {
        "above": network.above.astype(kind),
        "below": network.below.astype(kind),
        "labels": network.labels.astype(kind)[:, None],
        "shift": np.array(network.shift, dtype=kind),
        "slope": np.array(network.slope, dtype=kind),
        "which": network.which,
        "axis": np.array([1], dtype=np.int64),
    }
    names = ["p", "v", "r"]
    nodes = [
        node("Flatten", ["input"], ["flat"], "flatten", axis=1),
        node("Add", ["flat", "shift"], ["p_first"], "moved"),
        # Zeros of shape (batch, 1), whatever the batch.
        node("ReduceSum", ["flat", "axis"], ["sum"], "sum"),
        node("Sub", ["sum", "sum"], ["zero"], "zero"),
        node(
            "Scan",
            ["p_first", "zero", "zero", "which", "labels"],
            [f"{name}_last" for name in names],
            "samples",
            body=_body(element, d, arrays["which"]),
            num_scan_inputs=2,
        ),
        node("Add", ["v_last", "r_last"], ["output"], "label"),
    ]
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info("input", element, ["batch", *network.input_shape])],
        [helper.make_tensor_value_info("output", element, ["batch", 1])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="relucid",
    )


def _body(element: int, d: int, which: np.ndarray) -> Any:
    """One block, the layers A_i and B_i of ``verifier.core.scan``."""
    from onnx import TensorProto, helper

    node = helper.make_node
    nodes = [
        node("Relu", ["p"], ["p_a"], "A_p"),
        node("Cast", ["k"], ["index"], "A_index", to=TensorProto.INT32),
        node("Gather", ["above", "index"], ["high"], "A_high", axis=0),
        node("Gather", ["below", "index"], ["low"], "A_low", axis=0),
        node("Sub", ["p", "high"], ["z_above"], "A_z_above"),
        node("Relu", ["z_above"], ["u_above"], "A_u_above"),
        node("Sub", ["low", "p"], ["z_below"], "A_z_below"),
        node("Relu", ["z_below"], ["u_below"], "A_u_below"),
        node("Add", ["v", "r"], ["z_v"], "A_z_v"),
        node("Relu", ["z_v"], ["v_a"], "A_v"),
        node("Relu", ["p_a"], ["p_next"], "B_p"),
        node("Relu", ["v_a"], ["v_next"], "B_v"),
        node("Add", ["u_above", "u_below"], ["u"], "B_u"),
        node("ReduceSum", ["u", "axis"], ["s"], "B_s"),
        node("Mul", ["s", "slope"], ["cost"], "B_cost"),
        node("Sub", ["y", "v_a"], ["missing"], "B_missing"),
        node("Sub", ["missing", "cost"], ["z_r"], "B_z_r"),
        node("Relu", ["z_r"], ["r_next"], "B_r"),
    ]
    info = helper.make_tensor_value_info
    numbers = helper.np_dtype_to_tensor_dtype(which.dtype)
    states = [("p", d), ("v", 1), ("r", 1)]
    return helper.make_graph(
        nodes,
        "block",
        [info(name, element, ["batch", size]) for name, size in states]
        + [info("k", numbers, [d]), info("y", element, [1])],
        [info(f"{name}_next", element, ["batch", size]) for name, size in states],
    )
