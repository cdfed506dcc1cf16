"""The interval engine: one pass of interval arithmetic. Incomplete: Proved or Unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from verifier.bounds.ball_batch import has_no_pairs, output_bounds, plan
from verifier.bounds.interval import affine_interval, interval_bounds, relu_interval
from verifier.core.network import Layer, Network
from verifier.core.verdict import Proved, Unknown, Verdict
from verifier.search.balls import pass_statistics
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

    The bounds use the rule for maxima and minima of ``verifier.bounds.ball_batch``.

    Args:
        problem: the question.
        deadline: looked at once, before the pass.
    """
    if deadline.passed:
        return Unknown("time limit")
    low, high, pairs = _outputs(problem.network, *problem.box)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return Unknown("interval bounds leave the float64 range")
    found = []
    for clause in problem.clauses:
        slack = Layer(clause.rows, -clause.bound, np.zeros(len(clause.bound), dtype=bool))
        _, highest = affine_interval(slack, low, high)
        excluded = np.flatnonzero((highest < 0) | ((highest <= 0) & clause.strict))
        if not len(excluded):
            return Unknown(f"interval bounds do not exclude clause {clause.index}")
        found.append((clause.index, int(excluded[0])))
    evidence = IntervalEvidence(problem.case, tuple(found))
    return Proved(evidence, pass_statistics(pairs))


def _outputs(
    network: Network, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Bounds on the outputs, infinite where numbers overflow, and how many pairs they used.

    Where there are no pairs a few matrix products do: neither compiled code nor threads are loaded.
    """
    if has_no_pairs(network):
        low, high = relu_interval(network.layers[-1], *interval_bounds(network, lower, upper)[-1])
        return low, high, 0
    prepared = plan(network)
    ((_, (low,), (high,), (known,)),) = output_bounds(prepared, lower[None], upper[None])
    return (low, high, prepared.n_pairs) if known else (low - math.inf, high + math.inf, 0)
