"""Torch modules, networks and ONNX files: each from each, without a rounding.

A float32 or float64 weight is a dyadic rational; a ``Network`` made from a module is the exact real
function that the module's operators define with its weights, and the same as that of the ONNX file
written from it. The exceptions are those of every import (``verifier.io.onnx``): constants of a
batch normalisation, 1/n of a mean and the like are rounded to float64; ``Network.notes`` names
them. The other way nothing is ever rounded: what the type cannot hold is refused.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from torchbridge.graph import Traced, trace
from verifier.core.errors import ExportError, ModelError, NetworkError
from verifier.core.files import write_atomic
from verifier.core.network import Layer, Network
from verifier.io.lowering.chain import chain
from verifier.io.lowering.graph import read_graph
from verifier.io.lowering.lower import lower
from verifier.io.lowering.tensor import Lowering
from verifier.io.onnx_export import export_onnx
from verifier.io.runtime import Session
from verifier.io.validation import compare, sample_points

_KINDS = {"float32": torch.float32, "float64": torch.float64}
#: A weight with a larger share of nonzeros is multiplied as a dense matrix.
_DENSE_SHARE = 0.25
#: Bytes that a nonzero of a network takes while it is made from a module.
_BYTES = 50
#: Larger modules are written without the network that says what rounding can do to them, and
#: compared up to this share of the outputs' size.
_LOWERED, _APART = 30_000_000, 1e-3


def to_network(
    module: nn.Module, input_shape: Sequence[int] | None = None, *, name: str = "module"
) -> Network:
    """The exact function of a module in evaluation mode.

    The result is compared with Torch at sample points, inside a rigorous bound on what rounding
    can do.

    Args:
        module: floats all float32 or all float64; on any device.
        input_shape: of one input, without the batch dimension; a ``NetworkModule`` knows its own.
        name: of the network, and in messages.

    Raises:
        ModelError: training mode, an operator without an exact piecewise linear form (its module is
            named), an input that does not fit, numbers that are NaN, infinite or of other types,
            or a network that does not fit into memory.
    """
    if isinstance(module, NetworkModule):
        return module.network()
    if input_shape is None:
        raise ModelError(f"{name}: the shape of one input is needed")
    return _network(module, trace(module, input_shape, name), tuple(input_shape), name)


def _network(module: nn.Module, traced: Traced, shape: tuple[int, ...], name: str) -> Network:
    """The network of a traced module, compared with the module."""
    needed, there = (
        _BYTES * traced.products,
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
    if needed > there:
        raise ModelError(
            f"{name}: its network has about {traced.products:.1e} nonzeros, which takes "
            f"{needed / 1e9:.0f} GB of memory; this machine has {there / 1e9:.0f} GB"
        )
    try:
        graph = read_graph(traced.proto)
        points = sample_points(int(np.prod(graph.input_shape)), graph.double)
        build = Lowering(points, graph.single)
        output = lower(graph, build)
        layers = chain(build.neurons.groups, output.expression)
        network = Network(layers, shape, name, (*traced.notes, *dict.fromkeys(build.notes)))
        run = _TorchSession(module, graph.input_shape)
        note = compare(name, network, output.error.T, points, run, "Torch")
    except (ModelError, NetworkError) as problem:
        text = str(problem)
        raise ModelError(text if text.startswith(name) else f"{name}: {text}") from problem
    return network if note is None else replace(network, notes=(*network.notes, note))


def to_onnx(
    module: nn.Module,
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | None = None,
    *,
    name: str = "module",
) -> None:
    """Write a module as an ONNX model: operator by operator, batch size 1, weights bit for bit.

    What is written is compared with the module: inside a rigorous bound on what rounding can do,
    or, where the module is large, up to a thousandth.

    A ``NetworkModule`` is written as ``export_onnx`` writes its network.

    Raises:
        ModelError: as ``to_network``, or onnxruntime cannot run the model (it has no convolution
            in float64).
        ExportError: the file cannot be written.
    """
    if isinstance(module, NetworkModule):
        export_onnx(module.network(), path)
        return
    if input_shape is None:
        raise ModelError(f"{name}: the shape of one input is needed")
    traced = trace(module, input_shape, name)
    if traced.products <= _LOWERED:
        _network(module, traced, tuple(input_shape), name)
    graph, data = read_graph(traced.proto), traced.proto.SerializeToString()
    try:
        session = Session(data, graph.input_name, graph.input_shape, graph.double)
        if traced.products > _LOWERED:
            _require_close(session, _TorchSession(module, graph.input_shape))
        write_atomic(os.fspath(path), data)
    except ModelError as problem:
        raise ModelError(f"{name}: {problem}") from problem
    except OSError as problem:
        raise ExportError(f"{path}: cannot be written: {problem.strerror}") from problem


def _require_close(written: Session, module: Session) -> None:
    """Compare two runs of large models at points of ordinary size.

    Raises:
        ModelError: they differ by more than a thousandth of the largest output.
    """
    points = sample_points(int(np.prod(written.shape)), written.dtype == np.float64)[:3]
    got, expected = written.run(points), module.run(points)
    size = np.abs(expected).max(axis=1, keepdims=True)
    if not (np.abs(got - expected) <= _APART * size).all():
        raise ModelError("what was written gives other outputs in onnxruntime than in Torch")


def to_module(network: Network, kind: str = "float64") -> NetworkModule:
    """A Torch module with the network's numbers, exactly.

    Args:
        network: with float64 form.
        kind: "float32" or "float64".

    Raises:
        ExportError: a number that the type cannot hold.
    """
    return NetworkModule(network, kind)


class NetworkModule(nn.Module):
    """A network's layers as Torch tensors; sparse weights stay sparse.

    Input: (batch, ...) with n_inputs numbers a row; output: (batch, n_outputs). Gradients flow to
    the input, and to the weights, which are parameters, where they are dense. Only the rounding of
    Torch's arithmetic separates its values from ``Network.exact``.

    Args:
        network: what it computes.
        kind: "float32" or "float64".

    Raises:
        ExportError: a number that the type cannot hold.
    """

    def __init__(self, network: Network, kind: str) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ExportError(f"unknown type {kind!r}: choose float32 or float64")
        self.input_shape, self.name, self.notes = network.input_shape, network.name, network.notes
        self.n_inputs, self.depth = network.n_inputs, network.depth
        for k, layer in enumerate(network.layers):
            where = f"{network.name}: layer {k}"
            if layer.rounding or not layer.is_float:
                raise ExportError(f"{where}: exact numbers without a float64 form")
            self.register_parameter(f"bias{k}", nn.Parameter(_tensor(layer.bias, kind, where)))
            self.register_buffer(f"relu{k}", torch.from_numpy(layer.relu.copy()))
            if layer.is_sparse:
                self.register_buffer(f"weight{k}", _sparse(layer.weight, kind, where))
            else:
                self.register_parameter(
                    f"weight{k}", nn.Parameter(_tensor(layer.weight, kind, where))
                )
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The outputs for a batch of inputs.

        Raises:
            ModelError: not n_inputs numbers a row.
        """
        if x.ndim < 2 or x[0].numel() != self.n_inputs:
            raise ModelError(
                f"{self.name}: expected (batch, ...) with {self.n_inputs} numbers a row, "
                f"got {tuple(x.shape)}"
            )
        a = x.reshape(len(x), -1)
        for k in range(self.depth):
            weight, bias, relu = (
                getattr(self, f"{part}{k}") for part in ("weight", "bias", "relu")
            )
            if weight.layout == torch.strided:
                z = nn.functional.linear(a, weight, bias)
            else:
                z = torch.sparse.mm(weight, a.T).T + bias
            a = torch.where(relu, z.relu(), z)
        return a

    def network(self) -> Network:
        """The network that the present weights make, exactly.

        Raises:
            NetworkError: a weight became NaN or infinite.
        """
        layers = []
        for k in range(self.depth):
            weight, bias, relu = (
                getattr(self, f"{part}{k}").detach().cpu() for part in ("weight", "bias", "relu")
            )
            layers.append(Layer(_matrix(weight), bias.double().numpy(), relu.numpy()))
        return Network(tuple(layers), self.input_shape, self.name, self.notes)


