"""Compile the searches for enemies and for boxes once: ``python -m constructions.warm_up``.

They are compiled for a type of numbers when that is first met, and kept on disk; doing it after
installing keeps some seconds of compilation out of the first real question.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from constructions import separation_kernel
from constructions.box_grid import BoxGrid
from constructions.boxes import find_boxes
from constructions.dataset import DataSet
from constructions.separation import separation

#: Largest values that need 1, 2, 4 and 8 bytes.
_LARGEST = (200, 60_000, 2**32 - 1, 2**62)


def compile_kernels() -> None:
    """Run the searches on a few points (that for enemies on each type of numbers)."""
    sets = [np.array([[0], [1], [top]], dtype=np.int64) for top in _LARGEST]
    sets.append(np.array([[0.0], [1.0], [2.0**-100]]))
    for points in sets:
        separation(DataSet(points, np.array([0, 1, 1]), (1,), 2))
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 40, (200, 4))
    find_boxes(BoxGrid(cells, Fraction(1), Fraction(0), 0, 1), (cells[:, 0] > 20) + 1)


def is_compiled() -> bool:
    """Whether compiled code is on disk, for some type of numbers; for a note to a waiting user."""
    folder = separation_kernel.search_integers.stats.cache_path
    pattern = "separation_kernel.search_integers-*.nbc"
    return folder is not None and any(Path(folder).glob(pattern))


if __name__ == "__main__":
    compile_kernels()
