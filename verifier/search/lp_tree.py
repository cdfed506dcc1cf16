"""Branch and bound over unstable neurons with linear programs, each leaf closed rigorously.

For one clause at a time, the largest t with rows @ y − t ≥ bound is maximised over the triangle
relaxation. A node is closed only by ``safe_lower_bound`` on the solver's multipliers, or, once
every phase is fixed, by the exact linear program of its region. A clause is refuted only by an
exact witness. HiGHS failing leaves a node open, to be split: the search is complete whatever HiGHS
says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.bounds.float_error import TINY, gamma
from verifier.bounds.interval import Bounds, interval_bounds
from verifier.bounds.lp import Relaxation, System, relax, safe_lower_bound
from verifier.core.network import Network
from verifier.core.sparse import sp
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict, Witness
from verifier.search.problem import Clause, Deadline, Problem
from verifier.search.region import RegionCertificate, Regions
from verifier.solvers.highs import LinearProgram, LpHint

#: Relaxation gaps below this share of a neuron's range are solver noise: guides branching only.
NOISE = 1e-7


@dataclass(frozen=True, eq=False)
class DualLeaf:
    """The system with this node's phases is empty: a safe bound with c = 0 is positive.

    Args:
        multipliers: (rows,) of the relaxation with the clause's rows appended.
        bound: that safe bound.
    """

    multipliers: np.ndarray
    bound: float


@dataclass(frozen=True)
class RegionLeaf:
    """The one linear region of this node has no unsafe point, exactly."""

    certificate: RegionCertificate


@dataclass(frozen=True)
class Split:
    """Either z ≤ 0 (child ``inactive``) or z ≥ 0 (child ``active``) for one neuron."""

    layer: int
    index: int
    inactive: Node
    active: Node


Node = DualLeaf | RegionLeaf | Split


@dataclass(frozen=True)
class ClauseTree:
    """No point of the box satisfies the clause ``clause``."""

    clause: int
    root: Node


@dataclass(frozen=True, eq=False)
class LpEvidence:
    """Trees for every clause of one case.

    Args:
        case: index of the case.
        bounds: per layer (lower, upper): the pre-activation bounds of the triangle relaxation.
        trees: one a clause.
    """

    case: int
    bounds: tuple[Bounds, ...]
    trees: tuple[ClauseTree, ...]


def run(
    problem: Problem,
    deadline: Deadline,
    bounds: list[Bounds] | None = None,
    max_nodes: int | None = None,
) -> Verdict:
    """Decide a problem clause by clause.

    Args:
        problem: the question.
        deadline: when to give up.
        bounds: per layer proved pre-activation bounds over the box; interval bounds by default.
        max_nodes: nodes allowed for each clause.

    Returns:
        Proved with ``LpEvidence``, Refuted with an exact witness, or Unknown with the reason.
    """
    try:
        bounds, relaxation = relaxed(problem, bounds)
    except OverflowError as error:
        return Unknown(str(error))
    regions = Regions(problem, relaxation.unstable, bounds)
    trees, nodes = [], 0
    for clause in problem.clauses:
        search = ClauseSearch(problem, relaxation, clause, regions)
        outcome = search.run(deadline, max_nodes)
        nodes += search.nodes
        statistics = {"nodes": float(nodes)}
        if isinstance(outcome, Witness):
            return Refuted(outcome, statistics)
        if isinstance(outcome, str):
            return Unknown(f"{outcome} at clause {clause.index}", statistics)
        trees.append(outcome)
    evidence = LpEvidence(problem.case, tuple(bounds), tuple(trees))
    return Proved(evidence, {"nodes": float(nodes)})


def relaxed(problem: Problem, bounds: list[Bounds] | None) -> tuple[list[Bounds], Relaxation]:
    """The given bounds, or interval bounds, with the triangle relaxation that they make.

    Raises:
        OverflowError: a bound is not finite.
    """
    if bounds is None:
        with np.errstate(all="ignore"):
            bounds = interval_bounds(problem.network, *problem.box)
    return bounds, relax(problem.network, problem.box, bounds)


def slack_scale(relaxation: Relaxation, clause: Clause) -> float:
    """About the largest |rows @ y − bound| that the relaxation's box allows; positive."""
    outputs = relaxation.post[-1]
    reach = np.maximum(*(np.abs(end) for end in relaxation.system.columns))
    size = np.abs(clause.rows) @ np.where(outputs >= 0, reach[outputs], 0.0)
    return float((size + np.abs(clause.bound)).max()) or 1.0


