"""The class of the nearest box: compact robust memorization that answers everywhere (THEORY 2).

With the boxes and distances s_Q of ``constructions.compact`` let M_l = min s_Q over the boxes of
class l. On the ball of a sample of class l, M_l = 0 and every other M is at least gap > 0, so that
the largest of the outputs F_l = −M_l is right there; elsewhere the class of the box with the least
excess wins, where the depth-4 network abstains.

Minima are taken in rounds of min(a, b) = a − relu(a − b), all classes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from constructions.assembly import Rows, layer, neuron
from constructions.box_grid import LEVELS
from constructions.boxes import TRIES, Progress
from constructions.claims import Claims, network_claims
from constructions.compact import cover, size_claims
from constructions.construction import MEMORY, Construction, dense_size
from constructions.dataset import DataSet
from verifier.core.network import Layer, Network

Term = tuple[int, float]


def nearest_box(
    data: DataSet,
    radius: Fraction,
    *,
    every: bool = True,
    levels: int = LEVELS,
    tries: int = TRIES,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Construction:
    """F: R^d -> R^m whose largest output is the right class on the ball of every sample.

    Depth ⌈log2 b⌉ + 3, where b is the largest number of boxes of a class.

    Args:
        data, radius, every, levels, tries, memory, progress: see ``constructions.compact.cover``.

    Raises:
        RadiusError, DataError: see ``constructions.compact.cover``.
    """
    found = cover(
        data,
        radius,
        every=every,
        levels=levels,
        tries=tries,
        memory=memory,
        progress=progress,
    )
    boxes, m = found.boxes, len(found.labels)
    distances = Rows(np.diff(boxes.start), found.column, np.ones(boxes.faces), np.zeros(len(boxes)))
    members = [np.flatnonzero(boxes.label == label) for label in range(1, m + 1)]
    rounds, minima = _minima(members, len(boxes))
    outputs = [neuron([(column, -weight) for column, weight in terms]) for terms in minima]
    layers = [layer([found.first], data.dimension), layer([distances], found.n_first), *rounds]
    layers.append(layer(outputs, layers[-1].n_out, relu=False))
    network = Network(tuple(layers), data.shape, "compact-nearest")
    most = max(len(part) for part in members)
    sizes = network_claims(
        "compact-nearest",
        network,
        "THEORY 2",
        n_outputs=m,
        width=max(found.n_first, len(boxes), rounds[0].n_out if rounds else 0),
        depth=(most - 1).bit_length() + 3,
    )
    claims = sizes + Claims("compact-nearest", (*found.claims, *size_claims(found)))
    return Construction(
        network,
        claims.check(),
        radius,
        found.closest,
        found.labels,
        dense_size(network),
    )


def _minima(members: Sequence[np.ndarray], n_in: int) -> tuple[list[Layer], list[list[Term]]]:
    """Rounds of minima of values ≥ 0 until each class has one.

    Args:
        members: for each class the columns of its values.
        n_in: number of columns.

    Returns:
        (layers, each class's minimum as a sum over the last of them).
    """
    values: list[list[list[Term]]] = [[[(int(k), 1.0)] for k in part] for part in members]
    layers: list[Layer] = []
    while max(len(part) for part in values) > 1:
        rows: list[Rows] = []
        for label, part in enumerate(values):
            best: list[list[Term]] = []
            for a, b in zip(part[::2], part[1::2], strict=False):
                best.append([(len(rows), 1.0), (len(rows) + 1, -1.0)])
                rows += [neuron(a), neuron([*a, *((column, -weight) for column, weight in b)])]
            if len(part) % 2:
                best.append([(len(rows), 1.0)])
                rows.append(neuron(part[-1]))
            values[label] = best
        layers.append(layer(rows, n_in))
        n_in = layers[-1].n_out
    return layers, [part[0] for part in values]
