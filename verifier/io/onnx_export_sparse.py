"""A sparse layer in ONNX: the entries that each neuron reads are gathered and summed.

ONNX runtimes multiply by dense matrices only. A layer with few nonzeros is written on values that
stand with the neurons first and the batch last, so that a gathered entry is a whole row of memory:

* for every number c of nonzeros that occurs: Gather the c entries of each such neuron, Reshape to
  (neurons, c, batch), ReduceSum over c;
* Concat of these parts, and a Gather that puts the neurons into their order;
* Mul by one factor a neuron if each has equal weights (as signs and steepnesses are), else by one
  factor a nonzero before the sums; Add of the biases.

A neuron that reads nothing reads entry 0 with the factor 0. The real function is that of the layer,
number by number; ``verifier.io.sparse_chain`` reads the layer back as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verifier.core.sparse import sp

#: Smaller matrices are always written densely.
LEAST_BYTES = 1 << 20
#: How many times larger than the sparse form the dense one must be.
ADVANTAGE = 8
#: Bytes of an entry beside its weight: its column.
INDEX_BYTES = 4


def sparse_bytes(weight: sp.csr_array, itemsize: int) -> int:
    """What a weight takes in this form, at most."""
    return int(weight.nnz) * (itemsize + INDEX_BYTES) + weight.shape[0] * (itemsize + INDEX_BYTES)


def prefers_sparse(weight: np.ndarray | sp.csr_array, itemsize: int) -> bool:
    """Whether a weight is written in this form: if dense it would be large, and much larger."""
    if isinstance(weight, np.ndarray):
        return False
    dense = int(weight.shape[0]) * int(weight.shape[1]) * itemsize
    return dense >= LEAST_BYTES and dense >= ADVANTAGE * sparse_bytes(weight, itemsize)


@dataclass(frozen=True)
class _Writer:
    """Nodes and constants of one layer.

    Args:
        k: the layer's number, part of all names.
        kind: "float32" or "float64".
        opset: version of ONNX's operators.
    """

    k: int
    kind: str
    opset: int
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def constant(self, name: str, array: np.ndarray) -> str:
        """A named constant; its name."""
        from onnx import numpy_helper

        full = f"{name}{self.k}"
        self.tensors.append(numpy_helper.from_array(array, full))
        return full

    def numbers(self, name: str, values: np.ndarray) -> str:
        """One factor or bias a row."""
        return self.constant(name, values[:, None].astype(self.kind))

    def node(self, operator: str, inputs: list[str], name: str, **options: Any) -> str:
        """A node with one result; the result's name."""
        from onnx import helper

        full = f"{name}{self.k}"
        self.nodes.append(helper.make_node(operator, inputs, [full], f"{full}_node", **options))
        return full


def sparse_layer(
    k: int, weight: sp.csr_array, bias: np.ndarray, value: str, kind: str, opset: int
) -> tuple[list[Any], list[Any], str]:
    """Nodes and constants that compute W a + b.

    Args:
        k: number of the layer, part of all names.
        weight: (n_out, n_in).
        bias: (n_out,).
        value: name of a, of shape (n_in, batch).
        kind: "float32" or "float64"; all numbers are exactly of this type.
        opset: version of ONNX's operators.

    Returns:
        (nodes, constants, name of the result, of shape (n_out, batch)).
    """
    writer = _Writer(k, kind, opset)
    indptr, columns, factors, scale = _entries(weight)
    counts = np.diff(indptr)
    parts, order = [], np.argsort(counts, kind="stable")
    for c in np.unique(counts):
        rows = np.flatnonzero(counts == c)
        places = (indptr[rows][:, None] + np.arange(c)).ravel()
        index = writer.constant(f"columns_{c}_", columns[places].astype(np.int32))
        part = writer.node("Gather", [value, index], f"entries_{c}_", axis=0)
        if factors is not None:
            factor = writer.numbers(f"weights_{c}_", factors[places])
            part = writer.node("Mul", [part, factor], f"products_{c}_")
        if c > 1:
            shape = writer.constant(f"shape_{c}_", np.array([len(rows), c, -1]))
            part = writer.node("Reshape", [part, shape], f"rows_{c}_")
            part = _sum(writer, part, f"sums_{c}_")
        parts.append(part)
    total = parts[0] if len(parts) == 1 else writer.node("Concat", parts, "sorted", axis=0)
    if (np.diff(order) < 0).any():
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order))
        total = writer.node("Gather", [total, writer.constant("order", place)], "ordered", axis=0)
    if scale is not None:
        total = writer.node("Mul", [total, writer.numbers("scale", scale)], "scaled")
    result = writer.node("Add", [total, writer.numbers("b", bias)], "z")
    return writer.nodes, writer.tensors, result


def _sum(writer: _Writer, part: str, name: str) -> str:
    """The sum over axis 1."""
    if writer.opset < 13:
        return writer.node("ReduceSum", [part], name, axes=[1], keepdims=0)
    if not any(tensor.name == f"axis{writer.k}" for tensor in writer.tensors):
        writer.constant("axis", np.array([1]))
    return writer.node("ReduceSum", [part, f"axis{writer.k}"], name, keepdims=0)


def _entries(
    weight: sp.csr_array,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """(indptr, columns, a factor an entry or None, a factor a row or None), empty rows filled."""
    counts = np.diff(weight.indptr)
    indptr = np.concatenate([[0], np.cumsum(np.maximum(counts, 1))])
    columns = np.zeros(indptr[-1], dtype=np.int64)
    factors = np.zeros(indptr[-1])
    rows = np.repeat(np.arange(len(counts)), counts)
    place = indptr[rows] + np.arange(weight.nnz) - weight.indptr[rows]
    columns[place], factors[place] = weight.indices, weight.data
    scale = factors[indptr[:-1]]
    if not np.array_equal(factors, np.repeat(scale, np.diff(indptr))):
        return indptr, columns, factors, None
    return indptr, columns, None, None if (scale == 1.0).all() else scale


def sparse_initializer(name: str, weight: sp.csr_array, kind: str) -> Any:
    """A weight with at least one nonzero as an ONNX tensor of its nonzeros.

    Args:
        name: of the tensor.
        weight: (n_out, n_in).
        kind: "float32" or "float64"; all numbers are exactly of this type.
    """
    from onnx import SparseTensorProto, numpy_helper

    if not weight.has_sorted_indices:
        weight = weight.sorted_indices()
    rows = np.repeat(np.arange(weight.shape[0], dtype=np.int64), np.diff(weight.indptr))
    places = rows * weight.shape[1] + weight.indices
    return SparseTensorProto(
        values=numpy_helper.from_array(weight.data.astype(kind), name),
        indices=numpy_helper.from_array(places, f"{name}_places"),
        dims=weight.shape,
    )
