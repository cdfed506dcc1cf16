"""VNN-LIB properties in, VNN-COMP counterexamples out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from verifier.core.errors import ExportError, PropertyError
from verifier.core.files import read_bytes
from verifier.core.property import Property
from verifier.core.verdict import Witness
from verifier.io.decimals import finite_decimal, nearest
from verifier.io.normal_form import normalise
from verifier.io.vnnlib1 import read_formulas
from verifier.io.vnnlib2 import Tensor, read_query

MAX_BYTES = 256 * 2**20
"""Larger property files are refused (the largest public ones have a few megabytes)."""


@dataclass(frozen=True)
class PropertyFile:
    """What a VNN-LIB file says.

    Args:
        prop: the unsafe set.
        version: "1.0" or "2.0".
        sha256: hex digest of the file's text, after gzip is undone.
        input: the input as the file declares it (X with one dimension in 1.0).
        output: the output, likewise.
    """

    prop: Property
    version: str
    sha256: str
    input: Tensor
    output: Tensor


def load_property(path: str | Path, *, n_inputs: int, n_outputs: int) -> Property:
    """The property in a VNN-LIB 1.0 or 2.0 file, plain or gzip; see ``read_property``."""
    return read_property(path, n_inputs=n_inputs, n_outputs=n_outputs).prop


def read_property(path: str | Path, *, n_inputs: int, n_outputs: int) -> PropertyFile:
    """Read a VNN-LIB file for a network of the given sizes, exactly.

    Every decimal is the rational that its digits denote (0.1 is 1/10, not the nearest float). A
    property whose constraints mix several inputs, or inputs and outputs, has ``mixes_inputs`` set.

    Args:
        path: the file; the version is known by the contents, not by the name.
        n_inputs: number of network inputs, in row-major order X_0, X_1, ...
        n_outputs: number of network outputs.

    Raises:
        PropertyError: with the file, and line and column where there is one.
    """
    data = read_bytes(path, limit=MAX_BYTES, error=PropertyError)
    text = _text(data, str(path))
    digest = hashlib.sha256(data).hexdigest()
    return parse_property(
        text, n_inputs=n_inputs, n_outputs=n_outputs, name=str(path), sha256=digest
    )


def parse_property(
    text: str, *, n_inputs: int, n_outputs: int, name: str = "property", sha256: str = ""
) -> PropertyFile:
    """The same from a text that is already in memory.

    Raises:
        PropertyError: with ``name``, and line and column where there is one.
    """
    digest = sha256 or hashlib.sha256(text.encode()).hexdigest()
    # A comment ends with its line, also where lines end in a carriage return.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    version = _version(text)
    if version == "1.0":
        formulas = read_formulas(text, n_inputs=n_inputs, n_outputs=n_outputs, name=name)
        source, target = Tensor("X", "real", (n_inputs,)), Tensor("Y", "real", (n_outputs,))
    else:
        formulas, source, target = read_query(
            text, n_inputs=n_inputs, n_outputs=n_outputs, name=name
        )
    try:
        prop = normalise(formulas, n_inputs=n_inputs, n_outputs=n_outputs, name=Path(name).name)
    except PropertyError as error:
        raise PropertyError(f"{name}: {error}") from error
    return PropertyFile(prop, version, digest, source, target)


def _text(data: bytes, name: str) -> str:
    """The file as text."""
    if not data.strip():
        raise PropertyError(f"{name}: the file is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PropertyError(f"{name}: not a text file (byte {error.start} is not UTF-8)") from error
    # A NUL would end the text early for a parser written in C, and drop the assertions behind it.
    if "\0" in text:
        raise PropertyError(f"{name}: not a text file (byte {text.index(chr(0))} is zero)")
    return text


def _version(text: str) -> str:
    """2.0 if the first thing that is no comment is one of its own commands."""
    start = re.match(r"(?:\s|;[^\n]*(?:\n|\Z))*\(\s*([^\s()]*)", text)
    word = start.group(1) if start else ""
    return "2.0" if word in ("vnnlib-version", "declare-network") else "1.0"


def counterexample_text(
    witness: Witness, version: str = "1.0", *, tensors: tuple[Tensor, Tensor] | None = None
) -> str:
    """The witness in the form that VNN-COMP reads.

    1.0: ``((X_0 v) (X_1 v) ... (Y_0 v))``, a line each. 2.0: for each tensor a line such as
    ``X float32 [1,5]``, then a value a line.

    If the float32 replay violates the property, its inputs and outputs are written: that is what an
    ONNX runtime is given and returns. Otherwise the exact point is. Inputs are written with all
    their digits (a float32 is a finite decimal), so that they read back as the same number in any
    precision; exact outputs, which may have thousands of digits, as the nearest float64.

    Args:
        witness: what to write.
        version: "1.0" or "2.0".
        tensors: declared input and output for 2.0; X and Y with one dimension by default.

    Raises:
        ExportError: the exact point is no finite decimal (a bound such as 1/3) or has more
            than 4000 digits, or an unknown version.
    """
    replay = witness.replay
    if replay is not None and replay.violated:
        xs = [finite_decimal(Fraction(v), f"X_{i}") for i, v in enumerate(replay.x)]
        ys = [finite_decimal(Fraction(v), f"Y_{i}") for i, v in enumerate(replay.y)]
    else:
        xs = [finite_decimal(v, f"X_{i}") for i, v in enumerate(witness.x)]
        ys = [repr(nearest(v)) for v in witness.y]
    if version == "1.0":
        return f"({_pairs('X', xs)}\n{_pairs('Y', ys)})\n"
    if version != "2.0":
        raise ExportError(f"unknown VNN-LIB version {version!r}; known: 1.0, 2.0")
    if tensors is None:
        tensors = Tensor("X", "float32", (len(xs),)), Tensor("Y", "float32", (len(ys),))
    blocks = []
    for tensor, values in zip(tensors, (xs, ys), strict=True):
        shape = ",".join(str(n) for n in tensor.shape)
        blocks.append("\n".join([f"{tensor.name} {tensor.dtype} [{shape}]", *values]))
    return "\n".join(blocks) + "\n"


def _pairs(letter: str, values: Iterable[str]) -> str:
    """(X_0 v) and so on, a line each."""
    return "\n".join(f"({letter}_{i} {value})" for i, value in enumerate(values))
