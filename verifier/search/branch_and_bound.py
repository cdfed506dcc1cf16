"""Branch and bound over unstable neurons, in batches, for networks with many inputs.

A subproblem is a clause with the signs of some neurons assumed. Its bound comes from backward
passes whose slopes and split multipliers start at the parent's and are improved by a few gradient
steps (beta-CROWN, Wang et al. 2021). Subproblems whose every unstable neuron is split are one
linear region, decided exactly: the search is complete.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.passes import larger
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict, Witness
from verifier.search.attack import exact_hit
from verifier.search.branching import choose
from verifier.search.pool import Pool
from verifier.search.problem import Clause, Deadline, Problem, Progress
from verifier.search.region import RegionCertificate, Regions
from verifier.search.root import RootBounds
from verifier.search.split_record import LeafRecord, Lemma
from verifier.search.subproblems import Batch, Units, clause_goals
from verifier.search.tighten import improve

#: Numbers that one batch of backward passes may touch at a time, a memory and latency bound.
_BATCH_NUMBERS = 4_000_000
#: Rounds of splitting in each attempt at the root bounds: -1 default slopes, 0 optimised slopes
#: only.
_ROUNDS = (-1, 0, 4, 16, 48, 144)
#: A batch that takes longer to split and bound than this is made smaller: the clock is looked at
#: between batches.
_STEP_SECONDS = 0.7
#: Bytes that the waiting subproblems may take before the search turns depth-first.
_POOL_BYTES = 100e6


@dataclass(frozen=True, eq=False)
class NeuronSplitTree:
    """The tree of one problem's search.

    Node n > 0 is the child of ``parent[n]`` where neuron ``neuron[n]`` of layer ``layer[n]`` has
    sign ``sign[n]``; nodes whose parent is -1 are the roots, one a clause. Leaves closed by a
    region certificate are in ``regions``; all others by one backward pass on the bounds of the
    root with the slopes and multipliers in ``leaves`` (kept only if asked for).

    Args:
        case: index of the case.
        bounds: proved pre-activation bounds of every layer of ``Problem.slacks`` on the box.
        clause, parent, layer, neuron, sign: (nodes,).
        leaves: batch by batch; weights on the constraints have no columns where every clause has a
            single one.
        regions: node number -> certificate.
        lemmas: in this order, what proves ``bounds`` where intervals do not (kept only if asked
            for).
        rows: (constraints, outputs) that the weights are for, clause by clause.
        scales: of the rows to those of the property.
    """

    case: int
    bounds: tuple[Bounds, ...]
    clause: np.ndarray
    parent: np.ndarray
    layer: np.ndarray
    neuron: np.ndarray
    sign: np.ndarray
    leaves: tuple[LeafRecord, ...]
    regions: dict[int, RegionCertificate]
    lemmas: tuple[Lemma, ...]
    rows: np.ndarray
    scales: tuple[Fraction, ...]


def run(
    problem: Problem,
    deadline: Deadline,
    progress: Progress | None = None,
    *,
    keep_multipliers: bool = False,
    seed: int = 0,
) -> Verdict:
    """Decide a problem.

    Args:
        problem: the question.
        deadline: when to give up; looked at between backward passes.
        progress: told how many subproblems wait and how near the worst one is to being closed.
        keep_multipliers: whether the evidence can be written as a proof: it holds every leaf's
            slopes and multipliers, and bounds leave room for the checker's coarser numbers.
        seed: for the random starts of the attacks along the way.
    """
    return NeuronSplitSearch(problem, deadline, progress, keep_multipliers, seed).run()


class NeuronSplitSearch:
    """See ``run``."""

    def __init__(
        self,
        problem: Problem,
        deadline: Deadline,
        progress: Progress | None,
        keep_multipliers: bool,
        seed: int,
    ) -> None:
        self.problem, self.deadline, self.progress = problem, deadline, progress
        self.roots = RootBounds(problem, proof=keep_multipliers)
        self.keep_multipliers = keep_multipliers
        self.rng = np.random.default_rng(seed)
        #: (5, n) int32: clause, parent, layer, neuron and sign of nodes, batch by batch.
        self.nodes: list[np.ndarray] = []
        self.leaves: list[LeafRecord] = []
        self.certificates: dict[int, RegionCertificate] = {}
        self.late: list[tuple[int, Clause, tuple[bool, ...]]] = []
        self.pool = Pool()
        self.count = self.visited = self.open = 0

    def run(self) -> Verdict:
        """Alternate ever better root bounds with ever longer searches until one decides.

        Each search may take twice as long as the bounds before it, the last one all that is left.
        """
        for rounds in _ROUNDS:
            effort = Deadline(math.inf)
            self.roots.tighten(rounds, lambda: self.deadline.passed, self.progress)
            bounds = self.roots.bounds
            if not all(np.isfinite(b).all() for pair in bounds for b in pair):
                return Unknown("the bounds on the network overflow float64", self._statistics())
            if self.deadline.passed:
                break
            self._start()
            slot = math.inf if rounds == _ROUNDS[-1] else max(0.25, 2 * effort.elapsed)
            verdict = self._search(Deadline(slot if rounds >= 0 else 0.0))
            if verdict is not None:
                return verdict
            # The next search starts anew, and the bounds before it need the memory.
            self.open, self.pool, self.late = len(self.pool) + len(self.late), Pool(), []
        return Unknown("time limit reached", self._statistics())

    def _start(self) -> None:
        """The root subproblems, one a clause."""
        bounds = self.roots.bounds
        self.units = Units(self.roots.engine, bounds)
        self.regions = Regions(
            self.problem, np.stack([self.units.layer, self.units.neuron], axis=1), bounds[:-1]
        )
        clauses = self.problem.clauses
        goals = clause_goals(self.problem)
        none = np.full(len(clauses), -1)
        roots = [np.arange(len(clauses)), none, none, none, none + 1]
        self.nodes, self.count = [np.array(roots, dtype=np.int32)], len(clauses)
        self.leaves, self.certificates, self.late = [], {}, []
        self.pool, self.open = Pool(), 0
        self.pool.put(Batch.root(self.roots.engine, self.units, goals))

    def _search(self, slot: Deadline) -> Verdict | None:
        """Bound the roots, then split and bound until nothing waits; None when the slot is over."""
        numbers = sum(layer.n_out for layer in self.problem.slacks.layers)
        size = larger() * int(max(2, min(256, _BATCH_NUMBERS / (8 * numbers))))
        found = self._improve(self.pool.pick(len(self.pool)), 15)
        while True:
            if isinstance(found, Witness):
                return Refuted(found, self._statistics())
            self.pool.put(found)
            if not len(self.pool):
                return self._finish()
            if self.deadline.passed or slot.passed:
                return None
            step = Deadline(math.inf)
            outcome = self._whole(self._pick(size))
            if isinstance(outcome, Verdict):
                return outcome
            found = self._improve(self._children(outcome), 10) if len(outcome) else outcome
            if step.elapsed > _STEP_SECONDS:
                size = max(2, size // 2)
            if self.progress is not None:
                self.progress(f"{self.visited} subproblems, {len(self.pool)} open", -1.0)

    def _pick(self, size: int) -> Batch:
        """The subproblems to split next: the worst, or the newest when memory runs short."""
        return self.pool.pick(size, newest=self.pool.used_bytes >= _POOL_BYTES)

    def _whole(self, batch: Batch) -> Batch | Verdict:
        """Decide the subproblems that are one linear region, or put them off; the others."""
        done = (batch.sign != 0).all(axis=1)
        if done.any() and self.problem.network.is_rounded:
            return Unknown("rounding hides the answer in a linear region", self._statistics())
        for i in np.flatnonzero(done):
            clause = self.problem.clauses[batch.goal[i]]
            phases = tuple(bool(s > 0) for s in batch.sign[i])
            outcome = self.regions.decide(clause, phases, self._stopped, quickly=True)
            if isinstance(outcome, Witness):
                return Refuted(outcome, self._statistics())
            if outcome is None:
                self.late.append((int(batch.node[i]), clause, phases))
            else:
                self.certificates[int(batch.node[i])] = outcome
        return batch.take(np.flatnonzero(~done)) if done.any() else batch

    def _stopped(self) -> bool:
        """Whether the time is up."""
        return self.deadline.passed

    def _finish(self) -> Verdict:
        """The regions that only exact arithmetic decides, when nothing else is left."""
        while self.late:
            node, clause, phases = self.late[-1]
            outcome = self.regions.decide(clause, phases, self._stopped)
            if outcome is None:
                return Unknown("time limit reached", self._statistics())
            if isinstance(outcome, Witness):
                return Refuted(outcome, self._statistics())
            self.certificates[node] = outcome
            self.late.pop()
        return Proved(self._tree(), self._statistics())

    def _children(self, batch: Batch) -> Batch:
        """Split every subproblem on its most promising neuron, and note it in the tree."""
        unit = choose(batch, min(4, len(self.units)))
        children = batch.split(unit)
        both, sign = np.tile(unit, 2), np.repeat([1, -1], len(batch))
        made = [children.goal, children.node, self.units.layer[both], self.units.neuron[both], sign]
        self.nodes.append(np.array(made, dtype=np.int32))
        children.node = self.count + np.arange(len(children))
        self.count += len(children)
        self.visited += len(children)
        return children

    def _improve(self, batch: Batch, iterations: int) -> Batch | Witness:
        """Bound a batch; look at the minimisers; return what stays open, or a witness."""
        point = improve(batch, iterations, lambda: self.deadline.passed)
        closed = batch.value > 0
        if self.keep_multipliers:
            closed[closed] = self._record(batch.take(np.flatnonzero(closed)))
            batch.value = np.where(closed, batch.value, np.minimum(batch.value, 0.0))
        still = np.flatnonzero(~closed)
        if len(still):
            margins = self.problem.margins(self.problem.network.float64(point[still]))
            witness = exact_hit(self.problem, point[still], margins)
            if witness is not None:
                return witness
        return batch.take(still)

    def _record(self, batch: Batch) -> np.ndarray:
        """Keep the subproblems that numbers of few bits, or at least of some more, close; (N,)."""
        closed = np.zeros(len(batch), dtype=bool)
        for fine in (False, True):
            rest = np.flatnonzero(~closed)
            rounded = batch.take(rest).rounded(fine)
            good = np.flatnonzero(rounded.value > 0)
            if len(good):
                self.leaves.append(LeafRecord.of(rounded.take(good)))
            closed[rest[good]] = True
        return closed

    def _statistics(self) -> dict[str, float]:
        waiting = len(self.pool) + len(self.late)
        return {"subproblems": float(self.visited), "open": float(waiting or self.open)}

    def _tree(self) -> NeuronSplitTree:
        """The evidence."""
        clause, parent, layer, neuron, sign = np.concatenate(self.nodes, axis=1)
        return NeuronSplitTree(
            self.problem.case, tuple(self.roots.bounds), clause, parent, layer, neuron, sign,
            tuple(self.leaves), self.certificates, tuple(self.roots.lemmas),
            np.concatenate([c.rows for c in self.problem.clauses]), row_scales(self.problem),
        )  # fmt: skip


def row_scales(problem: Problem) -> tuple[Fraction, ...]:
    """For each constraint the factor between the property's form of it and the problem's."""
    out = []
    for clause in problem.clauses:
        wanted = problem.source[1].cases[problem.case].clauses[clause.index]
        for row, constraint in zip(clause.rows, (c for c in wanted if c.terms), strict=True):
            used = np.flatnonzero(row)
            given = sum((c for i, c in constraint.terms if len(used) and i == used[0]), Fraction(0))
            out.append(Fraction(float(row[used[0]])) / given if len(used) else Fraction(1))
    return tuple(out)
