"""Branch and bound over input boxes, for networks with few inputs.

The loop over boxes is compiled (``input_split_kernel``) and runs on both cores; here are the
shares of the workers, the clock, the exact test of candidates and the record of the tree.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from verifier.bounds.box_kernels import ROOM_ALL, ROOM_RELAXED, Forms, pack
from verifier.bounds.interval import Bounds, interval_bounds
from verifier.bounds.threads import cores
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict, Witness
from verifier.search import input_split_kernel as kernel
from verifier.search.cut_kernel import CLOSE
from verifier.search.problem import Deadline, Problem, Progress

#: Seconds that one compiled call should take: long enough to cost nothing, short enough to obey a
#: clock.
_CALL_SECONDS = 0.04
_MAX_BUDGET = 4096
_STACK_BYTES = 48e6


@dataclass(frozen=True, eq=False)
class InputSplitTree:
    """How a box was taken apart; the leaves are the nodes that are never split.

    Row r says: at node ``node[r]`` the box was split (kind 0) along input ``axis[r]`` at ``at[r]``
    into the nodes ``child[r]`` (lower part) and ``child[r] + 1``, or the part below (kind 1) or
    above (kind 2) ``at[r]`` was found free of unsafe points by the bounds of that node, or (kind 3)
    the sign of neuron ``axis[r]`` = layer * stride + index was split, ``child[r]`` being the part
    where it is >= 0, or (kind 4) clause ``axis[r]`` was closed by the combination of forms with the
    weights ``weights[child[r]]``, or (kind 5) the node was bounded again after its cuts, or (kind
    6) the slope below the ReLU of neuron ``axis[r]`` was ``at[r]``, where bounds nearly tie. Node 0
    is the outermost box.

    Args:
        lower, upper: the outermost box.
        clauses: the clauses that every leaf closes.
        stride: see kind 3.
        node, kind, axis, at, child: the rows, in the order in which each node's steps happened.
        weights: (combinations, forms): of the clause's rows, then of the split neurons.
        rows: (constraints, n_outputs) of the clauses, to which the weights refer.
    """

    lower: np.ndarray
    upper: np.ndarray
    clauses: tuple[int, ...]
    stride: int
    node: np.ndarray
    kind: np.ndarray
    axis: np.ndarray
    at: np.ndarray
    child: np.ndarray
    weights: np.ndarray
    rows: np.ndarray


@dataclass(eq=False)
class _Worker:
    """One thread's stack, scratch and log."""

    stack: kernel.Stack
    scratch: tuple[Forms, kernel.Work]
    log: kernel.Log
    counts: np.ndarray = field(default_factory=lambda: np.zeros(5, dtype=np.int64))
    top: int = 0


