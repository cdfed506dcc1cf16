"""What exactness and proofs cost, and what a second core gains: variants of one search compared.

``python benchmarks/ablation.py FOLDER/instances.csv --out FOLDER_OUT --filter prop_2``

The variants answer the same questions one after another, each in a warm process of its own, in
turns and several times: relucid as it is; without rounding error terms (``unrounded.py``: a copy
in FOLDER_OUT, no mode of the product); with a proof, its writing included; on one core. The search
is branch and bound alone (``--engine bab``), so that no attack's luck is in the times. Only
instances count that all variants prove. FOLDER_OUT gets runs.csv, summary.md and row.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from comparison import Key, markdown, write_csv
from instances import BadInputError, Instance, add_options, chosen, existing
from machine import Others, Session, append_row
from unrounded import build

ROOT = Path(__file__).resolve().parents[1]
BASE = "as it is"
UNROUNDED, PROOF, ONE = "without rounding", "with a proof", "one core"


@dataclass(frozen=True)
class Measured:
    """One answer of one variant.

    Args:
        nodes: boxes or subproblems of the search.
        cpu, wall: seconds of the search.
        write: seconds of processor time for writing the proof.
        size: of the proof in bytes.
    """

    variant: str
    network: str
    prop: str
    repetition: int
    verdict: str
    nodes: int
    cpu: float
    wall: float
    write: float
    size: int


class Worker:
    """A warm process that answers questions.

    Args:
        folder: where its ``verifier`` is.
        cores: that it may use.
        proof: whether it writes proofs.
    """

    def __init__(self, folder: Path, cores: int, *, proof: bool) -> None:
        program = Path(__file__).with_name("ablation_worker.py")
        self.proof = proof
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(cores)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )

    def ask(self, folder: Path, instance: Instance) -> dict[str, Any]:
        """Its answer.

        Raises:
            BadInputError: the process has ended; it has said why on standard error.
        """
        files = existing(folder, instance.network), existing(folder, instance.property)
        task = {"network": str(files[0]), "property": str(files[1]), "limit": instance.limit}
        stream, answers = self.process.stdin, self.process.stdout
        if stream is None or answers is None:
            raise BadInputError("a worker has no pipes")
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({**task, "proof": self.proof}), file=stream, flush=True)
        line = answers.readline()
        if not line:
            raise BadInputError(f"a worker ended at {instance.network} {instance.property}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def measure(
    instances: Sequence[Instance], folder: Path, workers: Mapping[str, Worker], repetitions: int
) -> list[Measured]:
    """All variants on all instances, after one answer each that only warms them up."""
    runs: list[Measured] = []
    names = list(workers)
    for name in names:
        workers[name].ask(folder, instances[0])
    for repetition in range(1, repetitions + 1):
        for number, instance in enumerate(instances):
            shift = (number + repetition) % len(names)
            for name in names[shift:] + names[:shift]:
                a = workers[name].ask(folder, instance)
                run = Measured(
                    name, instance.network, instance.property, repetition, a["verdict"],
                    a["nodes"], a["cpu"], a["wall"], a["write"], a["bytes"],
                )  # fmt: skip
                runs.append(run)
                print(
                    f"[{repetition}/{repetitions}] {run.network} {run.prop} {name}: {run.verdict} "
                    f"{run.nodes} nodes, {run.cpu:.2f} s of processor time, {run.wall:.2f} s",
                    file=sys.stderr,
                    flush=True,
                )
    return runs


@dataclass(frozen=True)
class Effect:
    """What the variants say of one instance, in medians over the repetitions.

    Args:
        nodes, seconds: of the search as it is, seconds of processor time.
        rounding: share of the time that the error terms cost.
        per_node: the same of the time of one node, where the two searches went different ways.
        proof: share that a proof adds, searching so that it can be written and writing it.
        writing: share of writing alone.
        speed_up: wall seconds on one core over those on all.
    """

    key: Key
    nodes: int
    seconds: float
    rounding: float
    per_node: float
    proof: float
    writing: float
    speed_up: float


def effects(runs: Sequence[Measured]) -> list[Effect]:
    """Of every instance that all variants proved every time."""
    found = []
    for key in dict.fromkeys((r.network, r.prop) for r in runs):
        mine = [r for r in runs if (r.network, r.prop) == key]
        if any(r.verdict != "proved" for r in mine):
            continue

        def median(variant: str, field: str, mine: Sequence[Measured] = mine) -> float:
            return statistics.median(getattr(r, field) for r in mine if r.variant == variant)

        base, bare = median(BASE, "cpu"), median(UNROUNDED, "cpu")
        nodes, bare_nodes = median(BASE, "nodes"), median(UNROUNDED, "nodes")
        writing = median(PROOF, "write")
        found.append(
            Effect(
                key,
                int(nodes),
                base,
                base / bare - 1,
                base / bare * max(bare_nodes, 1) / max(nodes, 1) - 1,
                (median(PROOF, "cpu") + writing) / base - 1,
                writing / base,
                median(ONE, "wall") / median(BASE, "wall"),
            )
        )
    return found


def percent(values: Sequence[float]) -> str:
    """Median and worst."""
    return f"median {100 * statistics.median(values):.0f} %, worst {100 * max(values):.0f} %"


def figure(found: Sequence[Effect], others: float) -> str:
    """The shares in a few words."""
    total = sum(e.seconds for e in found)

    def whole(share: str) -> str:
        part = sum(e.seconds / (1 + getattr(e, share)) for e in found)
        return f"of all together {100 * (total / part - 1):.0f} %"

    proof = sum(e.seconds * e.proof for e in found) / total
    speed = [e.speed_up for e in found]
    return (
        f"rounding costs {percent([e.rounding for e in found])}, {whole('rounding')} (a node "
        f"{percent([e.per_node for e in found])}); proofs {percent([e.proof for e in found])}, "
        f"of all together {100 * proof:.0f} % (writing alone "
        f"{percent([e.writing for e in found])}); one core takes "
        f"{statistics.median(speed):.2f} times as long in the median, {min(speed):.2f} at least"
        + (", wall time on a busy machine" if others > 0.1 else "")
    )


def table(found: Sequence[Effect]) -> list[list[str]]:
    """A row an instance."""
    head = ["network", "property", "nodes", "processor s", "rounding", "a node", "proof"]
    rows = [[*head, "writing", "speed-up"]]
    for e in found:
        shares = (e.rounding, e.per_node, e.proof, e.writing)
        cells = [f"{100 * share:.1f} %" for share in shares]
        rows.append([*e.key, str(e.nodes), f"{e.seconds:.3f}", *cells, f"{e.speed_up:.2f}"])
    return rows


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("instances", type=Path, help="an instances.csv")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the results")
    add_options(parser)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--row", type=Path, metavar="FILE", help="add a row to this file")
    options = parser.parse_args(given)
    if options.repetitions < 1:
        parser.error(f"--repetitions must be at least 1, got {options.repetitions}")
    return options


def main(given: Sequence[str] | None = None) -> int:
    """0 measured, 1 no instance was proved by all variants, 2 bad input."""
    options = arguments(given)
    workers: dict[str, Worker] = {}
    try:
        instances, folder = chosen(options), options.instances.resolve().parent
        options.out.mkdir(parents=True, exist_ok=True)
        command = f"benchmarks/ablation.py .../{folder.name}/{options.instances.name}"
        if options.filter:
            command += f" --filter {shlex.quote(options.filter)}"
        session, others = Session.begin(command), Others()
        cores, bare = os.cpu_count() or 1, build((options.out / "unrounded").resolve())
        workers[BASE] = Worker(ROOT, cores, proof=False)
        workers[UNROUNDED] = Worker(bare, cores, proof=False)
        workers[PROOF] = Worker(ROOT, cores, proof=True)
        workers[ONE] = Worker(ROOT, 1, proof=False)
        runs = measure(instances, folder, workers, options.repetitions)
        rows = [[field.name for field in fields(Measured)], *(list(astuple(r)) for r in runs)]
        write_csv(rows, options.out / "runs.csv")
        share = others.share(sum(r.cpu + r.write for r in runs))
        found = effects(runs)
        if not found:
            print("ablation: no instance was proved by all variants", file=sys.stderr)
            return 1
        text = figure(found, share)
        what = f"ablation, {folder.name}, {len(found)} of {len(instances)} instances proved by all"
        row = session.row(f"{what}, {options.repetitions} times each", share, text, "")
        (options.out / "row.md").write_text(row + "\n")
        (options.out / "summary.md").write_text(markdown(table(found)) + f"\n{text}\n")
        print((options.out / "summary.md").read_text(), end="")
        if options.row is not None:
            append_row(options.row, row)
    except (BadInputError, OSError, ValueError) as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    finally:
        for worker in workers.values():
            worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
