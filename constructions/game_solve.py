"""Exact equilibria, orders of play and bi-level optima of the games (T9).

An equilibrium is a Θ that minimises the payoff, as the adversary's answer is built into the
margins. Every minimum is exact: payoffs are affine on the cells of ``constructions.arrangement``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from constructions.arrangement import Interval, Minimum, cells, minimum, union
from constructions.game_instances import AffineGame, DistanceGame, HingeGame
from constructions.game_losses import MARGIN_LOSS, Loss, adversarial_accuracy

_ZERO = Fraction(0)
_TWO = Fraction(2)


def solve_affine(game: AffineGame, loss: Loss) -> Minimum:
    """The equilibria over (w, c).

    The payoff is affine wherever w keeps its sign and no margin crosses a level of the loss.
    """
    return minimum(lambda theta: loss(game.margins(theta)), game.planes(loss.levels), game.box)


def largest_margin(game: AffineGame) -> Minimum:
    """max over (w, c) of min_i t_i, as the minimum of its negative (T9.6).

    min_i t_i is concave on both sides of w = 0 and changes its slope where two margins are equal.
    """
    planes = [*game.planes(())]
    signs = [Fraction(2 * y - 3) for y in game.labels]
    for i, (x, s) in enumerate(zip(game.points, signs, strict=True)):
        for z, u in zip(game.points[:i], signs[:i], strict=True):
            planes.append(((s * x - u * z, s - u), _ZERO))
    return minimum(lambda theta: -min(game.margins(theta)), planes, game.box)


def solve_hinge(game: HingeGame) -> Minimum:
    """The equilibria over (α, w, b, γ) for the margin loss.

    For fixed (w, b) the payoff is affine in (α, γ) on both signs of α, so some (α, γ) with
    α in {−2, 0, 2}, γ in {−2, 2} is at least as good; for fixed (α, γ) it is affine on the cells of
    (w, b). If one point of this finite set is best, no other point of the box is as good: (w, b)
    would be that of the point by the first step, and then (α, γ) by the second.
    """
    best: list[tuple[Fraction, tuple[Fraction, ...]]] = []
    compared = 0
    for alpha, gamma in product((-_TWO, _ZERO, _TWO), (-_TWO, _TWO)):

        def payoff(
            theta: tuple[Fraction, ...], alpha: Fraction = alpha, gamma: Fraction = gamma
        ) -> Fraction:
            return MARGIN_LOSS(game.margins((alpha, *theta, gamma)))

        found = minimum(payoff, game.planes(), game.box)
        compared += found.compared
        best += [(found.value, (alpha, *theta, gamma)) for theta in found.where]
    value = min(v for v, _ in best)
    return Minimum(value, tuple(theta for v, theta in best if v == value), compared)


@dataclass(frozen=True)
class LineSolution:
    """The equilibria of a game with one parameter.

    Args:
        value: the smallest payoff.
        where: all θ that attain it.
        accuracies: the values of the adversarial accuracy there.
    """

    value: Fraction
    where: tuple[Interval, ...]
    accuracies: frozenset[Fraction]


def solve_line(game: DistanceGame, loss: Loss) -> LineSolution:
    """All θ with the smallest payoff, which is affine between the kinks of the game."""
    parts = cells(game.kinks(loss.levels), game.low, game.high)
    values = [loss(game.margins((part.middle,))) for part in parts]
    value = min(values)
    where = [part for part, v in zip(parts, values, strict=True) if v == value]
    accuracies = {adversarial_accuracy(game.margins((part.middle,))) for part in where}
    return LineSolution(value, tuple(union(where)), frozenset(accuracies))


@dataclass(frozen=True)
class Bilevel:
    """Accuracy AC and adversarial accuracy AA, one after the other.

    Args:
        best_accuracy: max AC, where it is attained, and the largest AA there.
        best_robustness: max AA, where it is attained, and the largest AC there.
        front: the pairs (AC, AA) that no other θ improves in one number and keeps in the other.
    """

    best_accuracy: tuple[Fraction, tuple[Interval, ...], Fraction]
    best_robustness: tuple[Fraction, tuple[Interval, ...], Fraction]
    front: frozenset[tuple[Fraction, Fraction]]


def bilevel(game: DistanceGame) -> Bilevel:
    """Both bi-level problems of T9 (d): AC and AA are constant on the cells of the game."""
    parts = cells(game.kinks(), game.low, game.high)
    accuracy = [adversarial_accuracy(game.margins((part.middle,), _ZERO)) for part in parts]
    robust = [adversarial_accuracy(game.margins((part.middle,))) for part in parts]

    def upper(
        first: list[Fraction], second: list[Fraction]
    ) -> tuple[Fraction, tuple[Interval, ...], Fraction]:
        best = max(first)
        chosen = [k for k, value in enumerate(first) if value == best]
        where = tuple(union([parts[k] for k in chosen]))
        return best, where, max(second[k] for k in chosen)

    pairs = set(zip(accuracy, robust, strict=True))
    front = {p for p in pairs if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in pairs)}
    return Bilevel(upper(accuracy, robust), upper(robust, accuracy), frozenset(front))


def order_of_play(game: DistanceGame, thetas: tuple[Fraction, ...]) -> tuple[int, int]:
    """(min max, max min) of the 0/1 payoff on one point: who moves first matters.

    The classifier chooses among a few θ, the adversary among all |δ| ≤ ε; the payoff is constant
    on the cells of δ cut at the zeros of g.
    """
    (x,), (label,) = game.points, game.labels
    zeros = [theta + side - x for theta in thetas for side in (1, -1)]
    moves = [part.middle for part in cells(zeros, -game.eps, game.eps)]
    sign = 2 * label - 3

    def lost(theta: Fraction, move: Fraction) -> int:
        z = game.network((theta,)).exact((x + move,))
        return int(sign * (z[1] - z[0]) <= 0)

    first = min(max(lost(theta, move) for move in moves) for theta in thetas)
    second = max(min(lost(theta, move) for theta in thetas) for move in moves)
    return first, second
