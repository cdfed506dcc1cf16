"""What ``relucid attack`` does once its arguments are understood."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, overload

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
    write_witnesses,
)
from relucid.classes import Classes
from relucid.numbers import approximate, nearest
from relucid.pictures import gallery, planes
from relucid.progress import Reporter
from relucid.runs import Outcome
from relucid.surrogate import surrogate_for
from torchbridge.attacks.campaign import Attacked, Run, attack_points
from torchbridge.attacks.exact import Question
from torchbridge.attacks.interface import Norm
from torchbridge.attacks.methods import Effort, chosen, norm_of
from torchbridge.attacks.regions import L2Ball, LinfBall, PixelBall, Region
from torchbridge.attacks.target import Target, threads_for
from torchbridge.hardware import device_of
from verifier.core.errors import DataError
from verifier.core.files import write_atomic
from verifier.core.verdict import Refuted, Unknown, Verdict
from verifier.io.onnx import Model
from verifier.search.problem import Deadline
from verifier.search.replay import replay

#: Longer tables show what was broken.
_MOST_LINES = 100
#: Successes in a picture.
_ROWS = 5
_HEADS = ("index", "label", "result", "seconds", "evidence")


@dataclass(frozen=True)
class Plan:
    """How to attack.

    Args:
        method: a name in ``torchbridge.attacks.methods.METHODS``.
        effort: changed settings.
        seed: of everything random.
        timeout: seconds for all points.
        surrogate: for ``transfer``, a model's name, or None to train one.
        device: as ``torchbridge.hardware.device_of`` takes it.
    """

    method: str
    effort: Effort
    seed: int
    timeout: float
    surrogate: str | None = None
    device: str = "cpu"

    @property
    def norm(self) -> Norm:
        """What the size of a change is."""
        return norm_of(self.method)


@dataclass(frozen=True, eq=False)
class Result:
    """One point, attacked.

    Args:
        outcome: refuted with a replayed witness, or unknown.
        attacked: what the attack said.
        region: its ball.
    """

    outcome: Outcome
    attacked: Attacked
    region: Region

    @property
    def broken(self) -> bool:
        """Whether an attack turned a correct answer into a wrong one."""
        return self.outcome.correct and isinstance(self.outcome.verdict, Refuted)


def attack_data(model_name: str, samples: Samples, plan: Plan, targets: Targets) -> None:
    """Attack the points of a data set and report; an interrupt reports what is finished.

    Raises:
        DataError: points that do not fit the model or the clip range.
        ExportError: a result has no place to go.
    """
    model, data, indices, ball, classes = opened(model_name, samples, targets)
    title = _title(model_name, data, ball, plan)
    results: list[Result] = []

    def deliver(heading: str) -> None:
        records = [_record(r, model_name, model, samples, ball, plan) for r in results]
        write_out(targets, records)
        write_witnesses(targets, [r.outcome for r in results])
        print_notes(model)
        if targets.json:
            sys.stdout.write(report.json_text(records))
        else:
            print("\n".join(_lines(results, plan, heading)))
        _write_picture(targets, results, data)  # last: it takes longer than an interrupt waits

    try:
        with Reporter(len(indices)) as reporter:
            for result in _results(model, data, indices, ball, classes, plan, samples, reporter):
                results.append(result)
                reporter.finish(result.outcome.verdict)
    except KeyboardInterrupt:
        if results:
            deliver(f"{title}; interrupted after {len(results)} of {len(indices)}")
        raise
    deliver(title)


def _results(
    model: Model, data: DataSet, indices: Sequence[int], ball: Ball, classes: Classes,
    plan: Plan, samples: Samples, reporter: Reporter,
) -> Iterator[Result]:  # fmt: skip
    """Every point with its outcome, in order."""
    network = model.network
    target = Target.of_model(model, classes.decision, str(device_of(plan.device)))
    regions = _Balls(data, indices, ball, plan.norm)
    positions = [classes.position(data, i) for i in indices]
    reporter.begin(data.name)
    surrogate = None
    if plan.method == "transfer":
        surrogate = surrogate_for(target, data, samples, plan.surrogate, plan.seed, reporter)
    attacks = chosen(plan.method, plan.effort, surrogate)
    deadline, started = Deadline(plan.timeout), time.monotonic()

    def progress(name: str, fraction: float) -> None:
        passed = time.monotonic() - started
        left = "" if fraction <= 0 else f", {passed * (1 / fraction - 1):.0f} s left"
        reporter.update(f"{name}{left}", fraction)

    run = Run(plan.seed, progress=progress, stop=lambda: deadline.passed)
    shape = planes(data.shape)
    with threads_for(network, min(run.batch, len(indices))):
        for attacked in attack_points(target, attacks, regions, positions, run, shape=shape):
            i, region = indices[attacked.row], regions[attacked.row]
            question = Question(
                network.exact, classes.decision, positions[attacked.row], network.n_outputs, region
            )
            yield Result(_outcome(model, data, i, question, attacked, classes), attacked, region)


def _channels(data: DataSet) -> int:
    """Coordinates of a pixel: 1, or 3 for colours."""
    form = planes(data.shape)
    return 1 if form is None else form[0]


class _Balls(Sequence[Region]):
    """The balls around points, each made when it is asked for: exact points take memory."""

    def __init__(self, data: DataSet, indices: Sequence[int], ball: Ball, norm: Norm) -> None:
        self._data, self._indices, self._ball, self._norm = data, indices, ball, norm

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, row: int) -> Region: ...

    @overload
    def __getitem__(self, row: slice) -> list[Region]: ...

    def __getitem__(self, row: int | slice) -> Region | list[Region]:
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        return _region(self._data, self._indices[row], self._ball, self._norm)


def _region(data: DataSet, i: int, ball: Ball, norm: Norm) -> Region:
    """The ball around a point.

    Raises:
        DataError: its middle lies outside of the clip range.
    """
    center = ball.center(data, i)
    if norm is Norm.l0:
        return PixelBall(center, ball.eps, ball.clip, _channels(data))
    return (LinfBall if norm is Norm.linf else L2Ball)(center, ball.eps, ball.clip)


def _outcome(
    model: Model, data: DataSet, i: int, question: Question, attacked: Attacked, classes: Classes
) -> Outcome:
    """The outcome as other commands have it, with a replay of the witness."""
    witness, label = attacked.witness, int(data.labels[i])
    name = f"{data.name} {i}"
    outcome = Outcome(
        name, None, Unknown("stopped" if not attacked.finished else "held"), attacked.seconds, i,
        label, label, question.region.center, classes,
    )  # fmt: skip
    if witness is None:
        return outcome
    prop = question.prop(witness.x, name)
    model.check_property(prop)
    verdict: Verdict = Refuted(replace(witness, replay=replay(witness, prop, model.run)))
    outcome = replace(outcome, prop=prop, verdict=verdict)
    if attacked.by:
        return outcome
    predicted = classes.chosen(witness.y)
    if predicted == label:  # a tie
        predicted = report.broken_by(outcome)
    return replace(outcome, predicted=predicted)


def _size_text(size: Fraction, norm: Norm) -> str:
    """A radius or a number of pixels."""
    if norm is Norm.l0:
        return f"{size} pixel{'' if size == 1 else 's'}"
    return f"{'ℓ∞' if norm is Norm.linf else 'ℓ2'} balls of radius {size}"


def _title(model_name: str, data: DataSet, ball: Ball, plan: Plan) -> str:
    """What the table is about."""
    clip = "" if ball.clip is None else f" cut to [{ball.clip[0]}, {ball.clip[1]}]"
    return f"{model_name} on {data.name}: {plan.method}, {_size_text(ball.eps, plan.norm)}{clip}"


def _lines(results: Sequence[Result], plan: Plan, title: str) -> list[str]:
    """Title, a line a point, and what they say together."""
    shown = list(results)
    if len(results) > _MOST_LINES:
        shown = [r for r in results if r.broken][:_MOST_LINES]
    rows = [
        (
            str(r.outcome.index), str(r.outcome.label), _word(r), f"{r.outcome.seconds:.2f}",
            _evidence(r, plan.norm),
        )
        for r in shown
    ]  # fmt: skip
    lines = [title, ""] + (report.table(rows, _HEADS) if rows else [])
    if len(shown) < len(results):
        lines.append(f"and {len(results) - len(shown)} more: --out FILE writes a line for each")
    return [*lines, "", *_summary(results)]


def _word(result: Result) -> str:
    """What became of the point."""
    if result.broken:
        return "broken"
    if not result.outcome.correct:
        return "wrong"
    return "held" if result.attacked.finished else "stopped"


def _distance(region: Region, x: Sequence[Fraction], norm: Norm) -> str:
    """How far a point is from the middle, in words."""
    if isinstance(region, PixelBall):
        count = region.changed(tuple(x))
        return f"{count} pixel{'' if count == 1 else 's'}"
    change = [abs(a - b) for a, b in zip(x, region.center, strict=True)]
    if norm is Norm.linf:
        return f"ℓ∞ distance {approximate(max(change), 4)}"
    squares = sum((v * v for v in change), start=Fraction(0))
    return f"ℓ2 distance ≈{nearest(squares) ** 0.5:.4g}"


def _evidence(result: Result, norm: Norm) -> str:
    """What supports it, in a few words."""
    verdict = result.outcome.verdict
    if not isinstance(verdict, Refuted):
        claims = result.attacked.claims
        return f"{claims} wrong in floats, not exactly" if claims else ""
    witness = verdict.witness
    margin = result.outcome.margin
    slack = "" if margin is None else f", margin {approximate(margin)}"
    where = "the point itself is"
    if result.outcome.correct:
        where = f"{result.attacked.by}: {_distance(result.region, witness.x, norm)},"
    return (
        f"{where} classified {report.class_text(report.broken_by(result.outcome))}{slack}; "
        f"{report.replay_text(witness)}"
    )


def _summary(results: Sequence[Result]) -> list[str]:
    """Accuracies, and how sure they are."""
    total = len(results)
    clean = sum(r.outcome.correct for r in results)
    left = sum(not isinstance(r.outcome.verdict, Refuted) for r in results)
    broken = [r.outcome.verdict for r in results if r.broken]
    agree = sum(
        isinstance(v, Refuted) and v.witness.replay is not None and v.witness.replay.violated
        for v in broken
    )
    lines = [
        f"clean accuracy         {clean}/{total} = {clean / total:.1%}",
        f"accuracy under attack  {left}/{total} = {left / total:.1%}",
        f"successes              {len(broken)}, each inside its ball and wrong in exact "
        f"arithmetic; {agree} of them in onnxruntime",
    ]
    claims = sum(r.attacked.claims for r in results)
    if claims:
        lines.append(f"points that were wrong in floats only  {claims}")
    stopped = sum(not r.attacked.finished for r in results)
    if stopped:
        lines.append(f"stopped by --timeout   {stopped}")
    return lines


def _record(
    result: Result, model_name: str, model: Model, samples: Samples, ball: Ball, plan: Plan
) -> dict[str, Any]:
    """One point for machines."""
    more = {
        "data": samples.data,
        "method": plan.method,
        "norm": str(plan.norm),
        "pixels" if plan.norm is Norm.l0 else "eps": str(ball.eps),
        "clip": clip_text(ball),
        "seed": plan.seed,
        "result": _word(result),
        "attack": result.attacked.by or None,
        "float_only": result.attacked.claims,
    }
    return report.record(result.outcome, model_name, model.sha256, **more)


def _write_picture(targets: Targets, results: Sequence[Result], data: DataSet) -> None:
    """The PNG of the first successes; a note if there are none.

    Raises:
        DataError: points are no pictures.
    """
    if targets.picture is None:
        return
    rows = []
    for result in results:
        verdict, center = result.outcome.verdict, result.outcome.center
        if not result.broken or not isinstance(verdict, Refuted) or center is None:
            continue
        broken = report.broken_by(result.outcome)
        titles = (
            f"point {result.outcome.index}: {data.label_name(result.outcome.label or 0)}",
            "classified as none" if broken is None else f"classified {data.label_name(broken)}",
            "difference",
        )
        rows.append((center, verdict.witness.x, titles))
    if not rows:
        print("note: nothing was broken, so no picture was written", file=sys.stderr)
        return
    if planes(data.shape) is None:
        raise DataError(f"{data.name}: points of shape {data.shape} are no pictures")
    write_atomic(targets.picture, gallery(rows[:_ROWS], data.shape))
