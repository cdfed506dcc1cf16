"""Run relucid and other verifiers side by side, instance by instance, and compare.

``python benchmarks/compare.py FOLDER/instances.csv --out FOLDER_OUT --tool nnenum='COMMAND'``

Every instance is run by every tool in turn, each time in a fresh process, so that whatever else the
machine does falls on all of them. A COMMAND is a template: {network}, {property}, {limit} stand for
the two files and the seconds, {answer} for a file that the tool writes its verdict into; without
{answer}, standard output is read. The last line with a verdict word counts (sat, violated, unsat,
holds, verified, ...). relucid itself is always run. FOLDER_OUT gets runs.csv, a row a run, where
``--resume`` goes on; table.csv and table.md, a row an instance; cactus.png; summary.md; and row.md,
which ``--row FILE`` also adds to a file like PERFORMANCE.md. Verdicts that contradict each other,
or a known one, end the run with status 1.
"""

from __future__ import annotations

import argparse
import csv
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from comparison import (
    OWN,
    RunOf,
    busy,
    cactus,
    contradictions,
    figure,
    markdown,
    summary,
    table,
    versus,
    write_csv,
)
from instances import BadInputError, Instance, add_options, chosen, existing, known_for
from machine import Others, Session, append_row
from run_vnncomp import GRACE
from watched_process import run_watched

_SAT = ("sat", "violated", "falsified", "refuted", "unsafe", "unsafe-pgd")
_UNSAT = ("unsat", "holds", "verified", "proved", "safe", "safe-incomplete", "robust")
WORDS = dict.fromkeys(_SAT, "sat") | dict.fromkeys(_UNSAT, "unsat")
_WORD = re.compile(r"[a-z][a-z-]*")
_HEAD = [field.name for field in fields(RunOf)]


def run(tool: str, template: str, instance: Instance, folder: Path) -> RunOf:
    """One run, in a fresh process that is killed a few seconds after its limit."""
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.txt"
        values = {
            "network": str(existing(folder, instance.network)),
            "property": str(existing(folder, instance.property)),
            "limit": f"{instance.limit:g}",
            "answer": str(answer),
        }
        command = [part.format(**values) for part in shlex.split(template)]
        others = Others()
        process = run_watched(command, instance.limit + GRACE, threading.Event())
        share = others.share(process.cpu_seconds)
        text = answer.read_text(errors="replace") if answer.exists() else ""
    said = verdict(text if "{answer}" in template else process.stdout)
    reason = ""
    if process.killed:
        said = "timeout"
    elif said is None:
        said = "timeout" if process.seconds >= instance.limit else "unknown"
        if process.status != 0:
            said = "error"
            reason = (process.stderr.strip().splitlines()[-1:] or ["no message"])[0][:200]
    return RunOf(
        tool,
        instance.network,
        instance.property,
        said,
        round(process.seconds, 3),
        round(process.peak_bytes / 1e6, 1),
        round(process.cpu_seconds, 3),
        round(share, 3),
        reason,
    )


def verdict(text: str) -> str | None:
    """sat or unsat: the last verdict word in a text, or None."""
    for line in reversed(text.lower().splitlines()):
        words = [WORDS[w] for w in _WORD.findall(line) if w in WORDS]
        if words:
            return words[-1]
    return None


def read_runs(path: Path) -> list[RunOf]:
    """What an earlier start has finished; a line torn by an interruption is cut off.

    Raises:
        BadInputError: the file has other columns.
    """
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    head, *rows = list(csv.reader(whole.splitlines())) or [[]]
    if head != _HEAD:
        raise BadInputError(f"{path}: expected the columns {','.join(_HEAD)}")
    return [
        RunOf(
            tool, network, prop, result, float(wall), float(mb), float(cpu), float(others), reason
        )
        for tool, network, prop, result, wall, mb, cpu, others, reason in rows
    ]


