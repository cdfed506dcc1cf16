"""The MILP engine: models from proved bounds, hints that decide nothing, limits that are kept."""

from fractions import Fraction

import numpy as np
import pulp
import pytest
from hypothesis import given, settings

from tests import oracle
from tests.engines import hard_problem
from tests.stopwatch import within
from tests.strategies import generators, random_instance, random_point
from verifier.bounds.interval import interval_bounds
from verifier.bounds.lp import relax
from verifier.core.errors import SolverError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown, Witness
from verifier.search import milp
from verifier.search.milp import MilpHint
from verifier.search.problem import Clause, Deadline, Problem, problems

INSTALLED = ("highs", "cbc", "scip")


def verdict_on(network, prop, solver="highs"):
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            return Refuted(problem)
        verdict = milp.run(problem, Deadline(30), solver)
        if not isinstance(verdict, Proved):
            return verdict
    return verdict


def test_an_unknown_name_is_an_error():
    with pytest.raises(SolverError, match=r"unknown MILP solver 'simplex'; known: highs, cbc"):
        milp.check_installed("simplex")


def test_a_missing_solver_is_an_error_before_any_work(monkeypatch):
    monkeypatch.setitem(milp.SOLVERS, "gurobi", ("MOSEK", "pip install gurobipy, and a licence"))
    if pulp.getSolver("MOSEK").available():
        pytest.skip("MOSEK stands in for a missing solver, and is installed here")
    with pytest.raises(SolverError, match=r"'gurobi' is not installed \(pip install gurobipy"):
        milp.run(hard_problem(), Deadline(0), "gurobi")


def built(problem):
    bounds = interval_bounds(problem.network, *problem.box)
    relaxation = relax(problem.network, problem.box, bounds)
    model, columns, binaries = milp._model(relaxation, problem.clauses[0], Deadline(60))
    return relaxation, model, columns, binaries


def holds(constraint, values):
    """Whether exact values (by variable name) satisfy a PuLP constraint, read as exact floats."""
    total = Fraction(float(constraint.constant))
    for variable, coefficient in constraint.items():
        total += Fraction(float(coefficient)) * values[variable.name]
    return {
        pulp.LpConstraintEQ: total == 0,
        pulp.LpConstraintGE: total >= 0,
        pulp.LpConstraintLE: total <= 0,
    }[constraint.sense]


@given(generators())
@settings(max_examples=40)
def test_the_model_contains_every_exact_run_of_the_network(rng):
    network, prop = random_instance(int(rng.integers(2**32)))
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            continue
        relaxation, model, columns, binaries = built(problem)
        x = random_point(rng, problem.exact_box)
        trace = problem.network.exact_trace(x)
        values = {"t": Fraction(0)}
        for j, v in enumerate(x):
            values[columns[j].name] = v
        for pre, post, (z, a) in zip(relaxation.pre, relaxation.post, trace, strict=True):
            for where, numbers in ((pre, z), (post, a)):
                values.update(
                    {columns[c].name: v for c, v in zip(where, numbers, strict=True) if c >= 0}
                )
        for d, (k, i) in zip(binaries, relaxation.unstable, strict=True):
            values[d.name] = Fraction(int(trace[k][0][i] > 0))
        slack = [c.slack(problem.network.exact(x)) for c in clause_of(problem)]
        unsatisfied = sum(not holds(c, values) for c in model.constraints())
        # Only the clause's own rows may fail, and only at a point that is not unsafe.
        assert unsatisfied <= sum(s < 0 for s in slack)


def clause_of(problem):
    case = problem.source[1].cases[problem.case]
    return [c for c in case.clauses[problem.clauses[0].index] if c.terms]


def test_big_m_is_the_proved_bound():
    first = Layer(np.array([[1.0, 1.0]]), np.array([0.25]), np.array([True]))
    second = Layer(np.array([[1.0]]), np.zeros(1), np.array([False]))
    network = Network((first, second))
    box = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
    bounds = interval_bounds(network, *box)
    clause = Clause(np.array([[1.0]]), np.array([0.5]), np.array([False]), 0)
    model, _, (binary,) = milp._model(relax(network, box, bounds), clause, Deadline(60))
    big = {
        float(coefficient)
        for constraint in model.constraints()
        for variable, coefficient in constraint.items()
        if variable.name == binary.name
    }
    assert big == {-float(bounds[0][0][0]), -float(bounds[0][1][0])}
    assert max(big) == pytest.approx(1.75)


