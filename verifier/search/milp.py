"""The MILP engine: any solver that PuLP knows looks for a counterexample; its answer is a hint.

The model is the triangle relaxation with a binary d for each unstable neuron: a ≤ z − l (1 − d) and
a ≤ u d, where l and u are proved bounds. A point that the solver finds is tested exactly, and so is
its linear region. If it claims that there is none, ``lp_tree`` proves that again with bounds that
do not depend on the solver, or the answer is Unknown with the solver's status as the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pulp

from verifier.bounds.interval import Bounds
from verifier.bounds.lp import Relaxation, System
from verifier.core.errors import SolverError
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict, Witness
from verifier.search.lp_tree import ClauseSearch, LpEvidence, relaxed, slack_scale
from verifier.search.problem import Clause, Deadline, Problem
from verifier.search.region import Regions

#: Names that a user may give, with PuLP's name and how to get it.
SOLVERS = {
    "highs": ("HiGHS", "pip install highspy"),
    "cbc": ("PULP_CBC_CMD", "it comes with PuLP on most platforms"),
    "scip": ("SCIP_PY", "pip install pyscipopt"),
    "gurobi": ("GUROBI", "pip install gurobipy, and a licence"),
}

#: Entries that HiGHS would refuse (1e15 by default) or drop (1e-9).
_HIGHS_OPTIONS = {"large_matrix_value": float("inf"), "small_matrix_value": 1e-12}
#: HiGHS' presolve does not look at the clock: 8 s at 400,000 entries, 0.5 s at 270,000.
_PRESOLVE_ENTRIES = 200_000


@dataclass(frozen=True, eq=False)
class MilpHint:
    """What a MILP solver says.

    Args:
        status: in words.
        values: (columns,) values of the relaxation's columns, or None.
        active: (unstable neurons,) the binaries as phases, or None.
    """

    status: str
    values: np.ndarray | None
    active: tuple[bool, ...] | None


def run(
    problem: Problem,
    deadline: Deadline,
    solver: str = "highs",
    bounds: list[Bounds] | None = None,
) -> Verdict:
    """Decide a problem clause by clause with a MILP solver and a proof of its answer.

    Args:
        problem: the question.
        deadline: when to give up; the solver gets the time that is left.
        solver: a key of ``SOLVERS``.
        bounds: per layer proved pre-activation bounds over the box; interval bounds by default.

    Raises:
        SolverError: the solver is not known or not installed.
    """
    check_installed(solver)
    try:
        bounds, relaxation = relaxed(problem, bounds)
    except OverflowError as error:
        return Unknown(str(error))
    regions = Regions(problem, relaxation.unstable, bounds)
    trees, nodes = [], 0
    for clause in problem.clauses:
        hint = ask(relaxation, clause, solver, deadline)
        witness = _witness(problem, clause, regions, hint, deadline)
        if witness is not None:
            return Refuted(witness)
        search = ClauseSearch(problem, relaxation, clause, regions)
        outcome = search.run(deadline)
        nodes += search.nodes
        statistics = {"nodes": float(nodes)}
        if isinstance(outcome, Witness):
            return Refuted(outcome, statistics)
        if isinstance(outcome, str):
            said = f"{solver} said {hint.status!r} of clause {clause.index}"
            return Unknown(f"{said}, not proved: {outcome}", statistics)
        trees.append(outcome)
    evidence = LpEvidence(problem.case, tuple(bounds), tuple(trees))
    return Proved(evidence, {"nodes": float(nodes)})


def check_installed(solver: str) -> None:
    """Raise SolverError, with what to do, unless the solver can be used."""
    if solver not in SOLVERS:
        raise SolverError(f"unknown MILP solver {solver!r}; known: {', '.join(SOLVERS)}")
    name, remedy = SOLVERS[solver]
    if not pulp.getSolver(name, msg=False).available():
        raise SolverError(f"the MILP solver {solver!r} is not installed ({remedy})")


def ask(relaxation: Relaxation, clause: Clause, solver: str, deadline: Deadline) -> MilpHint:
    """Let the solver look for a point of the network with rows @ y − t ≥ bound and a large t.

    Args:
        relaxation: of the network on the box.
        clause: whose rows are added.
        solver: an installed key of ``SOLVERS``.
        deadline: the solver gets what is left of it.
    """
    built = _model(relaxation, clause, deadline)
    if built is None or deadline.passed:
        return MilpHint("not asked: time limit", None, None)
    model, columns, binaries = built
    status, found = _solved(model, solver, deadline.left, relaxation.system)
    values, active = (_values(variables) for variables in (columns, binaries))
    if not found or not (np.isfinite(values).all() and np.isfinite(active).all()):
        return MilpHint(status, None, None)
    return MilpHint(status, values, tuple(bool(v > 0.5) for v in active))


class MilpModel:
    """min cost · v over a system, some of whose columns are binary.

    Args:
        system: with bounds 0 and 1 for the binary columns.
        binary: indices of these columns.
        deadline: building stops when it has passed; then nothing is found.
    """

    def __init__(self, system: System, binary: np.ndarray, deadline: Deadline) -> None:
        self._system = system
        self._model: pulp.LpProblem = pulp.LpProblem("least", pulp.LpMinimize)
        whole = set(binary.tolist())
        self._columns = [
            self._model.add_variable(
                f"v{j}", float(low), float(high), pulp.LpBinary if j in whole else "Continuous"
            )
            for j, (low, high) in enumerate(zip(*system.columns, strict=True))
        ]
        self._built = True
        for _, terms, low, high in _rows(system, self._columns):
            if deadline.passed:
                self._built = False
                return
            _add_row(self._model, terms, low, high)

    def least(self, cost: np.ndarray, solver: str, seconds: float) -> np.ndarray | None:
        """The best values that the solver finds, (columns,), or None.

        Args:
            cost: (columns,).
            solver: an installed key of ``SOLVERS``.
            seconds: its time.
        """
        if not self._built:
            return None
        terms = {self._columns[j]: float(cost[j]) for j in np.flatnonzero(cost).tolist()}
        self._model.setObjective(pulp.LpAffineExpression(terms))
        _, found = _solved(self._model, solver, seconds, self._system)
        values = _values(self._columns)
        return values if found and np.isfinite(values).all() else None


def _solved(model: pulp.LpProblem, solver: str, seconds: float, system: System) -> tuple[str, bool]:
    """Run a solver: its status in words, and whether it has a point."""
    name, _ = SOLVERS[solver]
    limit = None if np.isinf(seconds) else max(seconds, 0.01)
    engine = pulp.getSolver(name, msg=False, timeLimit=limit, **_options(solver, system))
    try:
        model.solve(engine)
    except Exception as error:
        # pyscipopt reports numerical trouble as a bare Exception, of no narrower type; where HiGHS
        # refuses columns or rows with faces beyond 1e20, PuLP looks for values that are not there.
        if type(error) not in (Exception, IndexError, pulp.PulpSolverError):
            raise
        return f"error: {error}", False
    found = model.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
    return str(pulp.LpSolution[model.sol_status]), found


def _values(variables: list[pulp.LpVariable]) -> np.ndarray:
    """Their values, NaN where there is none."""
    return np.array([np.nan if v.varValue is None else v.varValue for v in variables], float)


def _options(solver: str, system: System) -> dict[str, float | str]:
    """What PuLP passes on to the solver."""
    if solver != "highs":
        return {}
    large = system.matrix.nnz > _PRESOLVE_ENTRIES
    return {**_HIGHS_OPTIONS, "presolve": "off" if large else "choose"}


def _witness(
    problem: Problem, clause: Clause, regions: Regions, hint: MilpHint, deadline: Deadline
) -> Witness | None:
    """A witness at the solver's point, or anywhere in its linear region, both tested exactly."""
    if hint.values is None or hint.active is None:
        return None
    witness = problem.candidate(hint.values[: problem.network.n_inputs])
    if witness is not None:
        return witness
    outcome = regions.decide(clause, hint.active, lambda: deadline.passed)
    return outcome if isinstance(outcome, Witness) else None


