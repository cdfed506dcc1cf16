"""``scipy.sparse``, imported when the first sparse array is made.

Importing it takes as long as starting everything else that reads and proves a dense network.
Modules that make or ask for sparse arrays write ``from verifier.core.sparse import is_sparse, sp``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp
else:

    class _Sparse:
        """The module ``scipy.sparse``, imported by the first use of one of its names."""

        def __getattr__(self, name: str) -> Any:
            value = getattr(import_module("scipy.sparse"), name)
            setattr(self, name, value)
            return value

    sp = _Sparse()

__all__ = ["is_sparse", "sp"]


def is_sparse(array: Any) -> bool:
    """Whether an array is one of scipy's sparse ones, without importing scipy for a dense one."""
    return not isinstance(array, np.ndarray) and bool(sp.issparse(array))
