"""Coverage-guided fuzzing of the readers of models, properties and proofs.

A file that makes lines of ``verifier`` run that no file before it did joins the corpus, from which
the next files are mutated. Every file must be refused by a RelucidError (or, by the checker, for
being too wide for its integers) or be read; nothing else may be raised, nothing may hang, and what
is read may never make the checker say VALID of something that is false.
"""

from __future__ import annotations

import signal
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import verifier
from tests import oracle
from tests.soundness.mutations import MUTATIONS, mutate
from tests.soundness.proofs import hashes, nodes_checked, prove
from verifier.core.errors import CertificateError, RelucidError
from verifier.core.network import Layer, Network
from verifier.core.property import Property
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx
from verifier.io.vnnlib import load_property
from verifier.proof.integers import TooWideError
from verifier.proof.plain import check_plainly

#: What a reader may never raise.
CRASHES = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError,
    MemoryError, NameError, OSError, RuntimeError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
_ROOT = str(Path(verifier.__file__).parent)
#: A file that takes longer than this hangs.
HANG_SECONDS = 20

_TOKENS = [
    b"(", b")", b"assert", b"declare-const", b"and", b"or", b"<=", b">=", b"X_0", b"Y_0", b"X_1",
    b"Real", b"1e999", b"-", b"0.0", b"1e-400", b"nan", b"99999999999999999999", b"; ", b"\n",
    b"\x00", b"\xff\xff\xff\xff", b"\x08\x01", b"Relu", b"Gemm", b"Add", b"MatMul", b"/0", b'"',
]  # fmt: skip


