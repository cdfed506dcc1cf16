"""The layers that a runtime computes in float32, one sum after another.

In exact arithmetic a graph may be simplified; in float32 it may not, since every operation rounds.
So here a model is read as a chain of sums of products, or refused. A sum is a Gemm with alpha and
beta 1, a MatMul or a Conv with constant weights, each with at most one bias, which may be added to
it by an Add or Sub; or an Add or Sub of a constant to the input. Between them stand Relu and
operators that only move entries. Nothing else occurs that a runtime's graph optimisations could
fold into weights beforehand: what they may do with these is to fuse a sum with its bias, with its
ReLU, or with moves, which is again one of the orders of summation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.core.sparse import sp
from verifier.io.lowering.chain import chain
from verifier.io.lowering.graph import Graph, decode, read_graph
from verifier.io.lowering.node import Node
from verifier.io.lowering.reference import ROUNDING, constant_value
from verifier.io.lowering.tensor import Lowering
from verifier.io.onnx import Model
from verifier.io.operators import OPERATORS

_SUMS = ("Gemm", "MatMul", "Conv")
_BIASES = ("Add", "Sub")
_MOVES = (
    "Dropout", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip


@lru_cache(maxsize=2)
def float32_chain(model: Model) -> Network:
    """The network whose layers are the sums that a runtime computes in float32.

    Its exact function is that of ``model.network``; its weights and biases are the file's numbers.

    Args:
        model: an imported model.

    Raises:
        ModelError: an operation that is no such sum, with its name.
    """
    if model.input_dtype != "float32":
        raise _refused(model, f"the model computes in {model.input_dtype}")
    if model.tail is not None:
        raise _refused(model, f"the model ends in {model.tail}, whose outputs are rounded too")
    if model.literal:
        return model.network
    try:
        layers = _Walk(read_graph(model.proto)).layers()
    except ModelError as problem:
        raise _refused(model, str(problem)) from problem
    found = replace(model.network, layers=layers, notes=())
    _require_same(model, found)
    return found


def _refused(model: Model, why: str) -> ModelError:
    """What cannot be asked in float32, and why."""
    return ModelError(f"{model.path}: no float32 semantics: {why}")


def _require_same(model: Model, found: Network) -> None:
    """Compare the exact values of the two readings at a point; they are read independently.

    Raises:
        ModelError: they differ.
    """
    rng = np.random.default_rng(7)
    x = [Fraction(int(v), 64) for v in rng.integers(-64, 65, size=found.n_inputs)]
    if found.n_outputs != model.network.n_outputs or found.exact(x) != model.network.exact(x):
        raise _refused(model, "read as a chain of sums it is another function")


@dataclass(frozen=True, eq=False)
class _Affine:
    """What one node does to its data: matrix @ x + offset."""

    matrix: sp.csr_array
    offset: np.ndarray
    shape: tuple[int, ...]


class _Walk:
    """Follows the data along the nodes of a graph.

    Args:
        graph: of which every node reads the data at most once.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shape = graph.input_shape
        size = int(np.prod(self.shape))
        self.size = size
        self.done: list[Layer] = []
        #: Entries of the last layer's result in the order in which the data now has them.
        self.moved = _identity(size)
        #: Whether the last sum has its bias.
        self.complete = True

    def layers(self) -> tuple[Layer, ...]:
        """The chain.

        Raises:
            ModelError: a node that does not fit.
        """
        name, constants = self.graph.input_name, self._constants()
        for node in self.graph.nodes:
            if any(o in constants for o in node.outputs):
                continue
            data = [k for k, value in enumerate(node.inputs) if value == name]
            others = [v for v in node.inputs if v and v != name and v not in constants]
            if len(data) != 1 or others:
                raise node.error("every node must read the result before it")
            self._follow(node, data[0], constants)
            name = node.outputs[0]
        if name != self.graph.output_name or not self.done:
            raise ModelError("the nodes are no chain from the input to the output")
        return (*self.done[:-1], self._permuted(self.done[-1]))

    def _constants(self) -> Mapping[str, np.ndarray]:
        """Initializers, and what is computed from constants without rounding."""
        found = {name: decode(tensor) for name, tensor in self.graph.constants.items()}
        for node in self.graph.nodes:
            if node.operator in ROUNDING or not all(v in found for v in node.inputs if v):
                continue
            values = constant_value(node, [found[v] if v else None for v in node.inputs])
            found |= dict(zip(node.outputs, values, strict=False))
        return found

    def _follow(self, node: Node, place: int, constants: Mapping[str, np.ndarray]) -> None:
        """Take the data through one node."""
        if node.operator == "Relu":
            self._relu(node)
            return
        if node.operator not in (*_SUMS, *_BIASES, *_MOVES):
            raise node.error("what it rounds is not modelled")
        if node.number("alpha", 1.0) != 1 or node.number("beta", 1.0) != 1:
            raise node.error("alpha and beta must be 1")
        affine = self._affine(node, place, constants)
        if node.operator in _SUMS:
            weight = affine.matrix @ self.moved
            self._append(weight, affine.offset)
            given = [v for k, v in enumerate(node.inputs) if v and k != place]
            self.complete = len(given) > 1
        elif node.operator in _BIASES:
            self._bias(node, affine)
        elif not _selects(affine):
            raise node.error("it must move each entry to one place at most")
        else:
            self.moved = sp.csr_array(affine.matrix @ self.moved)
        self.shape, self.size = affine.shape, affine.matrix.shape[0]

    def _affine(self, node: Node, place: int, constants: Mapping[str, np.ndarray]) -> _Affine:
        """The node by itself, as the import reads it.

        Raises:
            ModelError: it does not fit its data.
        """
        build = Lowering(np.zeros((1, self.size)), single=True)
        data = build.input(self.shape)
        inputs = [
            data if k == place else constants[v] if v else None for k, v in enumerate(node.inputs)
        ]
        result = OPERATORS[node.operator](build, node, inputs)[0]
        layers = chain(build.neurons.groups, result.expression)
        if len(layers) != 1:
            raise node.error("it must be one sum")
        matrix = sp.csr_array(layers[0].weight)
        return _Affine(matrix, layers[0].bias, result.shape)

    def _append(self, weight: sp.csr_array, bias: np.ndarray) -> None:
        """One more layer, which reads the last one."""
        dense = weight.nnz >= 0.25 * weight.shape[0] * weight.shape[1]
        relu = np.zeros(weight.shape[0], dtype=bool)
        self.done.append(Layer(weight.toarray() if dense else sp.csr_array(weight), bias, relu))
        self.moved = _identity(weight.shape[0])

    def _bias(self, node: Node, affine: _Affine) -> None:
        """A constant that is added: the last sum's bias, or a layer of its own after the input."""
        if affine.matrix.shape[0] != self.size or not _is_identity(affine.matrix):
            raise node.error("it must add a constant to each entry")
        if not self.done:
            if affine.offset.any():
                self._append(self.moved, affine.offset)
                self.complete = True
            return
        last = self.done[-1]
        if self.complete or last.relu.any() or not _is_identity(self.moved):
            raise node.error("it must be the one bias of the sum before it")
        self.done[-1] = Layer(last.weight, affine.offset, last.relu)
        self.complete = True

    def _relu(self, node: Node) -> None:
        """The ReLU of the last sum; it may come after moves."""
        if not self.done:
            raise node.error("a sum must come before it")
        last = self.done[-1]
        self.done[-1] = Layer(last.weight, last.bias, np.ones(last.n_out, dtype=bool))

    def _permuted(self, last: Layer) -> Layer:
        """The last layer with its results in the order of the output."""
        if _is_identity(self.moved):
            return last
        if (np.diff(self.moved.indptr) != 1).any():
            raise ModelError("the output has entries that no sum computes")
        index = self.moved.indices
        return Layer(last.weight[index], last.bias[index], last.relu[index])


def _identity(size: int) -> sp.csr_array:
    return sp.csr_array(sp.eye_array(size, format="csr"))


def _is_identity(matrix: sp.csr_array) -> bool:
    """Whether every entry stays where it is."""
    same = matrix.shape[0] == matrix.shape[1] == matrix.nnz
    return same and not (matrix - _identity(matrix.shape[0])).count_nonzero()


def _selects(affine: _Affine) -> bool:
    """Whether each result is one entry, or 0, and no entry is used twice."""
    matrix = affine.matrix
    return (
        not affine.offset.any()
        and bool((matrix.data == 1.0).all())
        and bool((np.diff(matrix.indptr) <= 1).all())
        and bool((np.bincount(matrix.indices, minlength=1) <= 1).all())
    )
