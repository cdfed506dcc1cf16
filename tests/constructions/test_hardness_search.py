"""The search for faces: its functions satisfy every point exactly, and what it learns is true."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
import z3

from constructions.hardness_balls import BallProblem
from constructions.hardness_check import FACES, Place
from constructions.hardness_search import FaceSearch, Functions, Refuted, StoppedError


def random_problem(rng):
    d = rng.randint(1, 3)
    points = rng.sample(list(itertools.product(range(3), repeat=d)), min(rng.randint(4, 8), 3**d))
    labels = [1, -1, *(rng.choice((-1, 1)) for _ in points[2:])]
    return BallProblem(np.array(points), np.array(labels), Fraction(1))


def solvable(search):
    """By z3: h_f < 1 at positive points, one face > 1 at all points of each item."""
    solver = z3.SolverFor("QF_LRA")
    d = search.problem.dimension
    w = [[z3.Real(f"w{t}_{j}") for j in range(d)] for t in (0, 1)]
    b = [z3.Real("b0"), z3.Real("b1")]

    def faces(place):
        point = search.places[place].point
        h = [
            b[t] + z3.Sum([z3.RealVal(str(v)) * w[t][j] for j, v in enumerate(point)])
            for t in (0, 1)
        ]
        return [p * h[0] + q * h[1] for p, q in FACES]

    for place in search.positive:
        solver.add(*[f < 1 for f in faces(place)])
    for item in search.items:
        solver.add(z3.Or(*[z3.And(*[faces(p)[f] > 1 for p in item]) for f in range(3)]))
    answer = solver.check()
    assert answer != z3.unknown
    return answer == z3.sat


@pytest.mark.parametrize("seed", range(4))
def test_searches_agree_with_z3_with_items_of_several_points(seed):
    rng = random.Random(seed)
    answers = []
    for _ in range(12):
        search = FaceSearch(random_problem(rng), rng.random() < 0.5)
        assert search.single
        for item in range(len(search.items)):
            if rng.random() < 0.4:
                first = search.places[search.items[item][0]]
                moved = tuple(v + Fraction(rng.choice((-1, 1)), 3) for v in first.point)
                assert search.add(Place(first.ball, moved), item)
                assert not search.add(Place(first.ball, moved), item)
                assert not search.single
        found = search.run(lambda: False)
        assert isinstance(found, Functions) == solvable(search)
        answers.append(isinstance(found, Functions))
        if isinstance(found, Functions):
            assert found.constant > 0
            for place in search.positive:
                assert max(found.excess(search.places[place].point)) < 0
            for item in search.items:
                excess = [found.excess(search.places[p].point) for p in item]
                assert any(min(e[f] for e in excess) > 0 for f in range(3))
        else:
            assert isinstance(found, Refuted)
        # What was learned is a contradiction of the choices that it names.
        d = search.problem.dimension
        for leaf in search.leaves:
            total = np.array([Fraction(0)] * (2 * d + 2))
            constant = Fraction(leaf.scale)
            for place, face, weight in leaf.terms:
                signed = -weight if place in search.positive else weight
                row = np.array([*search.places[place].point, Fraction(1)])
                p, q = FACES[face]
                total += signed * np.concatenate([p * row, q * row])
                constant -= signed
            assert not total.any()
            assert constant == 0
    assert len(answers) == 12


def test_the_caller_can_stop_it():
    problem = BallProblem(np.array([[0], [1]]), np.array([1, -1]), Fraction(0))
    with pytest.raises(StoppedError):
        FaceSearch(problem, False).run(lambda: True)
