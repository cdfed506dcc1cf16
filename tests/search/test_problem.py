"""The float form of a question contains the exact one, and candidates are judged exactly."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import instances, random_point
from verifier.core.errors import NetworkError, PropertyError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Witness
from verifier.search.problem import Deadline, Problem, problems

rationals = st.one_of(
    st.fractions(-100, 100, max_denominator=1000),
    st.floats(-1e6, 1e6, allow_subnormal=False).map(Fraction),
    st.integers(-(2**53), 2**53).map(Fraction),
)
constraints = st.builds(
    LinearConstraint,
    st.lists(st.tuples(st.integers(0, 2), rationals), min_size=1, max_size=5).map(tuple),
    st.fractions(),
    st.booleans(),
)


def identity(n=3):
    return Network((Layer(np.eye(n), np.zeros(n), np.zeros(n, bool)),))


def at_least(terms, bound, strict=False):
    return LinearConstraint(tuple((i, Fraction(c)) for i, c in terms), Fraction(bound), strict)


def asked(clauses, network=None, box=None, mixes_inputs=False):
    network = network or identity()
    n = network.n_inputs
    case = Case(box or Box((-1,) * n, (1,) * n), tuple(tuple(c) for c in clauses))
    return Property((case,), n, network.n_outputs, mixes_inputs=mixes_inputs)


def only(network, prop):
    (problem,) = problems(network, prop)
    assert isinstance(problem, Problem)
    return problem


def exact_row(clause, r):
    return [Fraction(float(v)) for v in clause.rows[r]], Fraction(float(clause.bound[r]))


@given(constraints)
@settings(max_examples=300)
def test_the_float_constraint_is_the_exact_one_scaled_and_lowered(constraint):
    merged = [sum((c for j, c in constraint.terms if j == i), Fraction(0)) for i in range(3)]
    try:
        problem = only(identity(), asked([[constraint]]))
    except PropertyError:
        integers = [c * math.lcm(*(c.denominator for _, c in constraint.terms)) for c in merged]
        assert any(abs(c) > 2**53 for c in integers)
        return
    row, bound = exact_row(problem.clauses[0], 0)
    ratios = {float_c / c for float_c, c in zip(row, merged, strict=True) if c}
    assert len(ratios) <= 1
    assert all(float_c == 0 for float_c, c in zip(row, merged, strict=True) if not c)
    scale = ratios.pop() if ratios else Fraction(1)
    assert scale > 0
    assert bound <= constraint.bound * scale
    above = Fraction(math.nextafter(float(bound), math.inf))
    assert above > constraint.bound * scale
    assert problem.clauses[0].strict[0] == constraint.strict


@given(instances(max_cases=2), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_what_satisfies_the_exact_clause_satisfies_the_float_clause(instance, random):
    network, prop = instance
    rng = np.random.default_rng(random.getrandbits(32))
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            continue
        x = random_point(rng, problem.exact_box)
        y, extended = network.exact(x), problem.network.exact(x)
        assert extended == (y + tuple(x) if prop.mixes_inputs else y)
        for clause in problem.clauses:
            exact = prop.cases[problem.case].clauses[clause.index]
            for r, constraint in enumerate(c for c in exact if c.terms):
                if constraint.holds(extended):
                    row, bound = exact_row(clause, r)
                    assert sum(w * v for w, v in zip(row, extended, strict=True)) >= bound


def test_dyadic_coefficients_are_not_scaled():
    problem = only(identity(), asked([[at_least([(0, 0.75), (2, -3)], Fraction(1, 3))]]))
    assert problem.clauses[0].rows.tolist() == [[0.75, 0.0, -3.0]]
    assert problem.clauses[0].bound[0] <= Fraction(1, 3)


def test_thirds_become_integers():
    constraint = at_least([(0, Fraction(1, 3)), (1, Fraction(-1, 10))], Fraction(1, 30))
    problem = only(identity(), asked([[constraint]]))
    assert problem.clauses[0].rows.tolist() == [[10.0, -3.0, 0.0]]
    assert problem.clauses[0].bound.tolist() == [1.0]


def test_a_variable_named_twice_counts_twice():
    problem = only(identity(), asked([[at_least([(1, 2), (1, 3), (0, 1), (0, -1)], 4)]]))
    assert problem.clauses[0].rows.tolist() == [[0.0, 5.0, 0.0]]


@pytest.mark.parametrize(
    "terms",
    [
        [(0, Fraction(2**53 + 1))],
        [(0, Fraction(1, 3)), (1, Fraction(2) ** 60 + 1)],
        [(0, Fraction(10) ** 400)],
        [(0, Fraction(1, 3)), (1, Fraction(10) ** -400)],
    ],
)
def test_coefficients_that_no_scale_fits_are_refused(terms):
    with pytest.raises(PropertyError, match="no common scale in float64"):
        list(problems(identity(), asked([[at_least(terms, 0)]])))


@pytest.mark.parametrize("bound", [Fraction(10) ** 400, -(Fraction(10) ** 400)])
def test_bounds_beyond_the_float_range_are_refused(bound):
    with pytest.raises(PropertyError, match="beyond the float64 range"):
        list(problems(identity(), asked([[at_least([(0, 1)], bound)]])))
    box = Box((min(bound, Fraction(0)),) * 3, (max(bound, Fraction(0)),) * 3)
    with pytest.raises(PropertyError, match="beyond the float64 range"):
        list(problems(identity(), asked([[at_least([(0, 1)], 0)]], box=box)))


@pytest.mark.parametrize(
    ("bound", "strict", "true"),
    [(0, False, True), (0, True, False), (-1, True, True), (Fraction(1, 10**30), False, False)],
)
def test_constraints_without_variables(bound, strict, true):
    trivial, other = at_least([], bound, strict), at_least([(0, 1)], 2)
    found = list(problems(identity(), asked([[other], [trivial]])))
    if true:
        (witness,) = found
        assert isinstance(witness, Witness)
        assert (witness.case, witness.clause) == (0, 1)
        assert witness.y == identity().exact(witness.x)
    else:
        assert [c.index for c in found[0].clauses] == [0]
    both = list(problems(identity(), asked([[trivial, other]])))
    assert [c.rows.tolist() for p in both for c in p.clauses] == ([[[1.0, 0.0, 0.0]]] * true)


def test_an_empty_clause_is_always_satisfied():
    box = Box((Fraction(1, 3),) * 3, (Fraction(1, 2),) * 3)
    prop = asked([[]], box=box)
    (witness,) = problems(identity(), prop)
    assert box.contains(witness.x)
    assert prop.violation(witness.x, witness.y) == (0, 0)


def test_no_clauses_or_only_false_ones_leave_nothing_to_decide():
    assert list(problems(identity(), asked([]))) == []
    assert list(problems(identity(), asked([[at_least([], 1)], [at_least([], 2)]]))) == []


def test_each_case_is_its_own_problem_and_keeps_its_number():
    boxes = [Box((k,) * 3, (k + 1,) * 3) for k in range(3)]
    clauses = [((at_least([(0, 1)], 5),),), (), ((at_least([(1, 1)], 5),),)]
    prop = Property(tuple(itertools.starmap(Case, zip(boxes, clauses, strict=True))), 3, 3)
    found = list(problems(identity(), prop))
    assert [p.case for p in found] == [0, 2]
    assert [p.exact_box for p in found] == [boxes[0], boxes[2]]


def test_inputs_can_be_constrained_beside_outputs():
    network = Network((Layer(np.array([[2.0, 0.0]]), np.zeros(1), np.zeros(1, bool)),))
    constraint = at_least([(0, 1), (1, -2), (2, 1)], 1)
    prop = asked([[constraint]], network, mixes_inputs=True)
    problem = only(network, prop)
    assert problem.network.n_outputs == 3
    # 2 x0 - 2 x0 + x1 >= 1 holds at x1 = 1 alone.
    assert problem.candidate([0.25, 1.0]) == Witness((Fraction(1, 4), 1), (Fraction(1, 2),), 0, 0)
    assert problem.candidate([0.25, math.nextafter(1.0, 0.0)]) is None


TENTH, THIRD = Fraction(1, 10), Fraction(1, 3)


def test_candidates_are_clipped_exactly_into_faces_that_are_no_floats():
    box = Box((THIRD, -TENTH), (1, TENTH))
    network = identity(2)
    # 0.1 and the float next to 1/3 lie outside by less than an ulp.
    assert Fraction(0.1) > TENTH
    assert Fraction(1 / 3) < THIRD
    prop = asked([[at_least([(0, -1)], -THIRD), at_least([(1, 1)], TENTH)]], network, box)
    problem = only(network, prop)
    assert problem.candidate([1 / 3, 0.1]).x == (THIRD, TENTH)
    assert problem.candidate([-7.0, 1e300]).x == (THIRD, TENTH)
    assert problem.candidate([math.nextafter(1 / 3, 1), 0.1]) is None
    lower, upper = problem.box
    assert Fraction(lower[0]) < THIRD
    assert Fraction(upper[1]) > TENTH


def test_a_tie_counts_exactly_as_asked():
    for strict in (False, True):
        prop = asked([[at_least([(0, 3)], 1, strict)]], box=Box((0, 0, 0), (THIRD, 1, 1)))
        witness = only(identity(), prop).candidate([1.0, 0.0, 0.0])
        assert (witness is None) == strict


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_points_that_overflow_spoilt_are_no_candidates(bad):
    problem = only(identity(), asked([[at_least([(0, 1)], -5)]]))
    assert problem.candidate(np.array([0.0, bad, 0.0])) is None
    assert problem.candidate(np.array([0.0, 9.0, 0.0])) is not None


@given(instances(), st.randoms(use_true_random=False))
def test_margins_have_the_sign_of_the_exact_slack(instance, random):
    network, prop = instance
    rng = np.random.default_rng(random.getrandbits(32))
    for problem in problems(network, prop):
        x = [random_point(rng, problem.exact_box) for _ in range(3)]
        y = np.array([[float(v) for v in problem.network.exact(p)] for p in x])
        margins = problem.margins(y)
        assert margins.shape == (3, len(problem.clauses))
        for i, point in enumerate(x):
            for k, clause in enumerate(problem.clauses):
                exact = problem.network.exact(point)
                slack = min(
                    sum(w * v for w, v in zip(row, exact, strict=True)) - bound
                    for row, bound in (exact_row(clause, r) for r in range(len(clause.bound)))
                )
                assert math.isclose(margins[i, k], slack, rel_tol=1e-9, abs_tol=1e-9)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(PropertyError, match="3 inputs and 3 outputs, but the network has 2 and 2"):
        list(problems(identity(2), asked([[at_least([(0, 1)], 0)]])))


def test_networks_without_a_float_form_are_refused():
    weight = np.array([[2**200 + 1]], dtype=object)
    network = Network((Layer(weight, np.array([0], dtype=object), np.zeros(1, bool)),))
    with pytest.raises(NetworkError, match="more bits than a float64 has"):
        list(problems(network, asked([[at_least([(0, 1)], 0)]], network)))


def test_a_deadline_counts_down_and_stays_at_zero():
    deadline = Deadline(0.05)
    assert not deadline.passed
    assert 0 < deadline.left <= 0.05
    time.sleep(0.06)
    assert deadline.passed
    assert deadline.left == 0
    assert deadline.elapsed >= 0.06


def test_no_limit_and_no_time():
    assert not Deadline(math.inf).passed
    assert Deadline(math.inf).left == math.inf
    assert Deadline(0).passed
    assert Deadline(-1).passed
    assert Deadline(-1).left == 0
