"""--device: one rule for names; in certify the same verdicts, valid proofs, Torch only if asked."""

import json
import re
import subprocess
import sys

import pytest

from relucid import cli
from verifier.bounds.passes import larger

BALLS = ["certify", "digits-conv", "--data", "digits", "--eps", "0.02", "--limit", "4", "--json"]


def verdicts(text):
    return [(r["index"], r["verdict"]) for r in json.loads(text)]


def test_verdicts_are_those_of_the_processor_and_proofs_are_valid(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch", reason="torch is an extra, and is not installed")
    from torchbridge.device import DevicePasses

    proposed, propose = [], DevicePasses.propose
    monkeypatch.setattr(DevicePasses, "propose", lambda *args: proposed.append(0) or propose(*args))
    assert cli.run([*BALLS, "--engine", "bab"]) == 0
    plain = verdicts(capsys.readouterr().out)
    folder = tmp_path / "proofs"
    assert cli.run([*BALLS, "--engine", "bab", "--device", "torch", "--proof", str(folder)]) == 0
    captured = capsys.readouterr()
    assert verdicts(captured.out) == plain
    assert len(proposed) > 10
    assert "device: Torch on the processor" in captured.err
    assert len(plain) == 4
    for index, verdict in plain:
        assert verdict in ("proved", "refuted")
        files = [str(folder / f"{index}.{kind}") for kind in ("vnnlib", "proof")]
        assert cli.run(["check", "digits-conv", *files]) == 0
        assert capsys.readouterr().out.startswith("VALID")
    assert larger() == 1


COMMANDS = [
    BALLS,
    ["attack", *BALLS[1:]],
    ["train", "normal", "--data", "digits", "--out", "n.onnx"],
    ["experiment", "bias-parts", "--data", "digits", "--out", "o", "--architecture", "mlp"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1"])
def test_every_command_refuses_other_names_alike(command, name, capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="torch is an extra, and is not installed")
    monkeypatch.chdir(tmp_path)
    assert cli.run([*command, "--device", name]) == 2
    wanted = f"relucid: --device {name}: expected auto, cpu, torch, cuda, cuda:N or another"
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_says_alike_what_the_names_are(command, capsys):
    assert cli.run([command[0], "--help"]) == 0
    shown = " ".join(re.sub(r"[│|]", " ", capsys.readouterr().out).split())
    assert "auto: a GPU if there is one, else cpu." in shown


@pytest.mark.parametrize("engine", ["lp", "milp", "interval"])
def test_engines_that_split_no_neurons_are_refused(engine, capsys):
    assert cli.run([*BALLS, "--engine", engine, "--device", "torch"]) == 2
    assert "goes with --engine auto or bab" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_one_line(capsys):
    torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert cli.run([*BALLS, "--device", "cuda"]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"relucid: --device cuda: Torch .* finds 0 CUDA devices\n", error)


def test_auto_takes_the_processor_where_there_is_no_gpu(capsys):
    torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert cli.run([*BALLS[:-3], "--limit", "1", "--json", "--device", "auto"]) == 0
    captured = capsys.readouterr()
    assert "device: the processor (Torch finds no GPU)" in captured.err
    assert len(verdicts(captured.out)) == 1


WITHOUT_TORCH = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else real(name, *more)
from relucid import cli
status = cli.run(sys.argv[1:])
print(status, "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("device", "status", "message"),
    [
        ("cpu", 0, ""),
        ("auto", 0, "device: the processor (Torch is not installed)"),
        ("cuda", 2, "relucid: --device cuda needs Torch, which is not installed"),
        ("torch", 2, "relucid: --device torch needs Torch, which is not installed"),
    ],
)
def test_without_torch(device, status, message):
    line = ["certify", "digits-mlp", "--data", "digits", "--eps", "0.06", "--limit", "2"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *line, "--device", device]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == f"{status} False"
    assert message in result.stderr
    assert "Traceback" not in result.stderr
