"""``relucid train`` from the outside: a model that certify reads, resuming, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import assert_refused, relucid

from relucid.train import ArchitectureName, RecipeName

pytest.importorskip("torch", reason="torch is an extra, and is not installed")


def test_the_names_are_those_of_the_library():
    from torchbridge.training.architectures import ARCHITECTURES
    from torchbridge.training.recipe import RECIPES

    assert [str(name) for name in RecipeName] == list(RECIPES)
    assert [str(name) for name in ArchitectureName] == list(ARCHITECTURES)


def test_a_trained_model_is_certified(capsys, tmp_path):
    out, curves = tmp_path / "n.onnx", tmp_path / "c.png"
    result = relucid(
        capsys, "train", "adversarial", "--data", "digits", "--architecture", "mlp", "--epochs", 3,
        "--eps", 0.05, "--batch", 32, "--out", out, "--curves", curves, "--json", "--threads", 1,
    )  # fmt: skip
    assert result.status == 0, result.err
    record = json.loads(result.out)
    assert record["held_out"]
    assert [row["epoch"] for row in record["history"]] == [1, 2, 3]
    assert record["recipe"]["eps"] == 0.05
    assert curves.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.png", "n.onnx"]
    result = relucid(capsys, "certify", out, "--data", "digits", "--eps", "0", "--json")
    found = json.loads(result.out)
    right = sum(entry["verdict"] == "proved" for entry in found)
    # Exactly the float accuracy, unless a digit is within rounding of a tie.
    assert right / len(found) == pytest.approx(record["history"][-1]["accuracy"], abs=0.003)


def test_without_a_test_part_nothing_is_called_held_out(capsys, tmp_path):
    rng = np.random.default_rng(0)
    points, labels = rng.random((40, 3)), rng.integers(0, 2, 40)
    np.savez(tmp_path / "d.npz", x=points, y=labels)
    result = relucid(
        capsys, "train", "normal", "--data", tmp_path / "d.npz", "--architecture", "mlp",
        "--epochs", 1, "--out", tmp_path / "n.onnx",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert "has no test part" in result.err
    assert "learnt        accuracy" in result.out
    more = ("--architecture", "mlp", "--epochs", 1, "--out", tmp_path / "n.onnx", "--json")
    for data, held in (("digits:all", False), ("digits", True)):
        result = relucid(capsys, "train", "normal", "--data", data, *more)
        assert json.loads(result.out)["held_out"] is held
        assert ("has no test part" in result.err) is not held


def test_an_interrupted_command_goes_on(capsys, tmp_path):
    arguments = [
        "train", "adversarial", "--data", "digits", "--architecture", "mlp", "--epochs", "3000",
        "--out", str(tmp_path / "n.onnx"),
    ]  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-c", _EAGER, *arguments], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not (tmp_path / "n.onnx.checkpoint").exists():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.wait() == 130
    assert "interrupted" in child.stderr.read()
    assert not (tmp_path / "n.onnx").exists()
    # Another recipe does not go on from there, and says how to begin anew.
    other = ["train", "normal", *arguments[2:]]
    assert_refused(relucid(capsys, *other), "of another run")
    result = relucid(capsys, *other[:7], 1, *other[8:], "--restart")
    assert result.status == 0, result.err


_EAGER = """
import sys
from relucid import interrupt
from relucid.cli import run
from torchbridge.training import loop
loop.Training.__init__.__kwdefaults__["every"] = 0.0
interrupt.watch()
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--epochs", 0], "epochs"),
        (["--eps", -1], "radius"),
        (["--rate", "nan"], "step size"),
        (["--architecture", "vgg16"], "32 × 32"),
        (["--device", "nonsense"], "--device nonsense: expected auto"),
        (["--held-out", "missing.csv"], "missing.csv"),
        (["--out", "no/such/folder/n.onnx"], "no folder"),
        (["--curves", "no/such/folder/n.png"], "no folder"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, changes, message):
    given = ["--data", "digits", "--out", tmp_path / "n.onnx", "--epochs", 1]
    assert_refused(relucid(capsys, "train", "adversarial", *given, *changes), message)
