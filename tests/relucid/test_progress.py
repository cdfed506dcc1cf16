"""Progress goes to stderr only: a bar on a terminal, now and then a line elsewhere."""

import io

import pytest

from relucid import progress
from relucid.progress import Reporter
from verifier.core.verdict import Proved, Unknown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds(clock):
    stream = io.StringIO()
    with Reporter(3, stream) as reporter:
        for k, verdict in enumerate([Proved(None), Unknown("time"), Proved(None)]):
            reporter.begin(f"sample {k}")
            for _ in range(60):
                clock[0] += 0.1
                reporter.update("searching", 0.25)
            reporter.finish(verdict)
    assert stream.getvalue().splitlines() == [
        "1/3 done (1 proved); sample 1: searching 25%",
    ]
    assert reporter.done == 3


def test_an_unknown_fraction_is_not_shown(clock):
    stream = io.StringIO()
    with Reporter(1, stream) as reporter:
        reporter.begin("p")
        clock[0] = 11
        reporter.update("searching", -1)
    assert stream.getvalue() == "p: searching\n"


def test_a_short_run_says_nothing(capsys):
    with Reporter(1) as reporter:
        reporter.begin("p")
        reporter.update("searching", 0.5)
        reporter.finish(Proved(None))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_terminal_gets_a_bar_and_stdout_stays_clean(capsys):
    stream = Terminal()
    with Reporter(2, stream) as reporter:
        reporter.begin("[odd] name")
        reporter._bar.refresh()
        reporter.finish(Proved(None))
        reporter.begin("next")
        print("a result")
    assert "[odd] name" in stream.getvalue()
    assert "1/2" in stream.getvalue()
    assert capsys.readouterr().out == "a result\n"


def test_the_bar_goes_away_when_the_work_fails():
    reporter = Reporter(1, Terminal())
    with pytest.raises(KeyboardInterrupt), reporter:
        raise KeyboardInterrupt
    assert reporter._bar.finished is False
    assert reporter._bar.live.is_started is False
