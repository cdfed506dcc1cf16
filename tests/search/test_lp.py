"""The LP engine: one relaxation a clause."""

from fractions import Fraction

import numpy as np
import pytest

from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.search import lp
from verifier.search.lp_tree import DualLeaf
from verifier.search.problem import Deadline, problems

ONE = Fraction(1)


def absolute_value():
    """relu(x) + relu(-x), whose triangle relaxation on [-1, 1] is exact at both ends."""
    return Network(
        (
            Layer(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([True, True])),
            Layer(np.array([[1.0, 1.0]]), np.zeros(1), np.array([False])),
        )
    )


def ask(network, *clauses, deadline=10):
    """Clauses are lists of (coefficient of y_0, bound)."""
    made = tuple(
        tuple(LinearConstraint(((0, Fraction(c)),), Fraction(b)) for c, b in clause)
        for clause in clauses
    )
    box = Box((-ONE,) * network.n_inputs, (ONE,) * network.n_inputs)
    (problem,) = problems(network, Property((Case(box, made),), network.n_inputs, 1))
    return lp.run(problem, Deadline(deadline))


def test_what_the_relaxation_excludes_is_proved_clause_by_clause():
    verdict = ask(absolute_value(), [(1, 1.001)], [(-1, 0.5)])
    assert isinstance(verdict, Proved)
    assert [tree.clause for tree in verdict.evidence.trees] == [0, 1]
    assert all(isinstance(tree.root, DualLeaf) for tree in verdict.evidence.trees)


def test_a_conjunction_is_excluded_as_a_whole():
    # y >= 0.75 and y <= 0.5: each alone is possible.
    assert isinstance(ask(absolute_value(), [(1, 0.75), (-1, -0.5)]), Proved)


def test_the_optimal_input_may_be_a_counterexample():
    verdict = ask(absolute_value(), [(1, 1)])
    assert isinstance(verdict, Refuted)
    assert verdict.witness.y == (ONE,)


def test_what_the_relaxation_cannot_see_is_unknown():
    # y = |x| - relu(x + 1/2) - relu(1/2 - x) is -1 for |x| <= 1/2 and at most -1/2 in all; the
    # relaxation allows 0.
    network = Network(
        (
            Layer(
                np.array([[1.0], [-1.0], [1.0], [-1.0]]),
                np.array([0, 0, 0.5, 0.5]),
                np.ones(4, bool),
            ),
            Layer(np.array([[1.0, 1.0, -1.0, -1.0]]), np.zeros(1), np.array([False])),
        )
    )
    verdict = ask(network, [(1, -0.25)])
    assert isinstance(verdict, Unknown)
    assert "clause 0" in verdict.reason


@pytest.mark.parametrize("deadline", [0])
def test_no_time_is_unknown(deadline):
    assert ask(absolute_value(), [(1, 2)], deadline=deadline).reason == "time limit"


def test_overflow_is_unknown():
    big = Layer(np.array([[1e300]]), np.zeros(1), np.array([False]))
    with np.errstate(all="ignore"):
        verdict = ask(Network((big, big)), [(1, 1)])
    assert isinstance(verdict, Unknown)
    assert "float64" in verdict.reason
