"""The LP engine: the triangle relaxation, clause by clause, without a split. Incomplete.

Proved where a safe bound closes every clause; Refuted where the relaxation's optimal input happens
to be a counterexample; otherwise Unknown.
"""

from __future__ import annotations

from verifier.bounds.interval import Bounds
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict
from verifier.search.lp_tree import (
    ClauseLp,
    ClauseTree,
    LpEvidence,
    relaxed,
    witness_at,
)
from verifier.search.problem import Deadline, Problem


def run(problem: Problem, deadline: Deadline, bounds: list[Bounds] | None = None) -> Verdict:
    """Solve one linear program for each clause.

    Args:
        problem: the question.
        deadline: when to give up.
        bounds: per layer proved pre-activation bounds over the box; interval bounds by default.

    Returns:
        Proved with ``LpEvidence`` whose trees are single leaves, Refuted, or Unknown.
    """
    try:
        bounds, relaxation = relaxed(problem, bounds)
    except OverflowError as error:
        return Unknown(str(error))
    trees, open_clause = [], None
    for clause in problem.clauses:
        if deadline.passed:
            return Unknown("time limit")
        program = ClauseLp(relaxation, clause)
        hint = program.solve({}, deadline.left)
        closing = program.closing(hint)
        if closing is not None:
            trees.append(ClauseTree(clause.index, closing))
            continue
        witness = witness_at(problem, clause, hint)
        if witness is not None:
            return Refuted(witness)
        open_clause = (clause.index, hint.detail) if open_clause is None else open_clause
    if open_clause is not None:
        index, detail = open_clause
        return Unknown(f"the relaxation does not exclude clause {index} (HiGHS: {detail})")
    return Proved(LpEvidence(problem.case, tuple(bounds), tuple(trees)))
