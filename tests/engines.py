"""The engines under test, by name, each as one function on a whole property."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np

from verifier.core.network import Layer, Network
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted, Verdict, Witness
from verifier.search import branch_and_bound, interval, lp, lp_tree, milp
from verifier.search.input_split import InputSplitSearch
from verifier.search.portfolio import certify
from verifier.search.problem import Deadline, Problem, problems


def _input_split(problem: Problem, deadline: Deadline) -> Verdict:
    return InputSplitSearch(problem).run(deadline)


_RUNS: dict[str, Callable[[Problem, Deadline], Verdict]] = {
    "interval": interval.run,
    "lp": lp.run,
    "lp_tree": lp_tree.run,
    "branch_and_bound": branch_and_bound.run,
    "input_split": _input_split,
    "milp-highs": partial(milp.run, solver="highs"),
    "milp-cbc": partial(milp.run, solver="cbc"),
    "milp-scip": partial(milp.run, solver="scip"),
}
_PORTFOLIO = ("bab", "auto")

ENGINES = (*_RUNS, *_PORTFOLIO)
INCOMPLETE = ("interval", "lp")
#: Decides everything but exact ties, on which it may take all the time there is.
TIES_UNDECIDED = ("input_split",)
COMPLETE = tuple(name for name in ENGINES if name not in INCOMPLETE + TIES_UNDECIDED)


def decide(engine: str, network: Network, prop: Property, seconds: float = 120) -> Verdict:
    """The verdict of one engine of ``ENGINES``."""
    if engine in _PORTFOLIO:
        return certify(network, prop, timeout=seconds, engine=engine)
    deadline, evidence = Deadline(seconds), []
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            return Refuted(problem)
        verdict = _RUNS[engine](problem, deadline)
        if not isinstance(verdict, Proved):
            return verdict
        evidence.append(verdict.evidence)
    return Proved(tuple(evidence))


def hard_problem(width: int = 40, inputs: int = 12) -> Problem:
    """A robustness question far too hard for interval bounds and depth-first splitting."""
    rng = np.random.default_rng(4)
    sizes = (inputs, width, width, width, 3)
    layers = [
        Layer(rng.normal(size=(m, n)) / math.sqrt(n), rng.normal(size=m), np.full(m, k < 3))
        for k, (n, m) in enumerate(itertools.pairwise(sizes))
    ]
    network = Network(tuple(layers))
    centre = [Fraction(0)] * inputs
    y = network.exact(centre)
    label = max(range(3), key=lambda i: y[i])
    (problem,) = problems(network, Property.robustness(Box.ball(centre, Fraction(1, 4)), label, 3))
    assert isinstance(problem, Problem)
    return problem
