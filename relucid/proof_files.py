"""Proof files beside verdicts: written under their names only whole, and checked at once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relucid.progress import Reporter
from verifier.core.errors import ExportError
from verifier.core.files import pending, write_atomic
from verifier.core.property import Property
from verifier.core.verdict import Verdict
from verifier.io.onnx import Model
from verifier.io.vnnlib_write import property_text

if TYPE_CHECKING:
    from relucid.proof_check import Check


@dataclass(frozen=True)
class ProofFile:
    """What became of a proof that was asked for.

    Args:
        path: the file; None if there is none.
        size: in bytes.
        seconds: that writing it took.
        check: what the checker said, if it was asked.
        problem: why there is no (valid) proof, else None.
    """

    path: Path | None
    size: int = 0
    seconds: float = 0.0
    check: Check | None = None
    problem: str | None = None

    def text(self) -> str:
        """In a few words."""
        if self.path is None:
            return f"no proof file: {self.problem}"
        said = "not checked" if self.check is None else self.check.word
        if self.check is not None and self.check.verdict is not None and self.check.nodes:
            nodes = "1 node" if self.check.nodes == 1 else f"{self.check.nodes} nodes"
            said += f" ({nodes}, {self.check.seconds:.2f} s)"
        why = "" if self.problem is None else f": {self.problem}"
        return f"{self.path}, {self.size / 1000:.1f} kB, {said}{why}"

    def record(self) -> dict[str, str | int | float | None]:
        """For machines."""
        check = self.check
        return {
            "proof": None if self.path is None else str(self.path),
            "proof_bytes": self.size or None,
            "proof_seconds": round(self.seconds, 4),
            "proof_check": None if check is None else check.word,
            "proof_nodes": None if check is None else check.nodes,
            "check_seconds": None if check is None else round(check.seconds, 4),
            "proof_problem": self.problem,
        }


def summary(files: Sequence[ProofFile]) -> list[str]:
    """How many proofs of a data set are what they should be, and how large they are together."""
    if not files:
        return []
    written = [f for f in files if f.path is not None]
    valid = sum(f.check is not None and f.check.verdict is not None for f in written)
    said = f"{valid} VALID" if any(f.check for f in written) else "not checked"
    size = sum(f.size for f in written) / 1000
    return [f"proofs                {len(written)}/{len(files)} written, {said}, {size:.1f} kB"]


@dataclass(frozen=True)
class Proofs:
    """Where proofs go.

    Args:
        model: what they are about.
        path: the file (one property), or the folder (a data set).
        check: whether each is checked at once.
        float32: whether verdicts are about what a runtime may compute in float32.
    """

    model: Model
    path: Path
    check: bool
    float32: bool = False

    def for_property(
        self, prop: Property, sha256: str, verdict: Verdict, reporter: Reporter
    ) -> ProofFile:
        """The proof of one property.

        Args:
            prop: the property.
            sha256: of its file.
            verdict: proved or refuted.
            reporter: told how far the check has come.

        Raises:
            OSError: the file cannot be written.
        """
        return self._write(prop, sha256, verdict, self.path, reporter)

    def for_sample(
        self, index: int, prop: Property, verdict: Verdict, reporter: Reporter
    ) -> ProofFile:
        """INDEX.vnnlib, the question as a file, and INDEX.proof, which answers it.

        Raises:
            OSError: a file cannot be written.
        """
        try:
            text = property_text(prop).encode()
        except ExportError as problem:
            return ProofFile(None, problem=str(problem))
        write_atomic(self.path / f"{index}.vnnlib", text)
        sha256 = hashlib.sha256(text).hexdigest()
        return self._write(prop, sha256, verdict, self.path / f"{index}.proof", reporter)

    def _write(
        self, prop: Property, sha256: str, verdict: Verdict, path: Path, reporter: Reporter
    ) -> ProofFile:
        """Write, check, and only then give the file its name (with .invalid if it is not)."""
        from relucid.proof_check import check_proof
        from verifier.io.float32_chain import float32_chain
        from verifier.search import proofs

        started, model = time.monotonic(), self.model
        with pending(path) as file:
            try:
                proofs.write(
                    file.stream,
                    float32_chain(model) if self.float32 else model.network,
                    prop,
                    verdict,
                    model_sha256=model.sha256,
                    property_sha256=sha256,
                    float32=self.float32,
                )
            except ExportError as problem:
                return ProofFile(None, problem=str(problem))
            file.stream.flush()
            size, seconds = file.stream.tell(), time.monotonic() - started
            check, why = None, None
            if self.check:
                check = check_proof(model, prop, sha256, file.path, reporter.update)
                if check.verdict is None:
                    path = path.with_name(path.name + ".invalid")
                    why = f"{check.rule}, {check.step}: {check.why}"
            file.commit(path)
        return ProofFile(path, size, seconds, check, why)
