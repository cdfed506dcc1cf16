"""The benchmark of training: what it measures, leaves out, and writes."""

import csv
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
QUICK = ["--seconds", "0", "--repeats", "2", "--batch", "4", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "training", raising=False)
    import training

    before = torch.get_num_threads()
    yield training
    torch.set_num_threads(before)


def test_a_line_and_a_row_for_all_that_can_be_trained(script, tmp_path, capsys):
    table = tmp_path / "p.md"
    table.write_text("| a |\n| --- |\n| b |\n")
    given = ["--architecture", "mlp", "--architecture", "lenet5", "--out", str(tmp_path / "o.csv")]
    assert script.main([*QUICK, *given, "--row", str(table)]) == 0
    shown = capsys.readouterr()
    assert "certified-backward lenet5: left out: " in shown.err
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    recipes = [r["recipe"] for r in rows if r["architecture"] == "mlp"]
    assert len(recipes) == len(set(recipes)) == 8
    assert len(rows) == 15
    for row in rows:
        assert 0 < float(row["slowest"]) <= float(row["median"]) <= float(row["fastest"])
        assert float(row["per_cpu_second"]) > 0
        assert row["busy"] == ""
    assert shown.out.count("\n| ") == 2 + 15
    last = table.read_text().splitlines()[-1]
    assert "training on cpu (1 threads), batches of 4" in last
    assert "lenet5: normal " in last
    assert "adversarial-cw" in last


def test_steps_are_those_of_training(script, monkeypatch):
    """One that counts for nothing, then one at least in each repeat, on batches in turn."""
    from torchbridge.training.loop import Training

    seen, step = [], Training.step
    monkeypatch.setattr(
        Training, "step", lambda self, rows: seen.append(rows.tolist()) or step(self, rows)
    )
    options = script.arguments([*QUICK, "--repeats", "5"])
    script.measure("normal", "mlp", options, torch.device("cpu"))
    assert [rows[0] for rows in seen] == [0, 0, 4, 8, 12, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--device", "nowhere"], "--device nowhere"),
        (["--architecture", "vgg16", "--recipe", "certified-backward"], "no recipe can train"),
        (["--architecture", "mlp", "--recipe", "normal", "--row", "/nonexistent/r.md"], "r.md"),
    ],
)
def test_mistakes_are_one_line(script, capsys, given, message):
    assert script.main([*QUICK, *given]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