@pytest.mark.parametrize("solver", INSTALLED)
def test_each_solver_finds_counterexamples_of_its_own(solver):
    found = 0
    for seed in range(25):
        network, prop = random_instance(seed)
        for problem in problems(network, prop):
            if isinstance(problem, Problem):
                bounds = interval_bounds(problem.network, *problem.box)
                relaxation = relax(problem.network, problem.box, bounds)
                for clause in problem.clauses:
                    hint = milp.ask(relaxation, clause, solver, Deadline(10))
                    if hint.values is not None:
                        found += problem.candidate(hint.values[: network.n_inputs]) is not None
    assert found >= 5


LIES = {
    "none exists": lambda columns, unstable: MilpHint("No Solution Exists", None, None),
    "a wrong point": lambda columns, unstable: MilpHint(
        "Optimal Solution Found", np.full(columns, 1e6), (True,) * unstable
    ),
    "a failure": lambda columns, unstable: MilpHint("error: no licence", None, None),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_solver_changes_no_verdict(lie, monkeypatch):
    def ask(relaxation, clause, solver, deadline):
        return LIES[lie](relaxation.system.matrix.shape[1], len(relaxation.unstable))

    monkeypatch.setattr(milp, "ask", ask)
    seen = []
    for seed in range(40):
        network, prop = random_instance(seed)
        verdict = verdict_on(network, prop)
        seen.append(type(verdict))
        assert isinstance(verdict, Refuted if oracle.violated(network, prop) else Proved)
    assert min(seen.count(Proved), seen.count(Refuted)) >= 8


def test_a_claim_that_cannot_be_proved_in_time_is_unknown_and_names_its_source(monkeypatch):
    monkeypatch.setattr(milp, "ask", lambda *_: MilpHint("No Solution Exists", None, None))
    verdict = milp.run(hard_problem(), Deadline(0.5))
    assert isinstance(verdict, Unknown)
    assert "highs said 'No Solution Exists' of clause" in verdict.reason
    assert "time limit" in verdict.reason


@pytest.mark.parametrize("solver", INSTALLED)
def test_the_deadline_is_kept(solver):
    problem = hard_problem()
    with within(2):
        verdict = milp.run(problem, Deadline(1.0), solver)
    assert isinstance(verdict, Unknown)


@pytest.mark.parametrize("error", [pulp.PulpSolverError("crashed"), Exception("SCIP: error")])
def test_a_solver_that_fails_is_a_hint_without_content(error, monkeypatch):
    hint = failing_hint(error, monkeypatch)
    assert (hint.status, hint.values, hint.active) == (f"error: {error}", None, None)


def test_other_errors_are_not_swallowed(monkeypatch):
    with pytest.raises(TypeError):
        failing_hint(TypeError("a defect"), monkeypatch)


def failing_hint(error, monkeypatch):
    def solve(self, engine):
        raise error

    monkeypatch.setattr(pulp.LpProblem, "solve", solve)
    problem = hard_problem()
    bounds = interval_bounds(problem.network, *problem.box)
    relaxation = relax(problem.network, problem.box, bounds)
    return milp.ask(relaxation, problem.clauses[0], "highs", Deadline(10))


@pytest.mark.parametrize("solver", INSTALLED)
@pytest.mark.parametrize("size", [1e25, 1e30, 1e300])
def test_numbers_that_a_solver_takes_for_infinite_change_no_verdict(size, solver):
    """HiGHS refuses a column whose faces are beyond 1e20; PuLP then looked for its value."""
    everywhere, nowhere = np.ones(1, dtype=bool), np.zeros(1, dtype=bool)
    network = Network(
        (
            Layer(np.array([[size]]), np.array([2 * size]), everywhere),
            Layer(np.array([[1 / size]]), np.array([-2.0]), nowhere),
        )
    )
    box = Box((Fraction(-1),), (Fraction(1),))
    for bound, kind in ((Fraction(9, 10), Refuted), (Fraction(11, 10), Proved)):
        clause = (LinearConstraint(((0, Fraction(1)),), bound),)
        assert isinstance(
            verdict_on(network, Property((Case(box, (clause,)),), 1, 1), solver), kind
        )


def test_bounds_beyond_float64_are_unknown():
    problem = hard_problem()
    infinite = [
        (np.full(layer.n_out, -np.inf), np.full(layer.n_out, np.inf))
        for layer in problem.network.layers
    ]
    verdict = milp.run(problem, Deadline(5), bounds=infinite)
    assert isinstance(verdict, Unknown)
    assert "float64" in verdict.reason
