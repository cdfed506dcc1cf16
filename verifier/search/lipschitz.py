"""The ℓ∞ Lipschitz constant of a network, exactly or between two proved bounds.

F is affine on each of its linear regions, so that on a convex domain with an interior

    Lip(F) = max over outputs k and full-dimensional regions R meeting the domain of ‖∇F_k|_R‖₁,

both norms being ℓ∞. Branch and bound over the signs of pre-activations: layer by layer, so that
every sign is a linear inequality in the input, every cell is a polyhedron whose emptiness is
decided exactly (``lipschitz_domain``), and a sign pattern counts only if an open set has it. Upper
bounds enclose the gradient over all phases that are still open (``lipschitz_slopes``; Weng et al.
2018, Fast-Lip); a lower bound is a gradient evaluated exactly at an exact point. Exactness by
branching over phases: Jordan and Dimakis 2020, LipMIP.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.bounds.threads import single_threaded_blas
from verifier.core.errors import NetworkError
from verifier.core.network import Network
from verifier.core.property import Box
from verifier.search.exact_forms import fraction, nearest
from verifier.search.lipschitz_domain import Domain, Form, value
from verifier.search.lipschitz_evidence import (
    ACTIVE,
    INACTIVE,
    OPEN,
    Attained,
    Capped,
    Lipschitz,
    LipschitzEvidence,
    Split,
    Step,
    Void,
)
from verifier.search.lipschitz_level import Directions, Level, aheads
from verifier.search.lipschitz_propose import steep_points
from verifier.search.lipschitz_slopes import Slopes, backward_ranges, known_phases
from verifier.search.problem import Deadline, Progress

#: Weights, counted densely, from which on exact copies of them do not fit into memory.
MAX_WEIGHTS = 10_000_000


def lipschitz(
    network: Network,
    box: Box | None = None,
    rows: Sequence[Sequence[int]] | None = None,
    *,
    deadline: Deadline | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Lipschitz:
    """The largest ℓ1 norm of a gradient of rows · F, with evidence.

    Args:
        network: any network.
        box: where; None for all of R^d. Coordinates of width 0 count as constants.
        rows: (K, n_outputs) numbers; every output by default. The largest of the K constants is
            the ℓ∞ Lipschitz constant of rows · F.
        deadline: when to stop; none by default. The first bounds are always computed.
        seed: of the points that are tried for the lower bound.
        progress: called now and then.

    Raises:
        PropertyError: the box does not fit, or is a single point.
        NetworkError: rows that do not fit, or more weights than ``MAX_WEIGHTS``.
    """
    asked = np.eye(network.n_outputs, dtype=object) if rows is None else np.array(rows, object)
    if asked.ndim != 2 or asked.shape[1] != network.n_outputs or not len(asked):
        raise NetworkError(
            f"expected rows of {network.n_outputs} numbers, one an output, got shape {asked.shape}"
        )
    domain = Domain(box, network.n_inputs)
    weights = sum(layer.n_out * layer.n_in for layer in network.layers)
    if weights > MAX_WEIGHTS:
        raise NetworkError(
            f"{network.name}: {weights} weights counted densely; exact gradients are computed up "
            f"to {MAX_WEIGHTS}"
        )
    single_threaded_blas()
    search = _Search(network, domain, asked, deadline or Deadline(np.inf), progress)
    search.propose(seed)
    return search.run()


@dataclass(frozen=True, eq=False)
class _Cell:
    """An open node: a full-dimensional cell and what is decided in it.

    Args:
        bound: of the slopes in it.
        level: the layer at work.
        phases: of that layer's coordinates.
        forms: that are positive in the cell; those of the splits on its path that are not implied.
        kept: which splits these are, counted along the path.
        depth: splits on the path.
        point: inside.
        place: in the tree.
    """

    bound: fmpq
    level: Level
    phases: np.ndarray
    forms: tuple[Form, ...]
    kept: tuple[int, ...]
    depth: int
    point: list[fmpq]
    place: int


class _Search:
    """Best first: the cell with the largest bound is split next."""

    def __init__(
        self,
        network: Network,
        domain: Domain,
        rows: np.ndarray,
        deadline: Deadline,
        progress: Progress | None,
    ) -> None:
        self.domain, self.deadline, self.progress = domain, deadline, progress
        self.slopes, self.directions = Slopes(network, rows), Directions(domain.n)
        self.rows = rows
        self.known = known_phases(network, domain.box, lambda: deadline.passed)
        self.ranges = backward_ranges(self.slopes, self.known)
        self.ahead = aheads(self.slopes, self.known, self.ranges)
        self.best: Attained | None = None
        self.lower = fmpq(0)
        self.steps: list[Step | None] = [None]
        self.heap: list[tuple[float, int, _Cell]] = []
        self.count = {"cells": 0, "programs": 0}

    def propose(self, seed: int) -> None:
        """Raise the lower bound by steep points that floats suggest."""
        for x in steep_points(self.slopes.network, self.domain, self.rows, seed, self.deadline):
            self._try(self.domain.of_floats(x))

    def run(self) -> Lipschitz:
        """Split until nothing is steeper than the best point, or the time is up."""
        level = self._level(0, self.domain.start)
        phases = self._phases(level)
        root = _Cell(self._bound(level, phases), level, phases, (), (), 0, self.domain.middle(), 0)
        self._push(root)
        while self.heap and not self.deadline.passed:
            cell = self.heap[0][2]
            if cell.bound <= self.lower:
                break
            heapq.heappop(self.heap)
            self.count["cells"] += 1
            if not self._expand(cell):
                self._push(cell)
            self._report()
        return self._result()

    def _result(self) -> Lipschitz:
        """The bounds, and the tree with every open cell capped."""
        upper = self.lower
        for _, _, cell in self.heap:
            upper = max(upper, cell.bound)
            self.steps[cell.place] = Capped(fraction(cell.bound))
        steps = tuple(step for step in self.steps if step is not None)
        return Lipschitz(
            fraction(self.lower),
            fraction(upper),
            self.best,
            LipschitzEvidence(tuple(self.known), steps),
            None if upper == self.lower else "time limit",
            {name: float(number) for name, number in self.count.items()},
        )

    def _report(self) -> None:
        """Say where the bounds are; whoever listens decides how often that is shown."""
        if self.progress is None:
            return
        low = nearest(self.lower)
        high = max(low, -self.heap[0][0]) if self.heap else low
        what = f"between {low:.6g} and {high:.6g}, {len(self.heap)} open cells"
        self.progress(what, -1.0)

    def _push(self, cell: _Cell) -> None:
        """Keep the cell open, or close it if nothing in it is steeper than the best point."""
        if cell.bound <= self.lower:
            self.steps[cell.place] = Capped(fraction(cell.bound))
            return
        heapq.heappush(self.heap, (-nearest(cell.bound), cell.place, cell))

    def _bound(self, level: Level, phases: np.ndarray) -> fmpq:
        """A bound on the slopes: in float64, but exact where that could close the cell."""
        rough = level.bound(phases)[0]
        low = nearest(self.lower)
        if not np.isfinite(rough) or low * (1 - 1e-9) <= rough <= low * (1 + 1e-9):
            return level.exact_bound(phases)
        return fmpq(*rough.as_integer_ratio())

    def _level(self, k: int, before: fmpq_mat) -> Level:
        return Level(
            k, self.slopes.forward(k, before), self.ranges[k], self.directions, self.ahead[k]
        )

    def _phases(self, level: Level) -> np.ndarray:
        """What is known of the layer: by bounds, or because a form is constant."""
        phases, n = self.known[level.layer].copy(), self.domain.n
        for i in np.flatnonzero((phases == OPEN) & level.constant):
            phases[i] = ACTIVE if level.forms[int(i), n] > 0 else INACTIVE
        return phases

    def _expand(self, cell: _Cell) -> bool:
        """Replace the cell by its parts; False if the time was up before that."""
        while not (cell.phases == OPEN).any():
            if cell.level.layer + 1 == len(self.slopes.layers):
                self._finish(cell)
                return True
            if self.deadline.passed:
                return False
            cell = self._advance(cell)
            if cell.bound <= self.lower:
                self._push(cell)
                return True
        weight = cell.level.bound(cell.phases)[1]
        i = int(np.argmax(np.where(cell.phases == OPEN, weight, -1.0)))
        form = cell.level.form(i)
        here = value(form, cell.point)
        points: list[list[fmpq] | tuple[fmpq, ...]] = []
        for side in (-1, 1):
            if here * side > 0:
                points.append(cell.point)
                continue
            self.count["programs"] += 1
            signed = [side * c for c in form]
            found = self.domain.find([*cell.forms, signed], lambda: self.deadline.passed)
            if found is None:
                return False
            points.append(found)
        self._split(cell, i, form, points)
        return True

    def _split(
        self, cell: _Cell, i: int, form: Form, points: list[list[fmpq] | tuple[fmpq, ...]]
    ) -> None:
        """Enter the two sides into the tree."""
        place = len(self.steps)
        self.steps += [None, None]
        self.steps[cell.place] = Split(cell.level.layer, i, place, place + 1)
        alone = any(isinstance(p, tuple) for p in points)
        for side, found in enumerate(points):
            if isinstance(found, tuple):
                self.steps[place + side] = self._void(cell, found)
                continue
            phases = cell.phases.copy()
            phases[i] = ACTIVE if side else INACTIVE
            forms, kept = cell.forms, cell.kept
            if not alone:  # a side that fills the cell need not say so: the others imply it
                forms = (*forms, form if side else [-c for c in form])
                kept = (*kept, cell.depth)
            if found is not cell.point:
                self._try(found)
            bound = min(cell.bound, self._bound(cell.level, phases))
            depth, spot = cell.depth + 1, place + side
            self._push(_Cell(bound, cell.level, phases, forms, kept, depth, found, spot))

    def _void(self, cell: _Cell, weights: tuple[fmpq, ...]) -> Void:
        """The weights on all splits of the path and the new one, from those on the kept ones."""
        first = int(self.domain.box is None)
        places = [*range(first), *(first + i for i in cell.kept), first + cell.depth]
        out = [Fraction(0)] * (first + cell.depth + 1)
        for i, w in zip(places, weights, strict=True):
            out[i] = fraction(w)
        return Void(tuple(out))

    def _advance(self, cell: _Cell) -> _Cell:
        """The same cell, one layer on."""
        forms, n = cell.level.forms, self.domain.n
        active = [
            forms[i, j] if phase == ACTIVE else fmpq(0)
            for i, phase in enumerate(cell.phases.tolist())
            for j in range(n + 1)
        ]
        level = self._level(cell.level.layer + 1, fmpq_mat(forms.nrows(), n + 1, active))
        phases = self._phases(level)
        bound = min(cell.bound, self._bound(level, phases))
        return replace(cell, bound=bound, level=level, phases=phases)

    def _finish(self, cell: _Cell) -> None:
        """Every phase is decided: the gradient is known, and the cell's point attains it."""
        self._try(cell.point)
        slope = cell.level.exact_bound(cell.phases)
        if slope > self.lower:
            raise ArithmeticError("a cell's own point does not attain its slope")
        self.steps[cell.place] = Capped(fraction(slope))

    def _try(self, x: list[fmpq]) -> None:
        """Raise the lower bound if the gradient at the point is larger."""
        found = self.slopes.at(self.domain, x)
        if found is not None and (self.best is None or found.slope > self.best.slope):
            self.best = found
            self.lower = fmpq(found.slope.numerator, found.slope.denominator)
