"""The ablation: a copy without error terms, and what the runs of all variants amount to."""

import ast
import csv
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from constructions.dataset import load_dataset
from relucid.ball_pass import Ball
from relucid.bundled import model_path

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import ablation

    return ablation


def test_the_copy_computes_without_error_terms(ablation, tmp_path):
    import unrounded

    folder = unrounded.build(tmp_path)
    for name in unrounded.SOURCES:
        tree = ast.parse((folder / "verifier" / name).read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and any(
                ast.unparse(d) == "jit" for d in function.decorator_list
            ):
                if function.name.startswith("proposed_"):
                    continue
                left = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
                # Arrays are still passed along, but nothing is computed with them.
                assert not left & {"UNIT", "TINY", "CHORD", "relaxed", "sizes"}, function.name
    code = """
import numpy as np
import verifier
from verifier.bounds.box_kernels import least
from verifier.bounds.kernels import chord_above, concretise
print(verifier.__file__)
print(chord_above.py_func(-1.0, 3.0), least.py_func(1.0, np.array([0.5, -0.25])))
mag, value = np.zeros(1), np.zeros(1)
one = np.ones((1, 1))
concretise.py_func(one, -one, one, one[0], np.array([5.0]), mag, value, one)
print(mag[0], value[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    where, numbers, rest = done.stdout.splitlines()
    assert where.startswith(str(folder))
    assert numbers == "(0.75, 0.75) 0.25"
    assert rest == "0.0 4.0"


def test_the_product_itself_keeps_them(ablation):
    import unrounded

    for name in unrounded.SOURCES:
        text = (unrounded.PACKAGE / name).read_text()
        assert unrounded.without_rounding(text)[1] > 0
        assert unrounded.without_rounding("x = 1\n") == ("x = 1\n", 0)


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("const -= (abs(const) + abs(b)) * (4.0 * UNIT) + net.own[k, i]", "pass"),
        ("mag += abs(v) * net.size[q, i]", "pass"),
        ("r = radius + abs(radius) * (8.0 * UNIT) + TINY", "r = radius"),
        ("return const - net.error * mag - net.underflow - c", "return const - c"),
        ("total += v * x", "total += v * x"),
        ("t -= MARGIN", "t -= MARGIN"),
        ("f(mag, UNIT)", "f(mag, UNIT)"),
    ],
)
def test_what_is_left_out(ablation, line, left):
    import unrounded

    source = "@jit\ndef f(const):\n    "
    assert unrounded.without_rounding(source + line)[0] == source + left + "\n"
    plain = "def f(const):\n    "
    assert unrounded.without_rounding(plain + line)[0] == plain + line + "\n"


def run(ablation, variant, prop, **given):
    values = {
        "repetition": 1, "verdict": "proved", "nodes": 10, "cpu": 1.0, "wall": 1.0, "write": 0.0,
        "size": 0,
    }  # fmt: skip
    return ablation.Measured(variant, "net", prop, **{**values, **given})


def test_shares(ablation):
    runs = [
        run(ablation, ablation.BASE, "a", cpu=1.2, wall=0.7),
        run(ablation, ablation.UNROUNDED, "a", cpu=1.0, nodes=8),
        run(ablation, ablation.PROOF, "a", cpu=1.3, write=0.2),
        run(ablation, ablation.ONE, "a", wall=1.4),
        # Not proved by all: does not count.
        run(ablation, ablation.BASE, "b"),
        run(ablation, ablation.UNROUNDED, "b", verdict="unknown"),
    ]
    (found,) = ablation.effects(runs)
    assert found.key == ("net", "a")
    assert found.rounding == pytest.approx(0.2)
    assert found.per_node == pytest.approx(1.2 / 1.0 * 8 / 10 - 1)
    assert found.proof == pytest.approx(0.25)
    assert found.writing == pytest.approx(1 / 6)
    assert found.speed_up == pytest.approx(2.0)
    assert "rounding costs median 20 %, worst 20 %, of all together 20 %" in ablation.figure(
        [found], 0.0
    )


def test_bundled_networks(ablation, monkeypatch, tmp_path, capsys):
    """End to end; compiling the copy takes too long here, so the product stands for it."""
    from make_instances import write_balls

    model = tmp_path / "set" / "digits-mlp.onnx"
    model.parent.mkdir()
    model.write_bytes(model_path("digits-mlp").read_bytes())
    data, ball = load_dataset("digits:test"), Ball(Fraction(1, 50), (Fraction(0), Fraction(1)))
    lines = write_balls(model, data, range(2), ball)
    (model.parent / "instances.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(ablation, "build", lambda folder: ROOT)
    figures = tmp_path / "FIGURES.md"
    figures.write_text("| head |\n| --- |\n")
    out = tmp_path / "out"
    options = [str(model.parent / "instances.csv"), "--out", str(out), "--repetitions", "1"]
    assert ablation.main([*options, "--row", str(figures)]) == 0
    with (out / "runs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 4
    assert {r["verdict"] for r in rows} == {"proved"}
    assert all((int(r["size"]) > 0) == (r["variant"] == "with a proof") for r in rows)
    assert (out / "summary.md").read_text() == capsys.readouterr().out
    row = figures.read_text().splitlines()[-1]
    assert "| ablation, set, 2 of 2 instances proved by all, 1 times each |" in row
    assert re.search(r"rounding costs median -?\d+ %", row)


def test_bad_input(ablation, tmp_path, capsys):
    assert ablation.main([str(tmp_path / "none.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "ablation: " in capsys.readouterr().err
