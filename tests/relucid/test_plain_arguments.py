"""Plain command lines mean what Typer reads in them; all others are left to Typer."""

import inspect
import itertools
import subprocess
import sys

import numpy as np
import pytest
from command_line import property_text, write_model

from relucid import certification, plain_arguments, proof_check
from relucid.certify import certify
from relucid.check import check
from relucid.commands import invoke
from verifier.core.network import Layer, Network

PLAIN = [
    "certify m.onnx --property p.vnnlib",
    "certify --property p.vnnlib m.onnx",
    "certify m.onnx --property p.vnnlib --timeout 0.5 --seed 12 --json",
    "certify m.onnx --timeout 116 --property p.vnnlib --proof a.proof --out r.json",
    "certify --json m.onnx --counterexample c.txt --property p.vnnlib",
    "check m.onnx p.vnnlib a.proof",
    "check --plain m.onnx --json p.vnnlib a.proof",
]

NOT_PLAIN = [
    "",
    "demo",
    "certify",
    "certify m.onnx",
    "certify --property p.vnnlib",
    "certify m.onnx --property",
    "certify m.onnx more --property p.vnnlib",
    "certify m.onnx --property=p.vnnlib",
    "certify m.onnx --property p.vnnlib --property q.vnnlib",
    "certify m.onnx --property p.vnnlib --json --json",
    "certify m.onnx --property p.vnnlib --help",
    "certify m.onnx --property --json",
    "certify -- m.onnx --property p.vnnlib",
    "certify m.onnx --property p.vnnlib --timeout 0",
    "certify m.onnx --property p.vnnlib --timeout 0.0",
    "certify m.onnx --property p.vnnlib --timeout soon",
    "certify m.onnx --property p.vnnlib --timeout inf",
    "certify m.onnx --property p.vnnlib --timeout -1",
    "certify m.onnx --property p.vnnlib --seed 1.5",
    "certify m.onnx --property p.vnnlib --engine lp",
    "certify m.onnx --property p.vnnlib --data digits",
    "check m.onnx p.vnnlib",
    "check m.onnx p.vnnlib a.proof b.proof",
    "check m.onnx p.vnnlib -",
]


@pytest.fixture
def asked(monkeypatch):
    """What the two commands are asked to do, the clock's reading aside."""
    calls = []

    def certified(model, path, options, targets, started):
        calls.append((model, path, options, targets))
        return 1

    def checked(*given, **named):
        bound = inspect.signature(original).bind(*given, **named)
        bound.apply_defaults()
        calls.append(bound.arguments)
        return 1

    original = proof_check.check_files
    monkeypatch.setattr(certification, "certify_property", certified)
    monkeypatch.setattr(proof_check, "check_files", checked)
    return calls


@pytest.mark.parametrize("line", PLAIN)
def test_plain_lines_mean_what_typer_reads(asked, line):
    assert plain_arguments.run(line.split()) == 1
    assert invoke(line.split(), True) == 1
    first, second = asked
    assert first == second


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_other_lines_are_left_to_typer(asked, line):
    assert plain_arguments.run(line.split(" ") if line else []) is None
    assert not asked


@pytest.mark.parametrize(("name", "command"), [("certify", certify), ("check", check)])
def test_every_name_is_a_parameter_of_the_command(name, command):
    form, parameters = plain_arguments.FORMS[name], inspect.signature(command).parameters
    names = [n for n, _ in (*form.positional, *form.options.values())] + list(form.flags.values())
    assert set(names) <= set(parameters)
    assert len(set(names)) == len(names)


_LEFT_OUT = (
    "scipy", "typer", "click", "pydantic", "rich", "onnx", "numba", "llvmlite", "sklearn",
    "matplotlib", "networkx", "highspy", "pulp", "vnnlib", "flint", "torch", "threadpoolctl",
    "concurrent.futures", "unittest",
)  # fmt: skip

_START = f"""
import sys
from relucid.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
loaded = [name for name in {_LEFT_OUT!r} if name in sys.modules]
assert not loaded, loaded
"""


def test_what_an_easy_question_about_a_dense_network_does_not_load(tmp_path):
    """Most of the time of a small instance is that of starting."""
    rng = np.random.default_rng(3)
    sizes = (5, 50, 50, 5)
    layers = [
        Layer(rng.normal(size=(m, n)), rng.normal(size=m), np.full(m, k < 2))
        for k, (n, m) in enumerate(itertools.pairwise(sizes))
    ]
    model = write_model(tmp_path / "m.onnx", Network(tuple(layers)))
    prop = tmp_path / "p.vnnlib"
    prop.write_text(
        property_text(n=5).replace("(>= Y_1 Y_0)", "(>= Y_1 1e9)") + "(assert (>= Y_0 1e9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", _START, "certify", str(model), "--property", str(prop)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("proved")
