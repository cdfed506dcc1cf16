"""What ``relucid certify`` does once its arguments are understood."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relucid import report
from relucid.classes import Classes
from relucid.pictures import planes, png
from relucid.places import require_file, require_folder
from relucid.progress import Reporter
from relucid.proof_files import Proofs, summary
from relucid.runs import Options, Outcome, check_data, open_model, run_data, run_property
from verifier.core.decision import Rule
from verifier.core.errors import DataError, ExportError
from verifier.core.files import write_atomic
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.io.onnx import Model
from verifier.io.vnnlib import counterexample_text, read_property

if TYPE_CHECKING:  # a property alone needs neither, and they take time to load
    from constructions.dataset import DataSet
    from relucid.ball_pass import Ball


@dataclass(frozen=True)
class Targets:
    """Where results go beside stdout.

    Args:
        out: results file (.json or .csv), or None.
        counterexample: file (one property) or folder (data set) for witnesses, or None.
        picture: PNG file, or None.
        json: whether stdout gets JSON.
        proof: file (one property) or folder (data set) for proofs, or None.
        check_proof: whether each proof is checked as soon as it is written.
    """

    out: Path | None
    counterexample: Path | None
    picture: Path | None
    json: bool
    proof: Path | None = None
    check_proof: bool = True

    def check(self, *, folders: bool) -> None:
        """Find out before the work, not after it, that a result has no place to go.

        Args:
            folders: whether witnesses and proofs go to folders, one for each point.

        Raises:
            ExportError: a folder is missing or unwritable, or an ending is unknown.
        """
        if self.out is not None and self.out.suffix not in (".json", ".csv"):
            raise ExportError(f"{self.out}: results are written as .json or .csv")
        if self.picture is not None and self.picture.suffix != ".png":
            raise ExportError(f"{self.picture}: pictures are written as .png")
        for path in (self.out, self.picture):
            if path is not None:
                require_file(path)
        for path in (self.counterexample, self.proof):
            if path is not None:
                (require_folder if folders else require_file)(path)


@dataclass(frozen=True)
class Samples:
    """Which balls of which data set.

    Args:
        data: name or path of the set.
        eps: radius.
        clip: range of a coordinate, or None for the default.
        default_clip: whether pictures with values in [0, 1] are clipped to that.
        exact_center: see ``Ball``.
        index: the only point, or None.
        start: first point.
        limit: most points, or None.
        rule: how to read the outputs, or None for what the model's file says.
    """

    data: str
    eps: Fraction
    clip: tuple[Fraction, Fraction] | None
    default_clip: bool
    exact_center: bool
    index: int | None
    start: int
    limit: int | None
    rule: Rule | None = None

    def ball(self, data: DataSet) -> Ball:
        """The ball for this data set."""
        from relucid.ball_pass import Ball

        clip = self.clip
        if clip is None and self.default_clip and data.is_image:
            clip = (Fraction(0), Fraction(1))
        return Ball(self.eps, clip, self.exact_center)

    def indices(self, data: DataSet) -> range:
        """The chosen points.

        Raises:
            DataError: the set has no such point.
        """
        if self.index is not None:
            first, stop = self.index, self.index + 1
        else:
            first = self.start
            stop = len(data) if self.limit is None else min(len(data), first + self.limit)
        if first >= len(data):
            raise DataError(
                f"{data.name}: no point {first}, the set has {len(data)} (0..{len(data) - 1})"
            )
        return range(first, stop)


def certify_property(
    model_name: str, path: Path, options: Options, targets: Targets, started: float
) -> int:
    """Decide one VNN-LIB file and report.

    Args:
        model_name: ONNX file or bundled model.
        path: the property.
        options: how to search; loading counts toward the time limit.
        targets: where to write.
        started: ``time.monotonic()`` at the start of the command.

    Returns:
        the exit status: 1 if a proof was asked for and there is no valid one.
    """
    targets.check(folders=False)
    model = open_model(model_name)
    network = model.network
    file = read_property(path, n_inputs=network.n_inputs, n_outputs=network.n_outputs)
    left = max(0.001, options.timeout - (time.monotonic() - started))
    with Reporter(1) as reporter:
        outcome = run_property(
            model, file.prop, str(path), replace(options, timeout=left), reporter
        )
        if targets.proof is not None and not isinstance(outcome.verdict, Unknown):
            proofs = Proofs(model, targets.proof, targets.check_proof, options.float32)
            proof = proofs.for_property(file.prop, file.sha256, outcome.verdict, reporter)
            outcome = replace(outcome, proof=proof)
    record = report.record(
        outcome, model_name, model.sha256, property_sha256=file.sha256, engine=options.engine
    )
    if targets.counterexample is not None and isinstance(outcome.verdict, Refuted):
        tensors = (file.input, file.output) if file.version == "2.0" else None
        text = counterexample_text(outcome.verdict.witness, file.version, tensors=tensors)
        write_atomic(targets.counterexample, text.encode())
    write_out(targets, record)
    print_notes(model)
    if targets.json:
        sys.stdout.write(report.json_text(record))
    else:
        print("\n".join(report.property_lines(outcome)))
    return _status([outcome])


def opened(
    model_name: str, samples: Samples, targets: Targets
) -> tuple[Model, DataSet, range, Ball, Classes]:
    """The model, the data, which points, which balls around them, and what outputs mean.

    Raises:
        DataError: points that do not fit the model, or are no pictures where one is wanted.
        ExportError: a result has no place to go.
    """
    from constructions.dataset import load_dataset

    targets.check(folders=True)
    model = open_model(model_name)
    data = load_dataset(samples.data, default_split="test")
    indices, ball = samples.indices(data), samples.ball(data)
    classes = check_data(model, data, indices, samples.rule)
    if targets.picture is not None and planes(data.shape) is None:
        raise DataError(f"{data.name}: points of shape {data.shape} are no pictures")
    return model, data, indices, ball, classes


def certify_data(model_name: str, samples: Samples, options: Options, targets: Targets) -> int:
    """Decide the balls around points of a data set and report; the exit status, as above."""
    model, data, indices, ball, classes = opened(model_name, samples, targets)
    proofs = _proof_folder(model, targets, options)
    outcomes: list[Outcome] = []
    try:
        with Reporter(len(indices)) as reporter:
            for outcome in run_data(model, data, indices, ball, options, reporter, classes):
                outcomes.append(_with_proof(outcome, proofs, reporter))
    except KeyboardInterrupt:
        if outcomes and not targets.json:
            _print_table(outcomes, data, f"interrupted after {len(outcomes)} of {len(indices)}")
        raise
    more = {"data": samples.data, "eps": str(ball.eps), "clip": clip_text(ball)}
    records = [
        report.record(o, model_name, model.sha256, **more, engine=options.engine) for o in outcomes
    ]
    write_witnesses(targets, outcomes)
    write_picture(targets, outcomes, data)
    write_out(targets, records)
    print_notes(model)
    if targets.json:
        sys.stdout.write(report.json_text(records))
    else:
        _print_table(outcomes, data, _title(model_name, data, ball, options))
    return _status(outcomes)


def _proof_folder(model: Model, targets: Targets, options: Options) -> Proofs | None:
    """Where proofs of a data set go, if they are wanted."""
    if targets.proof is None:
        return None
    targets.proof.mkdir(exist_ok=True)
    return Proofs(model, targets.proof, targets.check_proof, options.float32)


def _with_proof(outcome: Outcome, proofs: Proofs | None, reporter: Reporter) -> Outcome:
    """The outcome with its proof on disk instead of its evidence in memory."""
    verdict = outcome.verdict
    if proofs is None or isinstance(verdict, Unknown):
        return outcome
    if outcome.index is None or outcome.prop is None:
        raise ValueError("a sample was decided without a property")
    proof = proofs.for_sample(outcome.index, outcome.prop, verdict, reporter)
    if isinstance(verdict, Proved):
        verdict = replace(verdict, evidence=())
    return replace(outcome, verdict=verdict, proof=proof)


def _status(outcomes: Sequence[Outcome]) -> int:
    """0, or 1 with a line on stderr if a verdict has not the proof that was asked for."""
    missing = [(o.name, o.proof) for o in outcomes if o.proof is not None and o.proof.problem]
    if not missing:
        return 0
    name, proof = missing[0]
    many = f"{len(missing)} of {len(outcomes)} verdicts have"
    counts = many if len(outcomes) > 1 else "there is"
    what = "" if proof.path is None else f"{proof.path} is INVALID: "
    print(
        f"relucid: {counts} no valid proof; {name}: {what}{proof.problem}",
        file=sys.stderr,
    )
    return 1


def _title(model_name: str, data: DataSet, ball: Ball, options: Options) -> str:
    """What the table is about."""
    clip = "" if ball.clip is None else f" cut to [{ball.clip[0]}, {ball.clip[1]}]"
    center = "exact values" if ball.exact_center else "float32 values"
    computed = ", computed in float32" if options.float32 else ""
    return (
        f"{model_name} on {data.name}: ℓ∞ balls of radius {ball.eps} around {center}{clip}"
        f"{computed}"
    )


def clip_text(ball: Ball) -> list[str] | None:
    """The clip range for machines."""
    return None if ball.clip is None else [str(v) for v in ball.clip]


def _print_table(outcomes: Sequence[Outcome], data: DataSet, title: str) -> None:
    """Title, a line a sample, accuracies, one refuted sample as a picture."""
    lines = [title, "", *report.data_table(outcomes), "", *report.Accuracy.of(outcomes).lines()]
    lines += summary([o.proof for o in outcomes if o.proof is not None])
    chosen = report.shown(outcomes)
    if chosen is not None:
        picture = report.picture_lines(chosen, data.shape)
        lines += ["", *picture] if picture else []
    print("\n".join(lines))


def print_notes(model: Model) -> None:
    """What the importer had to say, on stderr."""
    for note in model.network.notes:
        print(f"note: {note}", file=sys.stderr)


def write_out(targets: Targets, records: dict[str, Any] | list[dict[str, Any]]) -> None:
    """The results file."""
    if targets.out is None:
        return
    if targets.out.suffix == ".json":
        text = report.json_text(records)
    else:
        text = report.csv_text(records if isinstance(records, list) else [records])
    write_atomic(targets.out, text.encode())


def write_witnesses(targets: Targets, outcomes: Sequence[Outcome]) -> None:
    """INDEX.txt for each refuted sample."""
    if targets.counterexample is None:
        return
    targets.counterexample.mkdir(exist_ok=True)
    for outcome in outcomes:
        if isinstance(outcome.verdict, Refuted):
            text = counterexample_text(outcome.verdict.witness)
            write_atomic(targets.counterexample / f"{outcome.index}.txt", text.encode())


def write_picture(targets: Targets, outcomes: Sequence[Outcome], data: DataSet) -> None:
    """The PNG of one refuted sample; a note if there is none."""
    if targets.picture is None:
        return
    chosen = report.shown(outcomes)
    if chosen is None or chosen.center is None or not isinstance(chosen.verdict, Refuted):
        print("note: nothing was refuted, so no picture was written", file=sys.stderr)
        return
    broken = report.broken_by(chosen)
    titles = (
        f"sample {chosen.index}: {data.label_name(chosen.label or 0)}",
        "classified as none" if broken is None else f"classified {data.label_name(broken)}",
        "change",
    )
    write_atomic(targets.picture, png(chosen.center, chosen.verdict.witness.x, data.shape, titles))
