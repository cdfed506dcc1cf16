"""The triangle relaxation of a network as a linear program, and rigorous bounds from its duals.

On a box and with proved pre-activation bounds l ≤ z ≤ u, every ReLU a = max(z, 0) with l < 0 < u
satisfies a ≥ 0, a ≥ z and a ≤ s z + t for any line with s l + t ≥ 0 and s u + t ≥ u. The
coefficients below are float64 numbers and, read as exact rationals, describe a superset of the
network's graph: affine rows are the weights themselves, and t is rounded up.

What a solver says about this program is a hint. ``safe_lower_bound`` turns any multipliers, however
wrong, into a true bound (Neumaier and Shcherbina, Safe bounds in linear and mixed-integer linear
programming, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from verifier.bounds.float_error import TINY, down, gamma, up
from verifier.bounds.interval import Bounds
from verifier.core.network import Layer, Network
from verifier.core.sparse import sp


@dataclass(frozen=True, eq=False)
class System:
    """The polyhedron { v : row_lower ≤ A v ≤ row_upper, col_lower ≤ v ≤ col_upper }.

    Args:
        matrix: A, (rows, columns) CSR.
        columns: (lower, upper), each (columns,).
        rows: (lower, upper), each (rows,); infinite where absent.
    """

    matrix: sp.csr_array
    columns: Bounds
    rows: Bounds

    @cached_property
    def transposed(self) -> tuple[sp.csr_array, sp.csr_array]:
        """(Aᵀ, |A|ᵀ) in CSR, for repeated products."""
        transpose = sp.csr_array(self.matrix.T)
        return transpose, abs(transpose)

    @cached_property
    def longest(self) -> int:
        """Most entries in a column."""
        counts = np.diff(self.transposed[0].indptr)
        return int(counts.max(initial=0))


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The system of a network on a box, and where its neurons are.

    Columns are the inputs, then per layer the pre-activations z that are not always cut off by
    their ReLU, then the activations a of the unstable neurons. ``pre`` and ``post`` give for each
    layer the columns of z and a, −1 for a neuron that is always cut off: its a is 0.

    Args:
        system: the relaxation itself.
        pre: per layer (n_out,).
        post: per layer (n_out,).
        unstable: (k, 2) pairs (layer, index), by layer.
        cut_rows: (k,) for each unstable neuron the row 0 ≤ a − z.
        affine_rows: per layer (n_out,) the rows W a − z = −b, −1 for a neuron without a column z.
    """

    system: System
    pre: tuple[np.ndarray, ...]
    post: tuple[np.ndarray, ...]
    unstable: np.ndarray
    cut_rows: np.ndarray
    affine_rows: tuple[np.ndarray, ...]

    @cached_property
    def unstable_columns(self) -> tuple[np.ndarray, np.ndarray]:
        """The columns (z, a) of the unstable neurons, each (k,)."""
        z = [int(self.pre[k][i]) for k, i in self.unstable]
        a = [int(self.post[k][i]) for k, i in self.unstable]
        return np.array(z, dtype=int), np.array(a, dtype=int)

    def with_rows(self, rows: np.ndarray, bound: np.ndarray) -> System:
        """The system with the further constraints rows @ y ≥ bound on the outputs y.

        Args:
            rows: (k, n_outputs).
            bound: (k,).
        """
        outputs = self.post[-1]
        kept = outputs >= 0
        extra = np.zeros((len(bound), self.system.matrix.shape[1]))
        extra[:, outputs[kept]] = rows[:, kept]
        lower, upper = self.system.rows
        return System(
            sp.csr_array(sp.vstack([self.system.matrix, sp.csr_array(extra)], format="csr")),
            self.system.columns,
            (np.concatenate([lower, bound]), np.concatenate([upper, np.full(len(bound), np.inf)])),
        )


