"""The tree search with safe LP bounds: right, whatever the solver says, and its evidence holds."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.engines import hard_problem
from tests.stopwatch import within
from tests.strategies import random_instance
from verifier.bounds.lp import relax
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown, Witness
from verifier.search import lp_tree
from verifier.search.lp_tree import DualLeaf, RegionLeaf, Split, plausible
from verifier.search.problem import Deadline, problems
from verifier.solvers.highs import LinearProgram, LpHint, LpStatus


def verdict_on(network, prop, **kwargs):
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            return Refuted(problem)
        verdict = lp_tree.run(problem, Deadline(30), **kwargs)
        if not isinstance(verdict, Proved):
            return verdict
        check_evidence(problem, verdict.evidence)
    return verdict


def check_evidence(problem, evidence):
    """Every clause has a tree, and every leaf of it closes its node in exact arithmetic."""
    assert [tree.clause for tree in evidence.trees] == [clause.index for clause in problem.clauses]
    relaxation = relax(problem.network, problem.box, list(evidence.bounds))
    for tree, clause in zip(evidence.trees, problem.clauses, strict=True):
        check_node(problem, relaxation, clause, tree.root, {})


def check_node(problem, relaxation, clause, node, phases):
    if isinstance(node, Split):
        key = (node.layer, node.index)
        assert key in {(int(k), int(i)) for k, i in relaxation.unstable}
        assert key not in phases
        check_node(problem, relaxation, clause, node.inactive, {**phases, key: False})
        check_node(problem, relaxation, clause, node.active, {**phases, key: True})
    elif isinstance(node, DualLeaf):
        assert exact_bound(relaxation, clause, phases, node.multipliers) > 0
    else:
        keys = [(int(k), int(i)) for k, i in relaxation.unstable]
        assert all(
            dict(zip(keys, node.certificate.phases, strict=True))[k] == p for k, p in phases.items()
        )
        assert len(phases) == len(keys)
        assert region_excluded(problem, clause, keys, node.certificate)


def exact_bound(relaxation, clause, phases, multipliers):
    """The dual bound with c = 0 of the node's system, in Fractions."""
    system = relaxation.with_rows(clause.rows, clause.bound)
    columns = [[Fraction(float(v)) for v in end] for end in system.columns]
    rows = [[float(v) for v in end] for end in system.rows]
    for u, key in enumerate(relaxation.unstable):
        phase = phases.get((int(key[0]), int(key[1])))
        z, a = (int(c[u]) for c in relaxation.unstable_columns)
        if phase is True:
            columns[0][z], rows[1][int(relaxation.cut_rows[u])] = Fraction(0), 0.0
        elif phase is False:
            columns[1][z] = columns[1][a] = Fraction(0)
    total, reduced = Fraction(0), [Fraction(0)] * len(columns[0])
    matrix = system.matrix
    for i, y in enumerate(multipliers):
        side = rows[0 if y > 0 else 1][i]
        if y == 0 or math.isinf(side):
            continue
        total += Fraction(float(y)) * Fraction(side)
        for p in range(matrix.indptr[i], matrix.indptr[i + 1]):
            reduced[matrix.indices[p]] -= Fraction(float(y)) * Fraction(float(matrix.data[p]))
    return total + sum(min(r * a, r * b) for r, a, b in zip(reduced, *columns, strict=True))


def region_excluded(problem, clause, keys, certificate):
    """Whether the weights exclude the region, from affine forms composed here in Fractions."""
    n = problem.network.n_inputs
    phases = dict(zip(keys, certificate.phases, strict=True))
    forms = [([Fraction(int(i == j)) for j in range(n)], Fraction(0)) for i in range(n)]
    left = {}
    middle = [
        (a + b) / 2 for a, b in zip(problem.exact_box.lower, problem.exact_box.upper, strict=True)
    ]
    stable = problem.network.exact_trace(middle)
    for k, layer in enumerate(problem.network.layers):
        nxt = []
        for i, (row, b) in enumerate(zip(layer.dense, layer.bias, strict=True)):
            w = [Fraction(float(v)) for v in row]
            slope = [sum(c * f[0][j] for c, f in zip(w, forms, strict=True)) for j in range(n)]
            const = sum((c * f[1] for c, f in zip(w, forms, strict=True)), Fraction(float(b)))
            active = phases.get((k, i), not layer.relu[i] or stable[k][0][i] > 0)
            if (k, i) in phases:
                sign = 1 if active else -1
                left[k, i] = ([sign * s for s in slope], sign * const)
            nxt.append((slope, const) if active else ([Fraction(0)] * n, Fraction(0)))
        forms = nxt
    rows, strict = [left[key] for key in keys], [False] * len(keys)
    for c in problem.source[1].cases[problem.case].clauses[clause.index]:
        slope = [sum((w * forms[i][0][j] for i, w in c.terms), Fraction(0)) for j in range(n)]
        rows.append((slope, sum((w * forms[i][1] for i, w in c.terms), -c.bound)))
        strict.append(c.strict)
    weights = certificate.weights
    assert len(weights) == len(rows)
    assert all(w >= 0 for w in weights)
    total = sum((w * const for w, (_, const) in zip(weights, rows, strict=True)), Fraction(0))
    for j, (low, high) in enumerate(
        zip(problem.exact_box.lower, problem.exact_box.upper, strict=True)
    ):
        slope = sum((w * s[j] for w, (s, _) in zip(weights, rows, strict=True)), Fraction(0))
        total += max(slope * low, slope * high)
    return total < 0 or (total == 0 and any(w and s for w, s in zip(weights, strict, strict=True)))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_verdicts_are_the_truth_and_their_evidence_holds(seed):
    network, prop = random_instance(seed, max_cases=2)
    verdict = verdict_on(network, prop)
    assert isinstance(verdict, Refuted if oracle.violated(network, prop) else Proved)
    if isinstance(verdict, Refuted):
        assert prop.violation(verdict.witness.x, network.exact(verdict.witness.x)) is not None


