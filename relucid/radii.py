"""What ``relucid radius`` does once its arguments are understood."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from constructions.dataset import DataSet
from relucid import report
from relucid.ball_pass import Ball
from relucid.certification import (
    Samples,
    Targets,
    clip_text,
    opened,
    print_notes,
    write_out,
    write_picture,
    write_witnesses,
)
from relucid.classes import Classes
from relucid.numbers import approximate
from relucid.progress import Reporter
from relucid.runs import Outcome
from verifier.core.verdict import Unknown
from verifier.io.onnx import Model
from verifier.search.radius import RadiusSearch
from verifier.search.radius_ends import Question, Radius
from verifier.search.replay import replay

_HEADS = ("index", "label", "proved", "refuted", "gap", "seconds", "remark")
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Effort:
    """How long and how far to search.

    Args:
        timeout: seconds for one point.
        gap: relative distance of the two ends that is enough.
        seed: of everything random.
    """

    timeout: float
    gap: Fraction
    seed: int


@dataclass(frozen=True)
class Answer:
    """One point with both ends.

    Args:
        found: the ends with their evidence.
        proved: the proved end as an outcome; None if there is none but the point itself.
        refuted: the refuted end as an outcome, its witness replayed; None if there is none.
        index, label, predicted: of the point.
        seconds: wall-clock time.
    """

    found: Radius
    proved: Outcome | None
    refuted: Outcome | None
    index: int
    label: int
    predicted: int | None
    seconds: float

    @property
    def remark(self) -> str:
        """What a reader should know of the two numbers."""
        if self.found.everywhere:
            return "no counterexample within the clip range"
        if self.found.refuted is None:
            return f"no counterexample found up to {approximate(self.found.reach)}; {self._why}"
        if not self.found.refuted.eps:
            return f"the point itself is classified {self._broken}"
        nearest = f"classified {self._broken} there"
        return nearest if self.found.reason is None else f"{nearest}; {self._why}"

    @property
    def _broken(self) -> str:
        """The class that wins, or ties, at the counterexample."""
        if self.refuted is None:
            raise ValueError("nothing is refuted")
        return report.class_text(report.broken_by(self.refuted))

    @property
    def _why(self) -> str:
        return self.found.reason or "the search ends there"

    def row(self) -> tuple[str, ...]:
        """Of the table."""
        found = self.found
        unsafe = found.refuted is not None and not found.refuted.eps
        lower = "-" if unsafe else approximate(found.lower)
        upper = "-" if found.refuted is None else approximate(found.refuted.eps)
        gap = "-" if found.gap is None else f"{float(found.gap):.2g}"
        return (
            str(self.index), str(self.label), lower, upper, gap, f"{self.seconds:.2f}", self.remark,
        )  # fmt: skip

    def record(self, **about: Any) -> dict[str, Any]:
        """For machines; exact numbers are strings."""
        found = self.found
        proved, refuted = found.proved, found.refuted
        return {
            **about,
            "index": self.index,
            "label": self.label,
            "predicted": self.predicted,
            "proved_eps": None if refuted and not refuted.eps else str(found.lower),
            "refuted_eps": None if refuted is None else str(refuted.eps),
            "gap": None if found.gap is None else float(found.gap),
            "everywhere": found.everywhere,
            "reach": str(found.reach),
            "reason": found.reason,
            "semantics": "real",
            "seconds": round(self.seconds, 4),
            "questions": found.questions,
            "witness": None if self.refuted is None else report.witness_record(self.refuted),
            "proof": None,
            "statistics": {} if proved is None else proved.verdict.statistics,
        }


def find_radii(model_name: str, samples: Samples, effort: Effort, targets: Targets) -> None:
    """Search around the points of a data set and report; an interrupt reports what is known.

    Raises:
        DataError: points that do not fit the model or the clip range.
        ExportError: a result has no place to go.
    """
    model, data, indices, ball, classes = opened(model_name, samples, targets)
    answers: list[Answer] = []
    about = {
        "model": model_name,
        "model_sha256": model.sha256,
        "data": samples.data,
        "clip": clip_text(ball),
    }
    title = _title(model_name, data, ball)
    try:
        with Reporter(len(indices)) as reporter:
            for i in indices:
                reporter.begin(f"sample {i}")
                _search(model, data, i, ball, classes, effort, reporter, answers.append)
    except KeyboardInterrupt:
        if answers:
            _report(answers, targets, data, f"{title}; interrupted", about)
        raise
    write_witnesses(targets, _refuted(answers))
    write_picture(targets, _refuted(answers), data)
    print_notes(model)
    _report(answers, targets, data, title, about)


def _search(
    model: Model,
    data: DataSet,
    i: int,
    ball: Ball,
    classes: Classes,
    effort: Effort,
    reporter: Reporter,
    keep: Callable[[Answer], None],
) -> None:
    """One point; an interrupt keeps what is known of it and goes on."""
    started = time.monotonic()
    center = ball.center(data, i)
    position, n_outputs = classes.position(data, i), model.network.n_outputs
    question = Question(
        model.network,
        center,
        ball.clip,
        lambda box: classes.property(box, position, n_outputs, f"{data.name} {i}"),
    )
    model.check_property(question.at(Fraction(0)))
    search = RadiusSearch(
        question,
        timeout=effort.timeout,
        gap=effort.gap,
        seed=effort.seed,
        progress=reporter.update,
    )
    predicted = classes.chosen(model.network.exact(center))

    def answer(found: Radius, *, replayed: bool) -> Answer:
        seconds = time.monotonic() - started
        ends = _outcomes(model, data, i, center, classes, predicted, found, replayed)
        return Answer(found, *ends, i, int(data.labels[i]), predicted, seconds)

    try:
        found = search.run()
    except KeyboardInterrupt:
        keep(answer(search.result("interrupted"), replayed=False))
        raise
    done = answer(found, replayed=True)
    keep(done)
    reporter.finish(_verdict(done))


def _verdict(answer: Answer) -> Any:
    """What the progress counts: a closed gap as its last word, an open one as unknown."""
    if answer.found.reason is not None:
        return Unknown(answer.found.reason)
    end = answer.proved if answer.proved is not None else answer.refuted
    return Unknown("") if end is None else end.verdict


def _outcomes(
    model: Model,
    data: DataSet,
    i: int,
    center: tuple[Fraction, ...],
    classes: Classes,
    predicted: int | None,
    found: Radius,
    replayed: bool,
) -> tuple[Outcome | None, Outcome | None]:
    """The two ends as outcomes, the witness with what onnxruntime makes of it."""
    name, label = f"{data.name} {i}", int(data.labels[i])
    proved = refuted = None
    if found.proved is not None:
        end = found.proved
        proved = Outcome(name, end.prop, end.verdict, 0.0, i, label, predicted, center, classes)
    if found.refuted is not None:
        prop, verdict = found.refuted.prop, found.refuted.verdict
        if replayed:
            witness = verdict.witness
            witness = replace(witness, replay=replay(witness, prop, model.run))
            verdict = replace(verdict, witness=witness)
        refuted = Outcome(name, prop, verdict, 0.0, i, label, predicted, center, classes)
    return proved, refuted


def _refuted(answers: Sequence[Answer]) -> list[Outcome]:
    return [a.refuted for a in answers if a.refuted is not None]


def _title(model_name: str, data: DataSet, ball: Ball) -> str:
    """What the table is about."""
    clip = "" if ball.clip is None else f" cut to [{ball.clip[0]}, {ball.clip[1]}]"
    center = "exact values" if ball.exact_center else "float32 values"
    return f"{model_name} on {data.name}: ℓ∞ robustness radii around {center}{clip}"


def _report(
    answers: Sequence[Answer],
    targets: Targets,
    data: DataSet,
    title: str,
    about: dict[str, Any],
) -> None:
    """The results file, and stdout."""
    records = [a.record(**about) for a in answers]
    write_out(targets, records)
    if targets.json:
        sys.stdout.write(report.json_text(records))
        return
    lines = [title, "", *report.table([a.row() for a in answers], _HEADS)]
    if len(answers) > 1:
        lines += ["", *quantiles(answers)]
    chosen = report.shown(_refuted(answers))
    if chosen is not None:
        picture = report.picture_lines(chosen, data.shape)
        lines += ["", *picture] if picture else []
    print("\n".join(lines))


def quantiles(answers: Sequence[Answer]) -> list[str]:
    """Quantiles of both ends over the points that are classified correctly, and how many closed.

    A point without a known counterexample counts as infinite among the refuted ends.
    """
    right = [a for a in answers if a.found.refuted is None or a.found.refuted.eps]
    closed = sum(a.found.reason is None for a in answers)
    lines = [f"{closed}/{len(answers)} to the gap asked for; {len(right)} classified correctly"]
    if not right:
        return lines
    lower = [float(a.found.lower) for a in right]
    upper = [np.inf if a.found.refuted is None else float(a.found.refuted.eps) for a in right]
    heads = ("quantile", *(f"{share:.0%}" for share in _SHARES))
    rows = [
        (name, *(f"{v:.6g}" for v in np.quantile(values, _SHARES, method="lower")))
        for name, values in (("proved", lower), ("refuted", upper))
    ]
    return [*lines, *report.table(rows, heads)]
