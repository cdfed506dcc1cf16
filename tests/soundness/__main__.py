"""The whole soundness suite: ``python -m tests.soundness``, or ``make soundness``.

Prints a table of networks that fool floating point beside what other solvers say of them, then one
line a part, and a summary. Exit status 1 if a verdict is wrong, a wrong proof is VALID, a proof is
INVALID, a mutant is accepted that is no proof, or a reader crashes or hangs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from tests.float_traps import traps
from tests.soundness import fuzzing, hidden, mutation_suite, random_instances
from tests.soundness.rivals import MILP_SOLVERS, ask_marabou, ask_milp, marabou_python, right
from verifier.core.verdict import Proved, word
from verifier.search.attack import Climb, attack
from verifier.search.portfolio import ENGINES, certify
from verifier.search.problem import Deadline, Problem, problems

#: Counts that must be 0.
BAD = (
    "wrong verdicts", "wrong", "wrong VALID", "invalid", "accepted, no proof", "crashes", "hangs",
)  # fmt: skip
PARTS = ("traps", "hidden", "random", "mutations", "fuzzing")


def traps_part(sizes: range) -> Counter[str]:
    """(a) Networks that fool floating point: relucid beside solvers that trust it."""
    count: Counter[str] = Counter()
    some = traps(sizes)
    names = list(MILP_SOLVERS)
    answers = [[ask_milp(trap, solver) for solver in names] for trap in some]
    python = marabou_python()
    if python:
        names.append("marabou")
        for row, answer in zip(answers, ask_marabou(python, some), strict=True):
            row.append(answer)
    print("(! marks a wrong answer, ? none)\n")
    print(
        f"{'family':<14} {'ω':>6} {'truth':<7} {'relucid':<9} "
        + " ".join(f"{n:<13}" for n in names)
    )
    for trap, row in zip(some, answers, strict=True):
        verdicts = {
            e: certify(trap.network, trap.property(), timeout=10, engine=e) for e in ENGINES
        }
        for engine, verdict in verdicts.items():
            bad = random_instances.is_wrong(
                trap.network, trap.property(), verdict, violated=trap.unsafe
            )
            count["wrong verdicts"] += bad
            count[f"{engine} {word(verdict)}"] += 1
        marks = {True: " ", False: "!", None: "?"}
        shown = [f"{marks[right(trap, answer)]} {answer}" for answer in row]
        for name, answer in zip(names, row, strict=True):
            count[
                f"{name} {({True: 'right', False: 'wrong', None: 'none'})[right(trap, answer)]}"
            ] += 1
        truth = "unsafe" if trap.unsafe else "safe"
        print(
            f"{trap.family:<14} {f'2^{trap.exponent}':>6} {truth:<7} {word(verdicts['auto']):<9} "
            + " ".join(f"{s:<13}" for s in shown),
            flush=True,
        )
    count["instances"] = len(some)
    print()
    return count


def hidden_part(seeds: range) -> Counter[str]:
    """(b) Counterexamples that an attack misses."""
    count: Counter[str] = Counter()
    some = [hidden.spike(seed, inputs) for inputs in (1, 2, 4, 6) for seed in seeds]
    some += [hidden.trained(seed, 2) for seed in seeds[:5]]
    for instance in some:
        count["instances"] += 1
        (problem,) = problems(instance.network, instance.prop)
        if not isinstance(problem, Problem):
            raise TypeError("a trivial property")
        rng = np.random.default_rng(0)
        found = attack(problem, Deadline(10), rng=rng, samples=4000, climb=Climb(restarts=200))
        count["missed by the attack"] += found is None
        verdict = certify(instance.network, instance.prop, timeout=30)
        count[word(verdict)] += 1
        count["wrong verdicts"] += isinstance(verdict, Proved) or random_instances.is_wrong(
            instance.network, instance.prop, verdict, violated=True
        )
    return count


def random_part(count: int, jobs: int) -> Counter[str]:
    """(c) Random instances against the oracle."""
    chunks = [range(a, min(a + 50, count)) for a in range(0, count, 50)]
    total: Counter[str] = Counter()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for k, part in enumerate(pool.map(random_instances.compare, chunks)):
            total += part
            _progress(f"random instances: {50 * (k + 1)} of {count}")
    return total


def mutations_part(wanted: int, jobs: int) -> Counter[str]:
    """(d) Mutated proofs."""
    total: Counter[str] = Counter()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        parts = [range(a, a + 15) for a in range(0, 150, 15)]
        each = -(-wanted // len(parts))
        for k, part in enumerate(pool.map(mutation_suite.mutated, parts, [each] * len(parts))):
            total += part
            _progress(f"mutations: {total['mutations']} (part {k + 1} of {len(parts)})")
    return total


def fuzzing_part(executions: int, seconds: float, keep: Path | None) -> Counter[str]:
    """(e) The readers."""
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for target in fuzzing.targets(folder):
            found = fuzzing.fuzz(target, folder, executions=executions, seconds=seconds)
            print(f"fuzzing {target.name}: {_line(found)}", flush=True)
            for key in ("executions", "read", "refused", "crashes", "hangs", "wrong VALID"):
                total[key] += found[key]
    return total


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _line(count: Counter[str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(count.items()))


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that are asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soundness", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this (repeatable)")
    parser.add_argument("--random", type=int, default=5000, help="random instances")
    parser.add_argument("--mutations", type=int, default=2000, help="mutated proofs, at least")
    parser.add_argument("--executions", type=int, default=100_000, help="fuzzed files a reader")
    parser.add_argument("--seconds", type=float, default=60, help="of fuzzing a reader, at most")
    parser.add_argument("--sizes", type=int, default=10, help="traps: every so manieth exponent")
    parser.add_argument("--keep", type=Path, help="folder for files that crash a reader")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    parts = {
        "traps": lambda: traps_part(range(10, 61, options.sizes)),
        "hidden": lambda: hidden_part(range(10)),
        "random": lambda: random_part(options.random, options.jobs),
        "mutations": lambda: mutations_part(options.mutations, options.jobs),
        "fuzzing": lambda: fuzzing_part(options.executions, options.seconds, options.keep),
    }
    summary, bad = [], 0
    for name in options.part or PARTS:
        started = time.monotonic()
        count = parts[name]()
        bad += sum(count[key] for key in BAD)
        summary.append(f"{name} ({time.monotonic() - started:.0f} s): {_line(count)}")
    print("Summary")
    print("\n".join(summary))
    print("nothing wrong" if not bad else f"{bad} WRONG")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