def triangle(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope s and intercept t with max(z, 0) ≤ s z + t for every z in [lower, upper].

    Args:
        lower: (n,) negative and finite.
        upper: (n,) positive and finite.
    """
    # Halving first keeps u - l inside the float64 range. Any s in [0, 1] is sound, so that 1 does
    # where the quotient is 0/0 on subnormal numbers.
    with np.errstate(invalid="ignore"):
        slope = (0.5 * upper) / (0.5 * upper - 0.5 * lower)
    slope = np.clip(np.nan_to_num(slope, nan=1.0), 0.0, 1.0)
    at_lower, at_upper = up(-slope * lower, 4), up(upper * up(1.0 - slope, 2), 4)
    return slope, np.maximum(at_lower, at_upper)


class Rows:
    """Rows of a sparse matrix, collected block by block."""

    def __init__(self) -> None:
        self.count = 0
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.lower: list[np.ndarray] = []
        self.upper: list[np.ndarray] = []

    def add(self, entries: sp.coo_array, lower: np.ndarray, upper: np.ndarray) -> None:
        """Append the rows of ``entries`` with their bounds."""
        self.parts.append((entries.row + self.count, entries.col, entries.data))
        self.lower.append(lower)
        self.upper.append(upper)
        self.count += len(lower)

    def matrix(self, columns: int) -> sp.csr_array:
        """All rows so far as one matrix."""
        row, col, data = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        return sp.csr_array((data, (row, col)), shape=(self.count, columns))


def relax(network: Network, box: Bounds, bounds: list[Bounds]) -> Relaxation:
    """The triangle relaxation of a network.

    Args:
        network: float layers only.
        box: (lower, upper) that contain all inputs in question.
        bounds: for each layer proved bounds (lower, upper) on its pre-activations over the box.

    Raises:
        OverflowError: some bound is not finite.
    """
    if not all(np.isfinite(end).all() for pair in [box, *bounds] for end in pair):
        raise OverflowError("the bounds of a pre-activation leave the float64 range")
    rows, columns = Rows(), [box]
    count, previous = network.n_inputs, np.arange(network.n_inputs)
    pre, post, unstable, cut_rows, affine_rows = [], [], [], [], []
    for k, (layer, (lower, upper)) in enumerate(zip(network.layers, bounds, strict=True)):
        kept = ~(layer.relu & (upper <= 0))
        split = np.flatnonzero(layer.relu & (lower < 0) & (upper > 0))
        z = np.full(layer.n_out, -1)
        z[kept] = count + np.arange(kept.sum())
        count += int(kept.sum())
        a = z.copy()
        a[split] = count + np.arange(len(split))
        count += len(split)
        columns += [(lower[kept], upper[kept]), (np.zeros(len(split)), upper[split])]
        affine_rows.append(np.where(kept, rows.count + np.cumsum(kept) - 1, -1))
        add_affine_rows(rows, layer, kept, previous, z)
        cut_rows.append(rows.count + np.arange(len(split)))
        _triangle_rows(rows, z[split], a[split], lower[split], upper[split])
        unstable.append(np.stack([np.full(len(split), k), split], axis=1))
        pre.append(z)
        post.append(a)
        previous = a
    system = System(
        rows.matrix(count),
        (np.concatenate([c[0] for c in columns]), np.concatenate([c[1] for c in columns])),
        (np.concatenate(rows.lower), np.concatenate(rows.upper)),
    )
    return Relaxation(
        system, tuple(pre), tuple(post), np.concatenate(unstable), np.concatenate(cut_rows),
        tuple(affine_rows),
    )  # fmt: skip


def add_affine_rows(
    rows: Rows, layer: Layer, kept: np.ndarray, previous: np.ndarray, z: np.ndarray
) -> None:
    """W a − z = −b for the kept neurons, in the columns ``previous`` of a (−1: a is 0)."""
    entries = sp.coo_array(sp.csr_array(layer.weight)[kept])
    present = previous[entries.col] >= 0
    n = int(kept.sum())
    joined = sp.coo_array(
        (
            np.concatenate([entries.data[present], np.full(n, -1.0)]),
            (
                np.concatenate([entries.row[present], np.arange(n)]),
                np.concatenate([previous[entries.col[present]], z[kept]]),
            ),
        ),
        shape=(n, int(max(previous.max(initial=0), z.max(initial=0))) + 1),
    )
    rows.add(joined, -layer.bias[kept], -layer.bias[kept])


def _triangle_rows(
    rows: Rows, z: np.ndarray, a: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> None:
    """0 ≤ a − z, then a − s z ≤ t, for the unstable neurons."""
    n = len(z)
    slope, intercept = triangle(lower, upper)
    infinite, where = np.full(n, np.inf), np.concatenate([np.arange(n), np.arange(n)])
    width = int(max(z.max(initial=0), a.max(initial=0))) + 1
    for factor, low, high in (
        (np.ones(n), np.zeros(n), infinite),
        (slope, -infinite, intercept),
    ):
        data = np.concatenate([np.ones(n), -factor])
        entries = sp.coo_array((data, (where, np.concatenate([a, z]))), shape=(n, width))
        rows.add(entries, low, high)


def safe_lower_bound(system: System, cost: np.ndarray, multipliers: np.ndarray) -> float:
    """A float64 number that is at most min { c·v : v in the system }, in exact arithmetic.

    For any y (with y_i set to 0 where its side of row i is absent), weak duality gives

        c·v ≥ Σ_i (y_i⁺ row_lower_i − y_i⁻ row_upper_i) + Σ_j min_{l_j ≤ v_j ≤ u_j} (c − Aᵀy)_j v_j.

    Everything is computed in float64 and lowered by the a-priori error of each sum. A positive
    result with c = 0 proves the system empty.

    Args:
        system: the polyhedron.
        cost: (columns,) finite.
        multipliers: (rows,), for instance from a solver.

    Returns:
        The bound; minus infinity if float64 cannot hold the computation.
    """
    low, high = system.rows
    y = np.where((multipliers > 0) & np.isneginf(low), 0.0, multipliers)
    y = np.where((y < 0) & np.isposinf(high), 0.0, y)
    transpose, magnitude = system.transposed
    col_low, col_high = system.columns
    with np.errstate(all="ignore"):
        reduced = cost - transpose @ y
        error = gamma(system.longest + 2) * (np.abs(cost) + magnitude @ np.abs(y)) + TINY
        # r + e is itself rounded, but e is at least twice the true error.
        below, above = reduced - error, reduced + error
        corners = np.minimum(
            np.minimum(below * col_low, below * col_high),
            np.minimum(above * col_low, above * col_high),
        )
        sides = y * np.where(y > 0, low, high)
        terms = np.concatenate([corners, sides[y != 0]])
        slack = gamma(len(terms) + 2) * np.abs(terms).sum() + TINY
        bound = float(down(terms.sum() - slack))
    return bound if np.isfinite(bound) else -np.inf
