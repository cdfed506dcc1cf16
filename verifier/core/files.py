"""Reading a file whole within a size limit, and writing one whole or not at all."""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from verifier.core.errors import RelucidError

GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: str | Path, *, limit: int, error: type[RelucidError]) -> bytes:
    """The contents of a file, uncompressed if it is gzip (known by its first bytes).

    Args:
        path: the file.
        limit: most bytes that the contents may have, after unpacking; a small gzip file can
            unpack to more memory than a machine has.
        error: the class raised for everything that can be wrong with the file.

    Raises:
        error: the file is missing, unreadable, too large, or damaged gzip.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(2)
            stream.seek(0)
            if head == GZIP_MAGIC:
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    data = unpacked.read(limit + 1)
            elif path.suffix == ".gz":
                raise error(f"{path}: the name says gzip but the contents are not")
            else:
                data = stream.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise error(f"{path}: damaged or truncated gzip file ({problem})") from problem
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    if len(data) > limit:
        raise error(f"{path}: larger than the limit of {limit} bytes")
    return data


class Pending:
    """A temporary file beside a target, until it takes the target's name in one step.

    Args:
        stream: open for writing bytes.
        path: of the temporary file.
        target: whose name it is to take.
    """

    def __init__(self, stream: BinaryIO, path: Path, target: Path) -> None:
        self.stream, self.path, self.target = stream, path, target

    def commit(self, target: Path | None = None) -> None:
        """Flush to the disk and take the target's name (or another one in the same folder)."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.path.chmod(0o666 & ~_umask())
        self.path.replace(self.target if target is None else target)


@contextmanager
def pending(path: str | Path) -> Iterator[Pending]:
    """A file whose name never shows partial contents: write ``stream``, then ``commit``.

    Without a commit nothing is left behind, unless the process is killed: then a hidden temporary
    file is.

    Raises:
        OSError: the folder is missing or unwritable, or the disk is full.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield Pending(stream, temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that its name never shows partial contents.

    Raises:
        OSError: the folder is missing or unwritable, or the disk is full; nothing is left behind.
    """
    with pending(path) as file:
        file.stream.write(data)
        file.commit()


def _umask() -> int:
    """The process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
