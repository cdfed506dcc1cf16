"""Whether a result has a place to go: asked before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from verifier.core.errors import ExportError


def require_file(path: Path) -> None:
    """A file can be written there, as far as can be told beforehand.

    Raises:
        ExportError: its folder is missing or cannot be written to, or it is a folder itself.
    """
    if path.is_dir():
        raise ExportError(f"{path}: is a folder, expected a file")
    _require_room(path)


def require_folder(path: Path) -> None:
    """A folder is there, or can be made in one that is.

    Raises:
        ExportError: it is a file, or neither it nor the folder around it can be written to.
    """
    if path.is_dir():
        _require_room(path / "file")
    elif path.exists():
        raise ExportError(f"{path}: is a file, expected a folder")
    else:
        _require_room(path)


def _require_room(path: Path) -> None:
    """The folder around a path takes new files."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ExportError(f"{path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ExportError(f"{path}: the folder {folder} cannot be written to")
