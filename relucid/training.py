"""What ``relucid train`` does once its arguments are understood."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from constructions.dataset import DataSet, load_dataset
from relucid.places import require_file
from relucid.progress import Reporter
from torchbridge.convert import to_onnx
from torchbridge.hardware import device_of, use_threads
from torchbridge.training.checkpoint import EpochRow
from torchbridge.training.loop import Report, Training
from torchbridge.training.points import Points
from torchbridge.training.recipe import Recipe, recipe
from verifier.core.errors import DataError
from verifier.core.files import write_atomic

#: Integer points are looked up in a table of at most so many values.
_TABLE = 1 << 16
#: Points that are compared at a time.
_CHUNK = 1024


@dataclass(frozen=True)
class Place:
    """Where a run happens and what it leaves.

    Args:
        out: the ONNX file.
        curves: a PNG file, or None.
        device: as ``torchbridge.hardware.device_of`` takes it.
        threads: on the processor; None leaves it to Torch.
        restart: whether a checkpoint is passed over.
        json_output: whether standard output gets JSON.
    """

    out: Path
    curves: Path | None
    device: str
    threads: int | None
    restart: bool
    json_output: bool

    @property
    def checkpoint(self) -> Path:
        """Where the run's state is kept."""
        return self.out.with_name(f"{self.out.name}.checkpoint")


def train_model(
    name: str, changes: Mapping[str, Any], data: str, held_out: str | None, place: Place
) -> None:
    """Train, write the model, print what came of it.

    Raises:
        DataError: the recipe, the data or the checkpoint are at fault.
        ExportError: a result has no place to go.
        SolverError: there is no such device.
        OSError: a file cannot be written.
    """
    made = recipe(name, **changes)
    for path in (place.out, place.curves):
        if path is not None:
            require_file(path)
    learnt, measured = map(points_of, sets_of(data, held_out))
    held = apart(learnt, measured)
    use_threads(place.threads)
    run = Training(made, learnt, measured, device=device_of(place.device), path=place.checkpoint)
    if not held:
        print(
            f"note: {measured.name} has no test part beside what is learnt: accuracies are on the "
            "points learnt; --held-out names others",
            file=sys.stderr,
        )
    if not place.restart and run.resume():
        done = run.state.step / run.steps
        print(f"going on from {place.checkpoint} ({done:.0%} done)", file=sys.stderr)
    with Reporter(1) as reporter:
        reporter.begin(f"{made.name} {made.architecture} on {learnt.name}")

        def listen(report: Report) -> None:
            reporter.update(state_text(report, made), report.share)

        model = run.run(listen)
    to_onnx(model.to("cpu"), place.out, run.points.shape, name=place.out.stem)
    if place.curves is not None:
        write_atomic(place.curves, curves_png(run.state.history, made))
    place.checkpoint.unlink(missing_ok=True)
    if place.json_output:
        record = _record(made, run.state.history, place) | {"held_out": held}
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        print("\n".join(_lines(made, run.state.history, place, held)))


def sets_of(data: str, held_out: str | None) -> tuple[DataSet, DataSet]:
    """What to learn and what to measure on, with the same classes.

    Args:
        data: a set; its training part is learnt, if it has one.
        held_out: another set, or None for the test part of the same one.

    Raises:
        DataError: a set cannot be read, or a held-out label is none of the classes learnt.
    """
    learnt = load_dataset(data, default_split="train")
    if held_out is None:
        held_out = data.removesuffix(":train").removesuffix(":all")
    return learnt, _with_classes(load_dataset(held_out, default_split="test"), learnt)


def _with_classes(held_out: DataSet, learnt: DataSet) -> DataSet:
    """The held-out set with labels that mean what they mean in the set that is learnt.

    Every file numbers its words by itself: what has a name is found by its name.

    Raises:
        DataError: a class that is not learnt.
    """
    named = held_out.label_names != learnt.label_names
    names = learnt.label_names or tuple(map(str, range(learnt.n_classes)))
    if named:
        place = {name: k for k, name in enumerate(names)}
        numbers = [place.get(held_out.label_name(k), -1) for k in range(held_out.n_classes)]
    else:
        numbers = [k if k < len(names) else -1 for k in range(held_out.n_classes)]
    labels = np.array(numbers)[held_out.labels]
    wrong = np.flatnonzero(labels < 0)
    if len(wrong):
        label = held_out.label_name(int(held_out.labels[wrong[0]]))
        known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(
            f"{held_out.name}: label {label} of held-out point {wrong[0]} is not one of the "
            f"{len(names)} classes that are learnt ({known})"
        )
    return replace(
        held_out, labels=labels, n_classes=learnt.n_classes, label_names=learnt.label_names
    )


