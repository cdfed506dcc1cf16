"""Splitting inputs or neurons, whichever suits, with attacks in between."""

from __future__ import annotations

import itertools
import math

import numpy as np

from verifier.core.verdict import Refuted, Unknown, Verdict
from verifier.search import branch_and_bound, input_split
from verifier.search.attack import Climb, attack
from verifier.search.problem import Deadline, Problem, Progress
from verifier.search.rounded_root import rounded_root

#: Attacks between the turns of a search, in rotation: long steps with few counterexamples in
#: between, short ones that settle in narrow regions, and signs, which follow edges of the box.
CLIMBS = (
    Climb(0.2, 60, 2000, adam=True),
    Climb(0.03, 200, 600, adam=True),
    Climb(0.25, 60, 2000),
)
#: Seconds of the search's first turn, and attacks after each turn at least.
_FIRST_TURN, _LEAST = 0.25, 2


def split_search(
    problem: Problem,
    deadline: Deadline,
    progress: Progress | None,
    rng: np.random.Generator | None,
    proof: bool,
) -> Verdict:
    """Split inputs where there are few, neurons otherwise and where rounding hides the answer.

    Args:
        problem: the question, in exact arithmetic or with the rounding of its layers.
        deadline: when to give up.
        progress: told what is going on.
        rng: for attacks along the way; None for none.
        proof: whether the evidence is to be written as a proof.
    """
    if not input_split.suits(problem):
        return branch_and_bound.run(problem, deadline, progress, keep_multipliers=proof)
    bounds = rounded_root(problem) if problem.network.is_rounded else None
    search = input_split.InputSplitSearch(problem, proof=proof, bounds=bounds)
    verdict = _split_and_attack(problem, search, _UntilStuck(deadline, search), progress, rng)
    if not isinstance(verdict, Unknown) or not search.stuck:
        return verdict
    # The answer hangs on a tie that boxes cannot see; splitting neurons ends in exact regions.
    half = Deadline(deadline.left / 2)
    verdict = branch_and_bound.run(problem, half, progress, keep_multipliers=proof)
    if isinstance(verdict, Unknown) and not deadline.passed:
        # Too many regions: a counterexample far from the tie is the only hope left.
        verdict = search.run(deadline, progress)
    return verdict


def _split_and_attack(
    problem: Problem,
    search: input_split.InputSplitSearch,
    deadline: Deadline,
    progress: Progress | None,
    rng: np.random.Generator | None,
) -> Verdict:
    """Input splitting in ever longer turns, between them attacks from new points (if rng is given).

    Small unsafe regions are met by chance or by exhaustion, and nobody knows beforehand which is
    nearer.
    """
    slot, climbs = math.inf if rng is None else _FIRST_TURN, itertools.cycle(CLIMBS)
    while True:
        part = Deadline(min(slot, deadline.left))
        verdict = search.run(_Either(deadline, part), progress)
        if rng is None or not isinstance(verdict, Unknown) or deadline.passed:
            return verdict
        again = Deadline(slot / 2)
        for turn, climb in enumerate(climbs):
            if deadline.passed or (again.passed and turn >= _LEAST):
                break
            samples = -(-climb.restarts // len(problem.clauses))
            witness = attack(problem, deadline, rng=rng, samples=samples, climb=climb)
            if witness is not None:
                return Refuted(witness, {**verdict.statistics, "attack": 1.0})
        slot *= 2.0


class _Either(Deadline):
    """The earlier of two limits."""

    def __init__(self, first: Deadline, second: Deadline) -> None:
        super().__init__(min(first.left, second.left))
        self._both = (first, second)

    @property
    def passed(self) -> bool:
        """Whether one of them has passed."""
        return any(limit.passed for limit in self._both)


class _UntilStuck(Deadline):
    """A limit that also ends a search as soon as it can no longer prove anything.

    Args:
        deadline: the limit in time.
        search: the search that it is for.
    """

    def __init__(self, deadline: Deadline, search: input_split.InputSplitSearch) -> None:
        super().__init__(deadline.left)
        self._search = search

    @property
    def passed(self) -> bool:
        """Whether the time is up, or a box was too small to split."""
        return super().passed or self._search.stuck > 0
