"""How the numerical kernels are compiled, and where the compiled code is kept.

Numba decides whether cached machine code is current by the one source file that holds the function,
not by the files of the functions it calls. A kernel compiled against yesterday's callee would go on
running, unsound or not. So the cache directory is named by a digest of all kernel sources together.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numba

_PACKAGE = Path(__file__).resolve().parent.parent


def _cache_directory() -> Path:
    """Beside the package if that can be written, else in the user's cache."""
    digest = hashlib.sha256(numba.__version__.encode())
    sources = [*_PACKAGE.rglob("*kernel*.py"), *(_PACKAGE / "bounds").glob("float_error.py")]
    for source in sorted(sources):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    if os.access(_PACKAGE, os.W_OK):
        return _PACKAGE / "__pycache__" / name
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "relucid" / name


def remove_stale_caches() -> None:
    """Delete what was compiled from other versions of the sources."""
    current = _cache_directory()
    for directory in current.parent.glob("kernels-*"):
        if directory != current:
            shutil.rmtree(directory, ignore_errors=True)


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = str(_cache_directory())  # type: ignore[attr-defined]

#: The compiler may reorder sums (``reassoc``) and fuse multiply-adds (``contract``): the error
#: bounds of ``float_error`` hold for every order. NaN and infinity are respected.
jit = numba.njit(
    cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy"
)
