"""Sparse weights of an ONNX chain read as they stand: the inverse of ``onnx_export_sparse``."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from verifier.core.errors import ModelError
from verifier.core.sparse import sp
from verifier.io.protobuf import INT64, attributes, raw_array


class Walk(Protocol):
    """A position in the nodes of a graph."""

    path: str

    def next_is(self, operator: str, value: str) -> bool:
        """Whether the next node is of this kind and reads this value first."""

    def take(self) -> Any:
        """The next node; the position moves on."""

    def unexpected(self, expected: str) -> ModelError:
        """What to raise at the next node."""

    def array(self, name: str) -> np.ndarray:
        """A constant."""


def read_sparse_layer(walk: Walk, value: str, n_in: int) -> tuple[sp.csr_array, np.ndarray, str]:
    """The gathered and summed entries that begin at the next node.

    Args:
        walk: stands at the first Gather.
        value: name of the activations, of shape (n_in, batch).
        n_in: their number.

    Returns:
        (weight, bias, name of z).

    Raises:
        ModelError: nodes of another form.
    """
    parts, names = [], []
    while walk.next_is("Gather", value):
        part, name = _part(walk, value, n_in)
        parts.append(part)
        names.append(name)
    if not parts:
        raise walk.unexpected("a Gather of a sparse layer")
    weight, name = sp.csr_array(sp.vstack(parts, format="csr")), names[0]
    if len(names) > 1:
        node = walk.take() if walk.next_is("Concat", name) else None
        if node is None or list(node.input) != names or _options(node) != {"axis": 0}:
            raise ModelError(f"{walk.path}: the parts of a sparse layer are not concatenated")
        name = node.output[0]
    if walk.next_is("Gather", name):
        node = walk.take()
        order = _index(walk, node, weight.shape[0])
        weight, name = sp.csr_array(weight[order]), node.output[0]
    if walk.next_is("Mul", name):
        node = walk.take()
        weight = _scaled(walk, weight, walk.array(node.input[1]))
        name = node.output[0]
    if not walk.next_is("Add", name):
        raise walk.unexpected("the Add of a sparse layer")
    node = walk.take()
    bias = walk.array(node.input[1])
    if bias.shape != (weight.shape[0], 1):
        raise ModelError(f"{walk.path}: node {node.name!r}: expected one bias a neuron")
    return weight, bias[:, 0], node.output[0]


def _part(walk: Walk, value: str, n_in: int) -> tuple[sp.csr_array, str]:
    """Neurons with equally many nonzeros."""
    node = walk.take()
    columns = _index(walk, node, n_in)
    name, count = node.output[0], 1
    factors = np.ones(len(columns))
    if walk.next_is("Mul", name):
        node = walk.take()
        given = walk.array(node.input[1])
        if given.shape != (len(columns), 1):
            raise ModelError(f"{walk.path}: node {node.name!r}: expected one factor an entry")
        factors, name = given[:, 0].astype(np.float64), node.output[0]
    if walk.next_is("Reshape", name):
        node = walk.take()
        shape = walk.array(node.input[1]).ravel().tolist()
        if (
            len(shape) != 3
            or shape[2] != -1
            or min(shape[:2]) < 1
            or math.prod(shape[:2]) != len(columns)
        ):
            raise ModelError(
                f"{walk.path}: node {node.name!r}: shape {shape} does not hold {len(columns)} rows"
            )
        count, name = shape[1], node.output[0]
        if not walk.next_is("ReduceSum", name):
            raise walk.unexpected("a ReduceSum")
        node = walk.take()
        options = _options(node)
        axes = options.pop("axes", None)
        if len(node.input) > 1:
            axes = walk.array(node.input[1]).ravel().tolist()
        if axes != [1] or options != {"keepdims": 0}:
            raise ModelError(f"{walk.path}: node {node.name!r}: expected a sum over axis 1")
        name = node.output[0]
    indptr = np.arange(0, len(columns) + 1, count)  # count divides, as Reshape was checked
    return sp.csr_array((factors, columns, indptr), shape=(len(indptr) - 1, n_in)), name


def _index(walk: Walk, node: Any, size: int) -> np.ndarray:
    """What a Gather along axis 0 reads."""
    index = walk.array(node.input[1])
    if _options(node) != {"axis": 0} or index.ndim != 1 or not len(index):
        raise ModelError(f"{walk.path}: node {node.name!r}: expected rows gathered along axis 0")
    if index.min() < 0 or index.max() >= size:
        raise ModelError(f"{walk.path}: node {node.name!r}: reads beyond {size} entries")
    return index.astype(np.int64)


def _scaled(walk: Walk, weight: sp.csr_array, scale: np.ndarray) -> sp.csr_array:
    """Rows of ones, each times a factor."""
    if scale.shape != (weight.shape[0], 1) or (weight.data != 1.0).any():
        raise ModelError(f"{walk.path}: a sparse layer has factors of another form")
    data = np.repeat(scale[:, 0].astype(np.float64), np.diff(weight.indptr))
    return sp.csr_array((data, weight.indices, weight.indptr), shape=weight.shape)


def read_sparse_initializer(tensor: Any, kind: int, path: str) -> sp.csr_array:
    """A matrix that is stored by its nonzeros, in time and memory of these.

    Args:
        tensor: an ONNX SparseTensorProto.
        kind: the type that its numbers must have, as ONNX counts it.
        path: for messages.

    Raises:
        ModelError: a tensor of another form.
    """
    name, dims = tensor.values.name, tuple(tensor.dims)
    values, places = raw_array(tensor.values), raw_array(tensor.indices)
    if (
        tensor.values.data_type != kind
        or tensor.indices.data_type != INT64
        or values is None
        or places is None
        or len(dims) != 2
        or min(dims) < 1
        or values.ndim != 1
        or places.shape != values.shape
    ):
        raise ModelError(f"{path}: tensor {name!r}: expected nonzeros of a matrix and their places")
    ascending = bool((places[1:] > places[:-1]).all())
    if not ascending or (len(places) and not 0 <= places[0] <= places[-1] < math.prod(dims)):
        raise ModelError(f"{path}: tensor {name!r}: places are not ascending inside the matrix")
    starts = np.searchsorted(places, np.arange(dims[0] + 1, dtype=np.int64) * dims[1])
    small = np.int32 if max(dims[1], len(places)) < 2**31 else np.int64
    columns = (places % dims[1]).astype(small)
    return sp.csr_array((values.astype(np.float64), columns, starts.astype(small)), shape=dims)


def _options(node: Any) -> dict[str, Any]:
    """The attributes; an axis left out is 0."""
    given = attributes(node)
    if node.op_type == "Gather":
        given.setdefault("axis", 0)
    return given
