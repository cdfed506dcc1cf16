"""Groups of neurons, ordered by level, become one chain of layers.

Layer k computes the neurons of level k and carries, by coordinates without ReLU, exactly those
earlier neurons that a later layer still reads. Neurons that nothing reads are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.core.network import Layer
from verifier.core.sparse import sp
from verifier.io.lowering.expression import Expression, Group

#: A weight with a larger share of nonzeros is stored dense, and so is every small one.
DENSE_SHARE = 0.25
SMALL = 64 * 64


def chain(groups: Sequence[Group], output: Expression) -> tuple[Layer, ...]:
    """The layers that compute ``output`` from group 0.

    Args:
        groups: group 0 is the input; every other one reads groups of lower levels only.
        output: the network's outputs.
    """
    top = max((groups[g].level for g in output.terms), default=0)
    last_use = _last_uses(groups, output, top)
    layers, state = [], _State(groups, {0: np.arange(groups[0].size)})
    for level in range(1, top + 1):
        fresh = {
            g: np.flatnonzero(last_use[g] > level)
            for g, group in enumerate(groups)
            if group.level == level
        }
        carried = {g: rows[last_use[g][rows] > level] for g, rows in state.rows.items()}
        if level == top and _is_selection(output):
            layers.append(_selecting_layer(groups, state, output, level))
            return tuple(layers)
        layers.append(_layer(groups, state, fresh, carried))
        state = _State(groups, {**fresh, **carried})
    weight = state.matrix(output.terms, output.size)
    layers.append(Layer(_stored(weight), output.bias, np.zeros(output.size, dtype=bool)))
    return tuple(layers)


class _State:
    """Which neurons a layer hands on, and in which column each stands."""

    def __init__(self, groups: Sequence[Group], rows: dict[int, np.ndarray]) -> None:
        self.rows = {g: r for g, r in rows.items() if len(r)}
        self.columns: dict[int, np.ndarray] = {}
        self.width = 0
        for g, index in self.rows.items():
            column = np.full(groups[g].size, -1, dtype=np.int64)
            column[index] = self.width + np.arange(len(index))
            self.columns[g] = column
            self.width += len(index)

    def matrix(self, terms: dict[int, sp.csr_array], size: int) -> sp.csr_array:
        """Σ_g terms[g] n_g as one matrix on the state."""
        total = sp.csr_array((size, self.width))
        for g, matrix in terms.items():
            columns = self.columns[g][matrix.indices]
            shape = (size, self.width)
            # Different groups have different columns, so this sum adds no two numbers.
            total = total + sp.csr_array((matrix.data, columns, matrix.indptr), shape=shape)
        return sp.csr_array(total)

    def carry(self, g: int, rows: np.ndarray) -> sp.csr_array:
        """The 0-1 matrix that reads the neurons ``rows`` of group g."""
        n = len(rows)
        return sp.csr_array(
            (np.ones(n), self.columns[g][rows], np.arange(n + 1)), shape=(n, self.width)
        )


def _last_uses(groups: Sequence[Group], output: Expression, top: int) -> list[np.ndarray]:
    """For each neuron the last layer that reads it (0 if none); outputs are read at top + 1."""
    last = [np.zeros(group.size, dtype=np.int64) for group in groups]
    for g, matrix in output.terms.items():
        last[g][matrix.indices] = top + 1
    for level in range(top, 0, -1):
        for number, group in enumerate(groups):
            if group.level != level or group.expression is None:
                continue
            alive = last[number] > 0
            for g, matrix in group.expression.terms.items():
                used = matrix[alive].indices
                last[g][used] = np.maximum(last[g][used], level)
    return last


def _layer(
    groups: Sequence[Group],
    state: _State,
    fresh: dict[int, np.ndarray],
    carried: dict[int, np.ndarray],
) -> Layer:
    """One layer: the fresh neurons of each group, then the carried ones."""
    blocks, biases, masks = [], [], []
    for g, rows in fresh.items():
        expression = groups[g].expression
        if expression is None or not len(rows):
            continue
        part = expression.rows(rows)
        blocks.append(state.matrix(part.terms, part.size))
        biases.append(part.bias)
        masks.append(np.full(part.size, groups[g].relu))
    for g, rows in carried.items():
        if len(rows):
            blocks.append(state.carry(g, rows))
            biases.append(np.zeros(len(rows)))
            masks.append(np.zeros(len(rows), dtype=bool))
    weight = sp.csr_array(sp.vstack(blocks, format="csr"))
    return Layer(_stored(weight), np.concatenate(biases), np.concatenate(masks))


def _is_selection(output: Expression) -> bool:
    """Whether every output is just one neuron."""
    return (
        not output.bias.any()
        and bool((output.counts() == 1).all())
        and all((matrix.data == 1.0).all() for matrix in output.terms.values())
    )


def _selecting_layer(
    groups: Sequence[Group], state: _State, output: Expression, level: int
) -> Layer:
    """The last layer when the outputs are neurons: its rows in the order of the outputs."""
    fresh: dict[int, np.ndarray] = {}
    carried: dict[int, np.ndarray] = {}
    for g, matrix in output.terms.items():
        (fresh if groups[g].level == level else carried)[g] = matrix.indices
    layer = _layer(groups, state, fresh, carried)
    order = np.concatenate(
        [np.flatnonzero(np.diff(output.terms[g].indptr)) for g in (*fresh, *carried)]
    )
    place = np.argsort(order)
    return Layer(layer.weight[place], layer.bias[place], layer.relu[place])


def _stored(weight: sp.csr_array) -> np.ndarray | sp.csr_array:
    """Dense if small or well filled, else CSR."""
    cells = weight.shape[0] * weight.shape[1]
    if cells <= SMALL or weight.nnz > DENSE_SHARE * cells:
        return weight.toarray()
    return weight
