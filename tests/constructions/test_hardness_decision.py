"""The decision of two-class problems on balls, against z3, brute force and the theorems."""

import itertools
import random
from fractions import Fraction

import networkx
import numpy as np
import pytest
import z3

from constructions import hardness_search
from constructions.graphs import Hypergraph, fano, load_graph, random_hypergraph
from constructions.hardness import ColouringProblem, SplittingProblem
from constructions.hardness_balls import BallProblem, margin
from constructions.hardness_check import Impossibility, check_impossibility
from constructions.hardness_decision import Solved, Undecided, decide
from verifier.core.errors import DataError


def colourable(graph, colours):
    """By all assignments."""
    return any(
        all(len({c[v] for v in e}) > 1 for e in graph.edges)
        for c in itertools.product(range(colours), repeat=graph.n)
    )


def literally_solvable(problem):
    """By z3 with relu as max(0, h), for the three patterns of output signs, at the centres."""
    d = problem.dimension
    for signs in ((1, 1), (1, -1), (-1, -1)):
        solver = z3.SolverFor("QF_LRA")
        w = [[z3.Real(f"w{t}_{j}") for j in range(d)] for t in (0, 1)]
        b, c = [z3.Real("b0"), z3.Real("b1")], z3.Real("c")
        for i, y in enumerate(problem.labels.tolist()):
            total = c
            for t in (0, 1):
                h = b[t] + z3.Sum([v * w[t][j] for j, v in enumerate(problem.point(i))])
                r = z3.Real(f"r{t}_{i}")
                solver.add(r >= 0, r >= h, z3.Or(r <= 0, r <= h))
                total = total + signs[t] * r
            solver.add(total > 0 if y > 0 else total < 0)
        answer = solver.check()
        assert answer != z3.unknown
        if answer == z3.sat:
            return True
    return False


def checked(problem):
    """Whether the problem is solvable, with the evidence checked again."""
    return verified(problem, decide(problem))


def verified(problem, found):
    """Whether this answer says that the problem is solvable, with its evidence checked."""
    if isinstance(found, Solved):
        assert margin(problem, found.network) == found.margin
        assert found.margin.value > 0
        return True
    assert isinstance(found, Impossibility)
    check_impossibility(problem, found)
    return False


