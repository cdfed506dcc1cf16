"""The Stackelberg game of classifier and adversary: what its equilibria are worth (T9).

The classifier picks Θ in [−E, E]^K, then the adversary moves every point by at most ε; the payoff
is the expected loss. Γ(Θ) is the payoff after the best answer, AA(Θ) the share of points whose
robust margin t is positive. An equilibrium exists for every continuous loss.

That the equilibrium for the margin loss −t has the largest AA is **false**: the loss is unbounded
below, so one far point pays for two lost ones (instance A). What is true:

* 1[t ≤ 0]: Γ = 1 − AA, so equilibria are the maximisers of AA (T9.1).
* max(−t, −τ): if some Θ has t ≥ τ everywhere, every equilibrium has (T9.2); not if τ is too large.
* min(1, max(0, 1 − t/τ)): 1[t ≤ 0] ≤ ramp ≤ 1[t < τ], so AA(equilibrium) ≥ max P(t ≥ τ) (T9.3),
  and with the last layer scaled by s ≥ 1/τ the same holds for τ = 1 (T9.4).
* cross-entropy: if N·Γ < ln 2 for some Θ, every equilibrium has AA = 1, because a point with t ≤ 0
  alone contributes ln 2 (T9.5).
* the worst point's −t instead of the mean: AA = 1 whenever it can be reached (T9.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from flint import arb

from constructions.arrangement import Minimum
from constructions.demonstration import Demonstration, Question, Shown
from constructions.game_instances import (
    Game,
    balanced,
    instance_a,
    instance_a_prime,
    instance_b,
    interval_network,
    one_point,
)
from constructions.game_losses import (
    MARGIN_LOSS,
    adversarial_accuracy,
    cross_entropy_below,
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
from constructions.rational_points import Vector
from constructions.segment import smallest_margin
from verifier.core.errors import CertificateError
from verifier.core.exact import fractions
from verifier.core.property import Box, Property

_BETTER_A = (Fraction(-1, 3), 2)
_BETTER_P = (Fraction(-1, 2), 1, -1, 2)

_NETWORK = "recomputed from the network itself on every interval x ± ε, kink by kink"


def demonstrate() -> Demonstration:
    """The exactly solvable games A, A', B, and what each shows."""
    values: dict[str, object] = {}
    shown = (
        _order(values),
        *_margin_loss_fails(values),
        *_truncated(values),
        *_ramps(values),
        _scaled(values),
        _cross_entropy(values),
        *_bilevel(values),
    )
    return Demonstration(
        "A classifier in [−E, E]^K plays first, the adversary second. With the margin loss of "
        "Carlini and Wagner an equilibrium need not have the largest adversarial accuracy AA, "
        "whatever E. With the 0/1 loss it has; with the loss truncated at τ, with a ramp, or with "
        "cross-entropy it has under conditions on τ and E.",
        "points on the line. A: 1, 2 of label 2 and 10 of label 1, ε = 1/2, networks of depth 1 "
        "with weights in [−1, 1]; A': the same for depth 2, width 1; B: −1, 0, 9/5, 14/5 of "
        "labels 2, 1, 1, 2, ε = 1/4, g = |x − θ| − 1, depth 2, width 2",
        shown,
        values,
        _questions(),
    )


def _questions() -> tuple[Question, ...]:
    """The balls of A' that its equilibrium loses and keeps, and those of the better network."""
    game = instance_a_prime()
    equilibrium, better = fractions((-2, 1, -1, 2)), fractions(_BETTER_P)
    balls = [
        Property.robustness(Box.ball([x], game.eps), y - 1, 2, f"the ball of {x}")
        for x, y in zip(game.points, game.labels, strict=True)
    ]
    return (
        Question(
            "A': the equilibrium of the margin loss is not robust at 2",
            game.network(equilibrium),
            (balls[1],),
            refuted=True,
        ),
        Question(
            "A': it is robust at 1 and 10",
            game.network(equilibrium),
            (balls[0], balls[2]),
        ),
        Question(
            "A': the better network is robust at 1, 2 and 10", game.network(better), (*balls,)
        ),
    )


def words(values: Sequence[Fraction]) -> str:
    """(1/2, 3)."""
    return f"({', '.join(map(str, values))})"


def require(holds: bool, claim: str) -> None:
    """Go on only if a claim holds.

    Raises:
        CertificateError: it does not.
    """
    if not holds:
        raise CertificateError(f"not true of this instance: {claim}")


def _accuracy(game: Game, theta: Vector) -> Fraction:
    """AA, from margins that the network confirms."""
    return adversarial_accuracy(game.checked_margins(theta))


