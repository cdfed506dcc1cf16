"""Ctrl-C that works even while a solver written in C holds the main thread."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE = 2.0
"""Seconds that the ordinary KeyboardInterrupt gets before the process is ended."""


def watch(grace: float = GRACE) -> None:
    """End the process with status 130 where an interrupt has no effect for ``grace`` seconds.

    Python delivers KeyboardInterrupt between two of its own instructions, and a MILP solver may
    not return for minutes. The watching thread learns of the signal through a pipe. Results are
    written by renaming finished files, so that ending at any moment leaves none half-written.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    threading.Thread(target=_end_if_stuck, args=(read, grace), daemon=True).start()


def _end_if_stuck(pipe: int, grace: float) -> None:
    """Wait for the first interrupt, then for its effect (which ends this thread as well)."""
    while signal.SIGINT not in os.read(pipe, 16):
        continue
    time.sleep(grace)
    os.write(sys.stderr.fileno(), b"relucid: interrupted\n")
    os._exit(130)
