"""What every construction returns: the network, its claims, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.claims import Claim, Claims
from constructions.dataset import DataSet
from constructions.memory import MEMORY as MEMORY
from constructions.memory import require_bytes
from constructions.separation import Separation
from verifier.core.decision import Decision, Rule
from verifier.core.errors import DataError
from verifier.core.network import Network

#: A weight of a sparse layer while it is built: value, column, and the copies that check them.
_BYTES_A_WEIGHT = 40
#: Where a radius itself is not promised, only all smaller ones.
_NEARLY = Fraction(999, 1000)


@dataclass(frozen=True, eq=False)
class Construction:
    """A network with what its theorem promises about it.

    Args:
        network: the network; its weights are float64 numbers and mean exactly these.
        claims: promised sizes beside those of the network.
        radius: the label is right on the closed ℓ∞ ball of this radius around each sample, or, if
            ``open_radius``, on every ball of a smaller radius.
        closest: λ(D) and the pair of samples that attains it.
        labels: which class of the data set each of the network's labels 1..m is.
        dense_parameters: number of weights and biases when every weight matrix is written densely.
        lipschitz: an upper bound on the ℓ∞ Lipschitz constant that follows from the structure.
        open_radius: see ``radius``.
        label_step: an output that is the label 1..m itself is this many times the label.
    """

    network: Network
    claims: Claims
    radius: Fraction
    closest: Separation
    labels: tuple[int, ...]
    dense_parameters: int
    lipschitz: Fraction | None = None
    open_radius: bool = False
    label_step: int = 1

    @property
    def separation(self) -> Fraction:
        """λ(D), the smallest ℓ∞ distance between samples of different labels."""
        return self.closest.lam

    @property
    def ratio(self) -> Fraction:
        """ρ = radius / (λ/2)."""
        return 2 * self.radius / self.separation

    def label(self, outputs: Sequence[Fraction]) -> int | None:
        """Which class of the data set these outputs mean, or None.

        Several outputs: the largest one's. One output of a network with a Lipschitz constant: its
        sign. One output otherwise: the label 1..m itself, times ``label_step``.
        """
        if len(outputs) > 1:
            best = max(range(len(outputs)), key=lambda k: outputs[k])
            alone = sum(v == outputs[best] for v in outputs) == 1
            return self.labels[best] if alone else None
        value = outputs[0] / self.label_step
        if self.lipschitz is not None:
            return self.labels[value > 0] if value else None
        return scalar_label(value, self.labels)

    def decision(self, data: DataSet) -> Decision | None:
        """How the outputs mean a class, as the verifier reads them and files say it.

        Args:
            data: the set that the network was built from.

        Returns:
            None if labels are not 1..m, or two classes have one name.
        """
        names = tuple(data.label_name(label) for label in self.labels)
        if len(set(names)) < len(names):
            return None
        if self.network.n_outputs > 1:
            return Decision(Rule.argmax, names)
        if self.lipschitz is not None:
            return Decision(Rule.sign, names)
        return Decision(Rule.label, names) if self.label_step == 1 else None

    def closest_claims(self, data: DataSet) -> Claims:
        """The labels where it is hardest, exactly: where the closest two balls nearly touch.

        Args:
            data: the set that the network was built from.
        """
        reach = self.radius * (_NEARLY if self.open_radius else 1)
        return closest_claims(
            self.claims.construction,
            data,
            self.closest,
            reach,
            lambda point: self.label(self.network.exact(point)),
        )


def scalar_label(value: Fraction, labels: tuple[int, ...]) -> int | None:
    """Which class an output means that is the label 1..m itself, or None."""
    known = value.denominator == 1 and 1 <= value <= len(labels)
    return labels[int(value) - 1] if known else None


def closest_claims(
    name: str,
    data: DataSet,
    closest: Separation,
    reach: Fraction,
    label: Callable[[list[Fraction]], int | None],
) -> Claims:
    """The labels of the closest pair's balls, each at its point nearest to the other sample.

    Args:
        name: of the construction.
        data: the samples.
        closest: the pair.
        reach: radius of the balls.
        label: the class that the network gives a point, exactly.
    """
    items = []
    for i, j in (closest.pair, closest.pair[::-1]):
        steps = [
            (a, max(-reach, min(reach, (b - a) / 2)))
            for a, b in zip(data.sample(i), data.sample(j), strict=True)
        ]
        found = label([a + step for a, step in steps])
        items.append(
            Claim.equal(
                f"label of {i} towards {j}",
                data.label_name(int(data.labels[i])),
                "none" if found is None else data.label_name(found),
                "the closest pair, evaluated exactly",
            )
        )
    return Claims(name, tuple(items))


def ranked_labels(data: DataSet) -> tuple[np.ndarray, tuple[int, ...]]:
    """Labels 1..m in the order of the classes that occur, and which class each of them is.

    Raises:
        DataError: fewer than two classes occur, so that λ(D) is not defined.
    """
    present, ranks = np.unique(data.labels, return_inverse=True)
    if len(present) < 2:
        raise DataError(
            f"{data.name}: all {len(data)} points have the label "
            f"{data.label_name(int(present[0]))}; a separation bound needs points of at least two "
            "classes"
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
    require_bytes(name, f"{nonzeros} weights", nonzeros * _BYTES_A_WEIGHT, limit)
