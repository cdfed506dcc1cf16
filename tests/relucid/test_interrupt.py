"""An interrupt ends the process even where Python itself cannot see it."""

import signal
import subprocess
import sys

import pytest

STUCK = """
import signal, sys, time
from relucid import interrupt
interrupt.watch(0.5)
{handler}
try:
    print("ready", flush=True)
    end = time.monotonic() + 600
    while time.monotonic() < end:
        time.sleep(0.1)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("handler", "status", "message"),
    [
        ("", 7, ""),
        ("signal.signal(signal.SIGINT, lambda *_: None)", 130, "relucid: interrupted\n"),
    ],
    ids=["seen by Python", "without effect"],
)
def test_an_interrupt_always_ends_the_process(handler, status, message):
    code = STUCK.format(handler=handler)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        # Far less than the minutes that it would go on for.
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, message)