class ClauseLp:
    """The relaxation with one clause, in HiGHS and as the system that judges its multipliers.

    Args:
        relaxation: of the network.
        clause: whose slack is maximised.
    """

    def __init__(self, relaxation: Relaxation, clause: Clause) -> None:
        base = relaxation.with_rows(clause.rows, clause.bound)
        self._relaxation = relaxation
        # Own copies: phases are imposed by overwriting entries.
        self._columns = (base.columns[0].copy(), base.columns[1].copy())
        self._rows = (base.rows[0].copy(), base.rows[1].copy())
        self._original = base
        self.system = System(base.matrix, self._columns, self._rows)
        self._phases: dict[int, bool] = {}
        k, (m, n) = len(clause.bound), base.matrix.shape
        # The column of the common slack t; the safe bound does not need it.
        margin = sp.coo_array((np.full(k, -1.0), (np.arange(m - k, m), np.zeros(k, int))), (m, 1))
        limit = 2 * slack_scale(relaxation, clause)
        self._lp = LinearProgram(
            sp.csr_array(sp.hstack([base.matrix, margin], format="csr")),
            np.concatenate([np.zeros(n), [-1.0]]),
            (np.append(self._columns[0], -limit), np.append(self._columns[1], limit)),
            self._rows,
        )

    def solve(self, phases: dict[int, bool], seconds: float) -> LpHint:
        """Impose exactly these phases (unstable neuron number → active) and run HiGHS."""
        changed = [
            u
            for u in phases.keys() | self._phases.keys()
            if phases.get(u) is not self._phases.get(u)
        ]
        self._phases = dict(phases)
        if changed:
            self._impose(np.array(changed))
        return self._lp.solve(seconds)

    def _impose(self, neurons: np.ndarray) -> None:
        """Set the bounds of these neurons' columns and rows to what their phases say."""
        z, a = (columns[neurons] for columns in self._relaxation.unstable_columns)
        row = self._relaxation.cut_rows[neurons]
        active = np.array([self._phases.get(int(u)) is True for u in neurons])
        inactive = np.array([self._phases.get(int(u)) is False for u in neurons])
        (low, high), row_high = self._original.columns, self._original.rows[1]
        self._columns[0][z] = np.where(active, 0.0, low[z])
        self._columns[1][z] = np.where(inactive, 0.0, high[z])
        self._columns[1][a] = np.where(inactive, 0.0, high[a])
        self._rows[1][row] = np.where(active, 0.0, row_high[row])
        both = np.concatenate([z, a])
        self._lp.set_columns(both, self._columns[0][both], self._columns[1][both])
        self._lp.set_rows(row, self._rows[0][row], self._rows[1][row])

    def closing(self, hint: LpHint) -> DualLeaf | None:
        """The hint's multipliers if they prove the node's system empty, else None."""
        if hint.multipliers is None:
            return None
        zero = np.zeros(self.system.matrix.shape[1])
        bound = safe_lower_bound(self.system, zero, hint.multipliers)
        return DualLeaf(hint.multipliers, bound) if bound > 0 else None


