"""A proof file checked against a model and a property, with what a person wants to know of it.

This imports no engine and no bounds of the search: who checks a proof trusts neither.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relucid.bundled import open_model
from relucid.progress import Reporter
from verifier.core.errors import CertificateError, ModelError
from verifier.core.property import Property
from verifier.io.float32_chain import float32_chain
from verifier.io.onnx import Model
from verifier.io.vnnlib import read_property
from verifier.proof.claim import check_file
from verifier.proof.format import Columns, Reader
from verifier.proof.integers import TooWideError
from verifier.proof.outcome import FLOAT32, REAL, InvalidError
from verifier.proof.plain import check_plainly

#: Told what is going on and the share of the file that is read.
Progress = Callable[[str, float], None]

_MEANING = {
    (REAL, "proved"): "no point of the input box has unsafe outputs, in exact real arithmetic",
    (REAL, "refuted"): "the witness lies in the input box and its outputs are unsafe, in exact "
    "real arithmetic",
    (FLOAT32, "proved"): "no float32 point of the input box has unsafe outputs in float32, "
    "whatever the order of summation, with fused multiply-add or without",
    (FLOAT32, "refuted"): "the witness is a float32 point of the input box, and adding up in the "
    "order of the weights in float32 gives unsafe outputs",
}


@dataclass(frozen=True)
class Check:
    """What became of a check.

    Args:
        verdict: "proved" or "refuted"; None: the proof is not valid.
        nodes: nodes of the proof's trees.
        seconds: of wall-clock time.
        rule, step, why: what is wrong with it, else None.
        semantics: of the proof; None: the proof is not valid.
    """

    verdict: str | None
    nodes: int
    seconds: float
    rule: str | None = None
    step: str | None = None
    why: str | None = None
    semantics: str | None = None

    @property
    def word(self) -> str:
        """``VALID`` or ``INVALID``."""
        return "VALID" if self.verdict is not None else "INVALID"

    def lines(self) -> list[str]:
        """The word, and what was shown or what is wrong."""
        if self.verdict is None or self.semantics is None:
            return [self.word, f"rule: {self.rule}", f"step: {self.step}", f"why: {self.why}"]
        return [
            self.word,
            f"{self.verdict}: {_MEANING[self.semantics, self.verdict]}",
            *([f"nodes: {self.nodes}"] if self.nodes else []),
            f"seconds: {self.seconds:.2f}",
        ]

    def record(self) -> dict[str, Any]:
        """For machines."""
        return {
            "result": self.word,
            "verdict": self.verdict,
            "semantics": self.semantics,
            "nodes": self.nodes,
            "seconds": round(self.seconds, 4),
            "rule": self.rule,
            "step": self.step,
            "why": self.why,
        }


def check_proof(
    model: Model,
    prop: Property,
    property_sha256: str,
    path: Path,
    progress: Progress | None = None,
    *,
    plain: bool = False,
) -> Check:
    """Check a proof file.

    Args:
        model, prop: what the two files say.
        property_sha256: of the property's file.
        path: the proof.
        progress: told how far the check has come.
        plain: by the second checker, in exact arithmetic.

    Raises:
        PropertyError: the property cannot be asked of the model.
    """
    model.check_property(prop)
    started = time.monotonic()
    try:
        with _Watched(path, progress) as reader:
            rounds = reader.header.get("semantics") == FLOAT32
            done = (check_plainly if plain else check_file)(
                model.network,
                prop,
                reader,
                model_sha256=model.sha256,
                property_sha256=property_sha256,
                float32=float32_chain(model) if rounds else None,
            )
    except InvalidError as problem:
        return _invalid(started, problem.rule, problem.step, problem.why)
    except (TooWideError, ModelError) as problem:
        return _invalid(started, "network", "-", str(problem))
    except CertificateError as problem:
        return _invalid(started, "file", "-", str(problem))
    return Check(done.verdict, done.nodes, time.monotonic() - started, semantics=done.semantics)


def _invalid(started: float, rule: str, step: str, why: str) -> Check:
    return Check(None, 0, time.monotonic() - started, rule, step, why)


class _Watched(Reader):
    """A reader that tells how much of the file it has read."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        super().__init__(path)
        self.progress = progress
        self.size = os.fstat(self.stream.fileno()).st_size or 1

    def blocks(self) -> Iterator[tuple[str, Columns]]:
        """See ``Reader``."""
        for block in super().blocks():
            yield block
            if self.progress is not None:
                self.progress("checking the proof", self.stream.tell() / self.size)


def check_files(
    model: str, property_file: Path, proof: Path, plain: bool = False, json_output: bool = False
) -> int:
    """Check a proof and print what came out: the command ``relucid check``.

    Args:
        model: an ONNX file, or a bundled model's name.
        property_file, proof: the other two files.
        plain: use the checker in exact arithmetic.
        json_output: print JSON.

    Returns:
        the exit status, 1 if the proof is not valid.

    Raises:
        RelucidError: one of the files cannot be read.
    """
    from threadpoolctl import threadpool_limits

    try:
        with proof.open("rb"):
            pass
    except OSError as problem:
        raise CertificateError(f"{proof}: cannot be read: {problem.strerror}") from problem
    opened = open_model(model)
    network = opened.network
    file = read_property(property_file, n_inputs=network.n_inputs, n_outputs=network.n_outputs)
    with Reporter(1) as reporter, threadpool_limits(1, user_api="blas"):
        reporter.begin(str(proof))
        result = check_proof(opened, file.prop, file.sha256, proof, reporter.update, plain=plain)
    for note in network.notes:
        print(f"note: {note}", file=sys.stderr)
    if json_output:
        about = {
            "model": model,
            "model_sha256": opened.sha256,
            "property": str(property_file),
            "property_sha256": file.sha256,
            "proof": str(proof),
        }
        sys.stdout.write(json.dumps(about | result.record(), indent=2) + "\n")
    else:
        print("\n".join(result.lines()))
    return 1 if result.verdict is None else 0
