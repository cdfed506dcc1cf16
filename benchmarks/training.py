"""Images a second that each recipe trains each architecture with, forward and backward.

    python benchmarks/training.py [--recipe R ...] [--architecture A ...] [--device auto|cpu|cuda]
        [--threads N] [--batch 128] [--seconds 2] [--repeats 5] [--out FILE] [--row FILE]

A step is what ``relucid train`` does: points looked up, the inner attack or the bounds, loss,
gradient, optimiser. Pictures are random bytes, 28 × 28 grey ones, 32 × 32 coloured ones for
resnet18 and vgg16. The first step counts for nothing; then each repeat takes steps for so many
seconds, one at least, and the median of the repeats is shown, with the slowest and the fastest.
Beside it stands how many images a second of processor time makes, which other programs on the
machine disturb less. On a GPU nvidia-smi says how busy it was. What a recipe cannot train (backward
bounds know no pools and no batch normalisation) is left out, with the reason. FILE.csv gets all
figures, and with --row a table such as PERFORMANCE.md one more row.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from machine import Others, Session, Watch, append_row

from torchbridge.installed import require_torch
from verifier.core.errors import ModelError, RelucidError
from verifier.core.files import write_atomic

#: Those that take 32 × 32 pictures.
LARGE = ("resnet18", "vgg16")
#: So many batches are looked up in turn.
BATCHES = 4


@dataclass(frozen=True)
class Speed:
    """Images a second of one recipe and architecture.

    Args:
        recipe, architecture: names.
        batch: images a step.
        median, slowest, fastest: of the repeats.
        per_cpu_second: images that a second of processor time makes, all repeats together.
        busy: share of the GPU that was in use, as nvidia-smi saw it.
    """

    recipe: str
    architecture: str
    batch: int
    median: float
    slowest: float
    fastest: float
    per_cpu_second: float
    busy: str


def measure(
    recipe_name: str, architecture: str, given: argparse.Namespace, device: object
) -> Speed:
    """Time the steps of one training.

    Raises:
        ModelError: the recipe cannot train the architecture.
    """
    import torch

    from torchbridge.training.loop import Training
    from torchbridge.training.points import Points
    from torchbridge.training.recipe import recipe

    shape = (3, 32, 32) if architecture in LARGE else (1, 28, 28)
    rng = np.random.default_rng(0)
    count, size = BATCHES * given.batch, int(np.prod(shape))
    codes = rng.integers(0, 256, (count, size)).astype(np.uint16)
    values = (np.arange(256) / 255).astype(np.float32)
    points = Points(codes, values, rng.integers(0, 10, count), shape, 10, (0.0, 1.0), "random")
    made = recipe(recipe_name, architecture=architecture, batch=given.batch, epochs=1000)
    run = Training(made, points, points, device=device)
    run.model.train()
    rows = torch.arange(count).split(given.batch)
    run.step(rows[0])
    rates, done = [], 0
    with Watch().running() as watch:
        cpu = time.process_time()
        for _ in range(given.repeats):
            started, images = time.perf_counter(), 0
            while time.perf_counter() - started < given.seconds or not images:
                run.step(rows[done % BATCHES])  # ends with the loss as a number, so nothing is left
                done, images = done + 1, images + given.batch
            rates.append(images / (time.perf_counter() - started))
        cpu = time.process_time() - cpu
    busy = str(watch) if getattr(device, "type", "cpu") == "cuda" else ""
    return Speed(
        recipe_name, architecture, given.batch, statistics.median(rates), min(rates), max(rates),
        done * given.batch / max(cpu, 1e-9), busy,
    )  # fmt: skip


def lines(speeds: Sequence[Speed]) -> list[str]:
    """A Markdown table."""
    out = [
        "| recipe | architecture | batch | images/s (median) | slowest to fastest "
        "| images per second of processor time | GPU busy |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for s in speeds:
        out.append(
            f"| {s.recipe} | {s.architecture} | {s.batch} | {s.median:.0f} | {s.slowest:.0f} to "
            f"{s.fastest:.0f} | {s.per_cpu_second:.0f} | {s.busy or '–'} |"
        )
    return out


def figure(speeds: Sequence[Speed]) -> str:
    """All of it for a cell of PERFORMANCE.md."""
    parts = []
    for name in dict.fromkeys(s.architecture for s in speeds):
        mine = [s for s in speeds if s.architecture == name]
        cells = ", ".join(
            f"{s.recipe} {s.median:.0f} ({s.per_cpu_second:.0f})"
            + (f" GPU {s.busy}" if s.busy else "")
            for s in mine
        )
        parts.append(f"{name}: {cells}")
    return "images/s (per second of processor time): " + "; ".join(parts)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line; recipes and architectures are those of ``torchbridge.training``."""
    from torchbridge.training.architectures import ARCHITECTURES
    from torchbridge.training.recipe import RECIPES

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", action="append", choices=list(RECIPES))
    parser.add_argument("--architecture", action="append", choices=list(ARCHITECTURES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a CSV file of all figures")
    parser.add_argument("--row", type=Path, metavar="FILE", help="add a row to this file")
    options = parser.parse_args(given)
    for name in ("batch", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    options.recipe = options.recipe or list(RECIPES)
    options.architecture = options.architecture or list(ARCHITECTURES)
    return options


def run(options: argparse.Namespace, words: str) -> list[Speed]:
    """Measure all, print a line for each, write the files."""
    import torch

    from torchbridge.hardware import device_of, use_threads

    device = device_of(options.device)
    use_threads(options.threads)
    session, others, started = Session.begin(words), Others(), time.process_time()
    title = f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        title = torch.cuda.get_device_name(device)
    speeds: list[Speed] = []
    for architecture in options.architecture:
        for name in options.recipe:
            print(f"{name} {architecture} ...", file=sys.stderr, flush=True)
            try:
                speeds.append(measure(name, architecture, options, device))
            except ModelError as problem:
                print(f"{name} {architecture}: left out: {problem}", file=sys.stderr)
    print("\n".join([f"device: {device}, {title}", "", *lines(speeds)]))
    if options.out is not None:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([f.name for f in fields(Speed)])
        writer.writerows(astuple(speed) for speed in speeds)
        write_atomic(options.out, stream.getvalue().encode())
    if options.row is not None:
        share = others.share(time.process_time() - started)
        what = f"training on {device} ({title}), batches of {options.batch}, forward and backward"
        append_row(options.row, session.row(what, share, figure(speeds), ""))
    return speeds


def main(given: Sequence[str] | None = None) -> int:
    """0 measured, 2 there is no such device, nothing to measure, or a file cannot be written."""
    try:
        require_torch("this benchmark")
        options = arguments(given)
        words = " ".join(sys.argv[1:] if given is None else given)
        if not run(options, f"benchmarks/training.py {words}".strip()):
            print("training.py: no recipe can train these architectures", file=sys.stderr)
            return 2
    except (RelucidError, OSError, ValueError) as problem:
        print(f"training.py: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
