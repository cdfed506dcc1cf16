"""The interval engine proves what interval arithmetic proves, and no more."""

from fractions import Fraction

import numpy as np
import pytest

from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Unknown
from verifier.search import interval
from verifier.search.problem import Deadline, problems

ONE = Fraction(1)


def asked(network, bounds, strict=False):
    """Is some output pair of the network on [-1, 1] with y_0 >= bounds[0] and y_1 >= bounds[1]?"""
    clause = tuple(LinearConstraint(((i, ONE),), Fraction(b), strict) for i, b in enumerate(bounds))
    case = Case(Box((-ONE,), (ONE,)), (clause,))
    (problem,) = problems(network, Property((case,), network.n_inputs, network.n_outputs))
    return interval.run(problem, Deadline(10))


@pytest.fixture
def network():
    """y = (relu(x), relu(x) - 2 relu(x/2)): the second is 0, but intervals say [-1, 1]."""
    first = Layer(np.array([[1.0], [0.5]]), np.zeros(2), np.array([True, True]))
    second = Layer(np.array([[1.0, 0.0], [1.0, -2.0]]), np.zeros(2), np.zeros(2, bool))
    return Network((first, second))


def test_one_excluded_constraint_closes_a_clause(network):
    verdict = asked(network, (2, 0))
    assert isinstance(verdict, Proved)
    assert verdict.evidence.rows == ((0, 0),)
    assert asked(network, (0, 2)).evidence.rows == ((0, 1),)


@pytest.mark.parametrize("bounds", [(1, 0), (0, Fraction(1, 2))])
def test_what_intervals_cannot_see_is_unknown(network, bounds):
    verdict = asked(network, bounds, strict=True)
    assert isinstance(verdict, Unknown)
    assert "clause 0" in verdict.reason


def test_overflow_is_unknown():
    big = Layer(np.array([[1e300]]), np.zeros(1), np.array([False]))
    network = Network((big, big))
    assert isinstance(asked(network, (5,)), Unknown)


def test_no_time_is_unknown(network):
    case = Case(Box((-ONE,), (ONE,)), ((LinearConstraint(((0, ONE),), Fraction(2)),),))
    (problem,) = problems(network, Property((case,), 1, 2))
    assert interval.run(problem, Deadline(0)).reason == "time limit"


def test_a_distance_is_bounded_as_one():
    """y = (relu(x) + relu(-x), 0) on [-1, 1] is at most 1; plain intervals say 2."""
    first = Layer(np.array([[1.0], [-1.0]]), np.zeros(2), np.array([True, True]))
    second = Layer(np.array([[1.0, 1.0], [0.0, 0.0]]), np.zeros(2), np.zeros(2, bool))
    verdict = asked(Network((first, second)), (Fraction(101, 100), 0))
    assert isinstance(verdict, Proved)
    assert verdict.statistics == {"interval pass": 1.0, "max rules": 1.0}
    assert isinstance(asked(Network((first, second)), (1, 0)), Unknown)
