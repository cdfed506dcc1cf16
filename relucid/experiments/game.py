"""The slides' table of the Stackelberg game: accuracy and adversarial accuracy, three trainings."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from relucid.experiments.deciding import (
    Count,
    attacked,
    counted,
    decided,
    samples,
    standing,
)
from relucid.experiments.findings import Cell, Findings, Table, bars
from relucid.experiments.workshop import Trained, Workshop
from relucid.numbers import above, below
from torchbridge.stackelberg import (
    MARGIN,
    Answer,
    adversarial_accuracy,
    best_response,
    gradient_response,
    ramp,
    truncated,
    value,
)
from torchbridge.training.loop import accuracy
from torchbridge.training.objectives import Adversarial, Ascent, MarginGame

RADII = (Fraction(1, 10), Fraction(1, 5))
TRAININGS = ("normal", "adversarial", "adversarial-cw")
#: Shorter than the recipes, and as in ``bias_parts``, so that both use the same model.
ASCENT, EPOCHS = Ascent(3, 0.5), 8
#: Margins beyond it earn nothing in the game that is trained.
TAU = 1.0
#: LeNet-5 is what the slides have; the small network is what the verifier can decide.
LARGE, SMALL = "lenet5", "mlp"
#: Points under attack; points decided for LeNet-5 and for the small network; points with values.
ATTACKED, DECIDED_LARGE, DECIDED_SMALL, VALUED = 200, 20, 200, 10
#: How far apart the bounds of a margin may stay.
GAP = Fraction(1, 8)
PAYOFFS = (MARGIN, truncated(Fraction(1)), ramp(Fraction(1)))

_HEADS = (
    "network", "training", "radius", "accuracy, Torch", "under attack", "attacked",
    "exact, at least", "exact, at most", "decided", "of", "epochs", "seconds",
)  # fmt: skip
_VALUE_HEADS = (
    "training", "radius", "payoff", "PGD's answer", "game value, at least", "at most",
    "AA, at least", "AA, at most", "points", "largest gap of a margin",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Case:
    """One row of the table: a model at a radius."""

    model: Trained
    eps: Fraction
    accuracy: Fraction
    attacked: int
    standing: Fraction
    exact: Count


def run(shop: Workshop) -> Findings:
    """Train three ways at two radii, attack, and decide exactly what can be decided.

    Raises:
        DataError: the points are no pictures that a network takes.
        RuntimeError: attack and verifier contradict each other.
        OSError: a folder cannot be written to.
    """
    networks = (shop.architecture,) if shop.architecture else (LARGE, SMALL)
    cases = [
        _case(shop, network, training, eps)
        for network in networks
        for eps in RADII
        for training in TRAININGS
    ]
    valued = [case for case in cases if case.model.recipe.architecture == SMALL]
    tables = [Table("Accuracies", _HEADS, tuple(map(_row, cases)))]
    if valued:
        rows = tuple(row for case in valued for row in _values(shop, case))
        title = f"Values of the game, {SMALL}"
        tables.append(Table(title, _VALUE_HEADS, rows, "values"))
    title = f"{shop.data.title}: the game of classifier and adversary"
    groups = [
        f"{c.model.recipe.architecture}\n{c.model.recipe.name.replace('adversarial', 'adv.')}\n"
        f"{float(c.eps):g}"
        for c in cases
    ]
    series = {
        "accuracy, Torch": [c.accuracy for c in cases],
        "under attack": [c.standing for c in cases],
        "exact, at most": [c.exact.share(c.exact.not_refuted) for c in cases],
        "exact, at least": [c.exact.share(c.exact.proved) for c in cases],
    }
    return Findings(title, tuple(tables), _notes(shop, bool(valued)), {"": _bars(groups, series)})


def _bars(groups: list[str], series: dict[str, list[Fraction]]) -> bytes:
    return bars(groups, series, "The game of classifier and adversary", "of the points")


def _notes(shop: Workshop, valued: bool) -> tuple[str, ...]:
    """What a reader must know."""
    notes = [
        "normal is without adversarial training, adversarial with it (cross-entropy), "
        f"adversarial-cw with the margin loss of the game, margins beyond {TAU:g} earning nothing; "
        f"attacks of {ASCENT.steps} steps. The slides' table has the same columns; its figures "
        "were not at hand.",
        "accuracy: all held-out points, Torch, float32. under attack: what the ensemble `auto` "
        "leaves of the first points; every success is inside its ball and wrong in exact "
        "arithmetic. exact: of the first points, at least so many are proved, at most so many "
        f"have no counterexample; {shop.timeout:g} s a point. The columns `attacked` and `of` are "
        "numbers of points: compare columns only where these are equal.",
    ]
    if valued:
        notes.append(
            "game value: the mean loss after the adversary's best answer, at least that of exact "
            "points in the balls, at most that of proved margins; PGD's answer is a point of each "
            f"ball, evaluated exactly. Margins are enclosed to {GAP} where the time allows it."
        )
    return tuple(notes)


def _case(shop: Workshop, network: str, training: str, eps: Fraction) -> _Case:
    """Train, attack, decide."""
    model = _trained(shop, network, training, eps)
    right = accuracy(model.module, shop.data.held_out_points)
    total = len(shop.data.held_out)
    few = DECIDED_LARGE if network == LARGE else DECIDED_SMALL
    attacks = attacked(shop, model, eps, shop.limit or ATTACKED)
    count = min(len(attacks), few)
    verdicts = decided(shop, model, eps, count)
    shop.reporter.begin(f"{network} {training} at {eps} is done")
    return _Case(
        model, eps, Fraction(round(right * total), total), len(attacks), standing(attacks),
        counted(attacks[:count], verdicts),
    )  # fmt: skip


def _trained(shop: Workshop, network: str, training: str, eps: Fraction) -> Trained:
    """The classifier's move."""
    if training == "normal":  # there is no radius: one model for both
        return shop.trained(training, architecture=network, epochs=EPOCHS)
    objective = Adversarial(ASCENT) if training == "adversarial" else MarginGame(ASCENT, TAU)
    return shop.trained(
        training, architecture=network, epochs=EPOCHS, eps=float(eps), objective=objective
    )


