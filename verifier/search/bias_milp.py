"""The bias classifier on a box as a mixed-integer program (T8 b), each answer decided exactly.

``bias_milp`` answers as ``bias_box`` does; ``bias_minimum`` finds the smallest lead, min over k,
points and patterns of β_y − β_k, as an exact number. A MILP solver proposes patterns and points,
which exact arithmetic tests; what it says about optimality decides nothing. Then the parts of the
box are searched as in ``bias_box``, where a part that intervals leave open is closed by the
relaxation of its program: by the rigorous bound that the solver's multipliers give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from verifier.bounds.bias_lp import BiasProgram, bias_program
from verifier.bounds.interval import Bounds
from verifier.bounds.lp import safe_lower_bound
from verifier.core.network import Network
from verifier.core.property import Box
from verifier.search.bias_box import BiasRight, BiasSearch, BiasUnknown, BiasWrong, Part
from verifier.search.milp import MilpModel, check_installed
from verifier.search.problem import Deadline, Progress
from verifier.solvers.highs import LinearProgram, LpStatus

#: Share of the time that the MILP solver may take.
_SHARE = 0.4


@dataclass(frozen=True)
class BiasMinimum:
    """The smallest β_y − β_k over all points, consistent patterns and k ≠ y.

    Args:
        lead: exactly.
        at: where it is attained; not wrong unless lead ≤ 0.
        nodes: parts of the box that were looked at.
    """

    lead: Fraction
    at: BiasWrong
    nodes: int


def bias_milp(
    network: Network,
    box: Box,
    label: int,
    deadline: Deadline,
    solver: str = "highs",
    progress: Progress | None = None,
) -> BiasRight | BiasWrong | BiasUnknown:
    """Decide whether the bias classifier has the label on all of a box, in the strong sense.

    Args:
        network: a float network with at least two outputs.
        box: where.
        label: y.
        deadline: when to give up.
        solver: a key of ``verifier.search.milp.SOLVERS``.
        progress: told how many parts wait.

    Raises:
        NetworkError: numbers that are no floats.
        PropertyError: a box or a label that does not fit.
        SolverError: the solver is not known or not installed.
    """
    check_installed(solver)
    search = _Decision(network, box, label, deadline, progress)
    found = search.proposed(solver)
    return search.run() if found is None else found


def bias_minimum(
    network: Network,
    box: Box,
    label: int,
    deadline: Deadline,
    solver: str = "highs",
    progress: Progress | None = None,
) -> BiasMinimum | BiasUnknown:
    """The smallest lead of the label on a box; arguments and errors as for ``bias_milp``."""
    check_installed(solver)
    search = _Minimum(network, box, label, deadline, progress)
    search.proposed(solver)
    outcome = search.run()
    if isinstance(outcome, BiasUnknown) or search.best is None or search.at is None:
        return BiasUnknown(outcome.nodes, getattr(outcome, "waiting", 1))
    return BiasMinimum(search.best, search.at, outcome.nodes)


class _Decision(BiasSearch):
    """The search with linear programs."""

    def closed(self, part: Part, ranges: list[Bounds], leads: np.ndarray) -> bool:
        """Intervals, then the relaxation of the part's program where bits are open."""
        doubtful = [k for k, lead in zip(self.others, leads.tolist(), strict=True)
                    if self.matters(lead)]  # fmt: skip
        if not doubtful:
            return True
        if not any((phase == 0).any() for phase in part.phases):
            return False
        program = self._program(part, ranges)
        return program is not None and self._excluded(program, doubtful)

    def _program(self, part: Part, ranges: list[Bounds]) -> BiasProgram | None:
        """The part's program, or None if its numbers leave the float64 range."""
        box = self.lower, self.upper
        try:
            return bias_program(self.network, box, part.bounds, ranges, part.phases)
        except OverflowError:
            return None

    def _excluded(self, program: BiasProgram, doubtful: list[int]) -> bool:
        """Whether linear programs prove that no k of these gives an answer in the part."""
        system = program.system
        relaxed = LinearProgram(
            system.matrix, program.lead(self.label, doubtful[0]), system.columns, system.rows
        )
        for k in doubtful:
            cost = program.lead(self.label, k)
            relaxed.set_cost(np.arange(len(cost)), cost)
            hint = relaxed.solve(self.deadline.left)
            if hint.multipliers is None:
                return False
            if hint.status is LpStatus.INFEASIBLE:
                # Its part is empty, for every k, if the ray says so.
                return safe_lower_bound(system, np.zeros(len(cost)), hint.multipliers) > 0
            if self.matters(safe_lower_bound(system, cost, hint.multipliers)):
                return False
        return True

    def proposed(self, solver: str) -> BiasWrong | None:
        """The middle of the box and what the MILP solver finds, tested exactly.

        None if neither is a final answer.
        """
        root = self.root()
        ranges, leads = self.ranges(root)
        doubtful = [(lead, k) for k, lead in zip(self.others, leads.tolist(), strict=True)
                    if self.matters(lead)]  # fmt: skip
        middle = [(a + b) / 2 for a, b in zip(self.box.lower, self.box.upper, strict=True)]
        found = self._at_point(root, middle, {}) if doubtful else None
        if found is not None and self.final(found):
            return found
        program = self._program(root, ranges) if doubtful else None
        if program is None or not len(program.bits):
            return None
        model = MilpModel(program.system, program.bits, self.deadline)
        limit = _SHARE * self.deadline.left / len(doubtful)
        for _, k in sorted(doubtful):
            if self.deadline.passed:
                return None
            values = model.least(program.lead(self.label, k), solver, limit)
            found = None if values is None else self._tested(root, program, values)
            if found is not None:
                return found
        return None

    def _tested(self, root: Part, program: BiasProgram, values: np.ndarray) -> BiasWrong | None:
        """A final answer at the solver's point or in the region of its pattern, both exact."""
        bits = (values[program.bits] > 0.5).tolist()
        hinted = dict(zip(map(tuple, program.open.tolist()), bits, strict=True))
        found = self._at_point(root, values[: self.network.n_inputs], hinted)
        if found is not None and self.final(found):
            return found
        phases = [phase.copy() for phase in root.phases]
        for (k, i), bit in hinted.items():
            phases[k][i] = 1 if bit else -1
        splits = tuple((k, i, 1 if bit else -1) for (k, i), bit in hinted.items())
        found = self.one_pattern(Part(root.bounds, phases, splits))
        return found if found is not None and self.final(found) else None

    def _at_point(
        self, root: Part, x: Sequence[Fraction] | np.ndarray, hinted: dict[tuple[int, int], bool]
    ) -> BiasWrong | None:
        """An answer at x, clipped into the box; bits on kinks as hinted, else off."""
        point = self.box.clip(x)
        phases = []
        trace = self.network.exact_trace(point)
        for k, (layer, (u, _)) in enumerate(zip(self.network.layers, trace, strict=True)):
            bits = [v > 0 or (v == 0 and hinted.get((k, i), False)) for i, v in enumerate(u)]
            phases.append(np.where(~layer.relu | np.array(bits), 1, -1).astype(np.int8))
        at = replace(root, phases=phases)
        beta = self.beta(at)
        return self.wrong(at, beta, point) if self.matters(self.lead(beta)) else None


class _Minimum(_Decision):
    """The search for the smallest lead: an answer is a pattern with a smaller one."""

    best: Fraction | None = None
    at: BiasWrong | None = None

    def matters(self, lead: float | Fraction) -> bool:
        """Whether it is smaller than what is known to be attained."""
        return self.best is None or lead < self.best

    def final(self, found: BiasWrong) -> bool:
        """Keep the best answer; the search goes on."""
        return False

    def wrong(self, part: Part, beta: list[Fraction], x: tuple[Fraction, ...]) -> BiasWrong:
        """As ``BiasSearch.wrong``; the answer is kept if it is the best."""
        found = super().wrong(part, beta, x)
        if self.matters(self.lead(beta)):
            self.best, self.at = self.lead(beta), found
        return found
