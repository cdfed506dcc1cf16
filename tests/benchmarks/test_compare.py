"""The benchmark beside rivals: verdicts are read, compared and counted, runs are resumed."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "compare.py"

# Stands for a tool: NAME NETWORK PROPERTY LIMIT ANSWER; the property's name says how it behaves.
FAKE = """
import pathlib, sys, time
tool, network, prop, limit, answer = sys.argv[1:]
name = pathlib.Path(prop).stem
if tool == "quick":
    print("unsat" if name in ("easy", "hard") else "sat")
elif tool == "rival":
    if name == "crash": print("Segmentation fault", file=sys.stderr); sys.exit(3)
    word = {"sat": "violated", "lie": "sat", "hard": "timeout"}.get(name, "holds")
    pathlib.Path(answer).write_text(word + "\\n((X_0 1.0))\\n")
else:
    if name == "easy": time.sleep(0.4)
    print("verdict: " + {"sat": "refuted", "hard": "unknown"}.get(name, "proved"))
"""


def compare(folder: Path, *names: str, options=()) -> subprocess.CompletedProcess[str]:
    (folder / "net.onnx").touch()
    (folder / "fake.py").write_text(FAKE)
    (folder / "instances.csv").write_text("".join(f"net.onnx,{n}.vnnlib,5\n" for n in names))
    command = f"{sys.executable} {folder / 'fake.py'}"
    fields = "{network} {property} {limit} {answer}"
    own = [folder / "instances.csv", "--out", folder / "out", *options]
    own += ["--relucid", f"{command} own {{network}} {{property}} {{limit}} none"]
    own += ["--tool", f"rival={command} rival {fields}"]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, own)], capture_output=True, text=True, check=False
    )


def test_tools_are_compared_instance_by_instance(tmp_path):
    done = compare(tmp_path, "easy", "sat", "crash", "hard")
    assert done.returncode == 0, done.stderr
    assert "| relucid | 3 of 4 | 2 | 1 |" in done.stdout
    assert "| rival | 2 of 4 | 1 | 1 |" in done.stdout
    assert "| rival | 2 |" in done.stdout  # without the crash and what neither solved
    with (tmp_path / "out" / "runs.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 8
    found = {(r["tool"], r["prop"]): (r["result"], r["reason"]) for r in rows}
    assert found["rival", "crash.vnnlib"] == ("error", "Segmentation fault")
    assert found["rival", "sat.vnnlib"] == ("sat", "")
    assert found["relucid", "hard.vnnlib"] == ("unknown", "")
    assert all(float(r["cpu"]) > 0 and 0 <= float(r["others"]) <= 1 for r in rows)
    assert (tmp_path / "out" / "cactus.png").stat().st_size > 1000
    assert (tmp_path / "out" / "summary.md").read_text() in done.stdout + "\n"
    # Who begins changes from instance to instance.
    assert [r["tool"] for r in rows[:4]] == ["relucid", "rival", "rival", "relucid"]


def test_contradicting_verdicts_end_the_run(tmp_path):
    done = compare(tmp_path, "easy", "lie")
    assert done.returncode == 1
    assert "WRONG rival net.onnx lie.vnnlib: sat, expected unsat" in done.stdout
    known = tmp_path / "known.csv"
    known.write_text("net.onnx,lie.vnnlib,sat\n")
    done = compare(tmp_path, "easy", "lie", options=["--resume", "--known", known])
    assert done.returncode == 1
    assert "WRONG relucid net.onnx lie.vnnlib: unsat, expected sat" in done.stdout


def test_rivals_are_compared_with_each_other_where_relucid_says_nothing(tmp_path):
    tools = tmp_path / "tools"
    command = f"{sys.executable} {tmp_path / 'fake.py'}"
    tools.write_text(
        f"# two rivals\nfirst={command} quick {{network}} hard.vnnlib 1 none\n\n"
        f"second={command} quick {{network}} sat.vnnlib 1 none\n"
    )
    done = compare(tmp_path, "hard", options=["--tools", tools])
    assert done.returncode == 1
    assert "WRONG second net.onnx hard.vnnlib: sat, expected unsat" in done.stdout


def test_every_loss_is_named_in_a_row_and_every_time_in_a_table(tmp_path):
    figures = tmp_path / "FIGURES.md"
    figures.write_text("| date | what |\n| --- | --- |")
    command = f"{sys.executable} {tmp_path / 'fake.py'}"
    quick = f"quick={command} quick {{network}} {{property}} {{limit}} none"
    options = ["--tool", quick, "--row", figures, "--table", "--timeout", "7"]
    options += ["--filter", "easy|hard"]
    done = compare(tmp_path, "easy", "hard", options=options)
    assert done.returncode == 0, done.stderr
    *_, row = figures.read_text().splitlines()
    assert re.match(r"\| \d{4}-\d\d-\d\d \| test_every_loss_is_named_in_a_0, 2 instances", row)
    assert re.search(r"\| \d+ cores? \(.*load [\d.]+ before, [\d.]+ after; others used \d+ %", row)
    assert "relucid 1 of 2 solved" in row
    quick = row[row.index("quick: 2 solved, errors: 0") :]
    assert re.search(r"net.onnx easy.vnnlib \(0\.\d+ / 0\.\d+ s\)", quick)
    assert "net.onnx hard.vnnlib (only quick, 0." in quick
    assert "`benchmarks/compare.py .../" in row
    assert "--tool quick=... --tool rival=... --timeout 7 --filter 'easy\\|hard'` at " in row
    assert str(tmp_path) not in row
    assert (tmp_path / "out" / "row.md").read_text() == row + "\n"
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in done.stdout
    with (tmp_path / "out" / "table.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [r["relucid result"] for r in rows] == ["unsat", "unknown"]
    assert [r["quick result"] for r in rows] == ["unsat", "unsat"]
    assert rows[1]["best"] == "quick"
    # Nothing new: no second row.
    done = compare(tmp_path, "easy", "hard", options=[*options, "--resume"])
    assert done.returncode == 0, done.stderr
    assert len(figures.read_text().splitlines()) == 3


def test_a_row_is_added_to_a_table_only(tmp_path):
    figures = tmp_path / "FIGURES.md"
    figures.write_text("no table\n")
    done = compare(tmp_path, "sat", options=["--row", figures])
    assert done.returncode == 2
    assert "expected a table at the end" in done.stderr
    assert figures.read_text() == "no table\n"


def test_a_run_is_resumed(tmp_path):
    assert compare(tmp_path, "easy").returncode == 0
    path = tmp_path / "out" / "runs.csv"
    path.write_text(path.read_text() + "rival,net.onnx,sat.vn")  # torn
    assert compare(tmp_path, "easy", "sat").returncode == 2
    done = compare(tmp_path, "easy", "sat", options=["--resume"])
    assert done.returncode == 0, done.stderr
    assert "easy" not in done.stderr
    assert "| rival | 2 of 2 |" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tool", "rival=again"], "with a new name"),
        (["--tool", "name"], "expected NAME=COMMAND"),
        (["--tools", "missing"], "missing"),
        (["--every", "0"], "at least 1"),
        (["--tool", "other=x {speed}"], "unknown field: 'speed'"),
        (["--filter", "nothing"], "no instance matches"),
        (["--filter", "("], "unterminated"),
    ],
)
def test_bad_input(tmp_path, options, message):
    done = compare(tmp_path, "easy", options=options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
