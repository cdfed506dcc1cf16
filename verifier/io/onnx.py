"""ONNX models in and out.

**What an imported network means.** The initializers of a model are float32 or float64 numbers, that
is, dyadic rationals; the network is the exact real function that the graph's operators define with
them. Affine maps are composed only where every resulting number is exactly a float64; where it is
not, the value between them becomes a layer without ReLU. So nothing is rounded, with these
exceptions, each of which is named in ``Network.notes``: the constants of BatchNormalization and
their products with the weights before it; 1/divisor of a Div by something other than a power of
two; 1/n of a mean over n entries, n no power of two; arithmetic between constants in the graph,
which is done in the model's type as a runtime does it. A limit of a Clip at
the end of its type's range is no limit.

**Validation.** Every import is compared with onnxruntime on sample points, inside a rigorous bound
on what rounding can do to a runtime's result in any order of summation; if they differ by more, the
import is refused.

**Tails.** A Softmax, LogSoftmax or Sigmoid at the very end is left out; it keeps the order of the
outputs, and ``Model.check_property`` refuses properties that read more than that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from verifier.core.decision import Decision
from verifier.core.errors import ModelError, NetworkError, PropertyError, UnsupportedOperatorError
from verifier.core.network import Network
from verifier.core.property import LinearConstraint, Property
from verifier.core.scan import ScanNetwork
from verifier.io.gemm_chain import chain_network
from verifier.io.lowering.graph import Graph, read_graph
from verifier.io.meaning import read_decision
from verifier.io.model_file import ModelFile, read_model
from verifier.io.onnx_export import export_onnx
from verifier.io.onnx_scan import is_scan, scan_network
from verifier.io.pieces import PiecewiseSession
from verifier.io.protobuf import messages
from verifier.io.runtime import Session
from verifier.io.validation import compare, sample_points

__all__ = ["Model", "export_onnx", "load_model"]


@dataclass(frozen=True, eq=False)
class Model:
    """An ONNX model, imported.

    Args:
        network: the exact real function, without the tail.
        path: where it was read.
        sha256: of the file's bytes, followed by those of external tensor files in order of name.
        input_name: name of the graph's input.
        input_shape: its shape as a runtime wants it, with the batch dimension (1 if left open).
        input_dtype: "float32" or "float64".
        output_name: name of the graph's output.
        tail: the dropped trailing operator (Softmax, LogSoftmax, Sigmoid): only the order of the
            outputs is meaningful.
        data: the ONNX model as bytes, with all tensors.
        decision: what the outputs mean, if the file says so.
        literal: whether every layer is one sum of products of the file, followed by its ReLU: what
            a runtime rounds is then known layer by layer.
        session: the one that the import was compared with, if that ran the whole model.
    """

    network: Network
    path: Path
    sha256: str
    input_name: str
    input_shape: tuple[int, ...]
    input_dtype: str
    output_name: str
    tail: str | None
    data: bytes
    decision: Decision | None = None
    literal: bool = False
    session: Session | None = None

    @property
    def proto(self) -> Any:
        """The ONNX model, read again from the bytes."""
        return messages().ModelProto.FromString(self.data)

    @cached_property
    def _session(self) -> Session:
        if self.session is not None:
            return self.session
        double = self.input_dtype == "float64"
        return Session(self.data, self.input_name, self.input_shape, double)

    def run(self, x: np.ndarray) -> np.ndarray:
        """What onnxruntime computes on the CPU, including the tail, one point at a time.

        Args:
            x: (n_inputs,) or (batch, n_inputs); converted to the model's type.

        Returns:
            (n_outputs,) or (batch, n_outputs), in the model's type.

        Raises:
            ModelError: the number of inputs does not fit, or onnxruntime fails.
        """
        points = np.asarray(x)
        if points.ndim not in (1, 2) or points.shape[-1] != self.network.n_inputs:
            raise ModelError(
                f"{self.path}: expected {self.network.n_inputs} inputs, got shape {points.shape}"
            )
        outputs = self._session.run(np.atleast_2d(points))
        return outputs[0] if points.ndim == 1 else outputs

    def check_property(self, prop: Property) -> None:
        """Refuse a property that the network without its tail does not decide.

        Softmax and Sigmoid keep the sign of y_i - y_j. LogSoftmax subtracts one number from all
        outputs, so it keeps every Σ c_i y_i with Σ c_i = 0.

        Raises:
            PropertyError: sizes that do not fit, or a constraint that reads more than the order of
                the outputs of a model with a tail.
        """
        prop.check_fits(self.network.n_inputs, self.network.n_outputs)
        if self.tail is None:
            return
        for case in prop.cases:
            for clause in case.clauses:
                for constraint in clause:
                    if not _survives(constraint, self.tail, self.network.n_outputs):
                        raise PropertyError(
                            f"{prop.name}: the model ends in {self.tail}, of which only the order "
                            "of the outputs is decided: every constraint on outputs must compare "
                            "one output with another (Y_i >= Y_j)"
                        )


def _survives(constraint: LinearConstraint, tail: str, n_outputs: int) -> bool:
    """Whether a constraint means the same with and without the tail."""
    total: dict[int, Any] = {}
    for i, c in constraint.terms:
        total[i] = total.get(i, 0) + c
    terms = {i: c for i, c in total.items() if c != 0}
    if all(i >= n_outputs for i in terms):
        return True
    if any(i >= n_outputs for i in terms) or sum(terms.values()) != 0:
        return False
    return tail == "LogSoftmax" or (len(terms) == 2 and constraint.bound == 0)


#: Weights that a loop may have in order to be read as layers.
_UNROLLED = 20_000_000


def load_model(path: str | os.PathLike[str], *, validate: bool = True) -> Model:
    """Import an ONNX model.

    Args:
        path: the file; external tensors must lie in its folder.
        validate: compare the result with onnxruntime (see the module's text).

    Raises:
        ModelError: the file cannot be read, trusted or represented, or onnxruntime disagrees.
        UnsupportedOperatorError: a node has no exact piecewise linear form here.
    """
    path = Path(path)
    try:
        file = read_model(path)
        read = _literal(file, path)
        literal = read is not None
        if read is None:
            file = file.checked()
            graph = read_graph(file.proto)
            points = sample_points(math.prod(graph.input_shape), graph.double)
            network, error = _scanned(file, path) or _lowered(graph, path, points)
        else:
            graph, network = read
            points = sample_points(network.n_inputs, graph.double)
            error = None
        decision = read_decision(file.proto)
        if decision is not None:
            decision.check_fits(network.n_outputs)
    except UnsupportedOperatorError as problem:
        reason = f"{problem.reason} ({path})"
        raise UnsupportedOperatorError(problem.node, problem.operator, reason) from problem
    except (ModelError, NetworkError, PropertyError) as problem:
        raise ModelError(_located(path, problem)) from problem
    except MemoryError as problem:
        raise ModelError(f"{path}: the network does not fit into memory") from problem
    except UnicodeDecodeError as problem:
        raise ModelError(f"{path}: a name in the model is not UTF-8 ({problem})") from problem
    session = None
    if validate:
        note, session = _validated(file, graph, network, error, points)
        network = replace(network, notes=(*network.notes, *note))
    return Model(
        network,
        path,
        file.sha256,
        graph.input_name,
        graph.input_shape,
        "float64" if graph.double else "float32",
        graph.output_name,
        None if graph.tail is None else graph.tail.operator,
        file.data,
        decision,
        literal,
        session,
    )


def _literal(file: ModelFile, path: Path) -> tuple[Graph, Network] | None:
    """A chain of sums and ReLUs as it stands in the file, or None for any other graph.

    Depth and width are then the file's own, and chains of thousands of layers are no trouble.
    """
    try:
        network = replace(chain_network(file.proto, str(path)), name=path.stem)
        graph = read_graph(file.proto, sparse=True)
    except (ModelError, NetworkError):  # another form, or a mistake that the other way reports
        return None
    return (graph, network) if network.n_inputs == math.prod(graph.input_shape) else None


def _scanned(file: ModelFile, path: Path) -> tuple[Network, None] | None:
    """A running maximum over samples (``onnx_scan``) as the chain that it stands for.

    Returns:
        the network, whose layers are the sums that a runtime computes; None for any other graph.
    """
    if not is_scan(file.proto):
        return None
    return _unrolled(scan_network(file.proto, str(path)), path), None


def _unrolled(loop: ScanNetwork, path: Path) -> Network:
    """All blocks as layers.

    Raises:
        ModelError: they have too many weights.
    """
    if loop.nonzeros > _UNROLLED:
        raise ModelError(
            f"{path}: a running maximum over {loop.n_samples} samples with {loop.nonzeros} weights "
            f"in {loop.depth} layers; up to {_UNROLLED} weights are unrolled. "
            "relucid build optimal-robust --scan proves the balls of such a file"
        )
    return Network(tuple(loop.layers()), loop.input_shape, path.stem)


def _lowered(graph: Graph, path: Path, points: np.ndarray) -> tuple[Network, np.ndarray]:
    """Any other graph as a chain of layers.

    Returns:
        the network, and a bound on a runtime's error at the points.
    """
    from verifier.io.lowering.chain import chain
    from verifier.io.lowering.lower import lower
    from verifier.io.lowering.tensor import Lowering

    build = Lowering(points, graph.single)
    output = lower(graph, build)
    layers = chain(build.neurons.groups, output.expression)
    users_shape = graph.input_shape[1:] if graph.input_shape[:1] == (1,) else graph.input_shape
    notes = _notes(build.notes, graph)
    return Network(layers, users_shape, path.stem, notes), output.error.T


def _notes(rounded: Sequence[str], graph: Graph) -> tuple[str, ...]:
    """What was rounded or left out."""
    notes = list(dict.fromkeys(rounded))
    if graph.tail is not None:
        notes.append(
            f"node {graph.tail.name!r} ({graph.tail.operator}): left out; the order of the outputs "
            "is that of the values before it"
        )
    return tuple(notes)


def _located(path: Path, problem: Exception) -> str:
    """The message, beginning with the file."""
    text = str(problem)
    return text if text.startswith(str(path)) else f"{path}: {text}"


def _validated(
    file: ModelFile, graph: Graph, network: Network, error: np.ndarray | None, points: np.ndarray
) -> tuple[tuple[str, ...], Session | None]:
    """Compare with onnxruntime up to the tail.

    Returns:
        a note if that was impossible; and the session if it runs the whole model.
    """
    data = file.data
    if graph.tail is not None:
        model = messages().ModelProto.FromString(data)
        output = model.graph.output[0]
        output.name = graph.tail.inputs[0]
        output.type.tensor_type.ClearField("shape")
        data = model.SerializeToString()
    about = (graph.input_name, graph.input_shape, graph.double)
    try:
        if error is None and PiecewiseSession.can_run(file.proto):
            session: Session = PiecewiseSession(file.proto, network, *about)
        else:
            session = Session(data, *about)
        note = compare(file.path, network, error, points, session)
    except ModelError as problem:
        file.checked()  # which knows better what is wrong with a damaged chain
        raise ModelError(_located(file.path, problem)) from problem
    whole = None if isinstance(session, PiecewiseSession) or graph.tail is not None else session
    return (() if note is None else (note,)), whole
