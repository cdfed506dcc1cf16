"""What a checker says of a file: what it shows, or why it is no proof."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.core.errors import CertificateError

REAL, FLOAT32 = "real", "float32"


@dataclass(frozen=True)
class Checked:
    """What was shown.

    Args:
        verdict: "proved" or "refuted".
        nodes: nodes of the proof's trees; 0 for a witness.
        semantics: ``REAL`` or ``FLOAT32``.
    """

    verdict: str
    nodes: int
    semantics: str = REAL


class InvalidError(CertificateError):
    """Not a proof: the rule, the step, and what disagrees."""

    def __init__(self, rule: str, step: str, why: str) -> None:
        super().__init__(f"{rule}, {step}: {why}")
        self.rule, self.step, self.why = rule, step, why
