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
from verifier.search import branch_and_bound
from verifier.search.input_split import InputSplitSearch
from verifier.search.problem import Deadline, Problem, problems


def compile_kernels() -> None:
    """Run both branch-and-bound searches on a small network, long enough to use every kernel."""
    for prop in (_argmax(), _conjunction()):
        for problem in problems(_network(), prop):
            if isinstance(problem, Problem):
                branch_and_bound.run(problem, Deadline(60.0))
                InputSplitSearch(problem).run(Deadline(5.0))


def _network() -> Network:
    """Two inputs, two hidden layers: small, but with unstable neurons and splits."""
    rng = np.random.default_rng(0)
    sizes = (2, 8, 8, 3)
    layers = [
        Layer(rng.normal(size=(n, m)), rng.normal(size=n), np.full(n, n != sizes[-1]))
        for m, n in itertools.pairwise(sizes)
    ]
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