def test_both_kinds_of_leaf_and_splits_occur():
    kinds = set()

    def walk(node):
        kinds.add(type(node))
        if isinstance(node, Split):
            walk(node.inactive)
            walk(node.active)

    for seed in range(120):
        verdict = verdict_on(*random_instance(seed))
        if isinstance(verdict, Proved):
            for tree in verdict.evidence.trees:
                walk(tree.root)
    assert kinds == {DualLeaf, RegionLeaf, Split}


def test_evidence_with_lost_multipliers_is_rejected():
    for seed in range(60):
        network, prop = random_instance(seed)
        for problem in problems(network, prop):
            verdict = lp_tree.run(problem, Deadline(30))
            if isinstance(verdict, Proved) and isinstance(verdict.evidence.trees[0].root, DualLeaf):
                relaxation = relax(problem.network, problem.box, list(verdict.evidence.bounds))
                y = verdict.evidence.trees[0].root.multipliers
                clause = problem.clauses[0]
                assert exact_bound(relaxation, clause, {}, y) > 0
                assert exact_bound(relaxation, clause, {}, 0 * y) <= 0
                assert exact_bound(relaxation, clause, {}, -y) <= 0
                return
    pytest.fail("no instance was closed at the root")


def lying(kind):
    """A solver that claims infeasibility or optimality with made-up numbers, or gives up."""
    rng = np.random.default_rng(0)

    def solve(self, seconds=math.inf, iterations=None):
        m, n = self._highs.getNumRow(), self._highs.getNumCol()
        if kind == "failing":
            return LpHint(LpStatus.FAILED, "failed", math.nan, None, None)
        if kind == "infeasible":
            return LpHint(LpStatus.INFEASIBLE, "Infeasible", math.nan, None, rng.normal(size=m))
        numbers = (
            (rng.normal(size=n), rng.normal(size=m))
            if kind == "random"
            else (np.full(n, np.nan), np.full(m, np.nan))
        )
        return LpHint(LpStatus.OPTIMAL, "Optimal", -1.0, *numbers)

    return solve


@pytest.mark.parametrize("kind", ["failing", "infeasible", "random", "nan"])
def test_a_lying_solver_changes_no_verdict(kind, monkeypatch):
    monkeypatch.setattr(LinearProgram, "solve", lying(kind))
    verdicts = []
    for seed in range(40):
        network, prop = random_instance(seed)
        verdict = verdict_on(network, prop)
        verdicts.append(type(verdict))
        assert isinstance(verdict, Refuted if oracle.violated(network, prop) else Proved)
    assert verdicts.count(Proved) >= 8
    assert verdicts.count(Refuted) >= 8


def test_the_deadline_is_kept():
    problem = hard_problem()
    with within(2):
        verdict = lp_tree.run(problem, Deadline(1.0))
    assert isinstance(verdict, Unknown)
    assert "time limit" in verdict.reason


def test_the_node_limit_is_kept():
    verdict = lp_tree.run(hard_problem(), Deadline(30), max_nodes=5)
    assert isinstance(verdict, Unknown)
    assert "node limit" in verdict.reason
    assert verdict.statistics["nodes"] == 5


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_implausible_points_are_no_witnesses(seed):
    network, prop = random_instance(seed)
    rng = np.random.default_rng(seed)
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            continue
        low, high = problem.box
        for _ in range(5):
            x = low + rng.random(len(low)) * (high - low)
            witness = problem.candidate(x)
            if witness is not None:
                assert any(plausible(problem, clause, x) for clause in problem.clauses)


def test_points_that_float64_rounds_to_the_safe_side_stay_plausible():
    rng, rounded = np.random.default_rng(0), 0
    for _ in range(50):
        weight = rng.normal(size=(1, 8))
        network = Network((Layer(weight, rng.normal(size=1), np.array([False])),))
        x = rng.normal(size=8)
        clause = (LinearConstraint(((0, Fraction(1)),), network.exact(x)[0]),)
        case = Case(Box(tuple(x), tuple(x)), (clause,))
        (problem,) = problems(network, Property((case,), 8, 1))
        assert problem.candidate(x) is not None
        assert plausible(problem, problem.clauses[0], x)
        rounded += bool(problem.margins(network.float64(x)[None])[0, 0] < 0)
    assert rounded >= 5