def _model(
    relaxation: Relaxation, clause: Clause, deadline: Deadline
) -> tuple[pulp.LpProblem, list[pulp.LpVariable], list[pulp.LpVariable]] | None:
    """(model, variables of the columns, binaries), or None if building it takes too long."""
    system = relaxation.with_rows(clause.rows, clause.bound)
    model = pulp.LpProblem("counterexample", pulp.LpMaximize)
    columns = [
        model.add_variable(f"v{j}", float(low), float(high))
        for j, (low, high) in enumerate(zip(*system.columns, strict=True))
    ]
    # A comfortable margin is enough: the solver stops at the first point that has it.
    margin = model.add_variable("t", 0.0, slack_scale(relaxation, clause) / 1024)
    model.setObjective(margin + 0)
    first_clause_row = system.matrix.shape[0] - len(clause.bound)
    for i, terms, low, high in _rows(system, columns):
        if deadline.passed:
            return None
        if i >= first_clause_row:
            terms[margin] = -1.0
        _add_row(model, terms, low, high)
    z, a = relaxation.unstable_columns
    binaries = []
    for u in range(len(z)):
        low, high = (float(end[z[u]]) for end in system.columns)
        binary = model.add_variable(f"d{u}", cat=pulp.LpBinary)
        binaries.append(binary)
        _add_row(model, {columns[a[u]]: 1.0, columns[z[u]]: -1.0, binary: -low}, -np.inf, -low)
        _add_row(model, {columns[a[u]]: 1.0, binary: -high}, -np.inf, 0.0)
    return model, columns, binaries


def _rows(
    system: System, columns: list[pulp.LpVariable]
) -> Iterator[tuple[int, dict[pulp.LpVariable, float], float, float]]:
    """(index, terms, low, high) of every row of a system."""
    matrix = system.matrix
    for i, (low, high) in enumerate(zip(*system.rows, strict=True)):
        entries = slice(matrix.indptr[i], matrix.indptr[i + 1])
        terms = {
            columns[j]: float(value)
            for j, value in zip(matrix.indices[entries], matrix.data[entries], strict=True)
        }
        yield i, terms, float(low), float(high)


def _add_row(
    model: pulp.LpProblem, terms: dict[pulp.LpVariable, float], low: float, high: float
) -> None:
    """Add low ≤ Σ terms ≤ high, an infinite side meaning none."""
    expression = pulp.LpAffineExpression(terms)
    if low == high:
        model.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintEQ, rhs=low))
        return
    if np.isfinite(low):
        model.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintGE, rhs=low))
    if np.isfinite(high):
        model.addConstraint(pulp.LpConstraint(expression, pulp.LpConstraintLE, rhs=high))
