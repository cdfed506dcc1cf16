"""Bounds on ℓ1 norms of gradients once one layer's pre-activations are exact forms of the input.

The gradient is t G: G has the gradients of the layer's pre-activations, known exactly, and t their
weights, known to lie in centre ± radius. ‖t G‖₁ is the sum over blocks B of coordinates of the
maximum of t G_B σ over signs σ in {−1, 1}^B, so that

    ‖t G‖₁  ≤  Σ_B max_σ ( |centre · G_B σ| + radius · |G_B σ| ).

With blocks of one coordinate that is plain interval arithmetic; with a single block it is the
exact maximum over the box of t, which convexity puts at a corner. A second bound for each σ, by
``Ahead``, keeps the phases of this layer and the next apart; the smaller one counts.
"""

from __future__ import annotations

import itertools
from functools import cached_property

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.bounds.float_error import TINY, gamma, up
from verifier.search.exact_forms import nearest
from verifier.search.lipschitz_evidence import INACTIVE, OPEN
from verifier.search.lipschitz_slopes import Range, Slopes, absolute

_ZERO = fmpq(0)
#: Coordinates in a block, and sign vectors altogether.
_BLOCK, _DIRECTIONS = 8, 512


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


class Ahead:
    """The layer after a level, for bounds that keep its phases apart from the level's own.

    The gradient is also t' W Λ G, with t' the derivatives at the next layer's pre-activations and
    Λ the level's phases. For one direction σ that is Σ_m t'_m (W Λ G σ)_m, a sum of products of
    two intervals each.

    Args:
        weight: W, (n_next, n_out) float64 as near to the exact one as can be.
        reach: float64 (low, high), each (K, n_next), of t'.
    """

    def __init__(self, weight: np.ndarray, reach: tuple[np.ndarray, np.ndarray]) -> None:
        self._weight, self._magnitude = weight, np.abs(weight)
        low, high = reach
        self._most = np.maximum(np.abs(low), np.abs(high))
        # Where t' has one sign, the extreme products are linear in the parts ±I of the interval I.
        rising = low >= 0
        falling = (high <= 0) & ~rising
        self._rising = np.where(rising, low, 0.0), np.where(rising, high, 0.0)
        self._falling = np.where(falling, low, 0.0), np.where(falling, high, 0.0)
        mixed = ~rising & ~falling
        self._mixed = np.flatnonzero(mixed.any(axis=0))
        self._low, self._high = (
            np.where(mixed, end, 0.0)[:, self._mixed, None] for end in (low, high)
        )
        self._error = gamma(sum(weight.shape) + 16)

    def values(
        self, phases: np.ndarray, along: np.ndarray, reach: np.ndarray, size: np.ndarray
    ) -> np.ndarray:
        """For each row and direction a float64 bound on |t' W Λ G σ|, (K, C)."""
        middle = np.where(phases == OPEN, 0.5, phases)[:, None]
        spread = np.where(phases == OPEN, 0.5, 0.0)[:, None]
        centre, radius = self._weight @ (middle * along), self._magnitude @ (spread * reach)
        low, high = centre - radius, centre + radius
        (low_plus, low_minus), (high_plus, high_minus) = (
            (np.maximum(end, 0.0), np.maximum(-end, 0.0)) for end in (low, high)
        )
        (a, b), (c, d) = self._rising, self._falling
        most = b @ high_plus - a @ high_minus + d @ low_plus - c @ low_minus
        least = a @ low_plus - b @ low_minus + c @ high_plus - d @ high_minus
        if len(self._mixed):
            low, high = low[None, self._mixed], high[None, self._mixed]
            corners = [t * end for t in (self._low, self._high) for end in (low, high)]
            most += np.maximum.reduce(corners).sum(axis=1)
            least += np.minimum.reduce(corners).sum(axis=1)
        slack = self._error * (self._most @ (self._magnitude @ size))
        lost = TINY * (1.0 + self._most.sum() + (self._most @ self._magnitude).sum())
        return np.asarray(np.maximum(most, -least) + slack + lost)


def aheads(slopes: Slopes, phases: list[np.ndarray], ranges: list[Range]) -> list[Ahead | None]:
    """For each layer what comes after it.

    Args:
        slopes: the network.
        phases: per layer what is known on the whole domain.
        ranges: of ``backward_ranges``.
    """
    out: list[Ahead | None] = [None]
    for (weight, _), known, behind in zip(
        slopes.layers[:0:-1], phases[:0:-1], ranges[:0:-1], strict=True
    ):
        rows = [[nearest(v) for v in row] for row in weight.tolist()]
        out.append(Ahead(np.array(rows, dtype=float), behind.through(known).floats))
    return out[::-1]


class Level:
    """One layer's pre-activations as exact forms of the input, with all phases before it chosen.

    Args:
        layer: its index.
        forms: (n_out, n + 1).
        behind: range of the rows' derivatives with respect to this layer's activations.
        directions: of the n coordinates.
        ahead: the next layer, unless this is the last one.
    """

    def __init__(
        self,
        layer: int,
        forms: fmpq_mat,
        behind: Range,
        directions: Directions,
        ahead: Ahead | None,
    ) -> None:
        self.layer, self.forms, self.behind, self.directions = layer, forms, behind, directions
        self._ahead = ahead
        n = forms.ncols() - 1
        self.gradients = fmpq_mat(forms.nrows(), n, [v for row in forms.tolist() for v in row[:n]])
        self.constant = np.array([not any(row) for row in self.gradients.tolist()], dtype=bool)
        entries = [[nearest(v) for v in row] for row in self.gradients.tolist()]
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
            if self._ahead is not None and unknown.any():
                further = self._ahead.values(phases, self._along, self._reach, self._size)
                values = np.fmin(values, further)
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
