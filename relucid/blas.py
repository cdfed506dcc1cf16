"""What OpenBLAS is told by the environment, before NumPy is imported."""

from __future__ import annotations

import os
from pathlib import Path

#: What OpenBLAS's kernels for AVX-512 need.
_NEEDED = {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"}


def tell(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """One thread, and kernels for AVX-512 where it takes a processor of AMD's for an older one.

    Products are 1.7 times as fast then. What the user has set stays.

    Args:
        cpuinfo: Linux's description of the processors.
    """
    # Asking the library for one thread later on takes a library of its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        lines = cpuinfo.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    first = dict(line.replace("\t", "").split(":", 1) for line in lines[:40] if ":" in line)
    flags = set(first.get("flags", "").split())
    if first.get("vendor_id", "").strip() == "AuthenticAMD" and flags >= _NEEDED:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
