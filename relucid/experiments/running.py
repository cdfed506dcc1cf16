"""What ``relucid experiment`` does once its arguments are understood."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from relucid.experiments.catalogue import experiment
from relucid.experiments.findings import Findings, shown
from relucid.experiments.workshop import Data, Workshop
from relucid.numbers import nearest
from relucid.progress import Reporter
from relucid.report import table
from relucid.training import apart
from torchbridge.hardware import use_threads
from verifier.core.errors import DataError

_SAME = (
    "The held-out points are points that were learnt: the data have no test part beside what is "
    "learnt, and --held-out names no others."
)


@dataclass(frozen=True)
class Order:
    """What was asked for; see ``relucid.experiments.workshop.Workshop``."""

    name: str
    data: str
    held_out: str | None
    out: Path
    models: Path
    limit: int | None
    architecture: str | None
    epochs: int | None
    timeout: float
    seed: int
    device: str
    threads: int | None
    json_output: bool


def run(order: Order) -> None:
    """Run an experiment, write its files, print its main table.

    Raises:
        DataError: the data are at fault, or a folder is none.
        SolverError: there is no such device.
        OSError: a folder cannot be written to.
    """
    for folder in (order.out, order.models):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: is a file, expected a folder")
    order.out.mkdir(parents=True, exist_ok=True)
    use_threads(order.threads)
    data = Data.of(order.data, order.held_out)
    with Reporter(1) as reporter:
        shop = Workshop(
            data, order.out, order.models, order.device, order.architecture, order.epochs,
            order.seed, order.limit, order.timeout, reporter,
        )  # fmt: skip
        findings = experiment(order.name)(shop)
    if not apart(data.learnt_points, data.held_out_points):
        findings = replace(findings, notes=(_SAME, *findings.notes))
    written = findings.write(order.out, order.name)
    if order.json_output:
        sys.stdout.write(_json(findings, written))
    else:
        print("\n".join(_lines(findings, written)))


def _lines(findings: Findings, written: tuple[Path, ...]) -> list[str]:
    """The tables for a person at a terminal."""
    lines = [findings.title]
    for each in findings.tables:
        cells = [[shown(cell) for cell in row] for row in each.rows]
        lines += ["", each.title, "", *table(cells, each.heads)]
    for note in findings.notes:
        lines += ["", note]
    return [*lines, "", "written: " + ", ".join(str(path) for path in written)]


def _json(findings: Findings, written: tuple[Path, ...]) -> str:
    """The same for a machine; shares are numbers between 0 and 1."""
    record = {
        "title": findings.title,
        "tables": [
            {
                "title": each.title,
                "rows": [dict(zip(each.heads, row, strict=True)) for row in each.rows],
            }
            for each in findings.tables
        ],
        "notes": list(findings.notes),
        "written": [str(path) for path in written],
    }
    return json.dumps(record, indent=2, default=nearest) + "\n"
