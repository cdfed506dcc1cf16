"""Finished steps of long commands: files, so that a command that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from verifier.core.errors import DataError
from verifier.core.files import read_bytes, write_atomic

#: Bytes of a step's file at most.
_LIMIT = 1 << 26
Result = TypeVar("Result")


def recall(path: Path, read: Callable[[Any], Result]) -> Result | None:
    """What a step gave, if it was finished before.

    Args:
        path: the step's file.
        read: makes the result from what JSON holds.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return read(json.loads(read_bytes(path, limit=_LIMIT, error=DataError)))
    except (ValueError, TypeError) as problem:
        raise DataError(f"{path}: damaged; remove it to do this step again") from problem


def keep(path: Path, result: Any) -> None:
    """Write what a step gave; the file appears when it is complete.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(result, indent=1).encode())
