"""Backward linear bounds of many subproblems of one box: proposed in float32, decided in float64.

All subproblems share the pre-activation bounds of a box. A neuron that is dead there takes no part,
one that is always active takes part in the products only, and an unstable one has one number a
subproblem: the slope of the line below its ReLU, or, where its sign is assumed, the multiplier of
that constraint. Steps towards better numbers are float32 and need no account of their rounding,
because one pass in float64, with the error bounds of ``verifier.bounds.linear``, says what the
numbers that they end with are worth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from verifier.bounds import kernels, reduced_kernels
from verifier.bounds.interval import Bounds
from verifier.bounds.linear import Backward, times
from verifier.bounds.proposals import Pass
from verifier.bounds.threads import cores, workers
from verifier.core.sparse import is_sparse

#: Subproblems from which on a batch is shared among the cores.
_WORTH_SHARING = 32
#: Numbers in one array of coefficients of a pass.
_CHUNK_NUMBERS = 400_000


@dataclass(eq=False)
class Asked:
    """Lower bounds wanted of rows · a_start + const, a subproblem each.

    Args:
        rows: (N, n_start).
        const: (N,).
        sign: (N, n_units) int8, the assumed sign of each unstable neuron, 0 if none.
        param: (N, n_units) float32: slopes in [0, 1] where there is no sign, signed multipliers
            where there is one.
        free: whether the rows are weights >= 0, on forms of which any combination will do, so that
            they may be moved as well (where they are positive).
    """

    rows: np.ndarray
    const: np.ndarray
    sign: np.ndarray
    param: np.ndarray
    free: bool = False

    def __len__(self) -> int:
        return len(self.const)

    def take(self, index: np.ndarray | slice) -> Asked:
        """Some of them: copies for an array of indices, views for a slice."""
        return Asked(
            self.rows[index], self.const[index], self.sign[index], self.param[index], self.free
        )


@dataclass(frozen=True)
class Climb:
    """How numbers are improved: by steps that shrink geometrically to three fifths.

    Args:
        steps: how many.
        rate: size of the first step.
        enough: a subproblem is left alone once its bound exceeds this.
    """

    steps: int
    rate: float = 0.1
    enough: float = 0.0

    @property
    def shrink(self) -> float:
        """A step's size over that of the one before."""
        return 0.6 ** (1.0 / self.steps)


