"""Subproblems of a neuron-splitting search: assumed signs, and multipliers so far."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.linear import Backward, default_slopes
from verifier.bounds.passes import passes
from verifier.bounds.reduced import Asked, Reduced
from verifier.search.problem import Problem

#: Bits of a weight after its point, in a coarse and in a fine proof.
WEIGHT_BITS = (15, 20)


class Units:
    """The neurons that are unstable on the outermost box, numbered through all layers.

    Attributes:
        layer, neuron: (n_units,) where each one is.
        index: a layer's unstable neurons; columns: their numbers.
        low, high: a layer's pre-activation bounds, (1, n).
        ends: their bounds, two arrays (n_units,).
    """

    def __init__(self, engine: Backward, bounds: list[Bounds]) -> None:
        """Number the unstable neurons of the layers that have bounds (a prefix of all layers)."""
        self.low = [b[0][None, :] for b in bounds]
        self.high = [b[1][None, :] for b in bounds]
        self.index = [
            np.flatnonzero(relu & (low < 0) & (high > 0))
            for relu, (low, high) in zip(engine.relu, bounds, strict=False)
        ]
        sizes = np.cumsum([0] + [len(i) for i in self.index])
        self.columns = [np.arange(a, b) for a, b in itertools.pairwise(sizes)]
        self.layer = np.repeat(np.arange(len(self.index)), [len(i) for i in self.index])
        self.neuron = np.concatenate(self.index)
        ends = zip(self.index, bounds, strict=True)
        both = [(low[index], high[index]) for index, (low, high) in ends]
        self.ends = tuple(np.concatenate(part) for part in zip(*both, strict=True))
        self._engine, self._bounds = engine, bounds

    def __len__(self) -> int:
        return len(self.neuron)

    @cached_property
    def passes(self) -> Reduced:
        """Backward passes through the neurons that are not dead."""
        return passes(self._engine, self._bounds)


@dataclass(frozen=True, eq=False)
class Goals:
    """Linear forms of one layer's activations whose minimum is wanted: rows . a_start + const.

    Args:
        start: the layer (0 is the input, k the k-th layer).
        rows: (G, n_start).
        const: (G,).
        free_weights: whether the rows are weights that may be moved (see ``Asked``).
    """

    start: int
    rows: np.ndarray
    const: np.ndarray
    free_weights: bool = False


def slope_codes(alpha: np.ndarray, fine: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Slopes as bytes (c, f): 64 c + f in units of 2^-14, c one more from 128 on; f is 0 if coarse.

    So that both 0 and 1 have a code; 1/2 takes its 64 from f.
    """
    if not fine:
        steps = np.rint(alpha * 256.0).astype(np.int64)
        return (steps - (steps >= 129)).astype(np.uint8), np.zeros(alpha.shape, np.uint8)
    units = np.rint(alpha * 2.0**14).astype(np.int64)
    steps = units >> 6
    steps -= steps == 128
    return (steps - (steps >= 129)).astype(np.uint8), (units - (steps << 6)).astype(np.uint8)


