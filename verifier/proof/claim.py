"""What a proof file says it proves, and whether it does.

The header is one JSON object:

    model, property   SHA-256 of the model's and the property's file, as the readers define them
    semantics         "real": the exact real function; "float32": what float32 sums can give
    verdict           "proved": the blocks close every case; "refuted": ``witness`` is unsafe
    witness           if refuted: the coordinates of the input, "p" or "p/q" in decimal digits
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from verifier.core.errors import ExportError
from verifier.core.network import Network
from verifier.core.property import Property
from verifier.proof.check import check
from verifier.proof.float32 import Float32Error, evaluate, rounded
from verifier.proof.format import Reader
from verifier.proof.outcome import FLOAT32, REAL, Checked, InvalidError

#: Digits that a numerator or a denominator of a witness may have.
MAX_DIGITS = 4000
_RATIONAL = re.compile(rf"-?\d{{1,{MAX_DIGITS}}}(/0*[1-9]\d{{0,{MAX_DIGITS}}})?", re.ASCII)


def header(
    model_sha256: str,
    property_sha256: str,
    witness: Sequence[Fraction] | None = None,
    *,
    semantics: str = REAL,
) -> dict[str, Any]:
    """The header of a proof, or of a refutation by a witness.

    Raises:
        ExportError: a coordinate of the witness has too many digits.
    """
    found = {"model": model_sha256, "property": property_sha256, "semantics": semantics}
    if witness is None:
        return {**found, "verdict": "proved"}
    longest = max((max(abs(v.numerator), v.denominator) for v in witness), default=1)
    if longest >= 10**MAX_DIGITS:
        raise ExportError(f"the witness has a coordinate of more than {MAX_DIGITS} digits")
    return {**found, "verdict": "refuted", "witness": [str(v) for v in witness]}


def check_file(
    network: Network,
    prop: Property,
    reader: Reader,
    *,
    model_sha256: str,
    property_sha256: str,
    float32: Network | None = None,
) -> Checked:
    """Check a proof file against a model and a property.

    Args:
        network, prop: what the two files say.
        reader: the proof.
        model_sha256, property_sha256: of the two files, computed from their bytes.
        float32: the sums that a runtime computes, layer by layer; None: they are not known, and
            nothing in float32 semantics is accepted.

    Raises:
        InvalidError: it is about other files, or proves something else, or nothing.
        CertificateError: it is damaged.
        TooWideError: the network is beyond the checker's integers.
    """
    claim = reader.header
    for name, actual in (("model", model_sha256), ("property", property_sha256)):
        if claim.get(name) != actual:
            raise InvalidError(
                "header", name,
                f"the proof is about the {name} with SHA-256 {_shown(claim.get(name))}, this one "
                f"has {actual}",
            )  # fmt: skip
    semantics = claim.get("semantics")
    known = {REAL: network} if float32 is None else {REAL: network, FLOAT32: float32}
    if not isinstance(semantics, str) or semantics not in known:
        only = " or ".join(known)
        raise InvalidError(
            "header", "semantics", f"{_shown(semantics)}, only {only} is checked for this model"
        )
    network, verdict = known[semantics], claim.get("verdict")
    if verdict == "proved":
        meant = rounded(network) if semantics == FLOAT32 else network
        return Checked("proved", check(meant, prop, reader), semantics)
    if verdict == "refuted":
        for number, (name, _) in enumerate(reader.blocks()):
            raise InvalidError(name, f"block {number}", "a refutation has no blocks")
        refute(network, prop, claim.get("witness"), float32=semantics == FLOAT32)
        return Checked("refuted", 0, semantics)
    raise InvalidError("header", "verdict", f"{_shown(verdict)}, expected 'proved' or 'refuted'")


def refute(network: Network, prop: Property, witness: Any, *, float32: bool = False) -> None:
    """The rule "witness": the point lies in some case's box and its outputs are unsafe.

    The outputs are the exact ones, or those of one order of summation in float32.

    Raises:
        InvalidError: it does not, or they are not, or it is no point.
    """
    if not isinstance(witness, list) or len(witness) != network.n_inputs:
        size = len(witness) if isinstance(witness, list) else 0
        raise InvalidError(
            "witness", "header", f"{size} coordinates, the network has {network.n_inputs} inputs"
        )
    for j, text in enumerate(witness):
        if not isinstance(text, str) or not _RATIONAL.fullmatch(text):
            raise InvalidError("witness", f"coordinate {j}", f"{_shown(text)} is no rational")
    x = tuple(Fraction(text) for text in witness)
    if not any(case.box.contains(x) for case in prop.cases):
        raise InvalidError("witness", "header", f"the point lies outside of {_boxes(prop, x)}")
    try:
        y = evaluate(network, x) if float32 else network.exact(x)
    except Float32Error as problem:
        raise InvalidError("witness", "header", str(problem)) from problem
    if prop.violation(x, y) is None:
        which = "float32" if float32 else "exact"
        raise InvalidError("witness", "header", f"the {which} outputs at the point are not unsafe")


def _boxes(prop: Property, x: Sequence[Fraction]) -> str:
    """The boxes in words, with the first coordinate that is outside of a single one."""
    if len(prop.cases) > 1:
        return f"all {len(prop.cases)} boxes"
    box = prop.cases[0].box
    for j, (low, v, high) in enumerate(zip(box.lower, x, box.upper, strict=True)):
        if not low <= v <= high:
            return f"the box: input {j} is {_shown(str(v))}, not in [{low}, {high}]"
    return "the box"


def _shown(value: object) -> str:
    """Something from a file that nobody vouches for, short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