@dataclass(frozen=True, eq=False)
class _Lines:
    """What a pass needs of a layer, in float64 or in float32.

    Args:
        weight: (n, n_before) from the neurons of the layer before that are not dead.
        bias: (n,).
        low, slope, chord: (n_unstable,) lower ends, and the line above, a <= slope z + chord.
    """

    weight: Any
    bias: np.ndarray
    low: np.ndarray
    slope: np.ndarray
    chord: np.ndarray

    def single(self) -> _Lines:
        """In float32, which may overflow: then it proposes badly."""
        with np.errstate(over="ignore"):
            return _Lines(*(getattr(self, f.name).astype(np.float32) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class _Part:
    """One layer: the unstable neurons, then those that are always active.

    Args:
        live: (n,) its neurons.
        unstable: how many are.
        size: (n,) as in ``Backward``.
        lines, single: in float64 and in float32.
    """

    live: np.ndarray
    unstable: int
    size: np.ndarray
    lines: _Lines
    single: _Lines

    @staticmethod
    def of(engine: Backward, layer: int, bounds: Bounds, before: np.ndarray | None) -> _Part:
        """The layer's part, given which neurons of the layer before live (None for inputs)."""
        (low, high), relu = bounds, engine.relu[layer]
        unstable = np.flatnonzero(relu & (low < 0) & (high > 0))
        live = np.concatenate([unstable, np.flatnonzero(~relu | (low >= 0))])
        weight: Any = engine.weights[layer][live]
        weight = weight if before is None else weight[:, before]
        if not is_sparse(weight):
            weight = np.ascontiguousarray(weight)
        slope, chord = np.empty(len(unstable)), np.empty(len(unstable))
        kernels.chords(low[unstable], high[unstable], slope, chord)
        lines = _Lines(weight, engine.bias[layer][live], low[unstable], slope, chord)
        return _Part(live, len(unstable), engine.size[layer][live], lines, lines.single())


class Reduced:
    """Passes from one layer's activations back to the input.

    Attributes:
        parts: layer by layer, what takes part.
        first: the column of each layer's first unstable neuron.
        corners: the box in float32.

    Args:
        engine: backward engine of the box.
        bounds: rigorous pre-activation bounds of the layers up to there.
    """

    def __init__(self, engine: Backward, bounds: list[Bounds]) -> None:
        self.engine = engine
        self.parts: list[_Part] = []
        for k, pair in enumerate(bounds):
            before = self.parts[-1].live if self.parts else None
            self.parts.append(_Part.of(engine, k, pair, before))
        counts = [part.unstable for part in self.parts]
        self.first = [sum(counts[:k]) for k in range(len(counts))]
        self._box = (engine.lower[None, :], engine.upper[None, :])
        self.corners = (engine.lower.astype(np.float32), engine.upper.astype(np.float32))
        self._chunk = max(
            16, _CHUNK_NUMBERS // max(len(engine.lower), *(len(b[0]) for b in bounds))
        )

    def values(self, q: Asked) -> np.ndarray:
        """Rigorous lower bounds (N,); -inf where an overflow made one meaningless."""
        out = np.empty(len(q))

        def one(part: slice) -> None:
            out[part] = self._values(q.take(part))

        self._share(len(q), one)
        return out

    def estimates(self, q: Asked) -> np.ndarray:
        """About the same in float32: (N,), to choose by."""
        out = np.empty(len(q))

        def one(part: slice) -> None:
            out[part] = Pass(self, q.take(part)).backward().value

        self._share(len(q), one)
        return out

    def coefficients(self, q: Asked) -> np.ndarray:
        """The coefficients of all units' activations in a pass in float32, (N, n_units)."""
        out = np.empty(q.param.shape, dtype=np.float32)

        def one(piece: slice) -> None:
            run = Pass(self, q.take(piece)).backward()
            for lam, part, first in zip(run.lam, self.parts, self.first, strict=True):
                out[piece, first : first + part.unstable] = lam[:, : part.unstable]

        self._share(len(q), one)
        return out

    def climb(self, q: Asked, how: Climb, stop: Callable[[], bool]) -> np.ndarray:
        """Move ``param`` (and free rows) to the best that is found by projected Adam steps.

        Args:
            q: the subproblems; updated.
            how: number and sizes of steps.
            stop: asked between steps; the best so far is then kept.

        Returns:
            the minimising corner of each subproblem's last pass, (N, n_inputs).
        """
        point = np.empty((len(q), len(self.corners[0])), dtype=np.float32)

        def one(part: slice) -> None:
            self._climb(q.take(part), how, point[part], stop)

        self._share(len(q), one)
        return np.where(point == self.corners[0], self.engine.lower, self.engine.upper)

    def _share(self, count: int, work: Callable[[slice], None]) -> None:
        """Do the work for pieces of all subproblems, on all cores."""
        pieces = -(-count // self._chunk)
        if count >= _WORTH_SHARING:
            pieces = -(-pieces // cores()) * cores()
        ends = np.linspace(0, count, pieces + 1).astype(int).tolist()
        slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        if count < _WORTH_SHARING:
            for piece in slices:
                work(piece)
        else:
            list(workers().map(work, slices))

    def _values(self, q: Asked) -> np.ndarray:
        """``values`` of a piece, in the calling thread."""
        const, mag = q.const.copy(), np.abs(q.const)
        lam = q.rows[:, self.parts[-1].live] if self.parts else q.rows
        lam = np.ascontiguousarray(lam, dtype=np.float64)
        for part, first in zip(self.parts[::-1], self.first[::-1], strict=True):
            lines = part.lines
            reduced_kernels.checked_backward(
                lam, first, q.param, q.sign, lines.slope, lines.chord, lines.bias, part.size,
                const, mag,
            )  # fmt: skip
            lam = times(lam, lines.weight)
        return self.engine.conclude(lam, self._box, const, mag)[0]

    def _climb(self, q: Asked, how: Climb, point: np.ndarray, stop: Callable[[], bool]) -> None:
        """``climb`` of a piece, in the calling thread."""
        best = np.full(len(q), -np.inf, dtype=np.float32)
        alive = np.arange(len(q))
        run, rate = Pass(self, q.take(alive)), how.rate
        for step in range(1, how.steps + 2):
            run.backward()
            better = np.flatnonzero(run.value > best[alive])
            best[alive[better]] = run.value[better]
            q.param[alive[better]] = run.q.param[better]
            if q.free:
                q.rows[alive[better]] = run.q.rows[better]
            if step > how.steps or stop():
                point[alive] = run.point
                break
            # The margin is for what float32 does not see.
            keep = np.flatnonzero(~(best[alive] > how.enough + 1e-5 * run.scale))
            if len(keep) < 0.75 * len(alive):
                point[alive] = run.point
                if not len(keep):
                    break
                alive = alive[keep]
                run = run.take(keep)
            run.ascend(rate, step)
            rate *= how.shrink
