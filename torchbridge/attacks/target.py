"""What is attacked: a classifier in Torch for gradients, and the same in exact arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchbridge.attacks.exact import Exact
from torchbridge.attacks.interface import Classifier
from torchbridge.convert import to_module
from torchbridge.exact_module import ExactModule
from torchbridge.onnx_module import OnnxModule, has_convolutions
from verifier.core.decision import Decision
from verifier.core.errors import ExportError, UnsupportedOperatorError
from verifier.core.network import Network
from verifier.io.onnx import Model

#: Products of one step from which on several threads are faster than one.
_MANY = 100_000_000


@dataclass(frozen=True, eq=False)
class Target:
    """A classifier.

    Args:
        module: (n, d) to (n, n_outputs) in Torch.
        exact: the same in exact arithmetic.
        decision: how outputs mean a class.
        n_outputs: how many.
        dtype: of the module's inputs.
        device: where they are.
        sure: whether the module says nearly what exact arithmetic says; where it does not (it is
            random, say), every point that an attack returns is evaluated exactly.
    """

    module: Classifier
    exact: Exact
    decision: Decision
    n_outputs: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    sure: bool = True

    @classmethod
    def of(cls, network: Network, decision: Decision, device: str = "cpu") -> Target:
        """A network, in float32 if that holds all weights, else in float64.

        Raises:
            ExportError: weights that no float64 holds.
        """
        try:
            module, dtype = to_module(network, "float32"), torch.float32
        except ExportError:
            module, dtype = to_module(network, "float64"), torch.float64
        module = module.to(device).requires_grad_(False)
        return cls(module, network.exact, decision, network.n_outputs, dtype, device)

    @classmethod
    def of_model(cls, model: Model, decision: Decision, device: str = "cpu") -> Target:
        """An ONNX model: its own operators where it has convolutions that Torch can run.

        Raises:
            ExportError: weights that no float64 holds.
            ModelError: Torch's operators give other outputs than the network, which is a defect.
        """
        network = model.network
        if has_convolutions(model):
            with suppress(UnsupportedOperatorError):  # matrices give the same, more slowly
                module = OnnxModule(model).to(device)
                return cls(module, network.exact, decision, network.n_outputs, module.kind, device)
        return cls.of(network, decision, device)

    @classmethod
    def of_module(cls, module: nn.Module, shape: tuple[int, ...], decision: Decision) -> Target:
        """A module as it stands: faster than its network, and possible where that is too large.

        Args:
            module: of layers that ``torchbridge.exact_module`` knows, in evaluation mode.
            shape: of one input.
            decision: how outputs mean a class.
        """
        first = next(module.parameters())

        def flat(x: Tensor) -> Tensor:
            return module(x.reshape(len(x), *shape))

        with torch.no_grad():
            n_outputs = module(
                torch.zeros(1, *shape, dtype=first.dtype, device=first.device)
            ).shape[1]
        exact = ExactModule(module, shape)
        return cls(flat, exact, decision, n_outputs, first.dtype, str(first.device))


@contextmanager
def threads_for(network: Network, batch: int) -> Iterator[None]:
    """One thread for Torch while the network is small.

    Threads that wait for each other after every small product take ten times the processor time,
    and more wall time where other programs run.

    Args:
        network: what is evaluated.
        batch: so many rows at a time.
    """
    before = torch.get_num_threads()
    if network.nonzeros * batch < _MANY:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
