"""How long something takes, as far as a test can rely on it: processor time, whatever the load."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


def _used() -> float:
    """Seconds of all threads of this process and of its children that have ended."""
    who = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in who)


@contextmanager
def within(seconds: float, *, cores: int | None = None) -> Iterator[None]:
    """The block takes at most so much processor time on each of so many cores.

    A machine that is busy with other things does not make a block take more of it, but less before
    a time limit has passed: an assertion about seconds on the wall would fail there for no fault.

    Args:
        seconds: allowed for one core.
        cores: how many may be busy at once; by default all.
    """
    allowed, started = seconds * (cores or os.cpu_count() or 1), _used()
    yield
    assert _used() - started < allowed
