"""Bounds on ℓ1 norms of gradients once one layer's pre-activations are exact forms of the input.

The gradient is t G: G has the gradients of the layer's pre-activations, known exactly, and t their
weights, known to lie in centre ± radius. ‖t G‖₁ is the sum over blocks B of coordinates of the
maximum of t G_B σ over signs σ in {−1, 1}^B, so that

    ‖t G‖₁  ≤  Σ_B max_σ ( |centre · G_B σ| + radius · |G_B σ| ).

With blocks of one coordinate that is plain interval arithmetic; with a single block it is the
exact maximum over the box of t, which convexity puts at a corner.
"""

from __future__ import annotations

import itertools
from functools import cached_property

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.bounds.float_error import TINY, gamma, up
from verifier.search.lipschitz_evidence import INACTIVE, OPEN
from verifier.search.lipschitz_slopes import Range, absolute

_ZERO = fmpq(0)
#: Coordinates in a block, and sign vectors altogether.
_BLOCK, _DIRECTIONS = 8, 2048


def block_size(n: int) -> int:
    """Coordinates in a block, of n altogether (less in the last block)."""
    size = _BLOCK
    while size > 1 and -(-n // size) * 2 ** (size - 1) > _DIRECTIONS:
        size -= 1
    return size


class Directions:
    """Sign vectors, one of each pair ±σ, for each block of coordinates.

    Args:
        n: coordinates.
    """

    def __init__(self, n: int) -> None:
        size = block_size(n)
        columns: list[np.ndarray] = []
        self.starts: list[int] = []
        for first in range(0, n, size):
            self.starts.append(len(columns))
            for signs in itertools.product((1, -1), repeat=min(size, n - first) - 1):
                column = np.zeros(n, dtype=int)
                column[first : first + len(signs) + 1] = (1, *signs)
                columns.append(column)
        self.matrix = np.array(columns).T

    @cached_property
    def floats(self) -> tuple[np.ndarray, np.ndarray]:
        """The sign vectors (n, C), and their absolute values."""
        return self.matrix.astype(float), np.abs(self.matrix).astype(float)

    @cached_property
    def exact(self) -> fmpq_mat:
        """The sign vectors (n, C)."""
        return fmpq_mat([[fmpq(int(v)) for v in row] for row in self.matrix])


class Level:
    """One layer's pre-activations as exact forms of the input, with all phases before it chosen.

    Args:
        layer: its index.
        forms: (n_out, n + 1).
        behind: range of the rows' derivatives with respect to this layer's activations.
        directions: of the n coordinates.
    """

    def __init__(self, layer: int, forms: fmpq_mat, behind: Range, directions: Directions) -> None:
        self.layer, self.forms, self.behind, self.directions = layer, forms, behind, directions
        n = forms.ncols() - 1
        self.gradients = fmpq_mat(forms.nrows(), n, [v for row in forms.tolist() for v in row[:n]])
        self.constant = np.array([not any(row) for row in self.gradients.tolist()], dtype=bool)
        entries = [[_near(v) for v in row] for row in self.gradients.tolist()]
        floats = np.array(entries, dtype=float).reshape(forms.nrows(), n)
        signs, present = directions.floats
        with np.errstate(over="ignore", invalid="ignore"):
            self._along = floats @ signs
            self._reach = np.abs(self._along)
            self._size = np.abs(floats) @ present
        self._error = gamma(forms.nrows() + n + 16)

    def form(self, i: int) -> list[fmpq]:
        """The form of one neuron."""
        return [self.forms[i, j] for j in range(self.forms.ncols())]

    def bound(self, phases: np.ndarray) -> tuple[float, np.ndarray]:
        """A float64 number that no row's slope exceeds, for these phases of the layer.

        Returns:
            (bound, (n_out,) how much each coordinate's open phase contributes to it).
        """
        low, high = self.behind.floats
        unknown, off = phases == OPEN, phases == INACTIVE
        low = np.where(off, 0.0, np.where(unknown, np.minimum(low, 0.0), low))
        high = np.where(off, 0.0, np.where(unknown, np.maximum(high, 0.0), high))
        with np.errstate(over="ignore", invalid="ignore"):
            centre = 0.5 * low + 0.5 * high
            radius = up(np.maximum(high - centre, centre - low), 2)
            reach = np.abs(centre) + radius
            # The products' own errors, those of G σ, and what underflows.
            slack = self._error * (reach @ self._size) + TINY * (1.0 + reach.sum())
            values = np.abs(centre @ self._along) + radius @ self._reach + slack
            sums = np.maximum.reduceat(values, self.directions.starts, axis=1).sum(axis=1)
            total = float(up(sums.max() * (1.0 + gamma(len(self.directions.starts) + 2)), 2))
        if not np.isfinite(total):
            return np.inf, radius.max(axis=0, initial=0.0)
        row = int(np.argmax(sums))
        return total, np.where(unknown, radius[row] * self._worst(values[row]), 0.0)

    def _worst(self, values: np.ndarray) -> np.ndarray:
        """|G σ| summed over the blocks, at each block's steepest σ."""
        ends = [*self.directions.starts[1:], len(values)]
        best = [
            a + int(np.argmax(values[a:b]))
            for a, b in zip(self.directions.starts, ends, strict=True)
        ]
        return np.asarray(self._reach[:, best].sum(axis=1))

    @cached_property
    def _exact_along(self) -> tuple[fmpq_mat, fmpq_mat]:
        along = self.gradients * self.directions.exact
        return along, absolute(along)

    def exact_bound(self, phases: np.ndarray) -> fmpq:
        """The same without rounding; the slope itself once the gradient is known."""
        weights = self.behind.through(phases)
        if (weights.low == weights.high).all():
            norms = (weights.centre * self.gradients).tolist()
            return max(sum((abs(v) for v in row), _ZERO) for row in norms)
        along, reach = self._exact_along
        middle, spread = weights.centre * along, weights.radius * reach
        starts = self.directions.starts
        ends = [*starts[1:], along.ncols()]
        return max(
            sum(
                (max(abs(middle[k, c]) + spread[k, c] for c in range(a, b))
                 for a, b in zip(starts, ends, strict=True)),
                _ZERO,
            )
            for k in range(middle.nrows())
        )  # fmt: skip


def _near(number: fmpq) -> float:
    """The nearest float64, infinite beyond its range (which no bound survives)."""
    try:
        return int(number.p) / int(number.q)
    except OverflowError:
        return np.inf
