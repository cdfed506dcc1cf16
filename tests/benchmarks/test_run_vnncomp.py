"""The benchmark runner: limits are enforced, runs resume, contradictions are seen."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "run_vnncomp.py"

# Stands for `relucid certify`: the property's name says how it behaves.
FAKE = """
import json, pathlib, subprocess, sys, time
model, _, prop, _, timeout, flag, *extra = sys.argv[1:]
if flag != "--json" or not pathlib.Path(model).exists(): sys.exit(3)
log = pathlib.Path(model).parent / "log"
with log.open("a") as lines: lines.write(f"{prop} {timeout} {extra}\\n")
name = pathlib.Path(prop).name
if name.startswith("crash"): print("first line", "model.onnx: broken", sep="\\n", file=sys.stderr)
if name.startswith("crash"): sys.exit(2)
if name.startswith("garbage"): print("proved!"); sys.exit(0)
if name.startswith("hang"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (log.parent / "child").write_text(str(child.pid)); time.sleep(600)
if name.startswith("late"): time.sleep(float(timeout))
if name.startswith("big"): block = bytearray(300_000_000); time.sleep(0.5)
words = {"proved": "proved", "refuted": "refuted", "big": "proved"}
print(json.dumps({"verdict": words.get(name.split(".")[0], "unknown"), "reason": "because"}))
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A set's folder, with a model and the fake command."""
    made = tmp_path / "somset"
    made.mkdir()
    (made / "net.onnx").touch()
    (made / "fake.py").write_text(FAKE)
    return made


def write_instances(folder: Path, *names: str, limit: float = 5) -> Path:
    file = folder / "instances.csv"
    file.write_text("".join(f"net.onnx,{name}.vnnlib,{limit}\n" for name in names))
    return file


def command(folder: Path, *options: str) -> list[str]:
    fake = f"{sys.executable} {folder / 'fake.py'}"
    out = folder / "results.csv"
    own = [str(folder / "instances.csv"), "--out", str(out), "--command", fake]
    return [sys.executable, str(SCRIPT), *own, *options]


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *options), capture_output=True, text=True, check=False)


def results(folder: Path) -> list[list[str]]:
    return list(csv.reader((folder / "results.csv").read_text().splitlines()))