def _order(values: dict[str, object]) -> Shown:
    first, second = order_of_play(one_point(), (Fraction(-9, 10), Fraction(9, 10)))
    require((first, second) == (1, 0), "min max = 1 and max min = 0")
    values["order_of_play"] = [first, second]
    return Shown(
        f"the order of play matters: with θ in {{−9/10, 9/10}} and the point 0 of label 1, the "
        f"classifier first has the 0/1 value {first}, the adversary first {second}",
        "both networks on every cell of moves |δ| ≤ 1/4 between the zeros of g",
    )


def _margin_loss_fails(values: dict[str, object]) -> list[Shown]:
    """A and A': the margin loss prefers a network with lost points."""
    out = []
    game_a, game_p = instance_a(), instance_a_prime()
    found: list[tuple[str, str, Game, Minimum, Vector]] = [
        ("A", "(w, c)", game_a, solve_affine(game_a, MARGIN_LOSS), fractions(_BETTER_A)),
        ("A'", "(α, w, b, γ)", game_p, solve_hinge(game_p), fractions(_BETTER_P)),
    ]
    for name, what, game, solved, better in found:
        require(len(solved.where) == 1, f"the equilibrium of {name} is unique")
        (theta,) = solved.where
        margins, others = game.checked_margins(theta), game.checked_margins(better)
        reached = adversarial_accuracy(others)
        require(reached == 1 > adversarial_accuracy(margins), f"{name} misses the largest AA")
        values[name] = {
            "value": str(solved.value),
            "equilibrium": [str(v) for v in theta],
            "AA": str(adversarial_accuracy(margins)),
            "better": [str(v) for v in better],
        }
        out.append(
            Shown(
                f"{name}: the only equilibrium for the margin loss is {what} = {words(theta)}, "
                f"value {solved.value}, AA = {adversarial_accuracy(margins)}; yet {words(better)} "
                f"has AA = 1 (payoff {MARGIN_LOSS(others)})",
                f"the payoff is affine between kinks: exact comparison of {solved.compared} "
                f"vertices; margins {words(margins)} and {words(others)}, {_NETWORK}",
            )
        )
    threshold = balanced()
    ends = [MARGIN_LOSS(threshold.checked_margins((Fraction(t),))) for t in (-2, 5)]
    seen = {_accuracy(threshold, (Fraction(t, 2),)) for t in (0, 1)}
    require(ends[0] == ends[1] and len(seen) == 2, "the payoff is constant but AA is not")
    values["balanced"] = {"value": str(ends[0]), "AA": sorted(map(str, seen))}
    out.append(
        Shown(
            f"for 0, 1, 2, 3 with labels in turn and g = x − θ the payoff is {ends[0]} for every "
            f"θ, while AA is {' or '.join(map(str, sorted(seen)))}: it says nothing of AA",
            "every margin is affine in θ, so is the payoff, and it is the same at θ = −2 and 5",
        )
    )
    return out


def _truncated(values: dict[str, object]) -> list[Shown]:
    """T9.2 and T9.6 on A: right up to the largest margin, wrong beyond."""
    game = instance_a()
    widest = largest_margin(game)
    best, (theta,) = -widest.value, widest.where
    for tau in (best, best / 4):
        require(solve_affine(game, truncated_loss(tau)).value == -tau, f"−τ at {tau}")
        ramped = solve_affine(game, ramp_loss(tau))
        require(ramped.value == 0, f"the ramp reaches 0 at {tau}")
    large = Fraction(8)
    spoiled = solve_affine(game, truncated_loss(large))
    require(len(spoiled.where) == 1, "the equilibrium for τ = 8 is unique")
    margins = game.checked_margins(spoiled.where[0])
    accuracy = adversarial_accuracy(margins)
    require(accuracy < 1 == _accuracy(game, theta), "τ = 8 misses the largest AA")
    values["A truncated"] = {
        "largest_tau": str(best),
        "tau": str(large),
        "value": str(spoiled.value),
        "equilibrium": [str(v) for v in spoiled.where[0]],
        "AA": str(accuracy),
    }
    return [
        Shown(
            f"A: the largest possible smallest margin is {best}, at {words(theta)} only. For "
            f"τ = {best} and {best / 4} the truncated loss has the value −τ and the ramp 0, so "
            "every equilibrium has AA = 1",
            f"max min t over {widest.compared} vertices; the values −τ and 0 are the least "
            "possible, and attained only where all margins are at least τ",
        ),
        Shown(
            f"τ too large fails again: for τ = {large} the only equilibrium is "
            f"{words(spoiled.where[0])}, value {spoiled.value}, AA = {accuracy}",
            f"{spoiled.compared} vertices; margins {words(margins)}, {_NETWORK}",
        ),
    ]