class InputSplitSearch:
    """The search on one problem.

    Args:
        problem: a problem whose network ``suits``.
        threads: workers; by default one a core this process may use.
        proof: whether the tree is to be checked by ``verifier.proof``: bounds then leave room for
            its coarser numbers.
        bounds: pre-activation bounds of every layer on the whole box, if not those of intervals.
    """

    def __init__(
        self,
        problem: Problem,
        threads: int | None = None,
        *,
        proof: bool = False,
        bounds: list[Bounds] | None = None,
    ) -> None:
        self.problem = problem
        lower, upper = problem.box
        bounds = interval_bounds(problem.network, lower, upper) if bounds is None else bounds
        self.net, self._low, self._high = pack(problem.network, lower, upper, bounds)
        if proof:
            self.net = self.net._replace(room_relaxed=ROOM_RELAXED, room_all=ROOM_ALL)
        matrix = np.concatenate([c.rows for c in problem.clauses])
        padded = np.zeros((len(matrix), self.net.weight.shape[1]))
        padded[:, : matrix.shape[1]] = matrix
        first = np.cumsum([0] + [len(c.bound) for c in problem.clauses])
        self.rows = kernel.Rows(padded, np.concatenate([c.bound for c in problem.clauses]), first)
        self.threads = threads or cores()
        self.workers = [self._worker() for _ in range(self.threads)]
        self.pool: list[kernel.Stack] = []
        self.next_node = 1
        self.boxes = self.stuck = self.combined = 0
        self.budget = min(16, _MAX_BUDGET)
        self.record: list[tuple[np.ndarray, ...]] = []
        start = self.workers[0]
        start.stack.lower[0], start.stack.upper[0] = self.problem.box
        start.stack.low[0], start.stack.high[0] = self._low, self._high
        start.stack.open[0], start.stack.node[0] = True, 0
        start.top = 1

    def _worker(self) -> _Worker:
        """A worker with an empty stack of bounded size."""
        depth, padded = self.net.bias.shape
        d, clauses = int(self.net.width[0]), len(self.rows.first) - 1
        capacity = int(min(1024, max(32, _STACK_BYTES / (16 * depth * padded))))
        stack = kernel.Stack(
            np.zeros((capacity, d)), np.zeros((capacity, d)), np.zeros((capacity, depth, padded)),
            np.zeros((capacity, depth, padded)), np.zeros((capacity, clauses), dtype=bool),
            np.zeros(capacity, dtype=np.int64),
            np.zeros((capacity, kernel.MAX_SPLITS, 3), dtype=np.int64),
            np.zeros(capacity, dtype=np.int64),
        )  # fmt: skip
        rows = _MAX_BUDGET * (2 * d + 2 + clauses) + depth * padded
        forms = np.diff(self.rows.first).max()
        log = kernel.Log(
            np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int8),
            np.zeros(rows, dtype=np.int32), np.zeros(rows), np.zeros(rows, dtype=np.int64),
            np.zeros((_MAX_BUDGET * clauses, int(forms) + kernel.MAX_SPLITS), dtype=np.float32),
        )  # fmt: skip
        return _Worker(stack, kernel.work(self.net, self.rows), log)

    def run(self, deadline: Deadline, progress: Progress | None = None) -> Verdict:
        """Search until the problem is decided or the time is up; call again to go on."""
        with ThreadPoolExecutor(self.threads) as executor:
            while True:
                self._share()
                busy = [w for w in self.workers if w.top]
                if not busy:
                    break
                if deadline.passed:
                    return Unknown("time limit reached", self._statistics())
                witness = self._round(executor, busy)
                if witness is not None:
                    return Refuted(witness, self._statistics())
                if progress is not None:
                    progress(f"{self.boxes} boxes, {self._open()} open", -1.0)
        if self.stuck:
            return Unknown(
                f"{self.stuck} boxes reached float64 resolution undecided: the property holds "
                "or fails by less than rounding can tell",
                self._statistics(),
            )
        return Proved(self._tree(), self._statistics())

    def _round(self, executor: ThreadPoolExecutor, busy: list[_Worker]) -> Witness | None:
        """One compiled call a busy worker, side by side; then their candidates, exactly."""
        started = Deadline(0)
        budget, futures = self.budget, []
        for worker in busy:
            futures.append(executor.submit(self._call, worker, budget, self.next_node))
            self.next_node += 2 * budget
        reasons = [future.result() for future in futures]
        for worker in busy:
            visited, written, _, stuck, combined = worker.counts
            self.boxes += int(visited)
            self.stuck += int(stuck)
            worker.counts[3] = 0
            *columns, weights = worker.log
            rows = [column[:written].copy() for column in columns]
            # Rows of weights are numbered through all calls.
            rows[4][rows[1] == CLOSE] += self.combined
            self.combined += int(combined)
            self.record.append((*rows, weights[:combined].copy()))
        if started.elapsed < _CALL_SECONDS / 2:
            self.budget = min(2 * budget, _MAX_BUDGET)
        elif started.elapsed > 2 * _CALL_SECONDS:
            self.budget = max(1, budget // 2)
        for worker, reason in zip(busy, reasons, strict=True):
            if reason == kernel.FULL:
                self._spill(worker)
            if reason == kernel.CANDIDATE:
                witness = self.problem.candidate(worker.scratch[1].found)
                if witness is not None:
                    return witness
        return None

    def _call(self, worker: _Worker, budget: int, next_node: int) -> int:
        """The compiled loop on one worker's stack (releases the interpreter lock)."""
        worker.top, reason = kernel.search(
            self.net, self.rows, worker.stack, worker.top, budget, next_node, worker.log,
            *worker.scratch, worker.counts,
        )  # fmt: skip
        return int(reason)

    def _share(self) -> None:
        """Give every idle worker boxes: from the pool, else the larger half of another's stack."""
        for worker in self.workers:
            if worker.top:
                continue
            if not self.pool:
                richest = max(self.workers, key=lambda other: other.top)
                if richest.top >= 2:
                    self._spill(richest)
            if self.pool:
                chunk = self.pool.pop()
                worker.top = len(chunk.node)
                for target, source in zip(worker.stack, chunk, strict=True):
                    target[: worker.top] = source

    def _spill(self, worker: _Worker) -> None:
        """Move the bottom half of a stack (the largest boxes) to the pool."""
        half = worker.top // 2
        self.pool.append(kernel.Stack(*(column[:half].copy() for column in worker.stack)))
        for column in worker.stack:
            column[: worker.top - half] = column[half : worker.top].copy()
        worker.top -= half

    def _open(self) -> int:
        """Boxes waiting."""
        return sum(w.top for w in self.workers) + sum(len(c.node) for c in self.pool)

    def _statistics(self) -> dict[str, float]:
        return {"boxes": self.boxes, "open": self._open()}

    def _tree(self) -> InputSplitTree:
        """The record of all calls as one tree."""
        node, kind, axis, at, child, weights = (
            np.concatenate(parts) for parts in zip(*self.record, strict=True)
        )
        clauses = tuple(clause.index for clause in self.problem.clauses)
        rows = np.concatenate([clause.rows for clause in self.problem.clauses])
        lower, upper = self.problem.box
        stride = self.net.bias.shape[1]
        return InputSplitTree(
            lower, upper, clauses, stride, node, kind, axis, at, child, weights, rows
        )


def suits(problem: Problem) -> bool:
    """Whether the network is small enough, and has few enough inputs, for this search.

    The first box bounds every neuron by a dense backward pass; that must take well under a second.
    """
    network = problem.network
    if network.n_inputs > 16:
        return False
    widths = [network.n_inputs] + [layer.n_out for layer in network.layers]
    products = [a * b for a, b in itertools.pairwise(widths)]
    cost = sum(2 * n * sum(products[:k]) for k, n in enumerate(widths[1:]))
    padded = max(widths) ** 2 * network.depth
    return cost < 5e8 and padded < 3e7
