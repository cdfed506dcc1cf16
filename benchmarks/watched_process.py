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
        cpu_seconds: processor time of the process and of the children that it waited for.
    """

    status: int
    stdout: str
    stderr: str
    killed: bool
    seconds: float
    peak_bytes: int
    cpu_seconds: float = 0.0


def run_watched(command: Sequence[str], limit: float, stop: threading.Event) -> Run:
    """Run the command in a session of its own; kill the whole session at the limit or on stop."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        end = _End(process)
        killed, peak = False, 0
        try:
            while not end.reached.is_set():
                peak = max(peak, session_memory(process.pid))
                if stop.is_set() or time.monotonic() - started > limit:
                    killed = True
                    break
                end.reached.wait(POLL)
        finally:
            # What is left of its group, which may be more than itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            end.join()
        out.seek(0)
        err.seek(0)
        return Run(
            process.returncode,
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
            killed,
            end.at - started,
            peak,
            end.cpu_seconds,
        )


class _End(threading.Thread):
    """Waits for a process, so that its end is noticed at once and not at the next look."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.process, self.reached = process, threading.Event()
        self.at = self.cpu_seconds = 0.0
        self.start()

    def run(self) -> None:
        """Collect it, with what it and its collected children used."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.at = time.monotonic()
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.reached.set()


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
