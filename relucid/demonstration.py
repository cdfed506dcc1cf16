"""What ``relucid demo`` shows, with a few words on what it means."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from constructions.dataset import DataSet, load_dataset
from relucid import report
from relucid.ball_pass import Ball
from relucid.numbers import approximate
from relucid.pictures import text_grid
from relucid.progress import Reporter
from relucid.runs import NO_FLOAT32, Options, Outcome, check_data, open_model, run_data
from verifier.core.verdict import Refuted
from verifier.io.onnx import Model

MODELS = ("digits-mlp", "digits-mlp-robust")
RADII = (Fraction(1, 50), Fraction(3, 50))
CLIP = (Fraction(0), Fraction(1))

MOST_SECONDS = 2.0
"""For one instance. The search is complete: given more time it decides more of them."""

LEAST_SECONDS = 0.05

INTRODUCTION = """\
{digits} handwritten digits that the networks were not trained on (8×8 pixels, values 0 to 1), two
networks that ship with relucid, two radii. The question for each: can changing every pixel by at
most the radius make the network answer anything but the right digit?

  proved    it cannot: shown for all of the infinitely many changes at once
  refuted   it can: here is such a change, checked in exact rational arithmetic
  unknown   not decided within {limit:g} seconds
"""

EXPLANATION = """
clean: digits that the network gets right. certified: digits proved robust. adversarial: the share
of digits that no attack of this radius can break lies in this interval, whatever the attack."""


@dataclass(frozen=True)
class _Run:
    """One network at one radius."""

    model: Model
    radius: Fraction
    outcomes: tuple[Outcome, ...]


def demonstrate(digits: int, budget: float) -> None:
    """Certify the first held-out digits on two networks at two radii, and print what came out.

    Args:
        digits: how many.
        budget: seconds of searching in all, shared out so that the last instances get their part.
    """
    print(INTRODUCTION.format(digits=digits, limit=MOST_SECONDS), flush=True)
    data = load_dataset("digits:test")
    models = [open_model(name) for name in MODELS]
    plan = [(model, radius) for model in models for radius in RADII]
    clock = _Clock(budget, len(plan) * digits)
    runs = []
    with Reporter(len(plan) * digits) as reporter:
        for model, radius in plan:
            check_data(model, data, range(digits))
            outcomes = tuple(
                outcome
                for i in range(digits)
                for outcome in run_data(
                    model, data, [i], Ball(radius, CLIP), Options(clock.share()), reporter
                )
            )
            runs.append(_Run(model, radius, outcomes))
    print("\n".join(_table(runs)))
    print(EXPLANATION)
    print("\n".join(_example(runs, data)))


class _Clock:
    """Shares a budget of seconds among instances, most of which need far less than their part."""

    def __init__(self, budget: float, instances: int) -> None:
        self.end = time.monotonic() + budget
        self.instances = instances

    def share(self) -> float:
        """The limit of the next instance: what is left is kept enough for all the others."""
        left = self.end - time.monotonic() - LEAST_SECONDS * self.instances
        self.instances -= 1
        return min(MOST_SECONDS, max(LEAST_SECONDS, left))


def _table(runs: Sequence[_Run]) -> list[str]:
    """A line a network and radius."""
    heads = (
        "network", "radius", "clean", "certified", "refuted", "unknown", "adversarial", "seconds",
    )  # fmt: skip
    rows = []
    for run in runs:
        accuracy = report.Accuracy.of(run.outcomes)
        low, high = accuracy.adversarial
        rows.append(
            (
                run.model.network.name,
                approximate(run.radius),
                f"{accuracy.clean}/{accuracy.total}",
                f"{accuracy.proved}/{accuracy.total}",
                str(accuracy.refuted),
                str(accuracy.total - accuracy.proved - accuracy.refuted),
                f"[{float(low):.0%}, {float(high):.0%}]",
                f"{sum(o.seconds for o in run.outcomes):.1f}",
            )
        )
    return report.table(rows, heads)


def _example(runs: Sequence[_Run], data: DataSet) -> list[str]:
    """One refuted digit that the network gets right when nobody touches it."""
    found = [
        (run, outcome)
        for run in runs
        for outcome in run.outcomes
        if outcome.correct and isinstance(outcome.verdict, Refuted)
    ]
    if not found:
        return ["", "No digit that the networks get right was refuted within the time."]
    run, outcome = next((f for f in found if _agrees(f[1])), found[0])
    if not isinstance(outcome.verdict, Refuted) or outcome.center is None:
        raise ValueError("a refuted sample has a witness and a center")
    witness, wrong = outcome.verdict.witness, report.broken_by(outcome)
    if wrong is None:
        raise ValueError("one of these models' outputs is always the largest")
    label = outcome.label or 0
    return [
        "",
        f"One of the refuted: {data.name} {outcome.index} on {run.model.network.name} at radius "
        f"{approximate(run.radius)}.",
        "",
        *text_grid(outcome.center, witness.x, data.shape),
        "",
        f"The network answers {label} to the original and {wrong} to the witness.",
        f"exact margin  y_{wrong} − y_{label} {_relation(witness.y[wrong] - witness.y[label])} "
        "≥ 0, computed in rational arithmetic",
        f"onnxruntime   {_replay_line(outcome, label, wrong)}",
    ]


def _relation(value: Fraction) -> str:
    """``= 0.5``, or ``≈ 0.333333`` where digits are left out."""
    text = approximate(value)
    return f"≈ {text[1:]}" if text.startswith("≈") else f"= {text}"


def _agrees(outcome: Outcome) -> bool:
    """Whether onnxruntime breaks at the witness as well."""
    verdict = outcome.verdict
    return (
        isinstance(verdict, Refuted)
        and verdict.witness.replay is not None
        and verdict.witness.replay.violated
    )


def _replay_line(outcome: Outcome, label: int, wrong: int) -> str:
    """What the deployed arithmetic says at the witness."""
    if not isinstance(outcome.verdict, Refuted) or outcome.verdict.witness.replay is None:
        return f"not asked: {NO_FLOAT32}"
    y = outcome.verdict.witness.replay.y
    word = "the same" if _agrees(outcome) else "not broken in float32"
    return f"y_{wrong} = {y[wrong]:.6g}, y_{label} = {y[label]:.6g} in float32: {word}"