class ClauseSearch:
    """Depth-first search for one clause.

    Args:
        problem: the question.
        relaxation: its triangle relaxation.
        clause: one of its clauses.
        regions: its exact linear regions.
    """

    def __init__(
        self, problem: Problem, relaxation: Relaxation, clause: Clause, regions: Regions
    ) -> None:
        self._problem, self._relaxation = problem, relaxation
        self._clause, self._regions = clause, regions
        self._lp = ClauseLp(relaxation, clause)
        self._closed_regions: dict[tuple[bool, ...], RegionCertificate] = {}
        self._count = len(relaxation.unstable)
        self.nodes = 0

    def run(self, deadline: Deadline, max_nodes: int | None = None) -> ClauseTree | Witness | str:
        """The tree that excludes the clause, a witness for it, or why neither was found."""
        leaves: dict[int, DualLeaf | RegionLeaf] = {}
        splits: dict[int, tuple[int, int, int]] = {}
        stack: list[tuple[int, dict[int, bool]]] = [(0, {})]
        made = 1
        while stack:
            if deadline.passed:
                return "time limit"
            if max_nodes is not None and self.nodes >= max_nodes:
                return "node limit"
            number, phases = stack.pop()
            self.nodes += 1
            outcome = self._visit(phases, deadline)
            if isinstance(outcome, Witness):
                return outcome
            if outcome is None:
                return "time limit"
            if not isinstance(outcome, tuple):
                leaves[number] = outcome
                continue
            neuron, likely = outcome
            splits[number] = (neuron, made, made + 1)
            children = [(made + int(side), {**phases, neuron: side}) for side in (False, True)]
            stack += children if likely else reversed(children)
            made += 2
        return ClauseTree(self._clause.index, self._assemble(leaves, splits))

    def _assemble(
        self,
        leaves: dict[int, DualLeaf | RegionLeaf],
        splits: dict[int, tuple[int, int, int]],
    ) -> Node:
        """The nodes as one tree; children have larger numbers than their parent."""
        done: dict[int, Node] = dict(leaves)
        for number in sorted(splits, reverse=True):
            neuron, inactive, active = splits[number]
            layer, index = (int(v) for v in self._relaxation.unstable[neuron])
            done[number] = Split(layer, index, done.pop(inactive), done.pop(active))
        return done[0]

    def _visit(
        self, phases: dict[int, bool], deadline: Deadline
    ) -> DualLeaf | RegionLeaf | Witness | tuple[int, bool] | None:
        """Close the node, refute, or say where to split.

        Returns:
            A leaf, a witness, (neuron, its likely phase), or None when out of time.
        """
        hint = self._lp.solve(phases, deadline.left)
        closing = self._lp.closing(hint)
        if closing is not None:
            return closing
        witness = witness_at(self._problem, self._clause, hint)
        if witness is not None:
            return witness
        if len(phases) == self._count:
            return self._region(tuple(phases[u] for u in range(self._count)), deadline)
        neuron, gap = self._widest_gap(phases, hint.primal)
        if hint.primal is not None and gap <= NOISE:
            # The relaxation is exact at its optimum, yet floats cannot tell: look at that region.
            found = self._region(self._pattern(phases, hint.primal), deadline)
            if not isinstance(found, RegionLeaf):
                return found
        return neuron, hint.primal is not None and bool(
            hint.primal[self._relaxation.unstable_columns[0][neuron]] > 0
        )

    def _region(self, pattern: tuple[bool, ...], deadline: Deadline) -> RegionLeaf | Witness | None:
        """Decide one linear region exactly (each at most once)."""
        if pattern not in self._closed_regions:
            outcome = self._regions.decide(self._clause, pattern, lambda: deadline.passed)
            if not isinstance(outcome, RegionCertificate):
                return outcome
            self._closed_regions[pattern] = outcome
        return RegionLeaf(self._closed_regions[pattern])

    def _pattern(self, phases: dict[int, bool], primal: np.ndarray) -> tuple[bool, ...]:
        """The phases of all unstable neurons at the optimum, the node's own where it has them."""
        z = primal[self._relaxation.unstable_columns[0]]
        return tuple(phases.get(u, bool(z[u] > 0)) for u in range(self._count))

    def _widest_gap(self, phases: dict[int, bool], primal: np.ndarray | None) -> tuple[int, float]:
        """The free neuron farthest from its ReLU at the optimum, and by what share of its range."""
        free = np.array([u for u in range(self._count) if u not in phases])
        if primal is None:
            return int(free[0]), 0.0
        z, a = (columns[free] for columns in self._relaxation.unstable_columns)
        low, high = (end[z] for end in self._relaxation.system.columns)
        gap = primal[a] - np.maximum(primal[z], 0.0)
        share = gap / (high - low)
        best = int(np.argmax(gap if share.max() > NOISE else high - low))
        return int(free[best]), float(share.max())


def witness_at(problem: Problem, clause: Clause, hint: LpHint) -> Witness | None:
    """The witness at the hint's input, if that is one in exact arithmetic."""
    if hint.primal is None or not np.isfinite(hint.primal).all():
        return None
    x = hint.primal[: problem.network.n_inputs]
    return problem.candidate(x) if plausible(problem, clause, x) else None


def plausible(problem: Problem, clause: Clause, x: np.ndarray) -> bool:
    """False only if no point within a float64 step of x satisfies the clause.

    Saves exact evaluations: one float64 pass with a running error bound.

    Args:
        problem: the question.
        clause: one of its clauses.
        x: (n_inputs,).
    """
    network: Network = problem.network
    a = np.clip(x, *problem.box)
    error = gamma(2) * np.abs(a) + TINY
    with np.errstate(all="ignore"):
        for layer in network.layers:
            size = abs(layer.weight) @ (np.abs(a) + error) + np.abs(layer.bias)
            z = layer.weight @ a + layer.bias
            error = abs(layer.weight) @ error + gamma(layer.n_in + 2) * size + TINY
            a = np.where(layer.relu, np.maximum(z, 0.0), z)
        reach = np.abs(clause.rows) @ (np.abs(a) + error) + np.abs(clause.bound)
        error = np.abs(clause.rows) @ error + gamma(len(a) + 2) * reach + TINY
        return not bool((clause.rows @ a + error < clause.bound).any())
