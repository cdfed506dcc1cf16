"""Exit statuses, one-line errors, and what happens when the output has no place to go."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import assert_refused, command, hard_instance, property_text, relucid, write_model

import relucid as package
from relucid import cli


@pytest.fixture
def files(tmp_path):
    model = write_model(tmp_path / "m.onnx")
    prop = tmp_path / "p.vnnlib"
    prop.write_text(property_text())
    return model, prop


def test_help_groups_the_commands_by_purpose(capsys):
    result = relucid(capsys, "--help")
    assert result.status == 0
    prove = result.out[result.out.index("Prove") :]
    assert "certify" in prove
    assert "demo" in prove
    assert "separation" in result.out[result.out.index("Measure") :]
    assert "theorem" in result.out[result.out.index("Teach") :]
    assert "build" in result.out[result.out.index("Build") :]


def test_help_does_not_load_the_engines():
    code = (
        "import sys, relucid.cli; "
        "sys.exit(bool({'numba', 'onnx', 'rich', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([command()[0], "-c", code], check=False).returncode == 0


def test_version(capsys):
    result = relucid(capsys, "--version")
    assert (result.status, result.out) == (0, f"relucid {package.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["certfy"], ["No such command", "certfy"]),
        (["--what"], ["--what", "see relucid --help"]),
        (["certify"], ["model", "see relucid certify --help"]),
        (["certify", "m", "--engine", "magic"], ["--engine", "magic", "auto"]),
        (["certify", "m", "--timeout", "soon"], ["--timeout", "number"]),
        (["certify", "m", "--index", "-1"], ["--index", "0"]),
    ],
)
def test_wrong_arguments_take_one_line(capsys, arguments, words):
    assert_refused(relucid(capsys, *arguments), *words)


def test_no_command_shows_help_and_fails(capsys):
    result = relucid(capsys)
    assert result.status == 2
    assert "certify" in result.out + result.err


def test_errors_take_one_line_unless_debugging(capsys, tmp_path, files):
    missing = tmp_path / "none.vnnlib"
    assert_refused(relucid(capsys, "certify", files[0], "--property", missing), str(missing))
    with pytest.raises(Exception, match="No such file"):
        relucid(capsys, "certify", files[0], "--property", missing, "--debug")


def test_an_error_with_line_breaks_still_takes_one_line(capsys):
    assert cli._complain("first\nsecond\n  third", 2) == 2
    assert capsys.readouterr().err == "relucid: first second third\n"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "out of memory"),
        (OSError(28, "No space left on device", "/x/out.json"), 2, "/x/out.json: No space left"),
        (PermissionError(13, "Permission denied"), 2, "Permission denied"),
    ],
)
def test_every_outside_failure_has_its_line(capsys, monkeypatch, files, error, status, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("relucid.certification.open_model", fail)
    result = relucid(capsys, "certify", files[0], "--property", files[1])
    assert result.status == status
    assert words in result.err
    assert result.err.count("\n") == 1


def test_a_defect_is_not_dressed_up_as_the_user_s_fault(capsys, monkeypatch, files):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("relucid.certification.open_model", fail)
    with pytest.raises(ZeroDivisionError):
        relucid(capsys, "certify", files[0], "--property", files[1])


def test_a_full_disk_behind_stdout_is_one_line(files):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("w") as out:
        done = subprocess.run(
            command("certify", files[0], "--property", files[1]),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "relucid: No space left on device\n"


def test_a_reader_that_goes_away_is_one_line(files):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        done = subprocess.run(
            command("certify", files[0], "--property", files[1]),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("engine", ["auto", "milp"])
def test_an_interrupt_ends_with_130_and_writes_nothing(tmp_path, engine):
    model, prop = hard_instance(tmp_path)
    out = tmp_path / "out.json"
    arguments = (
        "certify",
        model,
        "--property",
        prop,
        "--out",
        out,
        "--timeout",
        "120",
        "--engine",
        engine,
    )
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        time.sleep(6)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.endswith("relucid: interrupted\n")
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hard.onnx", "hard.vnnlib"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(tmp_path, files, closed):
    out = tmp_path / "out.json"
    arguments = command("certify", files[0], "--property", files[1], "--out", out)
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("proved" in done.stdout) == (">&-" not in closed.split())
    assert out.read_text().count('"verdict"') == 1


def test_what_was_printed_arrives_whole_though_python_is_not_ended_properly(files):
    done = subprocess.run(
        command("certify", files[0], "--property", files[1], "--json"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.endswith("\n")
    assert json.loads(done.stdout)["verdict"] == "proved"
