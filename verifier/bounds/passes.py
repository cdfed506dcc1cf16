"""Who makes the passes of a search: the processor, or a device that is lent to it for a while.

A device may propose only. What it says is brought into the ranges in which any numbers are sound
(slopes in [0, 1], multipliers of the assumed sign, weights that are not negative, all finite)
before ``Reduced.values`` bounds them in float64 on the processor, with all of its rounding
accounted for. So no property of a device's arithmetic, nor a defect of it, is part of any verdict:
the worst it can do is to waste time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.linear import Backward
from verifier.bounds.reduced import Asked, Climb, Reduced


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a device found.

    Args:
        param: (N, n_units) as in ``Asked``.
        rows: (N, n_start) weights if these are free, else None.
        upper: (N, n_inputs) bool, which ends of the box the minimising corners have.
    """

    param: np.ndarray
    rows: np.ndarray | None
    upper: np.ndarray


class Lent(Reduced):
    """Passes whose proposals come from a device; bounds come from the processor as ever.

    ``estimates`` and ``coefficients`` are to be overridden as well: they only choose what to split.
    """

    @abstractmethod
    def propose(self, q: Asked, how: Climb, stop: Callable[[], bool]) -> Proposal:
        """Better numbers for the subproblems, which are not changed."""

    def climb(self, q: Asked, how: Climb, stop: Callable[[], bool]) -> np.ndarray:
        """As ``Reduced.climb``, with the device's proposal."""
        found = self.propose(q, how, stop)
        accept(q, found)
        return np.where(found.upper, self.engine.upper, self.engine.lower)


def accept(q: Asked, found: Proposal) -> None:
    """Take over the numbers of a proposal, moved to where any are sound; the rest stays.

    Args:
        q: the subproblems; updated.
        found: anything of the right shapes.
    """
    free, finite = q.sign == 0, np.isfinite(found.param)
    with np.errstate(invalid="ignore"):
        slope = np.clip(found.param, 0.0, 1.0)
        multiplier = np.where(found.param * q.sign > 0, found.param, 0.0)
    q.param[...] = np.where(finite, np.where(free, slope, multiplier), q.param)
    if q.free and found.rows is not None:
        rows = np.asarray(found.rows, dtype=np.float32).astype(np.float64)
        q.rows[...] = np.where(np.isfinite(rows) & (rows > 0) & (q.rows > 0), rows, q.rows)


class Maker(Protocol):
    """Who makes passes."""

    @property
    def larger(self) -> int:
        """How many times larger than usual the batches of a search should be."""

    def __call__(self, engine: Backward, bounds: list[Bounds]) -> Reduced:
        """Passes from one layer's activations back to the input (arguments of ``Reduced``)."""


class _Processor:
    """The processor itself."""

    larger = 1

    def __call__(self, engine: Backward, bounds: list[Bounds]) -> Reduced:
        return Reduced(engine, bounds)


_MAKER: ContextVar[Maker] = ContextVar("maker", default=_Processor())  # noqa: B039  (no state)


def passes(engine: Backward, bounds: list[Bounds]) -> Reduced:
    """Passes of whoever is in charge."""
    return _MAKER.get()(engine, bounds)


def larger() -> int:
    """How many times larger than usual batches should be for whoever is in charge."""
    return _MAKER.get().larger


@contextmanager
def made_by(maker: Maker) -> Iterator[None]:
    """Let someone else make the passes of all searches that this thread begins meanwhile."""
    token = _MAKER.set(maker)
    try:
        yield
    finally:
        _MAKER.reset(token)
