"""The cores, and who uses them: threads of our own beside a single-threaded BLAS."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def single_threaded_blas() -> None:
    """Keep matrix products in the calling thread, for the rest of this process.

    The threads here each work on rows of their own. Those of a BLAS wait for each other in every
    product, which costs a factor of ten on a machine that is busy.
    """
    threadpool_limits(1, user_api="blas")


@functools.cache
def workers() -> ThreadPoolExecutor:
    """The threads that share batches."""
    single_threaded_blas()
    return ThreadPoolExecutor(cores(), thread_name_prefix="bounds")
