"""Run a VNN-COMP set through ``relucid certify`` and write results.csv.

``python benchmarks/run_vnncomp.py FOLDER/instances.csv --out results.csv``

Every instance runs in a fresh process of its own, which is killed five seconds after its limit: an
engine that ignores its limit shows. A line is appended as soon as an instance ends, so that an
interrupted run goes on with ``--resume``. Verdicts are compared with known ones; a contradiction
ends the run with status 1. Arguments after ``--`` go to ``relucid certify`` as they are.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from instances import (
    SOLVED,
    BadInputError,
    Instance,
    add_options,
    chosen,
    existing,
    known_for,
)
from watched_process import Run, run_watched

GRACE = 5.0
WORDS = {"proved": "unsat", "refuted": "sat"}


@dataclass(frozen=True)
class Outcome:
    """What one run showed.

    Args:
        result: sat, unsat, timeout, unknown or error.
        seconds: wall time of the whole process, start-up included.
        overrun: whether it took more than a second over its limit, or had to be killed.
        peak_mb: highest resident memory of the process and its descendants together.
        reason: what the command said about an unknown or an error.
    """

    network: str
    property: str
    result: str
    seconds: float
    overrun: bool
    peak_mb: float
    reason: str


def run(
    instance: Instance,
    folder: Path,
    command: Sequence[str],
    extra: Sequence[str],
    stop: threading.Event,
) -> Outcome:
    """One instance in one fresh process, which ends early when ``stop`` is set."""
    arguments = [
        *command,
        str(existing(folder, instance.network)),
        "--property",
        str(existing(folder, instance.property)),
        "--timeout",
        f"{instance.limit:g}",
        "--json",
        *extra,
    ]
    process = run_watched(arguments, instance.limit + GRACE, stop)
    result, reason = interpret(process, instance.limit)
    return Outcome(
        instance.network,
        instance.property,
        result,
        round(process.seconds, 3),
        process.killed or process.seconds > instance.limit + 1,
        round(process.peak_bytes / 1e6, 1),
        reason,
    )


def interpret(process: Run, limit: float) -> tuple[str, str]:
    """(result word, reason) of a process that has ended."""
    if process.killed:
        return "timeout", f"killed {GRACE:g} s after its limit of {limit:g} s"
    if process.status != 0:
        last = process.stderr.strip().splitlines()[-1:] or ["no message"]
        return "error", f"status {process.status}: {last[0]}"
    try:
        report = json.loads(process.stdout)
        verdict, reason = report["verdict"], report.get("reason") or ""
    except (ValueError, KeyError, TypeError):
        return "error", f"no JSON object with a verdict: {process.stdout[:200]!r}"
    if verdict in WORDS:
        return WORDS[verdict], reason
    return ("timeout" if process.seconds >= limit else "unknown"), reason


def finished(out: Path) -> set[tuple[str, str]]:
    """Instances that results.csv already holds; a line torn by an interruption is cut off."""
    if not out.exists():
        return set()
    text = out.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        out.write_text(whole, encoding="utf-8")
    return {(row[1], row[2]) for row in csv.reader(whole.splitlines())}


def details_file(out: Path) -> Path:
    """Where memory, overruns and reasons go, one JSON object a line."""
    return out.with_name(out.name + ".details.jsonl")


def append(out: Path, category: str, outcome: Outcome) -> None:
    """Add an outcome: first its details, then the line of results.csv that makes it count."""
    with details_file(out).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(outcome)) + "\n")
    with out.open("a", encoding="utf-8", newline="") as lines:
        row = [category, outcome.network, outcome.property, 0, outcome.result, outcome.seconds]
        csv.writer(lines, lineterminator="\n").writerow(row)


def read_outcomes(out: Path, wanted: set[tuple[str, str]]) -> list[Outcome]:
    """All outcomes of the wanted instances that results.csv holds, with their details."""
    held = finished(out) & wanted
    latest: dict[tuple[str, str], Outcome] = {}
    for line in details_file(out).read_text(encoding="utf-8").splitlines():
        outcome = Outcome(**json.loads(line))
        latest[outcome.network, outcome.property] = outcome
    return [latest[key] for key in sorted(held)]


def contradictions(
    outcomes: Sequence[Outcome], known: dict[tuple[str, str], str]
) -> Iterator[tuple[Outcome, str]]:
    """Solved outcomes whose known verdict is the other one."""
    for outcome in outcomes:
        key = Path(outcome.network).name, Path(outcome.property).name
        if outcome.result in SOLVED and known.get(key, outcome.result) != outcome.result:
            yield outcome, known[key]


def summary(outcomes: Sequence[Outcome], known: dict[tuple[str, str], str]) -> str:
    """A few lines for a person."""
    count = {
        word: sum(o.result == word for o in outcomes)
        for word in (*SOLVED, "timeout", "unknown", "error")
    }
    solved = [o for o in outcomes if o.result in SOLVED]
    compared = sum((Path(o.network).name, Path(o.property).name) in known for o in solved)
    wrong = list(contradictions(outcomes, known))
    seconds = [o.seconds for o in solved]
    median = f", median of the solved {statistics.median(seconds):.2f}" if seconds else ""
    lines = [
        f"solved {len(solved)} of {len(outcomes)}: {count['unsat']} unsat, {count['sat']} sat; "
        f"{count['timeout']} timeouts, {count['unknown']} unknown, {count['error']} errors",
        f"wrong {len(wrong)} of {compared} solved with a known verdict; "
        f"{sum(o.overrun for o in outcomes)} over their limit",
        f"seconds: total {sum(o.seconds for o in outcomes):.1f}{median}; "
        f"peak memory {max((o.peak_mb for o in outcomes), default=0):.0f} MB",
    ]
    lines += [
        f"WRONG {o.network} {o.property}: {o.result}, known to be {truth}" for o, truth in wrong
    ]
    lines += [
        f"error {o.network} {o.property}: {o.reason}" for o in outcomes if o.result == "error"
    ]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line, read and checked."""
    own, extra = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, extra = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("instances", type=Path, help="an instances.csv")
    parser.add_argument("--out", type=Path, required=True, help="results.csv to write")
    add_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an existing --out")
    parser.add_argument("--known", type=Path, help="known verdicts: network,property,sat|unsat")
    parser.add_argument("--processes", type=int, default=1, help="instances at a time")
    parser.add_argument(
        "--command",
        default=f"{shlex.quote(str(Path(sys.executable).with_name('relucid')))} certify",
        help="what to run instead of `relucid certify`",
    )
    options = parser.parse_args(own)
    options.extra = extra
    return options


