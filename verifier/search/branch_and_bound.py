"""Branch and bound over unstable neurons, in batches, for networks with many inputs.

A subproblem is a clause with the signs of some neurons assumed. Its bound comes from backward
passes whose slopes and split multipliers start at the parent's and are improved by a few gradient
steps (beta-CROWN, Wang et al. 2021). Subproblems whose every unstable neuron is split are one
linear region, decided exactly: the search is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.linear import default_slopes, root_bounds
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict, Witness
from verifier.search.attack import exact_hit
from verifier.search.branching import choose
from verifier.search.problem import Deadline, Problem, Progress
from verifier.search.region import RegionCertificate, Regions
from verifier.search.subproblems import Batch, Units

#: Numbers that one batch of backward passes may touch at a time, a memory and latency bound.
_BATCH_NUMBERS = 4_000_000
#: Bytes that the waiting subproblems may take before the search turns depth-first.
_POOL_BYTES = 300e6


@dataclass(frozen=True, eq=False)
class NeuronSplitTree:
    """The tree of one problem's search.

    Node n > 0 is the child of ``parent[n]`` where neuron ``neuron[n]`` of layer ``layer[n]`` has
    sign ``sign[n]``; nodes whose parent is -1 are the roots, one a clause. Leaves closed by a
    region certificate are in ``regions``; all others by one backward pass on the bounds of the
    root with the slopes and multipliers in ``leaves`` (kept only if asked for).

    Args:
        case: index of the case.
        bounds: proved pre-activation bounds of every layer on the box.
        clause, parent, layer, neuron, sign: (nodes,).
        leaves: (node numbers, weights, slopes, multipliers), batch by batch.
        regions: node number -> certificate.
    """

    case: int
    bounds: tuple[Bounds, ...]
    clause: np.ndarray
    parent: np.ndarray
    layer: np.ndarray
    neuron: np.ndarray
    sign: np.ndarray
    leaves: tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ...]
    regions: dict[int, RegionCertificate]


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
        keep_multipliers: whether the evidence holds every leaf's slopes and multipliers.
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
        self.keep_multipliers = keep_multipliers
        self.rng = np.random.default_rng(seed)
        self.nodes: list[tuple[int, int, int, int, int]] = []
        self.leaves: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self.certificates: dict[int, RegionCertificate] = {}
        self.pool: list[Batch] = []
        self.visited = 0

    def run(self) -> Verdict:
        """Root bounds in two rounds of effort, then the tree."""
        bounds: list[Bounds] | None = None
        for iterations in (0, 20):
            self.engine, bounds = root_bounds(
                self.problem.network, *self.problem.box, iterations=iterations, bounds=bounds,
                stop=lambda: self.deadline.passed,
            )  # fmt: skip
            if not all(np.isfinite(b).all() for pair in bounds for b in pair):
                return Unknown("the bounds on the network overflow float64", self._statistics())
            self._start(bounds)
            outcome = self._improve(Batch.join(self.pool), iterations or 10)
            if isinstance(outcome, Witness):
                return Refuted(outcome, self._statistics())
            self.pool = [outcome] if len(outcome) else []
            if not self.pool:
                return Proved(self._tree(), self._statistics())
        return self._search()

    def _start(self, bounds: list[Bounds]) -> None:
        """The root subproblems, one a clause."""
        self.bounds, self.units = bounds, Units(self.engine, bounds)
        self.regions = Regions(
            self.problem, np.stack([self.units.layer, self.units.neuron], axis=1), bounds
        )
        clauses, n = self.problem.clauses, len(self.units)
        weights = np.zeros((len(clauses), max(len(c.bound) for c in clauses)))
        for c, clause in enumerate(clauses):
            weights[c, : len(clause.bound)] = 1.0 / len(clause.bound)
        slopes = [
            default_slopes(low[0, index], high[0, index])
            for low, high, index in zip(
                self.units.low, self.units.high, self.units.index, strict=True
            )
        ]
        alpha = np.repeat(np.concatenate(slopes)[None, :], len(clauses), axis=0)
        count = len(clauses)
        self.nodes = [(c, -1, -1, -1, 0) for c in range(count)]
        self.leaves, self.certificates = [], {}
        self.pool = [
            Batch(
                self.engine, self.units, clauses, np.arange(count), weights,
                np.zeros((count, n), np.int8), alpha.astype(np.float32),
                np.zeros((count, n), np.float32), np.arange(count), np.full(count, -np.inf),
            )
        ]  # fmt: skip

    def _search(self) -> Verdict:
        """Split and bound until nothing waits."""
        numbers = sum(layer.n_out for layer in self.problem.network.layers)
        size = int(max(2, min(256, _BATCH_NUMBERS / (8 * numbers))))
        while self.pool:
            if self.deadline.passed:
                return Unknown("time limit reached", self._statistics())
            batch = self._pick(size)
            outcome = self._whole(batch)
            if isinstance(outcome, Verdict):
                return outcome
            if not len(outcome):
                continue
            children = self._children(outcome)
            found = self._improve(children, 10)
            if isinstance(found, Witness):
                return Refuted(found, self._statistics())
            if len(found):
                self.pool.append(found)
            if self.progress is not None:
                waiting = sum(len(b) for b in self.pool)
                self.progress(f"{self.visited} subproblems, {waiting} open", -1.0)
        return Proved(self._tree(), self._statistics())

    def _pick(self, size: int) -> Batch:
        """The subproblems to split next: the worst, or the best when memory runs short."""
        batch = Batch.join(self.pool)
        used = len(batch) * len(self.units) * 9
        order = np.argsort(batch.value if used < _POOL_BYTES else -batch.value)
        picked, rest = order[:size], order[size:]
        self.pool = [batch.take(rest)] if len(rest) else []
        return batch.take(picked)

    def _whole(self, batch: Batch) -> Batch | Verdict:
        """Decide exactly the subproblems that are one linear region; return the others."""
        done = (batch.sign != 0).all(axis=1)
        for i in np.flatnonzero(done):
            clause = self.problem.clauses[batch.clause[i]]
            phases = tuple(bool(s > 0) for s in batch.sign[i])
            outcome = self.regions.decide(clause, phases, lambda: self.deadline.passed)
            if outcome is None:
                return Unknown("time limit reached", self._statistics())
            if isinstance(outcome, Witness):
                return Refuted(outcome, self._statistics())
            self.certificates[int(batch.node[i])] = outcome
        return batch.take(np.flatnonzero(~done)) if done.any() else batch

    def _children(self, batch: Batch) -> Batch:
        """Split every subproblem on its most promising neuron, and note it in the tree."""
        unit = choose(batch, min(4, len(self.units)))
        children = batch.split(unit)
        first = len(self.nodes)
        for i, u in enumerate(np.tile(unit, 2)):
            sign = 1 if i < len(batch) else -1
            parent = int(children.node[i])
            layer, neuron = int(self.units.layer[u]), int(self.units.neuron[u])
            self.nodes.append((int(children.clause[i]), parent, layer, neuron, sign))
        children.node = np.arange(first, len(self.nodes))
        self.visited += len(children)
        return children

    def _improve(self, batch: Batch, iterations: int) -> Batch | Witness:
        """Bound a batch; look at the minimisers; return what stays open, or a witness."""
        q = batch.queries()
        value, point = self.engine.optimise(
            q, iterations, enough=0.0, rate=0.1, decay=0.95, stop=lambda: self.deadline.passed
        )
        batch.keep(q, value)
        closed = batch.value > 0
        if self.keep_multipliers and closed.any():
            some = batch.take(np.flatnonzero(closed))
            self.leaves.append((some.node, some.weights, some.alpha, some.mult))
        still = np.flatnonzero(~closed)
        if len(still):
            margins = self.problem.margins(self.problem.network.float64(point[still]))
            witness = exact_hit(self.problem, point[still], margins)
            if witness is not None:
                return witness
        return batch.take(still)

    def _statistics(self) -> dict[str, float]:
        return {"subproblems": float(self.visited), "open": float(sum(len(b) for b in self.pool))}

    def _tree(self) -> NeuronSplitTree:
        """The evidence."""
        clause, parent, layer, neuron, sign = np.array(self.nodes, dtype=np.int32).T
        return NeuronSplitTree(
            self.problem.case, tuple(self.bounds), clause, parent, layer, neuron, sign,
            tuple(self.leaves), self.certificates,
        )  # fmt: skip