def measure(
    instances: Sequence[Instance], folder: Path, tools: Mapping[str, str], path: Path
) -> tuple[list[RunOf], int]:
    """All runs, those of one instance one after another; each is on disk as soon as it ends.

    Returns:
        the runs, and how many of them are new.
    """
    runs = read_runs(path)
    before, done = len(runs), {(r.tool, *r.key) for r in runs}
    if not runs:
        path.write_text(",".join(_HEAD) + "\n")
    for number, instance in enumerate(instances):
        # Every tool is first in turn: none always meets a cold disk.
        names = list(tools)
        shift = number % len(names)
        for tool in names[shift:] + names[:shift]:
            if (tool, instance.network, instance.property) in done:
                continue
            found = run(tool, tools[tool], instance, folder)
            runs.append(found)
            with path.open("a", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerow(astuple(found))
            print(
                f"[{number + 1}/{len(instances)}] {found.network} {found.prop} {tool}: "
                f"{found.result} {found.seconds:.2f} s {found.peak_mb:.0f} MB {found.reason}",
                file=sys.stderr,
                flush=True,
            )
    return runs, len(runs) - before


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("instances", type=Path, help="an instances.csv")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the results")
    parser.add_argument(
        "--tool", action="append", default=[], metavar="NAME=COMMAND", help="a rival's template"
    )
    parser.add_argument(
        "--tools", type=Path, metavar="FILE", help="rivals' templates, NAME=COMMAND a line"
    )
    add_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an existing --out")
    parser.add_argument("--known", type=Path, help="known verdicts: network,property,sat|unsat")
    parser.add_argument("--table", action="store_true", help="print every instance's times as well")
    parser.add_argument(
        "--row", type=Path, metavar="FILE", help="add a row to this file, if something was run"
    )
    parser.add_argument(
        "--relucid",
        default=shlex.quote(str(Path(sys.executable).with_name("relucid")))
        + " certify {network} --property {property} --timeout {limit} --json",
        help="the template for relucid itself",
    )
    return parser.parse_args(given)


def templates(options: argparse.Namespace) -> dict[str, str]:
    """Name to template, relucid first.

    Raises:
        BadInputError: no NAME=COMMAND, a name twice, or an unknown field.
        OSError: the file of templates cannot be read.
    """
    tools, given = {OWN: options.relucid}, [("--tool", text) for text in options.tool]
    if options.tools is not None:
        lines = map(str.strip, options.tools.read_text().splitlines())
        given += [(str(options.tools), line) for line in lines if line and line[0] != "#"]
    for where, text in given:
        name, equals, command = text.partition("=")
        if not (name and equals and command) or name in tools:
            raise BadInputError(f"{where} {text!r}: expected NAME=COMMAND with a new name")
        tools[name] = command
    for name, command in tools.items():
        try:
            command.format(network="", property="", limit="", answer="")
        except (KeyError, ValueError, IndexError) as error:
            raise BadInputError(f"the command of {name} has an unknown field: {error}") from error
    return tools


def spoken(options: argparse.Namespace, tools: Mapping[str, str]) -> str:
    """The command as a row of PERFORMANCE.md says it: without the paths of this machine."""
    folder = options.instances.resolve().parent.name
    words = ["benchmarks/compare.py", f".../{folder}/{options.instances.name}"]
    words += [f"--tool {name}=..." for name in tools if name != OWN]
    chosen_by = ("timeout", "filter", "every", "shuffle", "limit")
    defaults = {"filter": "", "every": 1}
    for name in chosen_by:
        value = getattr(options, name)
        if value is not None and value != defaults.get(name):
            words.append(
                f"--{name} {shlex.quote(f'{value:g}' if name == 'timeout' else str(value))}"
            )
    return " ".join(words)


def main(given: Sequence[str] | None = None) -> int:
    """0 all ran, 1 verdicts contradict, 2 bad input, 130 interrupted."""
    options = arguments(given)
    try:
        tools, instances = templates(options), chosen(options)
        options.out.mkdir(parents=True, exist_ok=True)
        path, folder = options.out / "runs.csv", options.instances.resolve().parent
        if path.exists() and not options.resume:
            raise BadInputError(f"{path} exists: go on with --resume, or name another folder")
        known = known_for(options)
        session = Session.begin(spoken(options, tools))
        runs, new = measure(instances, folder, tools, path)
    except (BadInputError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume goes on", file=sys.stderr)
        return 130
    limits = {(i.network, i.property): i.limit for i in instances}
    runs = [r for r in runs if r.key in limits and r.tool in tools]
    wrong = [
        f"WRONG {r.tool} {r.network} {r.prop}: {r.result}, expected {truth}"
        for r, truth in contradictions(runs, known)
    ]
    agreed = len(known.keys() & {(Path(n).name, Path(p).name) for n, p in limits})
    row = session.row(
        f"{folder.name}, {len(instances)} instances"
        + ("" if new == len(runs) else f" (of {len(runs)} runs {len(runs) - new} from before)")
        + f", {agreed} with a known verdict; "
        + ("; ".join(wrong) or "no verdicts contradict"),
        busy(runs),
        figure(runs),
        versus(runs, limits),
    )
    report(options, runs, summary(runs, limits), wrong, row)
    if options.row is not None and new:
        try:
            append_row(options.row, row)
        except (OSError, ValueError) as error:
            print(f"compare: {error}", file=sys.stderr)
            return 2
    return int(bool(wrong))


def report(
    options: argparse.Namespace, runs: Sequence[RunOf], text: str, wrong: Sequence[str], row: str
) -> None:
    """Write the files beside runs.csv, and print."""
    rows = table(runs)
    (options.out / "summary.md").write_text(text + "".join(f"\n{line}\n" for line in wrong))
    (options.out / "table.md").write_text(markdown(rows))
    (options.out / "row.md").write_text(row + "\n")
    write_csv(rows, options.out / "table.csv")
    cactus(runs, options.out / "cactus.png")
    if options.table:
        print(markdown(rows))
    print(text + "\n".join(wrong))


if __name__ == "__main__":
    sys.exit(main())
