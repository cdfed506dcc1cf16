"""The cores, and who uses them: threads of our own beside a single-threaded BLAS."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

#: Read by OpenBLAS when NumPy is imported; a command sets it, which is cheaper than asking later.
VARIABLE = "OPENBLAS_NUM_THREADS"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def single_threaded_blas() -> None:
    """Keep matrix products in the calling thread, for the rest of this process.

    The threads here each work on rows of their own. Those of a BLAS wait for each other in every
    product, which costs a factor of ten on a machine that is busy.
    """
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if "openblas" in blas and os.environ.get(VARIABLE) == "1":
        return
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


@functools.cache
def workers() -> ThreadPoolExecutor:
    """The threads that share batches."""
    from concurrent.futures import ThreadPoolExecutor

    single_threaded_blas()
    return ThreadPoolExecutor(cores(), thread_name_prefix="bounds")
