"""What a figure was measured on, how busy that was, and the row of PERFORMANCE.md that says so."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: A machine whose cores others use more than this share of gives no figure worth comparing.
IDLE = 0.1


def describe() -> str:
    """Cores that this process may use, their kind, and memory."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kind = _field("/proc/cpuinfo", "model name") or "unknown processor"
    memory = _field("/proc/meminfo", "MemTotal").removesuffix("kB").strip()
    size = f", {int(memory) / 2**20:.0f} GB" if memory else ""
    return f"{count} core{'s' if count != 1 else ''} ({kind}){size}"


def _field(file: str, name: str) -> str:
    """The value of a ``name: value`` line, or an empty string."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(found, "")


def load() -> float:
    """Processes that ran or waited for a core during the last minute, on average."""
    return os.getloadavg()[0]


def commit() -> str:
    """The commit of this checkout, with a + if files were changed since."""
    folder = Path(__file__).resolve().parent
    try:
        name = _git(folder, "rev-parse", "--short", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Others:
    """How much of the machine other processes used since this object was made."""

    def __init__(self) -> None:
        self._busy, self._started = _busy_seconds(), time.monotonic()

    def share(self, own: float) -> float:
        """Their share of all cores, from 0 to 1; 0 where the system does not tell.

        Args:
            own: seconds of processor time that are not theirs.
        """
        cores = os.cpu_count() or 1
        whole = cores * (time.monotonic() - self._started)
        if whole <= 0:
            return 0.0
        return min(1.0, max(0.0, (_busy_seconds() - self._busy - own) / whole))


def _busy_seconds() -> float:
    """Processor time of all processes since the machine started."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, first[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Samples of a GPU's utilisation by nvidia-smi, in per cent."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self._end = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Watch]:
        """Sample in the background."""
        tool = shutil.which("nvidia-smi")
        thread = threading.Thread(target=self._sample, args=(tool,), daemon=True)
        if tool is not None:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            if tool is not None:
                thread.join()

    def _sample(self, tool: str) -> None:
        command = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._end.wait(0.1):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            numbers = [int(line) for line in result.stdout.split() if line.isdecimal()]
            self.samples += [max(numbers)] if numbers else []

    def __str__(self) -> str:
        return f"{sum(self.samples) / len(self.samples):.0f} %" if self.samples else "not known"


@dataclass
class Session:
    """One start of a benchmark: the machine and its load."""

    command: str
    started: float

    @classmethod
    def begin(cls, command: str) -> Session:
        """Note the load; say so if the machine is not idle."""
        session = cls(command, load())
        cores = os.cpu_count() or 1
        if session.started > IDLE * cores:
            print(
                f"warning: the load is {session.started:.1f} before anything has started; "
                "times on a busy machine mean little, ratios of one run a little more",
                file=sys.stderr,
            )
        return session

    def machine(self, others: float) -> str:
        """For the column of PERFORMANCE.md.

        Args:
            others: the share of the cores that other processes used.
        """
        busy = "" if others <= IDLE else ", NOT IDLE"
        return (
            f"{describe()}; load {self.started:.1f} before, {load():.1f} after; others used "
            f"{100 * others:.0f} % of it{busy}"
        )

    def row(self, what: str, others: float, figure: str, versus: str) -> str:
        """A row of PERFORMANCE.md."""
        how = f"`{self.command}` at {commit()}"
        cells = [str(datetime.date.today()), what, self.machine(others), figure, versus, how]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def append_row(file: Path, row: str) -> None:
    """Add a row at the end of a file whose last lines are a table.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: it does not end with a table.
    """
    text = file.read_text()
    last = text.rstrip("\n").rpartition("\n")[2]
    if not last.startswith("|"):
        raise ValueError(f"{file}: expected a table at the end, got {last[:60]!r}")
    with file.open("a") as stream:
        stream.write(("" if text.endswith("\n") else "\n") + row + "\n")
