"""Time and processor time of a watched process."""

import sys
import threading
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run_watched(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from watched_process import run_watched

    return lambda code, limit=30.0: run_watched(
        [sys.executable, "-c", code], limit, threading.Event()
    )


def test_processor_time_is_that_of_the_process_and_its_children(run_watched):
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    done = run_watched(
        f"import subprocess, sys\n{spin}\nsubprocess.run([sys.executable, '-c', {spin!r}])"
    )
    assert done.status == 0
    assert 1.0 <= done.cpu_seconds < 2.5


def test_sleeping_costs_no_processor_time(run_watched):
    done = run_watched("import time; time.sleep(0.7)")
    assert done.seconds >= 0.7
    assert done.cpu_seconds < 0.5


def test_a_killed_process_says_so(run_watched):
    done = run_watched("import time; time.sleep(60)", 0.3)
    assert done.killed
    assert done.status == -9
