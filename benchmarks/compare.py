"""Run relucid and other verifiers side by side, instance by instance, and compare.

``python benchmarks/compare.py FOLDER/instances.csv --out FOLDER_OUT --tool nnenum='COMMAND'``

Every instance is run by every tool in turn, each time in a fresh process, so that whatever else the
machine does falls on all of them. A COMMAND is a template: {network}, {property}, {limit} stand for
the two files and the seconds, {answer} for a file that the tool writes its verdict into; without
{answer}, standard output is read. The last line with a verdict word counts (sat, violated, unsat,
holds, verified, ...). relucid itself is always run. FOLDER_OUT gets runs.csv, a row a run, where
``--resume`` goes on; cactus.png; and summary.md. Verdicts that contradict each other, or a known
one, end the run with status 1.
"""

from __future__ import annotations

import argparse
import csv
import re
import shlex
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from run_vnncomp import (
    GRACE,
    KNOWN,
    SOLVED,
    BadInputError,
    Instance,
    existing,
    read_instances,
    read_known,
)
from watched_process import run_watched

OWN = "relucid"
_SAT = ("sat", "violated", "falsified", "refuted", "unsafe", "unsafe-pgd")
_UNSAT = ("unsat", "holds", "verified", "proved", "safe", "safe-incomplete", "robust")
WORDS = dict.fromkeys(_SAT, "sat") | dict.fromkeys(_UNSAT, "unsat")
_WORD = re.compile(r"[a-z][a-z-]*")


@dataclass(frozen=True)
class RunOf:
    """One tool on one instance.

    Args:
        result: sat, unsat, unknown, timeout or error.
        seconds: wall time of the whole process.
        peak_mb: highest memory of the process and its descendants together.
        reason: of an error, its last words.
    """

    tool: str
    network: str
    prop: str
    result: str
    seconds: float
    peak_mb: float
    reason: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Which instance."""
        return self.network, self.prop


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
        process = run_watched(command, instance.limit + GRACE, threading.Event())
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
    seconds, peak = round(process.seconds, 3), round(process.peak_bytes / 1e6, 1)
    return RunOf(tool, instance.network, instance.property, said, seconds, peak, reason)


def verdict(text: str) -> str | None:
    """sat or unsat: the last verdict word in a text, or None."""
    for line in reversed(text.lower().splitlines()):
        words = [WORDS[w] for w in _WORD.findall(line) if w in WORDS]
        if words:
            return words[-1]
    return None


def read_runs(path: Path) -> list[RunOf]:
    """What an earlier start has finished; a line torn by an interruption is cut off."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [
        RunOf(*row[:4], float(row[4]), float(row[5]), row[6])
        for row in list(csv.reader(whole.splitlines()))[1:]
    ]


def measure(
    instances: Sequence[Instance], folder: Path, tools: Mapping[str, str], path: Path
) -> list[RunOf]:
    """All runs, those of one instance one after another; each is on disk as soon as it ends."""
    runs = read_runs(path)
    done = {(r.tool, *r.key) for r in runs}
    if not runs:
        path.write_text(",".join(field.name for field in fields(RunOf)) + "\n")
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
    return runs


def contradictions(
    runs: Sequence[RunOf], known: Mapping[tuple[str, str], str]
) -> Iterator[tuple[RunOf, str]]:
    """Solved runs against known verdicts, or against relucid's."""
    own = {r.key: r.result for r in runs if r.tool == OWN and r.result in SOLVED}
    for r in runs:
        if r.result not in SOLVED:
            continue
        truth = known.get((Path(r.network).name, Path(r.prop).name), own.get(r.key, r.result))
        if r.result != truth:
            yield r, truth


