"""Points lie in their balls, and wrong labels are counted."""

import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from constructions.compact import compact
from constructions.dataset import load_dataset
from verifier.io.onnx_export import export_onnx

RADIUS = Fraction(7, 32) * Fraction(99, 100)


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "benchmarks" / "points_in_balls.py"
    spec = importlib.util.spec_from_file_location("points_in_balls", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_points_lie_in_the_balls(script):
    data = load_dataset("digits:test")
    kinds = 0
    for x, rows in script.batches(data, RADIUS, 12, 4):
        assert x.dtype == np.float32
        for point, i in zip(x, rows, strict=True):
            distances = [
                abs(Fraction(float(v)) - c) for v, c in zip(point, data.sample(int(i)), strict=True)
            ]
            assert max(distances) <= RADIUS
            kinds += min(distances) < RADIUS / 2
    assert 0 < kinds < 12


def test_right_and_wrong_labels_are_counted(script, tmp_path, monkeypatch, capsys):
    # Written sparsely, so that the file takes batches.
    monkeypatch.setattr("verifier.io.onnx_export_sparse.LEAST_BYTES", 0)
    monkeypatch.setattr("verifier.io.onnx_export_sparse.ADVANTAGE", 0)
    data = load_dataset("digits:test")
    export_onnx(compact(data, RADIUS).network, tmp_path / "n.onnx")
    options = [str(tmp_path / "n.onnx"), "digits:test", "--count", "600", "--batch", "100"]
    assert script.main([*options, "--mu", str(RADIUS)]) == 0
    assert capsys.readouterr().out.startswith("600 points, 0 wrong")
    assert script.main([*options, "--mu", "1/2"]) == 1
