"""Solve a VNN-COMP set with proofs, check every proof by itself, and compare the times.

``python benchmarks/check_proofs.py FOLDER/instances.csv --out proofs.csv``

Every instance is solved by ``relucid certify --proof`` and its proof checked by ``relucid check``,
each in a fresh process of its own. Seconds are the commands' own: of the search, of writing the
proof, of the check; start-up and reading the model are in none of them. What cannot be written as
a proof yet is counted and skipped. An INVALID proof, or a check that fails, ends the run with
status 1. Arguments after ``--`` go to ``relucid certify`` as they are.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from instances import BadInputError, Instance, add_options, chosen, existing
from run_vnncomp import GRACE
from watched_process import run_watched

#: A search of less than this is too short for a ratio to mean anything.
SHORT = 0.1
#: Nothing that is checked should take longer than this many times its limit.
MOST = 20


@dataclass(frozen=True)
class Row:
    """One instance.

    Args:
        result: VALID or INVALID; unwritten (no proof can be written), undecided, or error.
        verdict: proved, refuted or unknown.
        solve, write, check: seconds.
        size: of the proof in bytes.
        nodes: that the checker went through.
        peak_mb: of the check.
        reason: for everything but VALID.
    """

    network: str
    prop: str
    result: str
    verdict: str = ""
    solve: float = 0.0
    write: float = 0.0
    check: float = 0.0
    size: int = 0
    nodes: int = 0
    peak_mb: float = 0.0
    reason: str = ""

    @property
    def ratio(self) -> float:
        """How many times as long as the search the check took."""
        return self.check / self.solve if self.solve else 0.0


def solve_and_check(
    instance: Instance, folder: Path, relucid: Sequence[str], extra: Sequence[str]
) -> Row:
    """One instance, by two processes."""
    names = instance.network, instance.property
    files = [str(existing(folder, name)) for name in names]
    with tempfile.TemporaryDirectory() as scratch:
        proof = Path(scratch) / "answer.proof"
        given = ["--timeout", f"{instance.limit:g}", "--proof", str(proof), "--no-check-proof"]
        certify = [*relucid, "certify", files[0], "--property", files[1], *given, "--json", *extra]
        found, reason, _ = answer(certify, MOST * instance.limit + GRACE)
        if found is None:
            return Row(*names, "error", reason=reason)
        verdict, solve = str(found["verdict"]), float(found["seconds"])
        if not proof.exists():
            what = "undecided" if verdict == "unknown" else "unwritten"
            reason = str(found["reason"] or found["proof_problem"])
            return Row(*names, what, verdict, solve, reason=reason)
        write, size = float(found["proof_seconds"]), proof.stat().st_size
        check = [*relucid, "check", *files, str(proof), "--json"]
        said, reason, peak = answer(check, MOST * instance.limit + GRACE)
        if said is None:
            return Row(*names, "error", verdict, solve, write, size=size, reason=reason)
        why = "" if said["why"] is None else f"{said['rule']}, {said['step']}: {said['why']}"
        return Row(
            *names, str(said["result"]), verdict, solve, write, float(said["seconds"]), size,
            int(said["nodes"]), peak, why,
        )  # fmt: skip


def answer(command: Sequence[str], limit: float) -> tuple[dict[str, Any] | None, str, float]:
    """(the object that a command prints, what went wrong, peak memory in MB)."""
    process = run_watched(command, limit, threading.Event())
    peak = round(process.peak_bytes / 1e6, 1)
    if process.killed:
        return None, f"killed after {limit:g} s", peak
    try:
        found = json.loads(process.stdout)
    except ValueError:
        last = process.stderr.strip().splitlines()[-1:] or ["no message"]
        return None, f"status {process.status}: {last[0]}", peak
    return found, "", peak


def summary(rows: Sequence[Row]) -> str:
    """A few lines for a person."""
    valid = [r for r in rows if r.result == "VALID"]
    counts = {k: sum(r.result == k for r in rows) for k in ("INVALID", "unwritten", "undecided")}
    lines = [
        f"{len(rows)} instances: {len(valid)} proofs VALID "
        f"({sum(r.verdict == 'proved' for r in valid)} proved, "
        f"{sum(r.verdict == 'refuted' for r in valid)} refuted), "
        + ", ".join(f"{n} {k}" for k, n in counts.items())
        + f", {sum(r.result == 'error' for r in rows)} errors"
    ]
    proved = [r for r in valid if r.verdict == "proved"]
    if proved:
        lines += [
            spread("search", [r.solve for r in proved], "s"),
            spread("writing", [r.write for r in proved], "s"),
            spread("check", [r.check for r in proved], "s"),
            spread("proof", [r.size / 1e3 for r in proved], "kB"),
            spread("memory of the check", [r.peak_mb for r in proved], "MB"),
            spread("check / search", [r.ratio for r in proved], ""),
        ]
        long = [r.ratio for r in proved if r.solve >= SHORT]
        if long:
            lines.append(spread(f"of the {len(long)} from {SHORT} s", long, ""))
        total = sum(r.check for r in proved) / max(sum(r.solve for r in proved), 1e-9)
        lines.append(f"all checks / all searches: {total:.2f}")
    bad = [r for r in rows if r.result in ("INVALID", "error")]
    lines += [f"{r.result} {r.network} {r.prop}: {r.reason}" for r in bad]
    return "\n".join(lines)


def spread(name: str, values: Sequence[float], unit: str) -> str:
    """Median and maximum."""
    return (
        f"{name}: median {statistics.median(values):.2f}{unit and ' ' + unit}, "
        f"maximum {max(values):.2f}{unit and ' ' + unit}"
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    own, extra = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, extra = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("instances", type=Path, help="an instances.csv")
    parser.add_argument(
        "--out", type=Path, required=True, help="a CSV to write, a line an instance"
    )
    add_options(parser)
    parser.add_argument(
        "--command",
        default=shlex.quote(str(Path(sys.executable).with_name("relucid"))),
        help="what to run instead of `relucid`",
    )
    options = parser.parse_args(own)
    options.extra = extra
    return options


def main() -> int:
    """0 every proof is VALID, 1 one is not or a command failed, 2 bad input, 130 interrupted."""
    options = arguments()
    rows: list[Row] = []
    try:
        instances = chosen(options)
        folder, command = options.instances.resolve().parent, shlex.split(options.command)
        with options.out.open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow([field.name for field in fields(Row)])
            for number, instance in enumerate(instances, 1):
                row = solve_and_check(instance, folder, command, options.extra)
                rows.append(row)
                writer.writerow(astuple(row))
                stream.flush()
                print(
                    f"[{number}/{len(instances)}] {row.network} {row.prop}: {row.verdict} "
                    f"{row.result} {row.solve:.2f} s, check {row.check:.2f} s, {row.size} bytes "
                    f"{row.reason}".rstrip(),
                    file=sys.stderr,
                    flush=True,
                )
    except (BadInputError, OSError) as error:
        print(f"check_proofs: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(summary(rows))
    return int(any(row.result in ("INVALID", "error") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
