"""What every construction returns: the network, its claims, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.claims import Claims
from constructions.dataset import DataSet
from verifier.core.errors import DataError
from verifier.core.network import Network

#: More than this is refused before anything is built.
MEMORY = 4 * 2**30
#: A weight of a sparse layer while it is built: value, column, and the copies that check them.
_BYTES_A_WEIGHT = 40


@dataclass(frozen=True, eq=False)
class Construction:
    """A network with what its theorem promises about it.

    Args:
        network: the network; its weights are float64 numbers and mean exactly these.
        claims: promised sizes beside those of the network.
        radius: the label is right on the closed ℓ∞ ball of this radius around each sample, or, if
            ``open_radius``, on every ball of a smaller radius.
        separation: λ(D), the smallest ℓ∞ distance between samples of different labels.
        labels: which class of the data set each of the network's labels 1..m is.
        dense_parameters: number of weights and biases when every weight matrix is written densely.
        lipschitz: an upper bound on the ℓ∞ Lipschitz constant that follows from the structure.
        open_radius: see ``radius``.
    """

    network: Network
    claims: Claims
    radius: Fraction
    separation: Fraction
    labels: tuple[int, ...]
    dense_parameters: int
    lipschitz: Fraction | None = None
    open_radius: bool = False

    @property
    def ratio(self) -> Fraction:
        """ρ = radius / (λ/2)."""
        return 2 * self.radius / self.separation


def ranked_labels(data: DataSet) -> tuple[np.ndarray, tuple[int, ...]]:
    """Labels 1..m in the order of the classes that occur, and which class each of them is.

    Raises:
        DataError: fewer than two classes occur, so that λ(D) is not defined.
    """
    present, ranks = np.unique(data.labels, return_inverse=True)
    if len(present) < 2:
        raise DataError(
            f"{data.name}: all {len(data)} points have the label {present[0]}; "
            "a separation bound needs points of at least two classes"
        )
    return ranks.reshape(-1) + 1, tuple(int(label) for label in present)


def dense_count(shapes: Sequence[tuple[int, int]]) -> int:
    """Weights and biases of layers (n_out, n_in) written densely."""
    return sum(n_out * (n_in + 1) for n_out, n_in in shapes)


def dense_size(network: Network) -> int:
    """The same, counted in a network."""
    return dense_count([(layer.n_out, layer.n_in) for layer in network.layers])


def require_memory(name: str, nonzeros: int, limit: int = MEMORY) -> None:
    """Refuse what would not fit, before any of it is built.

    Raises:
        DataError: with the estimate.
    """
    needed = nonzeros * _BYTES_A_WEIGHT
    if needed > limit:
        raise DataError(
            f"{name}: {nonzeros} weights would need about {needed / 2**30:.1f} GiB while they are "
            f"built; the limit is {limit / 2**30:.1f} GiB"
        )