def _row(case: _Case) -> tuple[Cell, ...]:
    recipe, exact = case.model.recipe, case.exact
    return (
        recipe.architecture, recipe.name, float(case.eps), case.accuracy, case.standing,
        case.attacked, exact.share(exact.proved), exact.share(exact.not_refuted),
        exact.points - exact.undecided, exact.points, recipe.epochs, round(case.model.seconds),
    )  # fmt: skip


def _values(shop: Workshop, case: _Case) -> list[tuple[Cell, ...]]:
    """Bounds of the game's value for each payoff."""
    recipe, eps = case.model.recipe, case.eps
    count = min(VALUED, case.exact.points)
    name = f"values-{recipe.name}-{eps.numerator}-{eps.denominator}"
    settings = [case.model.path.name, str(eps), count, shop.timeout, str(GAP)]
    found = shop.remembered(name, settings, partial(_answers, shop, case, count))["points"]
    answers = [
        Answer(row["safe"], Fraction(row["low"]), Fraction(row["high"]), ()) for row in found
    ]
    answered = [Fraction(row["descent"]) for row in found]
    safe = adversarial_accuracy(answers)
    widest = above(max(a.high - a.low for a in answers))
    rows: list[tuple[Cell, ...]] = []
    for payoff in PAYOFFS:
        low, high = value(payoff, answers)
        rows.append(
            (
                recipe.name, float(eps), payoff.name, below(payoff.mean(answered)), below(low),
                above(high), *safe, count, widest,
            )
        )  # fmt: skip
    return rows


def _answers(shop: Workshop, case: _Case, count: int) -> dict[str, Any]:
    """The adversary's answers at the first points, for a step."""
    network, balls = case.model.model.network, samples(shop, case.eps, count)
    rows = []
    for k, (sample, (x, t)) in enumerate(
        zip(balls, gradient_response(network, balls, seed=shop.seed), strict=True)
    ):
        shop.reporter.begin(f"values of {case.model.path.stem} at {case.eps}, {k} of {count}")
        answer = best_response(
            network, sample, timeout=shop.timeout, gap=GAP, starts=(x,), seed=shop.seed,
            progress=shop.reporter.update,
        )  # fmt: skip
        rows.append(
            {"safe": answer.safe, "low": str(answer.low), "high": str(answer.high),
             "descent": str(t)}
        )  # fmt: skip
    return {"points": rows}
