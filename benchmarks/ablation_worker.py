"""Answers questions of ``ablation.py`` in one warm process, a JSON object a line.

``python benchmarks/ablation_worker.py CORES`` reads {"network", "property", "limit", "proof"} and
writes {"verdict", "nodes", "cpu", "wall", "write", "bytes"}: seconds of the search by branch and
bound alone, and of writing its proof.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

#: What engines call what they went through.
COUNTS = ("boxes", "nodes", "subproblems")


def main() -> None:
    """Until standard input ends."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
    # Cores are counted when the engines are imported.
    from verifier.core.verdict import Proved, word
    from verifier.io.onnx import load_model
    from verifier.io.vnnlib import read_property
    from verifier.search import proofs
    from verifier.search.portfolio import certify

    load = cache(load_model)
    for line in sys.stdin:
        task = json.loads(line)
        model = load(task["network"])
        sizes = {"n_inputs": model.network.n_inputs, "n_outputs": model.network.n_outputs}
        file = read_property(Path(task["property"]), **sizes)
        cpu, wall = time.process_time(), time.monotonic()
        verdict = certify(
            model.network, file.prop, timeout=task["limit"], engine="bab", proof=task["proof"]
        )
        answer: dict[str, Any] = {
            "verdict": word(verdict),
            "nodes": sum(int(verdict.statistics.get(name, 0)) for name in COUNTS),
            "cpu": time.process_time() - cpu,
            "wall": time.monotonic() - wall,
            "write": 0.0,
            "bytes": 0,
        }
        if task["proof"] and isinstance(verdict, Proved):
            cpu, stream = time.process_time(), io.BytesIO()
            proofs.write(
                stream,
                model.network,
                file.prop,
                verdict,
                model_sha256=model.sha256,
                property_sha256=file.sha256,
            )
            answer["write"] = time.process_time() - cpu
            answer["bytes"] = stream.tell()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
