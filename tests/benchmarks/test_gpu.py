"""The benchmark of devices, on Torch's processor device."""

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")


FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    return gpu


QUICK = ["--device", "torch", "--seconds", "0", "--steps", "3", "--batch", "5"]


def test_a_row_a_batch_and_both_sides_agree(script, capsys):
    assert script.main(["digits-mlp", *QUICK, "9"]) == 0
    out = capsys.readouterr().out
    assert "device: Torch on the processor; 3 steps" in out
    rows = re.findall(r"^\| digits-mlp \| (\d+) \| (\d+) \|.*\| ([\d.e+-]+) \| [^|]*\|$", out, re.M)
    assert [int(size) for _, size, _ in rows] == [5, 9]
    assert all(int(units) > 0 and float(apart) < 1e-3 for units, _, apart in rows)


def test_a_propertys_box_is_taken(script, tmp_path, capsys):
    lines = [f"(declare-const X_{i} Real)" for i in range(64)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(10)]
    lines += [f"(assert (>= X_{i} 0.25))(assert (<= X_{i} 0.5))" for i in range(64)]
    lines += ["(assert (>= Y_0 Y_1))"]
    path = tmp_path / "p.vnnlib"
    path.write_text("\n".join(lines))
    network = script.open_model("digits-mlp").network
    low, high = script.box_of(network, 0.0, path)
    assert (low.min(), low.max(), high.min(), high.max()) == (0.25, 0.25, 0.5, 0.5)
    assert script.main(["digits-mlp", "--property", str(path), *QUICK]) == 0
    assert "| digits-mlp |" in capsys.readouterr().out


def test_subproblems_are_differences_with_signs(script):
    network = script.open_model("digits-mlp").network
    q = script.subproblems(network, 20, 50)
    assert (q.rows.sum(axis=1) == 0).all()
    assert (np.abs(q.rows).sum(axis=1) == 2).all()
    assert (np.abs(q.sign).sum(axis=1) == 6).all()
    assert (q.param[q.sign != 0] == 0).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(script, capsys):
    assert script.main(["digits-mlp", "--device", "cuda"]) == 2
    assert re.fullmatch(r"gpu.py: --device cuda: .* 0 CUDA devices\n", capsys.readouterr().err)


def test_a_model_that_is_not_there_is_one_line(script, capsys):
    assert script.main(["nowhere.onnx", *QUICK]) == 2
    assert capsys.readouterr().err.count("\n") == 1
