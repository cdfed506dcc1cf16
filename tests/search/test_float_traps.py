"""Networks whose large weights make float MILP solvers report wrong optima: no engine follows them.

Each family has one output with a known exact maximum over its box, for every size 2^20 to 2^60. The
maximum is asked from both sides and at the tie itself, strict and not.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from tests import oracle
from tests.engines import COMPLETE, ENGINES, TIES_UNDECIDED, decide
from verifier.bounds.interval import interval_bounds
from verifier.bounds.lp import relax
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.search import milp
from verifier.search.problem import Deadline, problems

#: Some engines see every fourth size only, to keep the suite short.
ALL_SIZES, SOME_SIZES = range(20, 61), range(20, 61, 4)


def chain(*layers):
    """ReLU on all layers but the last."""
    last = len(layers) - 1
    return Network(
        tuple(
            Layer(np.array(w, float), np.array(b, float), np.full(len(b), k < last))
            for k, (w, b) in enumerate(layers)
        )
    )


def absorbed_sum(size):
    """Four neurons: relu(ω a − ω a + relu(x)) − 1/2, a = relu(1 − 2x): at most 1/2, at x = 1."""
    first = [[-2], [-2], [1]], [1, 1, 0]
    return chain(first, ([[size, -size, 1]], [0]), ([[1]], [-0.5])), Fraction(1)


def absorbed_bias(size):
    """relu(ω relu(1) + relu(x) − ω) − 1/2: at most 1/2, at x = 1."""
    return chain(([[0], [1]], [1, 0]), ([[size, 1]], [-size]), ([[1]], [-0.5])), Fraction(1)


def hidden_switch(size):
    """2^10 relu(ω relu(1 − 2 relu(1 − 20x)) − ω + 2^-10) − 1/2: 1/2 where x ≥ 1/20."""
    return (
        chain(
            ([[-20]], [1]),
            ([[-2], [0]], [1, 1]),
            ([[size, -size]], [2.0**-10]),
            ([[2.0**10]], [-0.5]),
        ),
        Fraction(1, 10),
    )


FAMILIES = (absorbed_sum, absorbed_bias, hidden_switch)
MAXIMUM = Fraction(1, 2)
#: (threshold, strict, whether some output is ≥ or > it)
QUESTIONS = (
    (Fraction(0), False, True),
    (MAXIMUM - Fraction(1, 2**40), False, True),
    (MAXIMUM, False, True),
    (MAXIMUM, True, False),
    (MAXIMUM + Fraction(1, 2**40), False, False),
    (Fraction(3, 4), False, False),
)


def question(family, size, threshold, strict):
    network, right = family(size)
    constraint = LinearConstraint(((0, Fraction(1)),), threshold, strict)
    case = Case(Box((Fraction(0),), (right,)), ((constraint,),))
    return network, Property((case,), 1, 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("exponent", [20, 40, 60])
def test_the_stated_truth_is_the_truth(family, exponent):
    network, right = family(2.0**exponent)
    assert oracle.maximum(network, Box((Fraction(0),), (right,)), [Fraction(1)]) == MAXIMUM
    for threshold, strict, truth in QUESTIONS:
        assert oracle.violated(*question(family, 2.0**exponent, threshold, strict)) is truth


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_engine_is_ever_wrong(family, engine):
    unknown, seconds = 0, 0.02 if engine in TIES_UNDECIDED else 10
    # The portfolio tries both branch and bounds, on all sizes.
    some = ("milp-cbc", "milp-scip", "branch_and_bound", "input_split")
    sizes = SOME_SIZES if engine in some else ALL_SIZES
    for exponent in sizes:
        for threshold, strict, truth in QUESTIONS:
            network, prop = question(family, 2.0**exponent, threshold, strict)
            verdict = decide(engine, network, prop, seconds)
            assert not isinstance(verdict, Proved if truth else Refuted), (exponent, threshold)
            unknown += isinstance(verdict, Unknown)
            if isinstance(verdict, Refuted):
                x = verdict.witness.x
                assert prop.violation(x, network.exact(x)) is not None
    if engine in COMPLETE:
        assert unknown == 0


def misled(solver):
    """How often the solver claims the wrong thing, or cannot tell."""
    count = 0
    for family, exponent in itertools.product(FAMILIES, SOME_SIZES):
        for threshold, truth in ((Fraction(0), True), (Fraction(3, 4), False)):
            (problem,) = problems(*question(family, 2.0**exponent, threshold, False))
            bounds = interval_bounds(problem.network, *problem.box)
            relaxation = relax(problem.network, problem.box, bounds)
            hint = milp.ask(relaxation, problem.clauses[0], solver, Deadline(10))
            if truth:
                count += hint.values is None or problem.candidate(hint.values[:1]) is None
            else:
                count += hint.status != "No Solution Exists"
    return count


@pytest.mark.parametrize("solver", ["highs", "cbc", "scip"])
def test_the_traps_do_mislead_the_solvers(solver):
    assert misled(solver) >= 3
