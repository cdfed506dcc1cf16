"""Compile the numerical kernels once, after installing: ``python -m verifier.search.warm_up``.

They are compiled on first use and kept on disk; doing it here keeps some seconds of compilation out
of the first real question (and out of its time limit).
"""

from __future__ import annotations

import itertools

import numpy as np

from verifier.bounds.jit import remove_stale_caches
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Property
from verifier.search import branch_and_bound, interval
from verifier.search.input_split import InputSplitSearch
from verifier.search.problem import Deadline, Problem, problems


def compile_kernels() -> None:
    """Run the engines with kernels on a small network, long enough to use every kernel."""
    for prop in (_argmax(), _conjunction()):
        for problem in problems(_network(), prop):
            if isinstance(problem, Problem):
                interval.run(problem, Deadline(60.0))
                branch_and_bound.run(problem, Deadline(60.0))
                InputSplitSearch(problem).run(Deadline(5.0))


def _network() -> Network:
    """Two inputs, two hidden layers: small, but with unstable neurons, splits, and |x| in it."""
    rng = np.random.default_rng(0)
    sizes = (2, 8, 8, 3)
    weights = [rng.normal(size=(n, m)) for m, n in itertools.pairwise(sizes)]
    weights[0][1] = -weights[0][0]
    weights[1][:, 1] = weights[1][:, 0]
    layers = [Layer(w, rng.normal(size=len(w)), np.full(len(w), len(w) != 3)) for w in weights]
    return Network(tuple(layers))


def _argmax() -> Property:
    """The label at the centre wins on a box large enough to need splits."""
    y = _network().float64(np.zeros(2))
    return Property.robustness(Box.ball([0, 0], 1), int(y.argmax()), 3)


def _conjunction() -> Property:
    """Both other outputs together do not exceed the smallest one at the centre."""
    (case,) = _argmax().cases
    clause = tuple(constraint for clause in case.clauses for constraint in clause)
    return Property((type(case)(case.box, (clause,)),), 2, 3)


if __name__ == "__main__":
    remove_stale_caches()
    compile_kernels()
