"""What linear programs proved, as a tree that the checker's backward leaves close.

The dual of the triangle relaxation is a backward pass. Let μ_i be minus the multiplier of the row
W a − z_i = −b, and λ_i = Σ_j μ_j W_ji over the next layer the coefficient that a_i gets from it.
The rows 0 ≤ a − z and a − s z ≤ t and the column a ≥ 0 have multipliers p ≥ 0, −q ≤ 0 and r ≥ 0,
so that λ = p − q + r and μ = p − s q where z is inside its bounds: the line α z below with
α = μ / λ if λ ≥ 0, the line s z + t above if λ < 0, and where a sign is assumed what remains is
the multiplier of that sign (Salman et al., A convex relaxation barrier, 2019, theorem 1).
So each leaf becomes slopes, multipliers of signs and weights, in one pass over the multipliers that
the search had. The bounds of z are implied by the layers before, so that multipliers on them are
never needed, but a solver may use them; leaves that the checker's numbers do not close are
improved by some gradient steps, or split further, by ``branch_and_bound``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.lp import Relaxation, relax, triangle
from verifier.core.verdict import Proved, Refuted, Verdict, Witness
from verifier.search.branch_and_bound import NeuronSplitSearch
from verifier.search.lp_tree import DualLeaf, LpEvidence, Node, Split, slack_scale
from verifier.search.pool import Pool
from verifier.search.problem import Clause, Deadline, Problem
from verifier.search.subproblems import Batch, clause_goals

#: Numbers of one layer that are converted together.
_NUMBERS = 1 << 17
#: Multipliers are float32 numbers in the search.
_LARGEST = 2.0**100


def run(problem: Problem, deadline: Deadline, engine: Callable[[list[Bounds]], Verdict]) -> Verdict:
    """Run an engine of linear programs so that its evidence can be written as a proof.

    Args:
        problem: the question.
        deadline: when to give up; the conversion may take as long again as the engine took.
        engine: decides the problem with these bounds, which the checker can prove.

    Returns:
        the engine's verdict; the evidence is a ``NeuronSplitTree``, or still ``LpEvidence`` if
        time ran out before all leaves were closed in the checker's numbers.
    """
    search = _Conversion(problem, deadline, None, keep_multipliers=True, seed=0)
    search.roots.tighten(-1, lambda: deadline.passed)
    effort = Deadline(math.inf)
    verdict = engine(search.roots.bounds[:-1])
    if not isinstance(verdict, Proved):
        return verdict
    search.deadline = Deadline(deadline.left + effort.elapsed)
    converted = search.convert(verdict.evidence)
    return replace(verdict, evidence=converted.evidence) if converted else verdict


@dataclass(frozen=True)
class _Leaf:
    """A leaf that multipliers close: its clause, node, signs {unit: ±1} and the multipliers."""

    goal: int
    node: int
    signs: dict[int, int]
    dual: DualLeaf


class _Conversion(NeuronSplitSearch):
    """The search that begins with the leaves of linear programs."""

    def convert(self, evidence: LpEvidence) -> Proved | None:
        """The tree with every leaf closed in numbers of few bits; None when time runs out."""
        self._start()
        self.pool = Pool()
        relaxation = relax(self.problem.network, self.problem.box, list(evidence.bounds))
        size = max(1, _NUMBERS // max(layer.n_out for layer in self.problem.slacks.layers))
        roots = enumerate(tree.root for tree in evidence.trees)
        leaves = [leaf for goal, root in roots for leaf in self._grow(goal, root)]
        for first in range(0, len(leaves), size):
            found = self._closed(self._batch(relaxation, leaves[first : first + size]))
            if self.deadline.passed:
                return None
            self.pool.put(found)
        verdict = self._search(Deadline(math.inf)) if len(self.pool) else Proved(self._tree())
        if isinstance(verdict, Refuted):
            raise _contradiction()
        return verdict if isinstance(verdict, Proved) else None

    def _closed(self, batch: Batch) -> Batch:
        """Record what closes as it is, or by some steps from here or from scratch; the others."""
        found = self._improve(batch, 15)
        if isinstance(found, Batch) and len(found):
            fresh = Batch.root(found.engine, found.units, found.goals).take(found.goal)
            fresh.sign, fresh.node = found.sign, found.node
            found = self._improve(fresh, 15)
        if isinstance(found, Witness):
            raise _contradiction()
        return found

    def _grow(self, goal: int, root: Node) -> list[_Leaf]:
        """Put a clause's splits and regions into the tree; return its other leaves."""
        units = zip(self.units.layer.tolist(), self.units.neuron.tolist(), strict=True)
        number = {unit: u for u, unit in enumerate(units)}
        leaves: list[_Leaf] = []
        made: list[tuple[int, int, int, int, int]] = []
        stack: list[tuple[Node, int, dict[int, int]]] = [(root, goal, {})]
        while stack:
            node, at, signs = stack.pop()
            if isinstance(node, DualLeaf):
                leaves.append(_Leaf(goal, at, signs, node))
            elif not isinstance(node, Split):
                self.certificates[at] = node.certificate
            else:
                unit = number[node.layer, node.index]
                for sign, child in ((1, node.active), (-1, node.inactive)):
                    stack.append((child, self.count + len(made), {**signs, unit: sign}))
                    made.append((goal, at, node.layer, node.index, sign))
        self.nodes.append(np.array(made, dtype=np.int32).reshape(-1, 5).T)
        self.count += len(made)
        return leaves

    def _batch(self, relaxation: Relaxation, leaves: list[_Leaf]) -> Batch:
        """Subproblems with the slopes, multipliers and weights that the linear programs found."""
        goals = clause_goals(self.problem)
        goal = np.array([leaf.goal for leaf in leaves])
        batch = Batch.root(self.roots.engine, self.units, goals).take(goal)
        batch.node = np.array([leaf.node for leaf in leaves])
        weights = np.where(goals.rows != 0, 1.0, 0.0)[goal]
        # The last column is the 0 of neurons without a row.
        duals = np.zeros((len(leaves), len(relaxation.system.rows[0]) + 1))
        for i, leaf in enumerate(leaves):
            batch.sign[i, list(leaf.signs)] = list(leaf.signs.values())
            scaled = _scaled(leaf.dual, relaxation, self.problem.clauses[leaf.goal])
            duals[i, :-1], on_rows = np.split(scaled, [duals.shape[1] - 1])
            on_rows = np.maximum(on_rows, 0.0)
            rest = max(1.0 - on_rows.sum(), 0.0) / len(on_rows)
            weights[i, weights[i] > 0] = on_rows + rest
        if goals.free_weights:
            batch.weights = weights.astype(np.float32)
        self._follow(batch, weights, relaxation, duals)
        return batch

    def _follow(
        self, batch: Batch, lam: np.ndarray, relaxation: Relaxation, duals: np.ndarray
    ) -> None:
        """Set slopes and multipliers so that backward passes get the coefficients of the duals.

        Args:
            lam: (N, rows) weights on the constraints.
            duals: (N, rows of the relaxation, and a 0).
        """
        layers = self.problem.slacks.layers
        lam = _times(lam, layers[-1].weight)
        for k in range(len(layers) - 2, -1, -1):
            relu, wanted = layers[k].relu, -duals[:, relaxation.affine_rows[k]]
            index, columns = self.units.index[k], self.units.columns[k]
            low, high = self.units.low[k][0], self.units.high[k][0]
            mu = np.where(relu & (high <= 0), 0.0, lam)
            sign, above = batch.sign[:, columns], triangle(low[index], high[index])[0]
            at, to = lam[:, index], wanted[:, index]
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = np.clip(np.nan_to_num(to / at), 0.0, 1.0)
            passed = np.where(sign > 0, at, 0.0)
            mult = np.where(sign == 0, 0.0, sign * np.maximum(sign * (passed - to), 0.0))
            batch.alpha[:, columns] = np.where(at > 0, slope, 0.0)
            batch.mult[:, columns] = mult
            free = np.where(at > 0, slope, above) * at
            mu[:, index] = np.where(sign == 0, free, passed - mult)
            lam = _times(mu, layers[k].weight)


def _contradiction() -> ArithmeticError:
    return ArithmeticError("a counterexample where linear programs proved safety")


def _scaled(dual: DualLeaf, relaxation: Relaxation, clause: Clause) -> np.ndarray:
    """Multiples whose weights on the clause add up to 1, or to less if that is too large.

    Where the node is empty with hardly a part of the clause, the multipliers need not be so large:
    the rest of the weights, on any rows of the clause, then changes too little to matter.
    """
    size = float(np.maximum(dual.multipliers[-len(clause.bound) :], 0.0).sum())
    enough = 8.0 * slack_scale(relaxation, clause) / dual.bound
    factor = min(1.0 / size, enough) if size > 0 else enough
    with np.errstate(over="ignore"):
        return np.clip(dual.multipliers * factor, -_LARGEST, _LARGEST)


def _times(mu: np.ndarray, weight: Any) -> np.ndarray:
    """mu W for dense or sparse W."""
    return np.asarray((weight.T @ mu.T).T)
