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

from relucid.options import MAX_SEED
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
        "--eps", "1/20", "--batch", 32, "--out", out, "--curves", curves, "--json", "--threads", 1,
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
        (["--out", "no/such/folder/n.onnx"], "does not exist"),
        (["--curves", "no/such/folder/n.png"], "does not exist"),
        (["--out", "."], "is a folder"),
        (["--curves", "."], "is a folder"),
        (["--seed", 2**64], "--seed"),
        (["--eps", "1e999"], "radius"),
        (["--eps", "1/0"], "--eps"),
        (["--threads", 100000], "--threads"),
        (["--architecture", "lenet5"], "got 8 × 8, which mlp, small-cnn"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, changes, message):
    given = ["--data", "digits", "--out", tmp_path / "n.onnx", "--epochs", 1]
    assert_refused(relucid(capsys, "train", "adversarial", *given, *changes), message)


def test_the_largest_seed_is_one(capsys, tmp_path):
    result = relucid(
        capsys, "train", "normal", "--data", "digits", "--architecture", "mlp", "--epochs", 1,
        "--out", tmp_path / "n.onnx", "--seed", MAX_SEED,
    )  # fmt: skip
    assert result.status == 0, result.err


def words(path, *labels: str):
    """One point on a line for each label: (k, 0) of the k-th word of the alphabet."""
    place = {word: 5 * k for k, word in enumerate(("cat", "dog", "emu"))}
    rows = "".join(f"{place.get(word, 0)},0,{word}\n" for word in labels for _ in range(8))
    path.write_text("a,b,label\n" + rows)
    return path


def test_held_out_words_are_matched_by_name(capsys, tmp_path):
    """dog is 1 among three words and 0 among two."""
    learnt = words(tmp_path / "learnt.csv", "cat", "dog", "emu")
    held_out = words(tmp_path / "held.csv", "emu", "dog")
    arguments = (
        "train", "normal", "--data", learnt, "--architecture", "mlp", "--epochs", 60, "--batch", 4,
        "--out", tmp_path / "n.onnx", "--json", "--held-out",
    )  # fmt: skip
    result = relucid(capsys, *arguments, held_out)
    assert result.status == 0, result.err
    assert json.loads(result.out)["history"][-1]["accuracy"] == 1
    other = words(tmp_path / "other.csv", "cat", "fox")
    assert_refused(
        relucid(capsys, *arguments, other), "label fox of held-out point 8", "cat, dog, emu"
    )


def test_held_out_points_may_have_fewer_classes_and_not_more(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for name, classes in (("three", 3), ("two", 2)):
        np.savez(tmp_path / f"{name}.npz", x=rng.random((12, 4)), y=np.arange(12) % classes)

    def train(learnt, held_out):
        return relucid(
            capsys, "train", "normal", "--data", tmp_path / f"{learnt}.npz", "--held-out",
            tmp_path / f"{held_out}.npz", "--architecture", "mlp", "--epochs", 1,
            "--out", tmp_path / "n.onnx",
        )  # fmt: skip

    assert train("three", "two").status == 0
    assert_refused(train("two", "three"), "label 2 of held-out point 2 is not one of the 2 classes")


def test_a_checkpoint_of_another_run_says_what_differs(capsys, tmp_path):
    from relucid.training import points_of, sets_of
    from torchbridge.training.loop import Training
    from torchbridge.training.recipe import recipe

    sets = map(points_of, sets_of("digits", None))
    made = recipe("normal", architecture="mlp", epochs=3)
    Training(made, *sets, path=tmp_path / "n.onnx.checkpoint").save()
    result = relucid(
        capsys, "train", "normal", "--data", "digits", "--architecture", "mlp", "--epochs", 2,
        "--out", tmp_path / "n.onnx",
    )  # fmt: skip
    assert_refused(result, "of another run: its epochs is 3, now 2. Remove it, or give --restart")
