"""Networks whose large weights make float MILP solvers report wrong optima: no engine follows them.

Each family has one output with a known exact maximum over its box, for every size 2^20 to 2^60. The
maximum is asked from both sides and at the tie itself, strict and not.
"""

import itertools
from fractions import Fraction
from functools import partial

import pytest

from tests import oracle
from tests.engines import COMPLETE, ENGINES, TIES_UNDECIDED, decide
from tests.float_traps import MAXIMUM, absorbed_bias, absorbed_sum, disguised, hidden_switch
from verifier.bounds.interval import interval_bounds
from verifier.bounds.lp import relax
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.search import milp
from verifier.search.problem import Deadline, problems

#: Some engines see every fourth size only, to keep the suite short.
ALL_SIZES, SOME_SIZES = range(20, 61), range(20, 61, 4)

FAMILIES = {
    "absorbed_sum": partial(disguised, absorbed_sum, unsafe=True),
    "absorbed_bias": partial(disguised, absorbed_bias, unsafe=True),
    "hidden_switch": hidden_switch,
}
#: (threshold, strict, whether some output is ≥ or > it)
QUESTIONS = (
    (Fraction(0), False, True),
    (MAXIMUM - Fraction(1, 2**40), False, True),
    (MAXIMUM, False, True),
    (MAXIMUM, True, False),
    (MAXIMUM + Fraction(1, 2**40), False, False),
    (Fraction(3, 4), False, False),
)


def question(family, exponent, threshold, strict):
    trap = FAMILIES[family](exponent)
    return trap.network, trap.property(threshold, strict=strict)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("exponent", [20, 40, 60])
def test_the_stated_truth_is_the_truth(family, exponent):
    trap = FAMILIES[family](exponent)
    assert trap.maximum == MAXIMUM
    assert oracle.maximum(trap.network, trap.box, [Fraction(1)]) == MAXIMUM
    for threshold, strict, truth in QUESTIONS:
        assert oracle.violated(*question(family, exponent, threshold, strict)) is truth


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_engine_is_ever_wrong(family, engine):
    unknown, seconds = 0, 0.02 if engine in TIES_UNDECIDED else 120
    # The portfolio tries both branch and bounds, on all sizes.
    some = ("milp-cbc", "milp-scip", "branch_and_bound", "input_split")
    sizes = SOME_SIZES if engine in some else ALL_SIZES
    for exponent in sizes:
        for threshold, strict, truth in QUESTIONS:
            network, prop = question(family, exponent, threshold, strict)
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
            (problem,) = problems(*question(family, exponent, threshold, False))
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