def calls(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def test_results_have_the_competition_form(folder):
    write_instances(folder, "proved", "refuted", "other")
    done = bench(folder)
    assert done.returncode == 0, done.stderr
    assert [row[:5] for row in results(folder)] == [
        ["somset", "net.onnx", "proved.vnnlib", "0", "unsat"],
        ["somset", "net.onnx", "refuted.vnnlib", "0", "sat"],
        ["somset", "net.onnx", "other.vnnlib", "0", "unknown"],
    ]
    assert all(0 < float(row[5]) < 5 for row in results(folder))
    assert "solved 2 of 3: 1 unsat, 1 sat; 0 timeouts, 1 unknown, 0 errors" in done.stdout


def test_a_process_that_ignores_its_limit_is_killed_with_its_children(folder):
    write_instances(folder, "hang", limit=0.5)
    done = bench(folder)
    assert results(folder)[0][4] == "timeout"
    assert "1 over their limit" in done.stdout
    child = int((folder / "child").read_text())
    # A signal reaches a process when it is scheduled next, and a killed orphan may stay listed as a
    # zombie until the system collects it.
    until = time.monotonic() + 30
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_an_unknown_at_the_limit_is_a_timeout(folder):
    write_instances(folder, "late", limit=0.3)
    bench(folder)
    assert results(folder)[0][4] == "timeout"


@pytest.mark.parametrize(
    ("name", "reason"), [("crash", "model.onnx: broken"), ("garbage", "no JSON object")]
)
def test_a_failing_command_is_an_error_and_never_a_verdict(folder, name, reason):
    write_instances(folder, name)
    done = bench(folder)
    assert results(folder)[0][4] == "error"
    assert reason in done.stdout


def test_peak_memory_is_seen(folder):
    write_instances(folder, "big")
    bench(folder)
    (details,) = (folder / "results.csv.details.jsonl").read_text().splitlines()
    assert 300 < json.loads(details)["peak_mb"] < 500


def test_resume_runs_only_what_is_missing_and_repairs_a_torn_line(folder):
    write_instances(folder, "proved", "refuted", "other")
    bench(folder)
    out = folder / "results.csv"
    lines = out.read_text().splitlines(keepends=True)
    out.write_text(lines[0] + lines[1][:20])
    done = bench(folder, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(calls(folder)) == 5
    assert [row[2] for row in results(folder)] == [
        "proved.vnnlib", "refuted.vnnlib", "other.vnnlib"
    ]  # fmt: skip
    assert "solved 2 of 3" in done.stdout


def test_an_existing_file_is_not_overwritten(folder):
    write_instances(folder, "proved")
    bench(folder)
    before = (folder / "results.csv").read_text()
    done = bench(folder)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert (folder / "results.csv").read_text() == before


def test_interrupt_kills_what_runs_and_keeps_what_is_done(folder):
    write_instances(folder, "proved", "hang", "refuted", limit=60)
    process = subprocess.Popen(command(folder), stderr=subprocess.PIPE, text=True)
    while not (folder / "child").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert [row[2] for row in results(folder)] == ["proved.vnnlib"]


def test_a_contradiction_is_named_and_fails(folder):
    write_instances(folder, "proved", "refuted")
    known = folder / "known.csv"
    known.write_text("net.onnx,proved.vnnlib,unsat\nnet.onnx,refuted.vnnlib,unsat\n")
    done = bench(folder, "--known", str(known))
    assert done.returncode == 1
    assert "wrong 1 of 2" in done.stdout
    assert "WRONG net.onnx refuted.vnnlib: sat, known to be unsat" in done.stdout


def test_limit_filter_timeout_and_extra_arguments(folder):
    write_instances(folder, "proved", "refuted", "refuted.again")
    done = bench(folder, "--filter", "refuted", "--limit", "1", "--timeout", "7", "--", "--engine")
    assert done.returncode == 0, done.stderr
    assert calls(folder) == [f"{folder / 'refuted.vnnlib'} 7 ['--engine']"]


def test_compressed_properties_are_found(folder):
    write_instances(folder, "proved")
    (folder / "proved.vnnlib.gz").touch()
    bench(folder)
    assert calls(folder)[0].startswith(f"{folder / 'proved.vnnlib.gz'} ")


def test_two_at_a_time_write_whole_lines(folder):
    write_instances(folder, *[f"proved.{i}" for i in range(6)])
    done = bench(folder, "--processes", "2")
    assert "solved 6 of 6" in done.stdout
    assert {len(row) for row in results(folder)} == {6}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no instances"),
        ("net.onnx,p.vnnlib\n", "instances.csv:1: expected network, property, seconds"),
        ("net.onnx,p.vnnlib,soon\n", "instances.csv:1: expected"),
        ("net.onnx,p.vnnlib,1,2\n", "instances.csv:1: expected"),
    ],
)
def test_a_bad_list_is_one_line_and_status_2(folder, text, message):
    (folder / "instances.csv").write_text(text)
    done = bench(folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "results.csv").exists()


def test_missing_lists_are_named(folder):
    assert "No such file" in bench(folder).stderr
    write_instances(folder, "proved")
    done = bench(folder, "--known", os.devnull + "/none")
    assert done.returncode == 2
    done = bench(folder, "--filter", "nothing like it")
    assert (done.returncode, done.stdout) == (2, "")


def test_shipped_known_verdicts_are_well_formed():
    sizes = {}
    for file in (SCRIPT.parent / "known").glob("*.csv"):
        rows = list(csv.reader(file.read_text().splitlines()))
        assert {row[2] for row in rows} == {"sat", "unsat"}
        assert len({tuple(row[:2]) for row in rows}) == len(rows)
        sizes[file.stem] = len(rows)
    assert sizes == {"acasxu": 186, "mnistfc": 62}
