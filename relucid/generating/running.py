"""What ``relucid generate`` does once its arguments are understood."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relucid.generating.catalogue import family
from relucid.generating.family import HEADS, Made, Place
from relucid.progress import Reporter
from relucid.report import table
from relucid.steps import keep, recall
from verifier.core.errors import DataError
from verifier.core.files import read_bytes, write_atomic

#: Bytes of a file of this command at most.
_LIMIT = 1 << 24
_FOLDERS = ("onnx", "vnnlib", "witnesses", "proofs", "steps")


@dataclass(frozen=True)
class Order:
    """What was asked for.

    Args:
        name: of the family.
        out: the folder.
        count: so many times the family makes instances.
        seed: of everything random.
        difficulty: a name of the family's, or None.
        changes: ``NAME=VALUE`` each.
        json_output: whether standard output gets JSON.
    """

    name: str
    out: Path
    count: int
    seed: int
    difficulty: str | None
    changes: tuple[str, ...]
    json_output: bool


def generate(order: Order) -> None:
    """Make what is missing, and write the lists.

    Raises:
        DataError: settings without a meaning, or a folder that holds another set.
        OSError: the folder cannot be written to.
    """
    found = family(order.name)
    settings = found.settings(order.difficulty, order.changes)
    _claim(order.out, json.dumps([order.name, order.seed, asdict(settings)], default=str))
    made: list[Made] = []
    with Reporter(order.count) as reporter:
        place = Place(order.out, order.seed, reporter)
        for k in range(order.count):
            reporter.begin(f"{order.name} {k}")
            path = order.out / "steps" / f"{k}.json"
            rows = recall(path, lambda kept: tuple(Made(**row) for row in kept))
            if rows is None:
                rows = found.make(settings, place, k)
                keep(path, [asdict(row) for row in rows])
            made += rows
            reporter.advance("sat" if any(row.truth == "sat" for row in rows) else "unsat")
    _write_lists(order.out, made)
    if order.json_output:
        record = {"family": order.name, "settings": asdict(settings), "seed": order.seed}
        record["instances"] = [asdict(row) for row in made]
        sys.stdout.write(json.dumps(record, indent=2, default=str) + "\n")
    else:
        print("\n".join(_lines(made, order)))


def _claim(folder: Path, text: str) -> None:
    """Make the folder this set's, or find that it is.

    Raises:
        DataError: it holds another set, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, expected a folder")
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / "steps" / "set.json"
    if not path.exists():
        write_atomic(path, text.encode())
    elif read_bytes(path, limit=_LIMIT, error=DataError) != text.encode():
        raise DataError(f"{folder}: holds a set of another family, seed or other settings")


def _write_lists(folder: Path, made: Sequence[Made]) -> None:
    """instances.csv as VNN-COMP has it, ground_truth.csv, and known.csv for ``compare.py``."""

    def write(name: str, rows: Sequence[Sequence[Any]]) -> None:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        write_atomic(folder / name, stream.getvalue().encode())

    write("instances.csv", [(row.network, row.property, row.limit) for row in made])
    write("ground_truth.csv", [HEADS, *([getattr(row, head) for head in HEADS] for row in made)])
    write(
        "known.csv", [(Path(row.network).name, Path(row.property).name, row.truth) for row in made]
    )


def _lines(made: Sequence[Made], order: Order) -> list[str]:
    """The set for a person."""
    heads = ("property", "truth", "known by", "margin", "found by", "radius", "seconds")
    rows = [
        (
            Path(row.property).stem, row.truth, row.kind, row.margin,
            row.found_by or ("nothing" if row.attacks else ""), row.radius, f"{row.seconds:.1f}",
        )
        for row in made
    ]  # fmt: skip
    counts = Counter(row.truth for row in made)
    sat = [row for row in made if row.truth == "sat"]
    hidden = sum(not row.found_by for row in sat)
    return [
        *table(rows, heads),
        "",
        f"instances     {counts['sat']} sat, {counts['unsat']} unsat",
        f"not found     {hidden} of {len(sat)} counterexamples, by the attacks tried here",
        f"written       {order.out / 'instances.csv'}, ground_truth.csv, known.csv",
    ]
