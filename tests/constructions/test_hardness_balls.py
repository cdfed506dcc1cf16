"""The largest F on a ball, against optimisation by z3 and against points of the ball."""

import random
from fractions import Fraction

import numpy as np
import pytest
import z3

from constructions.exact_layer import exact_layer
from constructions.hardness_balls import (
    BallProblem,
    NormalForm,
    margin,
    require_solves,
    wrong_centre,
)
from verifier.core.errors import CertificateError, DataError
from verifier.core.network import Layer, Network


def network(rows, biases, out, constant):
    return Network(
        (exact_layer(rows, biases, relu=True), exact_layer([out], [constant], relu=False))
    )


def random_network(rng, d, width):
    def number():
        return Fraction(rng.randint(-6, 6), rng.choice((1, 1, 2, 3)))

    rows = [[number() for _ in range(d)] for _ in range(width)]
    biases = [number() for _ in range(width)]
    return network(rows, biases, [number() for _ in range(width)], number())


def smallest_by_z3(net, x, y, mu):
    """The minimum of y F over a ball, by an optimiser that knows no formula."""
    optimiser = z3.Optimize()
    point = [z3.Real(f"x{j}") for j in range(len(x))]
    for v, c in zip(point, x, strict=True):
        optimiser.add(v >= z3.RealVal(str(c - mu)), v <= z3.RealVal(str(c + mu)))
    hidden, last = net.layers
    total = z3.RealVal(str(Fraction(last.bias[0])))
    for row, b, a in zip(hidden.dense, hidden.bias, last.dense[0], strict=True):
        h = z3.RealVal(str(Fraction(b))) + z3.Sum(
            [z3.RealVal(str(Fraction(w))) * v for w, v in zip(row, point, strict=True)]
        )
        total += z3.RealVal(str(Fraction(a))) * z3.If(h > 0, h, z3.RealVal(0))
    lowest = optimiser.minimize(y * total)
    assert optimiser.check() == z3.sat
    return Fraction(str(optimiser.lower(lowest)))


@pytest.mark.parametrize("width", [1, 2])
def test_the_margin_is_the_optimum_for_all_signs(width):
    rng = random.Random(width)
    patterns = set()
    for _ in range(60):
        d = rng.randint(1, 4)
        net = random_network(rng, d, width)
        points = np.array([[rng.randint(-3, 3) for _ in range(d)] for _ in range(2)])
        mu = Fraction(rng.randint(0, 4), rng.choice((1, 2, 3)))
        problem = BallProblem(points, np.array([1, -1]), mu)
        found = margin(problem, net)
        expected = [smallest_by_z3(net, problem.point(i), y, mu) for i, y in enumerate((1, -1))]
        assert found.exact
        assert found.value == min(expected) == expected[found.ball]
        patterns.add(tuple(unit.sign for unit in NormalForm.of(net).units))
    assert len(patterns) == 2**width


def test_wider_networks_get_a_lower_bound():
    rng = random.Random(3)
    tight = 0
    for _ in range(25):
        net = random_network(rng, 2, 3)
        problem = BallProblem(np.array([[1, 0], [0, 2]]), np.array([1, -1]), Fraction(1))
        found = margin(problem, net)
        expected = [
            smallest_by_z3(net, problem.point(i), y, Fraction(1)) for i, y in enumerate((1, -1))
        ]
        assert not found.exact
        assert found.value <= min(expected)
        tight += found.value == min(expected)
    assert tight >= 10


def test_corners_are_not_enough_on_a_negative_ball():
    # F = 1 − relu(x) − relu(−x) is −1 at both corners of [−2, 2] and +1 in the middle.
    net = network([[1], [-1]], [0, 0], [-1, -1], 1)
    assert [net.exact([x])[0] for x in (-2, 0, 2)] == [-1, 1, -1]
    problem = BallProblem(np.array([[0], [9]]), np.array([-1, 1]), Fraction(2))
    assert margin(problem, net).value == min(-1, 1 - 11)
    turned = BallProblem(np.array([[0], [9]]), np.array([1, -1]), Fraction(2))
    assert margin(turned, net).value == -1


def test_no_single_face_is_needed():
    # relu(x) + relu(11/5 − 2x) ≥ 11/10 on [1/2, 3/2], but neither summand nor the sum of both.
    net = network([[1], [-2]], [0, Fraction(11, 5)], [-1, -1], 1)
    problem = BallProblem(np.array([[1], [-9]]), np.array([-1, 1]), Fraction(1, 2))
    assert -smallest_by_z3(net, (1,), -1, Fraction(1, 2)) == 1 - Fraction(11, 10)
    smallest = min(Fraction(1, 10), smallest_by_z3(net, (-9,), 1, Fraction(1, 2)))
    assert margin(problem, net).value == smallest


def test_the_normal_form_is_the_same_function():
    rng = random.Random(4)
    for _ in range(30):
        net = random_network(rng, 3, 2)
        form = NormalForm.of(net)
        x = [Fraction(rng.randint(-9, 9), 4) for _ in range(3)]
        assert form.value(x) == net.exact(x)[0]
        assert form.negated.value(x) == -net.exact(x)[0]


def test_a_unit_without_weight_is_no_unit():
    net = network([[5], [1]], [5, 0], [0, -1], 1)
    assert NormalForm.of(net).value([3]) == net.exact([3])[0] == -2


SIMPLE = BallProblem(np.array([[0], [4]]), np.array([1, -1]), Fraction(1))


def test_a_wrong_network_is_refused_with_the_ball():
    good = network([[1]], [0], [-1], 2)
    assert require_solves(SIMPLE, good).value == 1
    assert wrong_centre(SIMPLE, NormalForm.of(good)) is None
    bad = network([[1]], [0], [-1], 3)
    with pytest.raises(CertificateError, match="point 1 of problem: the smallest y F there is 0"):
        require_solves(SIMPLE, bad)
    assert wrong_centre(SIMPLE, NormalForm.of(network([[1]], [0], [-1], 4))) == 1


def identity_layer(n, *, relu):
    return Layer(np.eye(n), np.zeros(n), np.full(n, relu))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (network([[1, 1]], [0], [1], 0), "expected 1 inputs"),
        (network([[1]] * 11, [0] * 11, [1] * 11, 0), "at most 10 hidden"),
        (Network((identity_layer(1, relu=False),)), "depth 2"),
        (
            Network((identity_layer(1, relu=False), identity_layer(1, relu=False))),
            "without ReLU|has no ReLU",
        ),
        (Network((identity_layer(1, relu=True), identity_layer(1, relu=True))), "ReLU"),
    ],
)
def test_other_networks_are_refused(net, words):
    with pytest.raises(CertificateError, match=words):
        margin(SIMPLE, net)


@pytest.mark.parametrize(
    ("points", "labels", "mu", "words"),
    [
        ([[0.5], [1.0]], [1, -1], 0, "array of integers"),
        ([0, 1], [1, -1], 0, "array of integers"),
        ([[0], [1]], [1], 0, "expected 2 labels"),
        ([[0], [1]], [1, 0], 0, "each −1 or"),
        ([[0], [1]], [1, 1], 0, "all 2 points have the label 1"),
        ([[0], [1]], [1, -1], Fraction(-1), "at least 0"),
    ],
)
def test_problems_are_checked(points, labels, mu, words):
    with pytest.raises(DataError, match=words):
        BallProblem(np.array(points), np.array(labels), mu)
