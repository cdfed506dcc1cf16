"""Subproblems of a neuron-splitting search: assumed signs, and multipliers so far."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.linear import Backward, Queries, default_slopes
from verifier.search.problem import Clause


class Units:
    """The neurons that are unstable on the outermost box, numbered through all layers.

    Attributes:
        layer, neuron: (n_units,) where each one is.
        index: a layer's unstable neurons; columns: their numbers.
        low, high: a layer's pre-activation bounds, (1, n).
    """

    def __init__(self, engine: Backward, bounds: list[Bounds]) -> None:
        self.low = [b[0][None, :] for b in bounds]
        self.high = [b[1][None, :] for b in bounds]
        self.index = [
            np.flatnonzero(relu & (low < 0) & (high > 0))
            for relu, (low, high) in zip(engine.relu, bounds, strict=True)
        ]
        sizes = np.cumsum([0] + [len(i) for i in self.index])
        self.columns = [np.arange(a, b) for a, b in itertools.pairwise(sizes)]
        self.layer = np.repeat(np.arange(len(self.index)), [len(i) for i in self.index])
        self.neuron = np.concatenate(self.index)

    def __len__(self) -> int:
        return len(self.neuron)


@dataclass(eq=False)
class Batch:
    """Some subproblems, ready to be bounded together.

    Args:
        engine: backward engine of the outermost box.
        units: its unstable neurons.
        clauses: the problem's clauses.
        clause: (N,) position in ``clauses``.
        weights: (N, m) nonnegative weights on the rows of each one's clause (padded with 0).
        sign: (N, n_units) int8, the assumed sign of each unit, 0 if none.
        alpha: (N, n_units) float32 slopes.
        mult: (N, n_units) float32 signed multipliers.
        node: (N,) number in the search tree.
        value: (N,) best lower bound known on minus the clause's weighted slack.
    """

    engine: Backward
    units: Units
    clauses: tuple[Clause, ...]
    clause: np.ndarray
    weights: np.ndarray
    sign: np.ndarray
    alpha: np.ndarray
    mult: np.ndarray
    node: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.clause)

    _ARRAYS = ("clause", "weights", "sign", "alpha", "mult", "node", "value")

    def take(self, index: np.ndarray) -> Batch:
        """Copies of some of the subproblems."""
        arrays = {name: getattr(self, name)[index] for name in self._ARRAYS}
        return Batch(self.engine, self.units, self.clauses, **arrays)

    @staticmethod
    def join(parts: list[Batch]) -> Batch:
        """One batch from several (at least one)."""
        arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Batch._ARRAYS}
        return Batch(parts[0].engine, parts[0].units, parts[0].clauses, **arrays)

    def split(self, unit: np.ndarray) -> Batch:
        """All children where ``unit[i]`` of subproblem i is assumed >= 0, then all where <= 0."""
        n, rows = len(self), np.arange(len(self))
        out = self.take(np.tile(rows, 2))
        out.sign[rows, unit], out.sign[n + rows, unit] = 1, -1
        out.mult[np.arange(2 * n), np.tile(unit, 2)] = 0.0
        return out

    def queries(self) -> Queries:
        """Lower-bound queries on minus the weighted slack of each one's clause."""
        engine, depth, n = self.engine, self.engine.network.depth, len(self)
        rows, const = np.zeros((n, engine.network.n_outputs)), np.zeros(n)
        for c, clause in enumerate(self.clauses):
            mine = np.flatnonzero(self.clause == c)
            if len(mine):
                weights = self.weights[mine][:, : len(clause.bound)]
                rows[mine] = -(weights @ clause.rows)
                const[mine] = weights @ clause.bound
        low, high, alpha, mult, sign = [], [], [], [], []
        for k in range(depth):
            columns, index = self.units.columns[k], self.units.index[k]
            base_low, base_high = self.units.low[k], self.units.high[k]
            s = np.zeros((n, base_low.shape[1]), dtype=np.int8)
            s[:, index] = self.sign[:, columns]
            a = np.repeat(default_slopes(base_low, base_high), n, axis=0)
            a[:, index] = self.alpha[:, columns]
            m = np.zeros(s.shape)
            m[:, index] = self.mult[:, columns]
            low.append(np.where(s > 0, np.maximum(base_low, 0.0), base_low))
            high.append(np.where(s < 0, np.minimum(base_high, 0.0), base_high))
            alpha.append(a)
            mult.append(m)
            sign.append(s)
        box = (engine.lower[None, :], engine.upper[None, :])
        return Queries(depth, rows, const, alpha, low, high, box, mult, sign)

    def keep(self, q: Queries, value: np.ndarray) -> None:
        """Store the slopes and multipliers that the queries ended with, and the bounds."""
        for k in range(q.start):
            columns, index = self.units.columns[k], self.units.index[k]
            self.alpha[:, columns] = q.alpha[k][:, index]
            if q.mult is not None:
                self.mult[:, columns] = q.mult[k][:, index]
        self.value = np.maximum(self.value, value)