def _ramps(values: dict[str, object]) -> list[Shown]:
    """T9.1 and T9.3 on B."""
    game = instance_b()
    most = bilevel(game).best_robustness[0]
    plain = solve_line(game, MARGIN_LOSS)
    out = []
    rows = {}
    for tau in (Fraction(1, 10), Fraction(1, 20), Fraction(1, 2)):
        found = solve_line(game, ramp_loss(tau))
        rows[str(tau)] = (found, " ∪ ".join(map(str, found.where)))
        good = found.accuracies == {most}
        require(good == (tau < Fraction(1, 2)), f"the ramp with τ = {tau}")
        values[f"B ramp {tau}"] = {
            "value": str(found.value),
            "equilibria": rows[str(tau)][1],
            "AA": sorted(map(str, found.accuracies)),
        }
    small, smaller, large = rows.values()
    out.append(
        Shown(
            f"B: every ramp equilibrium for τ = 1/10, {small[1]}, and for τ = 1/20, {smaller[1]}, "
            f"has the largest AA = {most}; value {small[0].value} = 1 − AA",
            "the payoff is affine between the margins' kinks and levels: all cells of [−2, 4]",
        )
    )
    out.append(
        Shown(
            f"B: with the margin loss (value {plain.value} on all of {plain.where[0]}) and with a "
            f"ramp of τ = 1/2 (value {large[0].value} on {large[1]}) some equilibria have only "
            f"AA = {min(large[0].accuracies)}",
            "the same enumeration of cells",
        )
    )
    return out


def _scaled(values: dict[str, object]) -> Shown:
    """T9.4 on A with weights in [−1/2, 1/2]: the box must grow by 1/τ."""
    small = instance_a(Fraction(1, 2))
    tau = -largest_margin(small).value
    factor = 1 / tau
    grown = instance_a(factor / 2)
    ramp = ramp_loss(Fraction(1))
    before, after = solve_affine(small, ramp), solve_affine(grown, ramp)
    require(before.value > 0 == after.value, "the ramp with τ = 1 reaches 0 on the grown box only")
    values["A scaled"] = {"tau": str(tau), "factor": str(factor)}
    return Shown(
        f"A with E = 1/2 has the largest smallest margin {tau}. The ramp with τ = 1 is worth "
        f"{before.value} there and 0 for E = {factor / 2}, that is scaled by 1/τ = {factor}: there "
        "every equilibrium has AA = 1",
        f"exact values at {before.compared} and {after.compared} vertices",
    )


def _cross_entropy(values: dict[str, object]) -> Shown:
    """T9.5 on A."""
    scale = Fraction(7, 6)
    game = instance_a(scale)
    best = largest_margin(instance_a()).where[0]
    theta = tuple(scale * v for v in best)
    margins = game.checked_margins(theta)
    require(cross_entropy_below(margins, arb(2).log()), "N Γ < ln 2")
    values["A cross-entropy"] = {"E": str(scale), "margins": [str(t) for t in margins]}
    return Shown(
        f"A: for E = {scale} every cross-entropy equilibrium has AA = 1",
        f"{words(theta)} has margins {words(margins)}, and Σ ln(1 + e^−t) < ln 2 in interval "
        "arithmetic; a point with t ≤ 0 alone would contribute ln 2",
    )


def _bilevel(values: dict[str, object]) -> list[Shown]:
    """T9 (d): accuracy or robustness first, and what more parameters do."""
    game = instance_b()
    found = bilevel(game)
    first, second = found.best_accuracy, found.best_robustness
    (accurate,), robust = first[1], " ∪ ".join(map(str, second[1]))
    require(first[2] < second[0] and second[2] < first[0], "there is a trade-off")
    for part in (accurate, *second[1]):
        require(
            _accuracy(game, (part.middle,)) == (second[0] if part in second[1] else first[2]),
            f"AA on {part}",
        )
    wide = interval_network(Fraction(0), Fraction(9, 5), Fraction(1, 2))
    margins = [
        smallest_margin(wide, y - 1, (x - game.eps,), (x + game.eps,))[0]
        for x, y in zip(game.points, game.labels, strict=True)
    ]
    require(min(margins) > 0, "the network with two thresholds is robust")
    values["bilevel"] = {
        "accuracy_first": [str(first[0]), str(accurate), str(first[2])],
        "robustness_first": [str(second[0]), robust, str(second[2])],
        "front": sorted([str(a), str(b)] for a, b in found.front),
    }
    return [
        Shown(
            f"B: accuracy first, AC = {first[0]} exactly on {accurate}, where AA is at most "
            f"{first[2]}; robustness first, AA = {second[0]} exactly on {robust}, where AC is at "
            f"most {second[2]}. Nothing else is Pareto optimal",
            f"AC and AA are constant on the cells between all kinks; AA {_NETWORK}",
        ),
        Shown(
            "the trade-off is the class's, not the data's: relu(x − 9/5) + relu(−x) − 1/2 has "
            "AC = AA = 1",
            f"its margins {words(margins)}, {_NETWORK}",
        ),
    ]