def selected(options: argparse.Namespace) -> list[Instance]:
    """The instances that are asked for.

    Raises:
        BadInputError: none is left, or the results exist and ``--resume`` was not given.
    """
    instances = chosen(options)
    if options.out.exists() and not options.resume:
        raise BadInputError(f"{options.out} exists: go on with --resume, or name another file")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    return instances


def run_all(instances: Sequence[Instance], options: argparse.Namespace) -> None:
    """Run what is not finished, append every outcome, and say so on stderr."""
    folder = options.instances.resolve().parent
    done = finished(options.out)
    pending = [i for i in instances if (i.network, i.property) not in done]
    command = shlex.split(options.command)
    stop = threading.Event()
    with ThreadPoolExecutor(options.processes) as pool:
        runs = [pool.submit(run, i, folder, command, options.extra, stop) for i in pending]
        try:
            for number, future in enumerate(as_completed(runs), 1):
                outcome = future.result()
                append(options.out, folder.name, outcome)
                print(
                    f"[{number}/{len(pending)}] {outcome.network} {outcome.property}: "
                    f"{outcome.result} {outcome.seconds:.2f} s {outcome.reason}".rstrip(),
                    file=sys.stderr,
                    flush=True,
                )
        finally:
            stop.set()  # interrupted or failed: what still runs is killed, not waited for
            pool.shutdown(cancel_futures=True)


def main() -> int:
    """0 all ran, 1 a verdict contradicts a known one, 2 bad input, 130 interrupted."""
    options = arguments()
    try:
        instances = selected(options)
        known = known_for(options)
        run_all(instances, options)
    except BadInputError as error:
        print(f"run_vnncomp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume goes on", file=sys.stderr)
        return 130
    outcomes = read_outcomes(options.out, {(i.network, i.property) for i in instances})
    print(summary(outcomes, known))
    return 1 if any(contradictions(outcomes, known)) else 0


if __name__ == "__main__":
    sys.exit(main())