def _tensor(array: np.ndarray, kind: str, where: str) -> Tensor:
    """The same numbers as a tensor.

    Raises:
        ExportError: one does not fit.
    """
    with np.errstate(over="ignore"):
        converted = np.array(array, dtype=kind, order="C")
    wrong = converted.astype(np.float64) != array
    if wrong.any():
        value = array.ravel()[int(np.flatnonzero(wrong.ravel())[0])]
        raise ExportError(f"{where}: {value!r} is no {kind} number; float64 holds it")
    return torch.from_numpy(converted)


def _sparse(weight: sp.csr_array, kind: str, where: str) -> Tensor:
    """A CSR matrix as a coalesced sparse tensor, dense where it is nearly full."""
    n_out, n_in = weight.shape
    if weight.nnz > _DENSE_SHARE * n_out * n_in:
        return _tensor(weight.toarray(), kind, where)
    rows = np.repeat(np.arange(n_out), np.diff(weight.indptr))
    index = torch.from_numpy(np.stack([rows, weight.indices.astype(np.int64)]))
    values = _tensor(weight.data, kind, where)
    return torch.sparse_coo_tensor(index, values, (n_out, n_in), check_invariants=True).coalesce()


def _matrix(weight: Tensor) -> Any:
    """A layer's weight as a float64 array, dense or CSR."""
    if weight.layout == torch.strided:
        return weight.double().numpy()
    weight = weight.coalesce()
    entries = (weight.values().double().numpy(), weight.indices().numpy())
    return sp.csr_array(entries, shape=tuple(weight.shape))


class _TorchSession(Session):
    """The module itself, run on the processor as a runtime that sums products.

    Without oneDNN and NNPACK, whose transforms of convolutions round by other rules.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        tensors = [*module.parameters(), *module.buffers()]
        floats = [t for t in tensors if t.is_floating_point()]
        self._kind = floats[0].dtype if floats else torch.float32
        self._device = tensors[0].device if tensors else torch.device("cpu")
        self._module, self.shape = module, shape

    def run(self, points: np.ndarray) -> np.ndarray:
        """The outputs at each point, (count, n_outputs)."""
        rows, module = [], self._module
        if self._device.type != "cpu":
            module = copy.deepcopy(module).to("cpu")
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # entering and leaving, about other accelerators
            with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(False):
                for point in points:
                    x = torch.from_numpy(point).to(self._kind).reshape(self.shape)
                    rows.append(module(x).reshape(-1).double().numpy())
        return np.stack(rows)