def apart(learnt: Points, measured: Points) -> bool:
    """Whether some point that is measured on is none of those that are learnt."""
    known = set(_digests(learnt))
    return any(digest not in known for digest in _digests(measured))


def _digests(points: Points) -> Iterator[bytes]:
    """One for each point."""
    for first in range(0, len(points), _CHUNK):
        for row in points.values[points.codes[first : first + _CHUNK]]:
            yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def points_of(data: DataSet) -> Points:
    """A data set as training takes it: the float32 numbers nearest to its exact values.

    Raises:
        DataError: a value is beyond the float32 range, or integers span more than a table holds.
    """
    shape = (1, *data.shape) if len(data.shape) == 2 else data.shape
    labels = np.array(data.labels)
    span = (0.0, 1.0) if data.is_image else (-np.inf, np.inf)
    if data.points.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return Points.of_floats(data.points, labels, shape, data.n_classes, span, data.name)
    first, last = int(data.points.min()), int(data.points.max())
    if last - first >= _TABLE:
        raise DataError(f"{data.name}: integers from {first} to {last} are too many to train on")
    steps = np.arange(first, last + 1)[:, None]
    each = DataSet(steps, np.zeros(len(steps), np.int64), (1,), 1, data.name, data.scale)
    values = np.concatenate([each.float32(i) for i in range(len(steps))])
    # A difference can be beyond the type of small signed integers: it is right modulo its size.
    places = (data.points - first).view(f"u{data.points.dtype.itemsize}")
    codes = places.astype(np.uint16)
    return Points(codes, values, labels, shape, data.n_classes, span, data.name)


def state_text(report: Report, made: Recipe) -> str:
    """One line on where the run stands."""
    text = f"epoch {report.epoch} of {made.epochs}, loss {report.loss:.3g}"
    if report.history:
        text += f", {_shares(report.history[-1])}"
    minutes, seconds = divmod(round(report.left), 60)
    return f"{text}, {minutes}:{seconds:02d} left"


def _shares(row: EpochRow) -> str:
    """What an epoch ended with."""
    parts = [] if row.accuracy is None else [f"accuracy {row.accuracy:.2%}"]
    if row.robust is not None:
        parts.append(f"{row.robust:.1%} under a short attack at {row.radius:g}")
    return ", ".join(parts)


def _lines(made: Recipe, history: Sequence[EpochRow], place: Place, held: bool) -> list[str]:
    """The result for a person."""
    seconds = sum(row.seconds for row in history)
    lines = [
        f"recipe        {made.name}, {made.architecture}, {made.epochs} epochs, seed {made.seed}",
        f"{'held out' if held else 'learnt':<14}{_shares(history[-1])}",
        f"training      {seconds:.0f} s",
        f"model         {place.out}",
    ]
    if place.curves is not None:
        lines.append(f"curves        {place.curves}")
    return lines


def _record(made: Recipe, history: Sequence[EpochRow], place: Place) -> dict[str, Any]:
    """The result for a machine."""
    return {
        "recipe": json.loads(made.described()),
        "model": str(place.out),
        "curves": None if place.curves is None else str(place.curves),
        "history": [asdict(row) for row in history],
    }


def curves_png(history: Sequence[EpochRow], made: Recipe) -> bytes:
    """Loss, and accuracies on held-out points, over the epochs, as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    left.plot(epochs, [row.loss for row in history], marker=".")
    left.set(xlabel="epoch", ylabel="mean loss of the steps", title=f"{made.name}: loss")
    right.plot(epochs, [row.accuracy for row in history], marker=".", label="accuracy")
    attacked = [(row.epoch, row.robust) for row in history if row.robust is not None]
    if attacked:
        label = f"under a short attack, radius up to {history[-1].radius:g}"
        right.plot(*zip(*attacked, strict=True), marker=".", label=label)
    right.set(xlabel="epoch", ylabel="share of points", title=made.architecture)
    right.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()
