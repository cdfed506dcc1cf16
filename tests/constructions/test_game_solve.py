"""Exact equilibria against grids and random search (the regression table of T9)."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from constructions.game_instances import (
    AffineGame,
    instance_a,
    instance_a_prime,
    instance_b,
    one_point,
)
from constructions.game_losses import (
    MARGIN_LOSS,
    adversarial_accuracy,
    ramp_loss,
    truncated_loss,
)
from constructions.game_solve import (
    bilevel,
    largest_margin,
    order_of_play,
    solve_affine,
    solve_hinge,
    solve_line,
)

F = Fraction


def test_the_corners_of_a():
    game = instance_a()
    table = {
        (-2, 2): (F(-13, 3), F(1, 3)),
        (-2, -2): (F(-3), F(1, 3)),
        (0, 2): (F(-2, 3), F(2, 3)),
        (0, -2): (F(2, 3), F(1, 3)),
        (2, 2): (F(5), F(2, 3)),
        (2, -2): (F(19, 3), F(1, 3)),
        (F(-1, 3), 2): (F(-23, 18), F(1)),
    }
    for theta, expected in table.items():
        margins = game.checked_margins(tuple(map(F, theta)))
        assert (MARGIN_LOSS(margins), adversarial_accuracy(margins)) == expected


def test_the_grid_of_a():
    game = instance_a()
    grid = list(product([F(i, 12) for i in range(-24, 25)], repeat=2))
    margins = {theta: game.margins(theta) for theta in grid}

    def best(loss):
        values = {theta: loss(t) for theta, t in margins.items()}
        least = min(values.values())
        return least, [theta for theta, v in values.items() if v == least]

    assert best(MARGIN_LOSS) == (F(-13, 3), [(-2, 2)])
    for tau in (F(7, 6), F(7, 24)):
        for loss, value in ((truncated_loss(tau), -tau), (ramp_loss(tau), F(0))):
            least, where = best(loss)
            assert least == value
            assert {adversarial_accuracy(margins[theta]) for theta in where} == {1}
    assert best(truncated_loss(F(8))) == (F(-23, 9), [(F(-13, 12), 2)])


@pytest.mark.parametrize("tau", [F(1, 3), F(7, 6), F(3), F(8)])
def test_no_random_parameters_beat_an_equilibrium_of_random_affine_games(tau):
    rng = np.random.default_rng(int(8 * tau))
    for _ in range(4):
        points = tuple(F(int(v), 2) for v in rng.integers(-6, 7, 4))
        game = AffineGame(points, tuple(map(int, rng.integers(1, 3, 4))), F(1, 2))
        solved = [
            (solve_affine(game, MARGIN_LOSS), MARGIN_LOSS),
            (solve_affine(game, truncated_loss(tau)), truncated_loss(tau)),
            (solve_affine(game, ramp_loss(tau)), ramp_loss(tau)),
            (largest_margin(game), lambda margins: -min(margins)),
        ]
        for found, loss in solved:
            for theta in found.where:
                assert loss(game.checked_margins(theta)) == found.value
        for _ in range(150):
            theta = tuple(F(int(v), 50) for v in rng.integers(-100, 101, 2))
            margins = game.margins(theta)
            for found, loss in solved:
                assert loss(margins) >= found.value


def test_a_prime():
    game = instance_a_prime()
    found = solve_hinge(game)
    assert (found.value, found.where) == (-5, ((-2, 1, -1, 2),))
    assert game.checked_margins(found.where[0]) == (1, -1, 15)
    rng = np.random.default_rng(1)
    for _ in range(3000):
        alpha, gamma = (F(int(v), 100) for v in rng.integers(-200, 201, 2))
        w, b = (F(int(v), 100) for v in rng.integers(-100, 101, 2))
        assert MARGIN_LOSS(game.margins((alpha, w, b, gamma))) > -5


def test_b():
    game = instance_b()
    found = solve_line(game, MARGIN_LOSS)
    assert (found.value, [str(p) for p in found.where]) == (F(-1, 4), ["[0, 9/5]"])
    assert found.accuracies == {F(1, 2), F(3, 4)}
    expected = {
        F(1, 10): (F(1, 4), ["[7/20, 13/20]", "[23/20, 29/20]"], {F(3, 4)}),
        F(1, 20): (F(1, 4), ["[3/10, 7/10]", "[11/10, 3/2]"], {F(3, 4)}),
    }
    for tau, (value, where, accuracies) in expected.items():
        found = solve_line(game, ramp_loss(tau))
        assert (found.value, [str(p) for p in found.where], found.accuracies) == (
            value,
            where,
            accuracies,
        )
    found = solve_line(game, ramp_loss(F(1, 2)))
    assert found.value == F(1, 2)
    assert F(1, 2) in found.accuracies
    for k in range(-80, 161):
        theta = F(k, 40)
        inside = F(-1, 4) <= theta <= F(41, 20)
        assert (ramp_loss(F(1, 2))(game.margins((theta,))) == F(1, 2)) == inside


def test_both_bilevel_problems():
    found = bilevel(instance_b())
    accuracy, where, robust = found.best_accuracy
    assert (accuracy, [str(p) for p in where], robust) == (1, ["(4/5, 1)"], F(1, 2))
    robust, where, accuracy = found.best_robustness
    assert [str(p) for p in where] == ["(1/4, 3/4)", "(21/20, 31/20)"]
    assert robust == accuracy == F(3, 4)
    assert found.front == {(1, F(1, 2)), (F(3, 4), F(3, 4))}
    game = instance_b()
    for k in range(-40, 81):
        theta = (F(k, 20) + F(1, 97),)
        if not -2 <= theta[0] <= 4:
            continue
        pair = tuple(adversarial_accuracy(game.margins(theta, eps)) for eps in (F(0), game.eps))
        assert any(pair[0] <= p[0] and pair[1] <= p[1] for p in found.front)


def test_the_order_of_play():
    assert order_of_play(one_point(), (F(-9, 10), F(9, 10))) == (1, 0)
    assert order_of_play(one_point(), (F(0),)) == (0, 0)
