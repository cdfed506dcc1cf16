"""A network as a Torch module, for gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from verifier.core.errors import NetworkError
from verifier.core.network import Network


class NetworkModule(nn.Module):
    """The chain of layers on rows of a batch: (n, n_inputs) to (n, n_outputs).

    Computed in float32 if that holds all weights, else in float64.

    Args:
        network: with a float form.

    Raises:
        NetworkError: weights that no float64 holds.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        if not network.is_float:
            raise NetworkError("the network has exact weights without a float64 form")
        arrays = [a for layer in network.layers for a in (_data(layer.weight), layer.bias)]
        with np.errstate(over="ignore"):
            narrow = all(np.array_equal(a.astype(np.float32), a) for a in arrays)
        self.dtype = torch.float32 if narrow else torch.float64
        self.weights = [self._weight(layer.weight) for layer in network.layers]
        self.biases = [torch.tensor(layer.bias, dtype=self.dtype) for layer in network.layers]
        self.relus = [torch.tensor(layer.relu) for layer in network.layers]

    def _weight(self, weight: object) -> Tensor:
        """Dense, or sparse as it is in the network."""
        if isinstance(weight, np.ndarray):
            return torch.tensor(weight, dtype=self.dtype)
        coo = weight.tocoo()  # type: ignore[attr-defined]
        index = torch.tensor(np.stack([coo.row, coo.col]).astype(np.int64))
        data = torch.tensor(coo.data, dtype=self.dtype)
        return torch.sparse_coo_tensor(index, data, coo.shape, check_invariants=True).coalesce()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for a batch of rows."""
        for weight, bias, relu in zip(self.weights, self.biases, self.relus, strict=True):
            z = torch.sparse.mm(weight, x.T).T if weight.is_sparse else x @ weight.T
            z = z + bias
            x = torch.where(relu, z.relu(), z)
        return x


def _data(weight: object) -> np.ndarray:
    """The stored entries."""
    return weight if isinstance(weight, np.ndarray) else weight.data  # type: ignore[attr-defined]


#: Products of one step from which on several threads are faster than one.
_MANY = 100_000_000


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
