"""Collect the verdicts on which the tools of VNN-COMP 2021 agree.

``python benchmarks/known/from_2021.py RESULTS_CSV CATEGORY > benchmarks/known/CATEGORY.csv``, where
RESULTS_CSV is the folder ``results_csv`` of the public repository stanleybak/vnncomp2021_results.
An instance is listed when at least two trusted tools decided it and no trusted tool contradicts.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path, PurePosixPath

# RPM misread mnistfc (so say the organisers), NV.jl contradicts all others on six ACAS Xu
# instances, and nnv contradicts eight others on one mnistfc instance.
UNTRUSTED = {"RPM", "NV.jl", "nnv", "randgen"}
WORDS = {"holds": "unsat", "UNSAT": "unsat", "violated": "sat", "SAT": "sat"}


def main(folder: Path, category: str) -> None:
    """Print network, property, verdict lines, sorted."""
    votes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in sorted(folder.glob("*.csv")):
        if file.stem in UNTRUSTED:
            continue
        with file.open(newline="") as lines:
            for name, network, prop, _, result, *_ in csv.reader(lines):
                instance = PurePosixPath(network).name, PurePosixPath(prop).name
                warm_up = instance[0].startswith("test_")  # every category began with two of these
                if name == category and result in WORDS and not warm_up:
                    votes[instance].append(WORDS[result])
    out = csv.writer(sys.stdout, lineterminator="\n")
    for instance, words in sorted(votes.items()):
        if len(words) >= 2 and len(set(words)) == 1:
            out.writerow([*instance, words[0]])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