def summary(runs: Sequence[RunOf], limits: Mapping[tuple[str, str], float]) -> str:
    """A table of the tools, then of relucid against each of the others, in Markdown."""
    tools = list(dict.fromkeys(r.tool for r in runs))
    of = {tool: {r.key: r for r in runs if r.tool == tool} for tool in tools}
    lines = [
        "| tool | solved | unsat | sat | median s | total s | largest MB | errors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for tool in tools:
        mine = list(of[tool].values())
        solved = [r for r in mine if r.result in SOLVED]
        median = statistics.median([r.seconds for r in solved]) if solved else 0.0
        lines.append(
            f"| {tool} | {len(solved)} of {len(mine)} "
            f"| {sum(r.result == 'unsat' for r in solved)} "
            f"| {sum(r.result == 'sat' for r in solved)} | {median:.2f} "
            f"| {sum(r.seconds for r in mine):.1f} | {max(r.peak_mb for r in mine):.0f} "
            f"| {sum(r.result == 'error' for r in mine)} |"
        )
    lines += [
        "",
        "Ratios are seconds of the other tool over seconds of relucid; an unsolved instance counts "
        "with its limit, and instances that neither solves are left out.",
        "",
        "| against | instances | median ratio | smallest | of totals | relucid slower on |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for tool in tools:
        if tool != OWN:
            lines.append(_against(tool, of[OWN], of[tool], limits))
    return "\n".join(lines) + "\n"


def _against(
    tool: str,
    own: Mapping[tuple[str, str], RunOf],
    other: Mapping[tuple[str, str], RunOf],
    limits: Mapping[tuple[str, str], float],
) -> str:
    """One row: relucid against a tool on what at least one of the two solved."""
    both = [k for k in own if k in other and {own[k].result, other[k].result} & set(SOLVED)]
    cost = [
        [r.seconds if r.result in SOLVED else max(limits[k], r.seconds) for r in (own[k], other[k])]
        for k in both
    ]
    if not both:
        return f"| {tool} | 0 | | | | |"
    ratios = [theirs / ours for ours, theirs in cost]
    slower = [
        f"{k[0]} {k[1]} ({ours:.1f} / {theirs:.1f} s)"
        for k, (ours, theirs) in zip(both, cost, strict=True)
        if ours > theirs
    ]
    total = sum(theirs for _, theirs in cost) / sum(ours for ours, _ in cost)
    return (
        f"| {tool} | {len(both)} | {statistics.median(ratios):.2f} | {min(ratios):.2f} "
        f"| {total:.2f} | {'; '.join(slower) or 'none'} |"
    )


def cactus(runs: Sequence[RunOf], path: Path) -> None:
    """Seconds against the number of instances that a tool solves within them."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), dpi=150, layout="constrained")
    for tool in dict.fromkeys(r.tool for r in runs):
        seconds = sorted(r.seconds for r in runs if r.tool == tool and r.result in SOLVED)
        axes.plot(range(1, len(seconds) + 1), seconds, marker=".", label=tool)
    axes.set(yscale="log", xlabel="instances solved", ylabel="seconds each at most")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
    plt.close(figure)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("instances", type=Path, help="an instances.csv")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the results")
    parser.add_argument(
        "--tool", action="append", default=[], metavar="NAME=COMMAND", help="a rival's template"
    )
    parser.add_argument("--timeout", type=float, help="seconds; replaces the set's own limits")
    parser.add_argument("--filter", default="", help="only lines that match this expression")
    parser.add_argument("--resume", action="store_true", help="go on with an existing --out")
    parser.add_argument("--known", type=Path, help="known verdicts: network,property,sat|unsat")
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
    """
    tools = {OWN: options.relucid}
    for text in options.tool:
        name, equals, command = text.partition("=")
        if not (name and equals and command) or name in tools:
            raise BadInputError(f"--tool {text!r}: expected NAME=COMMAND with a new name")
        tools[name] = command
    for name, command in tools.items():
        try:
            command.format(network="", property="", limit="", answer="")
        except (KeyError, ValueError, IndexError) as error:
            raise BadInputError(f"the command of {name} has an unknown field: {error}") from error
    return tools


def main(given: Sequence[str] | None = None) -> int:
    """0 all ran, 1 verdicts contradict, 2 bad input, 130 interrupted."""
    options = arguments(given)
    try:
        tools, wanted = templates(options), re.compile(options.filter)
        instances = [
            i
            for i in read_instances(options.instances, options.timeout)
            if wanted.search(f"{i.network},{i.property}")
        ]
        if not instances:
            raise BadInputError(f"no instance matches {options.filter!r}")
        options.out.mkdir(parents=True, exist_ok=True)
        path, folder = options.out / "runs.csv", options.instances.resolve().parent
        if path.exists() and not options.resume:
            raise BadInputError(f"{path} exists: go on with --resume, or name another folder")
        file = options.known or KNOWN / f"{folder.name}.csv"
        known = read_known(file) if options.known or file.exists() else {}
        runs = measure(instances, folder, tools, path)
    except (BadInputError, OSError, re.error) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume goes on", file=sys.stderr)
        return 130
    limits = {(i.network, i.property): i.limit for i in instances}
    runs = [r for r in runs if r.key in limits and r.tool in tools]
    text = summary(runs, limits)
    wrong = [
        f"WRONG {r.tool} {r.network} {r.prop}: {r.result}, expected {truth}"
        for r, truth in contradictions(runs, known)
    ]
    (options.out / "summary.md").write_text(text + "".join(f"\n{line}\n" for line in wrong))
    cactus(runs, options.out / "cactus.png")
    print(text + "\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
