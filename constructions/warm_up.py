"""Compile the search for nearest enemies once: ``python -m constructions.warm_up``.

It is compiled for a type of numbers when that is first met, and kept on disk; doing it after
installing keeps some seconds of compilation out of the first real question.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from constructions import separation_kernel
from constructions.dataset import DataSet
from constructions.separation import separation

#: Largest values that need 1, 2, 4 and 8 bytes.
_LARGEST = (200, 60_000, 2**32 - 1, 2**62)


def compile_kernels() -> None:
    """Run the search on a few points of each type of numbers."""
    sets = [np.array([[0], [1], [top]], dtype=np.int64) for top in _LARGEST]
    sets.append(np.array([[0.0], [1.0], [2.0**-100]]))
    for points in sets:
        separation(DataSet(points, np.array([0, 1, 1]), (1,), 2))


def is_compiled() -> bool:
    """Whether compiled code is on disk, for some type of numbers; for a note to a waiting user."""
    kernel = separation_kernel.search_integers
    folder = Path(kernel.stats.cache_path)
    return any(folder.glob(f"separation_kernel.{kernel.__name__}-*.nbc"))


if __name__ == "__main__":
    compile_kernels()
