"""Reading a file whole within a size limit, and writing one whole or not at all."""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from pathlib import Path

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


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that its name never shows partial contents.

    The data go to a temporary file beside the target, are flushed to the disk, and then take the
    target's name in one step.

    Raises:
        OSError: the folder is missing or unwritable, or the disk is full; nothing is left behind.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