def slopes_of(code: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """The float32 slopes that the bytes stand for."""
    steps = code.astype(np.int64) + (code >= 128)
    return ((steps * 64 + fine) / 2.0**14).astype(np.float32)


def clause_goals(problem: Problem) -> Goals:
    """One goal a clause: its constraints with equal weights, to be moved where there are several.

    Any weights are sound; float32 ones are stored as they are.
    """
    clauses = problem.clauses
    owner = np.repeat(np.arange(len(clauses)), [len(c.bound) for c in clauses])
    weights = np.float32(1.0 / np.bincount(owner)[owner])
    rows = np.where(owner == np.arange(len(clauses))[:, None], weights, np.float32(0.0))
    several = len(owner) > len(clauses)
    return Goals(problem.slacks.depth, rows.astype(np.float64), np.zeros(len(clauses)), several)


@dataclass(eq=False)
class Batch:
    """Some subproblems, ready to be bounded together.

    Args:
        engine: backward engine of the outermost box.
        units: its unstable neurons.
        goals: what is minimised.
        goal: (N,) which of them, for each subproblem.
        sign: (N, n_units) int8, the assumed sign of each unit, 0 if none.
        alpha: (N, n_units) float32 slopes.
        mult: (N, n_units) float32 signed multipliers.
        weights: (N, n_start) float32 weights that took the place of the goals' rows; (N, 0) if
            these are fixed.
        node: (N,) number in the search tree.
        value: (N,) best lower bound known on the goal.
    """

    engine: Backward
    units: Units
    goals: Goals
    goal: np.ndarray
    sign: np.ndarray
    alpha: np.ndarray
    mult: np.ndarray
    weights: np.ndarray
    node: np.ndarray
    value: np.ndarray

    ARRAYS: ClassVar = ("goal", "sign", "alpha", "mult", "weights", "node", "value")

    @staticmethod
    def unit_bytes() -> int:
        """Bytes of a subproblem for each unit."""
        return sum(np.dtype(kind).itemsize for kind in (np.int8, np.float32, np.float32))

    def __len__(self) -> int:
        return len(self.goal)

    @classmethod
    def root(cls, engine: Backward, units: Units, goals: Goals) -> Batch:
        """One subproblem a goal, nothing split, default slopes; node numbers are the goals'."""
        count, n = len(goals.const), len(units)
        alpha = np.zeros((count, n), dtype=np.float32)
        for columns, index, low, high in zip(
            units.columns, units.index, units.low, units.high, strict=True
        ):
            alpha[:, columns] = default_slopes(low[0, index], high[0, index])
        weights = goals.rows if goals.free_weights else np.zeros((count, 0))
        return cls(
            engine, units, goals, np.arange(count), np.zeros((count, n), np.int8), alpha,
            np.zeros((count, n), np.float32), weights.astype(np.float32), np.arange(count),
            np.full(count, -np.inf),
        )  # fmt: skip

    def take(self, index: np.ndarray) -> Batch:
        """Copies of some of the subproblems."""
        arrays = {name: getattr(self, name)[index] for name in self.ARRAYS}
        return Batch(self.engine, self.units, self.goals, **arrays)

    def rounded(self, fine: bool) -> Batch:
        """Copies whose numbers have few bits, with the bounds that these prove.

        Args:
            fine: slopes of 14 bits, multipliers of 16 and weights of 20, or 8, 8 and 15.
        """
        out = self.take(np.arange(len(self)))
        out.alpha = slopes_of(*slope_codes(self.alpha, fine))
        bits = self.mult.view(np.uint32)
        half, mask = (0x80, 0xFFFFFF00) if fine else (0x8000, 0xFFFF0000)
        # Too small to be said: none at all.
        said = np.abs(self.mult) > 2.0**-100
        near = ((bits + np.uint32(half)) & np.uint32(mask)).view(np.float32)
        out.mult = np.where(said, near, np.float32(0.0))
        unit = 2.0 ** WEIGHT_BITS[fine]
        out.weights = (np.rint(self.weights * unit) / unit).astype(np.float32)
        out.value = out.units.passes.values(out.asked()) if len(out) else out.value
        return out

    @staticmethod
    def join(parts: list[Batch]) -> Batch:
        """One batch from several (at least one)."""
        first = parts[0]
        if len(parts) == 1:
            return first
        arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Batch.ARRAYS}
        return Batch(first.engine, first.units, first.goals, **arrays)

    def split(self, unit: np.ndarray) -> Batch:
        """All children where ``unit[i]`` of subproblem i is assumed >= 0, then all where <= 0."""
        n, rows = len(self), np.arange(len(self))
        out = self.take(np.tile(rows, 2))
        out.sign[rows, unit], out.sign[n + rows, unit] = 1, -1
        out.mult[np.arange(2 * n), np.tile(unit, 2)] = 0.0
        return out

    def asked(self) -> Asked:
        """The lower bounds that are wanted, with the slopes and multipliers found so far."""
        free, const = self.goals.free_weights, self.goals.const[self.goal]
        rows = self.weights.astype(np.float64) if free else self.goals.rows[self.goal]
        param = np.where(self.sign == 0, self.alpha, self.mult)
        return Asked(rows, const, self.sign, param, free)

    def keep(self, asked: Asked, value: np.ndarray) -> None:
        """Store the slopes and multipliers that the passes ended with, and the bounds."""
        self.alpha = np.where(self.sign == 0, asked.param, self.alpha)
        self.mult = np.where(self.sign == 0, np.float32(0.0), asked.param)
        if asked.free:
            self.weights = asked.rows.astype(np.float32)
        self.value = np.maximum(self.value, value)
