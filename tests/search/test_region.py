"""One linear region, decided exactly, against a z3 question about the same region."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import z3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.strategies import random_instance
from verifier.bounds.interval import interval_bounds
from verifier.bounds.lp import relax
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Witness
from verifier.search.problem import Problem, problems
from verifier.search.region import RegionCertificate, Regions


def regions_of(problem):
    bounds = interval_bounds(problem.network, *problem.box)
    unstable = relax(problem.network, problem.box, bounds).unstable
    return Regions(problem, unstable, bounds), unstable


def z3_says(problem, unstable, phases, clause):
    """Whether a point of the box has these phases and satisfies the clause."""

    def real(value):
        exact = Fraction(float(value)) if not isinstance(value, Fraction) else value
        return z3.Q(exact.numerator, exact.denominator)

    solver, active = (
        z3.Solver(),
        {(int(k), int(i)): p for (k, i), p in zip(unstable, phases, strict=True)},
    )
    x = [z3.Real(f"x{j}") for j in range(problem.network.n_inputs)]
    for v, low, high in zip(x, problem.exact_box.lower, problem.exact_box.upper, strict=True):
        solver.add(real(low) <= v, v <= real(high))
    values = x
    for k, layer in enumerate(problem.network.layers):
        z = [
            sum((real(w) * v for w, v in zip(row, values, strict=True)), real(b))
            for row, b in zip(layer.dense, layer.bias, strict=True)
        ]
        values = []
        for i, v in enumerate(z):
            if (k, i) in active:
                solver.add(v >= 0 if active[k, i] else v <= 0)
                values.append(v if active[k, i] else real(0))
            else:
                values.append(z3.If(v > 0, v, real(0)) if layer.relu[i] else v)
    for c in problem.source[1].cases[problem.case].clauses[clause.index]:
        left = sum((real(w) * values[i] for i, w in c.terms), real(0))
        solver.add(left > real(c.bound) if c.strict else left >= real(c.bound))
    return solver.check() == z3.sat


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_every_region_agrees_with_z3(seed):
    network, prop = random_instance(seed)
    found = list(problems(network, prop))
    assume(len(found) == 1 and isinstance(found[0], Problem))
    (problem,) = found
    regions, unstable = regions_of(problem)
    assume(len(unstable) <= 5)
    for phases in itertools.product((False, True), repeat=len(unstable)):
        for clause in problem.clauses:
            answer = regions.decide(clause, phases, lambda: False)
            assert isinstance(answer, Witness | RegionCertificate)
            assert isinstance(answer, Witness) == z3_says(problem, unstable, phases, clause)


def third(strict):
    """relu(3x - 1) <= 0 (or < 0 never) and relu(1 - 3x) <= 0: only x = 1/3 satisfies both."""
    network = Network((Layer(np.array([[3.0], [-3.0]]), np.array([-1.0, 1.0]), np.ones(2, bool)),))
    zero = Fraction(0)
    clause = tuple(LinearConstraint(((i, Fraction(-1)),), zero, strict) for i in range(2))
    box = Box((zero,), (Fraction(1),))
    (problem,) = problems(network, Property((Case(box, (clause,)),), 1, 2))
    return problem


def test_a_single_point_that_no_float_holds_is_found():
    problem = third(strict=False)
    regions, _ = regions_of(problem)
    answer = regions.decide(problem.clauses[0], (False, False), lambda: False)
    assert isinstance(answer, Witness)
    assert answer.x == (Fraction(1, 3),)


def test_the_same_point_does_not_satisfy_strict_constraints():
    problem = third(strict=True)
    regions, _ = regions_of(problem)
    answer = regions.decide(problem.clauses[0], (False, False), lambda: False)
    assert isinstance(answer, RegionCertificate)
    assert answer.phases == (False, False)
    assert len(answer.weights) == 4


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_stop_is_obeyed_between_steps(calls, monkeypatch):
    monkeypatch.setattr("verifier.search.region.decide_by_hint", lambda system: None)
    problem = third(strict=False)
    regions, _ = regions_of(problem)
    left = iter([False] * calls)
    assert regions.decide(problem.clauses[0], (False, False), lambda: next(left, True)) is None


@pytest.mark.parametrize("strict", [True, False])
def test_quickly_is_what_floats_propose(strict, monkeypatch):
    problem = third(strict)
    regions, _ = regions_of(problem)
    ask = (problem.clauses[0], (False, False), lambda: False)
    assert regions.decide(*ask, quickly=True) is not None
    monkeypatch.setattr("verifier.search.region.decide_by_hint", lambda system: None)
    assert regions.decide(*ask, quickly=True) is None
    assert regions.decide(*ask) is not None