class HangError(Exception):
    """A reader took too long."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise HangError inside after so many seconds."""

    def stop(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def covered(action: Callable[[], None]) -> set[tuple[str, int]]:
    """Run it; the (file, line)s of the verifier that ran."""
    lines: set[tuple[str, int]] = set()

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def start(frame: FrameType, event: str, _: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(_ROOT) else None

    before = sys.gettrace()
    sys.settrace(start)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


@dataclass(frozen=True)
class Target:
    """One reader.

    Args:
        name: in the summary.
        suffix: of the files.
        seeds: files that are read.
        mutators: ways to change a file.
        read: reads a file; whether it was called VALID wrongly.
    """

    name: str
    suffix: str
    seeds: tuple[bytes, ...]
    mutators: tuple[Callable[[bytes, np.random.Generator], bytes], ...]
    read: Callable[[Path], bool]


def fuzz(
    target: Target, folder: Path, *, executions: int, seconds: float, seed: int = 0
) -> Counter[str]:
    """Feed mutated files to a reader until one of the limits is reached.

    Returns:
        counts: ``executions``, ``read`` (not refused), ``lines`` covered, ``corpus``, ``crashes``,
        ``hangs`` and ``wrong VALID`` (these three must be 0).
    """
    rng, count = np.random.default_rng(seed), Counter[str]()
    corpus, seen = list(target.seeds), set[tuple[str, int]]()
    path = folder / f"fuzzed{target.suffix}"
    started = time.monotonic()
    while count["executions"] < executions and time.monotonic() - started < seconds:
        number = count["executions"]
        if number < len(target.seeds):
            data = target.seeds[number]
        else:
            # Later entries reach what earlier ones do not: half the time one of the last eight.
            recent = rng.random() < 0.5
            data = corpus[int(rng.integers(max(0, len(corpus) - 8) if recent else 0, len(corpus)))]
            for _ in range(int(rng.choice([1, 1, 2, 4]))):
                data = target.mutators[int(rng.integers(len(target.mutators)))](data, rng)
        path.write_bytes(data)
        lines = _execute(target, path, count)
        if not lines <= seen and number >= len(target.seeds):
            corpus.append(data)
        seen |= lines
    count["lines"], count["corpus"] = len(seen), len(corpus)
    return count


def _execute(target: Target, path: Path, count: Counter[str]) -> set[tuple[str, int]]:
    """Read one file and count what happened; the lines that ran."""
    count["executions"] += 1

    def read() -> None:
        try:
            with _limited(HANG_SECONDS):
                wrong = target.read(path)
            count["read"] += 1
            count["wrong VALID"] += wrong
        except (RelucidError, TooWideError):
            count["refused"] += 1
        except HangError:
            count["hangs"] += 1
            _keep(path, target, "hang", count)
        except CRASHES as crash:
            count["crashes"] += 1
            _keep(path, target, f"{type(crash).__name__}: {str(crash)[:60]}", count)

    return covered(read)


def _keep(path: Path, target: Target, what: str, count: Counter[str]) -> None:
    """Remember a file that should not have happened, once a kind."""
    count[f"{target.name}: {what}"] += 1
    if count[f"{target.name}: {what}"] == 1:
        number = count["crashes"] + count["hangs"]
        path.with_name(f"failed-{target.name}-{number}{target.suffix}").write_bytes(
            path.read_bytes()
        )


def bytes_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, bytes replaced, removed, repeated, or a token put in."""
    if not data:
        return b"\x00"
    choice, i = int(rng.integers(6)), int(rng.integers(len(data)))
    j = min(len(data), i + int(rng.integers(1, 16)))
    if choice == 0:
        return data[:i] + bytes([data[i] ^ (1 << int(rng.integers(8)))]) + data[i + 1 :]
    if choice == 1:
        return data[:i] + bytes([int(rng.integers(256))]) + data[i + 1 :]
    if choice == 2:
        return data[:i] + data[j:]
    if choice == 3:
        return data[:j] + data[i:]
    if choice == 4:
        return data[:i]
    token = _TOKENS[int(rng.integers(len(_TOKENS)))]
    return data[:i] + token + data[i if rng.random() < 0.5 else j :]


def _proof_changed(data: bytes, rng: np.random.Generator, *, kind: str) -> bytes:
    """A mutation that knows the format, or of the bytes where they are no proof any more."""
    try:
        return mutate(data, kind, rng)
    except CRASHES:
        return bytes_changed(data, rng)


SAFE_TEXT = b"""; Y_0 = |X_0| + relu(X_1) lies in [0, 3] on the box
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (>= X_0 -2.0))
(assert (<= X_0 2.0))
(assert (>= X_1 0.0))
(assert (<= X_1 1.0))
(assert (or (and (>= Y_0 3.125)) (and (<= Y_0 -0.5) (>= (+ X_0 X_1) 0.0))))
"""
UNSAFE_TEXT = SAFE_TEXT.replace(b"3.125", b"2.9375")


def network() -> Network:
    """|x0| + relu(x1): a few unstable neurons."""
    first = Layer(np.array([[1.0, 0], [-1, 0], [0, 1]]), np.zeros(3), np.ones(3, dtype=bool))
    last = Layer(np.array([[1.0, 1, 1]]), np.zeros(1), np.zeros(1, dtype=bool))
    return Network((first, last))


def targets(folder: Path) -> list[Target]:
    """The three readers, with files to begin with."""
    net = network()
    export_onnx(net, folder / "seed.onnx")
    model = (folder / "seed.onnx").read_bytes()
    (folder / "safe.vnnlib").write_bytes(SAFE_TEXT)
    (folder / "unsafe.vnnlib").write_bytes(UNSAFE_TEXT)
    safe = load_property(folder / "safe.vnnlib", n_inputs=2, n_outputs=1)
    unsafe = load_property(folder / "unsafe.vnnlib", n_inputs=2, n_outputs=1)
    if not prove(net, safe, folder / "seed.proof", seconds=10):
        raise RuntimeError("the seed has no proof")
    proof = (folder / "seed.proof").read_bytes()
    proof_mutators = tuple(partial(_proof_changed, kind=kind) for kind in MUTATIONS)
    return [
        Target("model", ".onnx", (model,), (bytes_changed,), partial(_model, safe, folder)),
        Target(
            "property", ".vnnlib", (SAFE_TEXT, UNSAFE_TEXT), (bytes_changed,),
            partial(_property, net, folder),
        ),
        Target(
            "proof", ".proof", (proof,), (*proof_mutators, bytes_changed),
            partial(_proof, net, unsafe),
        ),
    ]  # fmt: skip


def _model(prop: Property, folder: Path, path: Path) -> bool:
    """Read a model; the seed's proof may only be VALID for it if it is safe."""
    net = load_model(path).network
    if (net.n_inputs, net.n_outputs) != (2, 1):
        return False
    return _wrongly_valid(net, prop, folder / "seed.proof")


def _property(net: Network, folder: Path, path: Path) -> bool:
    """Read a property; the seed's proof may only be VALID for it if it holds."""
    prop = load_property(path, n_inputs=2, n_outputs=1)
    return _wrongly_valid(net, prop, folder / "seed.proof")


def _proof(net: Network, prop: Property, path: Path) -> bool:
    """Read a proof of something that is false, by either checker."""
    with suppress(CertificateError):
        nodes_checked(net, prop, path, _seed_hashes(path.parent), checker=check_plainly)
        return True
    nodes_checked(net, prop, path, _seed_hashes(path.parent))
    return True


@cache
def _seed_hashes(folder: Path) -> dict[str, str]:
    """What the seed's proof says it is about, so that more than its header is read."""
    safe = load_property(folder / "safe.vnnlib", n_inputs=2, n_outputs=1)
    return hashes(network(), safe)


def _wrongly_valid(net: Network, prop: Property, path: Path) -> bool:
    """Whether the checker accepts a proof of something that the oracle refutes."""
    nodes_checked(net, prop, path, _seed_hashes(path.parent))
    return oracle.violated(net, prop)
