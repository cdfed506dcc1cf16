"""The interval engine: one pass of interval arithmetic. Incomplete: Proved or Unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.bounds.interval import affine_interval, interval_bounds, relu_interval
from verifier.core.network import Layer
from verifier.core.verdict import Proved, Unknown, Verdict
from verifier.search.problem import Deadline, Problem


@dataclass(frozen=True)
class IntervalEvidence:
    """For each clause of a case one constraint that interval arithmetic excludes.

    Args:
        case: index of the case.
        rows: for each clause of the problem (clause index, position of the constraint in it).
    """

    case: int
    rows: tuple[tuple[int, int], ...]


def run(problem: Problem, deadline: Deadline) -> Verdict:
    """Proved if interval bounds on the outputs exclude some constraint of every clause.

    Args:
        problem: the question.
        deadline: looked at once, before the pass.
    """
    if deadline.passed:
        return Unknown("time limit")
    with np.errstate(all="ignore"):
        bounds = interval_bounds(problem.network, *problem.box)
        lower, upper = relu_interval(problem.network.layers[-1], *bounds[-1])
        found = []
        for clause in problem.clauses:
            slack = Layer(clause.rows, -clause.bound, np.zeros(len(clause.bound), dtype=bool))
            _, highest = affine_interval(slack, lower, upper)
            # NaN, from bounds beyond the float64 range, fails both comparisons.
            excluded = np.flatnonzero((highest < 0) | ((highest <= 0) & clause.strict))
            if not len(excluded):
                return Unknown(f"interval bounds do not exclude clause {clause.index}")
            found.append((clause.index, int(excluded[0])))
    return Proved(IntervalEvidence(problem.case, tuple(found)))
