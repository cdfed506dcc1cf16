"""The bias part β_z over a part of a box as a mixed-integer linear program (T8 b).

Beside the pre-activations u = W h + b stand the values v = W β + b of the bias recursion. With
proved bounds L ≤ u ≤ U and P ≤ v ≤ Q, a ReLU whose bit z is not known has

    h ≥ u,  h ≥ 0,  h ≤ u − L (1 − z),  h ≤ U z,
    P z ≤ β ≤ Q z,   v − Q (1 − z) ≤ β ≤ v − P (1 − z).

With binary z these lines describe exactly the points with their consistent patterns, with z in
[0, 1] a superset. All coefficients are weights or bounds as they stand, so that the program, read
as exact rationals, is the true one, and what ``safe_lower_bound`` gives is proved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.lp import Rows, System, add_affine_rows
from verifier.core.network import Network
from verifier.core.sparse import sp


@dataclass(frozen=True, eq=False)
class BiasProgram:
    """The relaxation, and where things are in it.

    The first n_inputs columns are the inputs.

    Args:
        system: with z in [0, 1].
        bits: (open ReLUs,) the columns of z.
        open: (open ReLUs, 2) the ReLUs as (layer, neuron), by layer.
        outputs: (n_outputs,) the columns of β at the outputs.
    """

    system: System
    bits: np.ndarray
    open: np.ndarray
    outputs: np.ndarray

    def lead(self, label: int, other: int) -> np.ndarray:
        """The cost β_label − β_other: (columns,)."""
        cost = np.zeros(self.system.matrix.shape[1])
        cost[self.outputs[label]] += 1.0
        cost[self.outputs[other]] -= 1.0
        return cost


def bias_program(
    network: Network,
    box: Bounds,
    bounds: list[Bounds],
    ranges: list[Bounds],
    phases: list[np.ndarray],
) -> BiasProgram:
    """The program of a part of a box where some bits are known.

    Args:
        network: float layers, the last without a ReLU.
        box: (lower, upper) that contain the part.
        bounds: per layer proved bounds on u over the part.
        ranges: per layer proved bounds on v over the part and its patterns.
        phases: per layer 1 where a ReLU is taken as on, −1 as off, 0 for either; 1 where there is
            none. A ReLU may be 0 only where its bounds on u contain 0.

    Raises:
        OverflowError: some bound is not finite.
    """
    everything = [box, *bounds, *ranges]
    if not all(np.isfinite(end).all() for pair in everything for end in pair):
        raise OverflowError("a bound leaves the float64 range")
    rows, columns = Rows(), _Columns(box)
    before = np.arange(network.n_inputs)
    beta = np.full(network.n_inputs, -1)
    bits, where = [], []
    for k, (layer, phase) in enumerate(zip(network.layers, phases, strict=True)):
        (low, high), (least, most) = bounds[k], ranges[k]
        # Off with u < 0 everywhere: nothing of it matters. Off by a split: u ≤ 0 does.
        some, on, kept = phase == 0, phase >= 0, (phase >= 0) | (high >= 0)
        u, v = columns.place(kept, low, high), columns.place(on, least, most)
        add_affine_rows(rows, layer, kept, before, u)
        add_affine_rows(rows, layer, on, beta, v)
        zero = np.zeros(len(phase))
        h = columns.place(some, zero, np.maximum(high, zero))
        b = columns.place(some, np.minimum(least, zero), np.maximum(most, zero))
        z = columns.place(some, zero, zero + 1.0)
        _bit_rows(
            rows, np.stack([u, h, v, b, z])[:, some], (low[some], high[some]),
            (least[some], most[some]),
        )  # fmt: skip
        bits.append(z[some])
        index = np.flatnonzero(some)
        where.append(np.stack([np.full(len(index), k), index], axis=1))
        before = np.where(some, h, np.where(on, u, -1))
        beta = np.where(some, b, v)
    system = System(
        rows.matrix(columns.count),
        (np.concatenate(columns.lower), np.concatenate(columns.upper)),
        (np.concatenate(rows.lower), np.concatenate(rows.upper)),
    )
    return BiasProgram(system, np.concatenate(bits), np.concatenate(where), beta)


class _Columns:
    """Columns of a program with their bounds, collected layer by layer; the inputs come first."""

    def __init__(self, box: Bounds) -> None:
        self.lower, self.upper = [box[0]], [box[1]]
        self.count = len(box[0])

    def place(self, mask: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """New columns for the neurons of the mask; −1 for the others."""
        found = np.full(len(mask), -1)
        found[mask] = self.count + np.arange(mask.sum())
        self.count += int(mask.sum())
        self.lower.append(lower[mask])
        self.upper.append(upper[mask])
        return found


def _bit_rows(rows: Rows, places: np.ndarray, u_bounds: Bounds, v_bounds: Bounds) -> None:
    """The lines of the module's docstring that are not bounds of columns.

    Args:
        rows: where to.
        places: (5, n) columns of u, h, v, β, z.
        u_bounds, v_bounds: (L, U) and (P, Q), each (n,).
    """
    u, h, v, b, z = places
    (low, high), (least, most) = u_bounds, v_bounds
    n = len(u)
    one, zero, none = np.ones(n), np.zeros(n), np.full(n, np.inf)

    def add(
        terms: list[tuple[np.ndarray, np.ndarray]], lower: np.ndarray, upper: np.ndarray
    ) -> None:
        """n rows Σ factor · column."""
        data = np.concatenate([factor for factor, _ in terms])
        column = np.concatenate([place for _, place in terms])
        index = np.tile(np.arange(n), len(terms))
        width = int(places.max(initial=0)) + 1
        rows.add(sp.coo_array((data, (index, column)), shape=(n, width)), lower, upper)

    add([(one, h), (-one, u)], zero, none)
    add([(one, h), (-one, u), (-low, z)], -none, -low)
    add([(one, h), (-high, z)], -none, zero)
    add([(one, b), (-least, z)], zero, none)
    add([(one, b), (-most, z)], -none, zero)
    add([(one, v), (-one, b), (most, z)], -none, most)
    add([(one, v), (-one, b), (least, z)], least, none)
