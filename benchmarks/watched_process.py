"""A process that runs under a hard limit, with the memory of all its descendants watched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLL = 0.1
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Run:
    """How a process ended.

    Args:
        status: its exit status, negative for a signal.
        killed: whether it had to be killed at its limit.
        seconds: wall time.
        peak_bytes: highest resident memory of its session, sampled ten times a second; 0 where the
            system has no /proc.
    """

    status: int
    stdout: str
    stderr: str
    killed: bool
    seconds: float
    peak_bytes: int


def run_watched(command: Sequence[str], limit: float, stop: threading.Event) -> Run:
    """Run the command in a session of its own; kill the whole session at the limit or on stop."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        killed, peak = False, 0
        try:
            while process.poll() is None:
                peak = max(peak, session_memory(process.pid))
                if stop.is_set() or time.monotonic() - started > limit:
                    killed = True
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL)
            seconds = time.monotonic() - started
        finally:
            end_session(process)
        out.seek(0)
        err.seek(0)
        return Run(
            process.returncode,
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
            killed,
            seconds,
            peak,
        )


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process's group, and collect it."""
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def session_memory(session: int) -> int:
    """Resident bytes of all processes of the session."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The command name in parentheses may hold spaces: fields count from the last ')'.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended in between
        if int(fields[3]) == session:
            total += int(fields[21]) * PAGE
    return total
