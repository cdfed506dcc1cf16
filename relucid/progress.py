"""Progress on stderr: a bar for a person at a terminal, a line now and then for a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self, TextIO

from verifier.core.verdict import Verdict, word

_BAR_INTERVAL = 0.1
_LINE_INTERVAL = 10.0


class Reporter:
    """Reports on a run of several instances; used as a context manager.

    Args:
        total: number of instances; a single one is not counted.
        stream: where to, stderr by default.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.stream = sys.stderr if stream is None else stream
        self.tally: Counter[str] = Counter()
        self.name = ""
        self._bar: Any = None
        self._task: Any = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )

            counter = [MofNCompleteColumn()] if self.total > 1 else []
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                *counter,
                TimeElapsedColumn(),
                console=Console(file=self.stream),
                transient=True,
                # Results go to the real stdout, not through the bar's console.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def done(self) -> int:
        """Instances finished."""
        return self.tally.total()

    def begin(self, name: str) -> None:
        """An instance starts."""
        self.name = name
        self._show("", force=self._bar is not None)

    def update(self, what: str, fraction: float) -> None:
        """The search says what it is doing; the fraction known to be done, or -1."""
        share = f" {fraction:.0%}" if 0 <= fraction <= 1 else ""
        self._show(f": {what}{share}")

    def finish(self, verdict: Verdict) -> None:
        """An instance has its verdict."""
        self.advance(word(verdict))

    def advance(self, kind: str) -> None:
        """An instance is finished, and counts as of this kind."""
        self.tally[kind] += 1
        if self._bar is not None:
            self._bar.advance(self._task)

    def _show(self, detail: str, force: bool = False) -> None:
        """One state, unless the last one is too recent."""
        now = time.monotonic()
        interval = _LINE_INTERVAL if self._bar is None else _BAR_INTERVAL
        if not force and now - self._last < interval:
            return
        self._last = now
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(self.tally.items()))
        if self._bar is not None:
            text = f"{self.name}{detail}" + (f" ({counts})" if counts else "")
            self._bar.update(self._task, description=text.replace("[", r"\["))
            return
        done = f"{self.done}/{self.total} done" + (f" ({counts})" if counts else "") + "; "
        print(f"{done if self.total > 1 else ''}{self.name}{detail}", file=self.stream, flush=True)
