"""The benchmark of proofs: what is written, checked, skipped and counted."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "check_proofs.py"

# Stands for `relucid`: the property's name says how it behaves.
FAKE = """
import json, pathlib, sys
command, *rest = sys.argv[1:]
if command == "certify":
    prop, proof = rest[2], rest[rest.index("--proof") + 1]
    name = pathlib.Path(prop).stem
    if name == "crash": print("relucid: broken", file=sys.stderr); sys.exit(2)
    verdict = {"hard": "unknown", "sat": "refuted"}.get(name, "proved")
    if name not in ("hard", "odd"): pathlib.Path(proof).write_bytes(b"p" * 2000)
    print(json.dumps({"verdict": verdict, "seconds": 2.0, "proof_seconds": 0.25,
        "reason": "time limit" if name == "hard" else None,
        "proof_problem": "no form yet" if name == "odd" else None}))
    sys.exit(name == "odd")
name = pathlib.Path(rest[1]).stem
assert pathlib.Path(rest[2]).read_bytes() == b"p" * 2000
if name == "lost": print("out of memory", file=sys.stderr); sys.exit(2)
valid = name != "wrong"
print(json.dumps({"result": "VALID" if valid else "INVALID", "seconds": 1.0, "nodes": 7,
    "rule": None if valid else "leaf", "step": None if valid else "block 3",
    "why": None if valid else "still open"}))
sys.exit(not valid)
"""


def bench(folder: Path, *names: str, options=()) -> subprocess.CompletedProcess[str]:
    (folder / "net.onnx").touch()
    (folder / "fake.py").write_text(FAKE)
    (folder / "instances.csv").write_text("".join(f"net.onnx,{n}.vnnlib,5\n" for n in names))
    fake = f"{sys.executable} {folder / 'fake.py'}"
    own = [folder / "instances.csv", "--out", folder / "out.csv", "--command", fake, *options]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, own)], capture_output=True, text=True, check=False
    )


def test_what_is_valid_is_measured_and_what_cannot_be_written_counted(tmp_path):
    done = bench(tmp_path, "easy", "sat", "odd", "hard")
    assert done.returncode == 0, done.stderr
    assert "4 instances: 2 proofs VALID (1 proved, 1 refuted)" in done.stdout
    assert "0 INVALID, 1 unwritten, 1 undecided, 0 errors" in done.stdout
    assert "check / search: median 0.50, maximum 0.50" in done.stdout
    assert "proof: median 2.00 kB" in done.stdout
    with (tmp_path / "out.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [r["result"] for r in rows] == ["VALID", "VALID", "unwritten", "undecided"]
    assert (rows[0]["size"], rows[0]["nodes"], rows[2]["reason"]) == ("2000", "7", "no form yet")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong", "INVALID net.onnx wrong.vnnlib: leaf, block 3: still open"),
        ("lost", "error net.onnx lost.vnnlib: status 2: out of memory"),
        ("crash", "error net.onnx crash.vnnlib: status 2: relucid: broken"),
    ],
)
def test_what_must_not_happen_ends_with_status_1(tmp_path, name, words):
    done = bench(tmp_path, "easy", name)
    assert done.returncode == 1
    assert words in done.stdout


def test_a_choice_of_nothing_is_refused(tmp_path):
    done = bench(tmp_path, "easy", options=["--filter", "none"])
    assert done.returncode == 2
    assert "no instance matches 'none'" in done.stderr


def test_instances_can_be_chosen(tmp_path):
    done = bench(tmp_path, "a", "b", "c", "d", options=["--every", "2", "--limit", "1"])
    assert "1 instances: 1 proofs VALID" in done.stdout