def test_the_decision_is_3_colourability_on_random_graphs():
    answers = []
    for seed in range(100):
        n = 4 + seed % 3
        drawn = networkx.gnm_random_graph(n, 2 * n - 3 + seed % 4 * (n - 3) // 2, seed=seed)
        graph = Hypergraph(n, tuple(sorted(tuple(sorted(e)) for e in drawn.edges)))
        reduction = ColouringProblem.of(graph)
        found = checked(reduction.problem)
        assert found == colourable(graph, 3)
        answers.append(found)
    assert 15 < sum(answers) < 85


def test_the_decision_is_weak_colourability_on_random_hypergraphs():
    rng = random.Random(2)
    answers = []
    for _ in range(30):
        n = rng.randint(4, 5)
        pool = [e for k in (2, 3) for e in itertools.combinations(range(n), k)]
        chosen = rng.sample(pool, rng.randint(2 * n, min(len(pool), 3 * n)))
        graph = Hypergraph(n, tuple(sorted(chosen)))
        found = checked(ColouringProblem.of(graph).problem)
        assert found == colourable(graph, 3)
        answers.append(found)
    assert len(set(answers)) == 2


def test_the_decision_is_splittability_at_every_radius():
    answers = set()
    for seed in range(16):
        n, m = 5 + seed % 2, 4 + seed % 7
        graph = random_hypergraph(n, m, 3, seed)
        rho = (None, Fraction(1, 50), Fraction(2, 5), Fraction(49, 100))[seed % 4]
        reduction = SplittingProblem.of(graph, rho)
        found = decide(reduction.problem)
        assert isinstance(found, Solved) == colourable(graph, 2)
        answers.add(isinstance(found, Solved))
        if isinstance(found, Solved):
            assert graph.monochromatic(reduction.colouring(found.network)) is None
    assert len(answers) == 2


@pytest.mark.parametrize(
    ("reduction", "solvable"),
    [
        (ColouringProblem.of(load_graph("petersen")), True),
        (ColouringProblem.of(fano()), True),
        (ColouringProblem.of(load_graph("complete-4")), False),
        (ColouringProblem.of(load_graph("wheel-5")), False),
        (ColouringProblem.of(load_graph("moser")), False),
        (ColouringProblem.of(load_graph("mycielski-4")), False),
        (ColouringProblem.of(fano().with_apex()), False),
        (SplittingProblem.of(fano()), False),
    ],
    ids=lambda v: getattr(getattr(v, "problem", None), "name", str(v)),
)
def test_known_instances(reduction, solvable):
    found = decide(reduction.problem)
    assert verified(reduction.problem, found) is solvable
    if solvable:
        back = reduction.colouring(found.network)
        assert reduction.graph.monochromatic(back) is None


def test_the_decision_at_radius_0_agrees_with_z3_on_random_points():
    rng = random.Random(7)
    answers = []
    for _ in range(60):
        d, n = rng.randint(1, 3), rng.randint(4, 9)
        points = rng.sample(list(itertools.product(range(3), repeat=d)), min(n, 3**d))
        labels = [rng.choice((-1, 1)) for _ in points]
        labels[0], labels[1] = -1, 1
        problem = BallProblem(np.array(points), np.array(labels), Fraction(0))
        found = checked(problem)
        assert found == literally_solvable(problem)
        answers.append(found)
    assert 10 < sum(answers) < 60


def test_alternating_intervals_on_a_line():
    def line(labels, mu):
        points = np.arange(len(labels))[:, None] * 10
        return BallProblem(points, np.array(labels), Fraction(mu))

    assert checked(line([-1, 1, -1], 4))
    assert checked(line([1, -1, 1], Fraction(499, 100)))
    # Slopes +, −, + with two kinks would need a slope of its own left and right of both.
    assert not checked(line([-1, 1, -1, 1], 0))
    assert not literally_solvable(line([-1, 1, -1, 1], 0))


def test_the_radius_matters():
    # −1 at 0 and 20, +1 at 10 ± 4: at radius 5 and more the balls meet.
    problem = [[0], [6], [14], [20]], [-1, 1, 1, -1]
    for mu, solvable in ((Fraction(299, 100), True), (Fraction(3), False), (Fraction(4), False)):
        assert checked(BallProblem(*map(np.array, problem), mu)) is solvable


def test_larger_balls_are_never_easier():
    rng = random.Random(11)
    undecided, switched = 0, 0
    for _ in range(12):
        points = rng.sample(list(itertools.product(range(0, 60, 10), repeat=2)), 7)
        labels = [1, -1, *(rng.choice((-1, 1)) for _ in points[2:])]
        answers = []
        for mu in (0, 1, 2, 3, 4, Fraction(9, 2), 5):
            problem = BallProblem(np.array(points), np.array(labels), Fraction(mu))
            found = decide(problem, rounds=60)
            if isinstance(found, Undecided):
                undecided += 1
            else:
                answers.append(verified(problem, found))
        assert answers == sorted(answers, reverse=True)
        switched += answers[0] and not answers[-1]
    assert switched >= 3
    assert undecided <= 4


def test_touching_balls_are_refuted_at_the_common_point():
    problem = BallProblem(np.array([[0, 0], [2, 2]]), np.array([1, -1]), Fraction(1))
    assert not checked(problem)
    assert checked(BallProblem(problem.points, problem.labels, Fraction(999, 1000)))


def lossy():
    """Solvable with margin, but never with one face above C on each whole negative ball."""

    def mirrored(p):
        return (-p[1], -p[0])

    a, c = (-1000, 5102), (7000, 3522)
    b, d = mirrored(a), mirrored(c)

    def middle(p, q):
        return tuple((u + v) // 2 for u, v in zip(p, q, strict=True))

    e, centre = (3000, 4078), (-2899, 2899)
    positive = [e, mirrored(e), centre, middle(a, d), middle(b, c), middle(c, d)]
    points = np.array([a, b, c, d, *positive])
    return BallProblem(points, np.array([-1] * 4 + [1] * 6), Fraction(100), "lossy")


def test_a_network_is_found_where_no_single_face_suffices():
    assert checked(lossy())


def test_limits_leave_it_undecided():
    assert decide(lossy(), stop=lambda: True) == Undecided("the time limit was reached")
    found = decide(lossy(), rounds=1)
    assert isinstance(found, Undecided)
    assert "after 1 rounds" in found.reason


def test_too_many_points_are_refused():
    points = np.arange(401)[:, None]
    with pytest.raises(DataError, match="at most 400"):
        decide(BallProblem(points, np.array([1] * 400 + [-1]), Fraction(0)))


@pytest.mark.parametrize("lie", ["contradiction", "functions", "failure"])
def test_a_lying_linear_program_changes_no_answer(monkeypatch, lie):
    """Whatever the float solver says, the answers are those of exact arithmetic."""
    honest = hardness_search.FaceSearch._linear_program
    rng = np.random.default_rng(3)

    def lying(self, terms):
        vector, weights = honest(self, terms)
        if lie == "contradiction":  # never a solution, and weights that mean nothing
            return None, rng.random(len(weights)) * (rng.random(len(weights)) < 0.3)
        if lie == "functions":  # never a contradiction
            n = 2 * self.problem.dimension + 3
            return vector or [Fraction(float(v)) for v in rng.normal(size=n)], weights
        return None, np.ones(len(weights))

    monkeypatch.setattr(hardness_search.FaceSearch, "_linear_program", lying)
    for seed in range(6):
        graph = random_hypergraph(4, 5 + seed % 2, 2, seed)
        assert checked(ColouringProblem.of(graph).problem) == colourable(graph, 3)
    assert checked(ColouringProblem.of(load_graph("cycle-5")).problem)
