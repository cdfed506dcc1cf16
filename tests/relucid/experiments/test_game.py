"""The tables of the game on digits, at the smallest size."""

import json
from fractions import Fraction

import pytest
from command_line import relucid

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from relucid.experiments import deciding, game, gap, trade_off

SMALL = ("--data", "digits", "--architecture", "mlp", "--threads", 1, "--timeout", 2)


def table(capsys, name, out, *more):
    result = relucid(capsys, "experiment", name, *SMALL, "--out", out, "--json", *more)
    assert result.status == 0, result.err
    return json.loads(result.out)


def ordered(row):
    """Whether the columns of a row are in the order that is promised."""
    return row["under attack"] >= row["exact, at most"] >= row["exact, at least"]


def test_gap(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gap, "RADII", (Fraction(1, 20), Fraction(1, 10)))
    record = table(capsys, "gap", tmp_path, "--epochs", 4, "--limit", 8)
    rows = record["tables"][0]["rows"]
    assert [row["radius"] for row in rows] == [0.05, 0.1]
    for row in rows:
        assert row["accuracy"] >= row["under attack"]
        assert ordered(row)
        assert row["exact, at least"] >= row["certified"] >= row["certified by intervals"]
        assert (row["points"], row["outside the ball"]) == (8, 0)
    assert (tmp_path / "gap.png").exists()
    # Finished steps are read back; the verdicts are those of certify.
    assert table(capsys, "gap", tmp_path, "--epochs", 4, "--limit", 8) == record
    (model,) = (tmp_path / "models").glob("mlp-certified-*.onnx")
    arguments = ("--data", "digits", "--eps", "0.1", "--limit", 8, "--timeout", 10, "--json")
    told = json.loads(relucid(capsys, "certify", model, *arguments).out)
    proved = sum(r["verdict"] == "proved" for r in told) / 8
    assert rows[1]["exact, at least"] <= proved <= rows[1]["exact, at most"]


def test_a_violated_order_is_an_error():
    count = deciding.Count(10, 9, 5, 6, 4, 3, 2, 3, 0, 0, 0)
    with pytest.raises(RuntimeError, match="violated at 1/10"):
        gap._row(Fraction(1, 10), count)


def test_game(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(game, "TRAININGS", ("normal", "adversarial-cw"))
    record = table(capsys, "game", tmp_path, "--epochs", 1, "--limit", 3)
    rows, values = (each["rows"] for each in record["tables"])
    trainings = ["normal", "adversarial-cw"]
    assert [(row["training"], row["radius"]) for row in rows] == [
        (training, eps) for eps in (0.1, 0.2) for training in trainings
    ]
    assert all(ordered(row) and row["attacked"] == row["of"] == 3 for row in rows)
    assert len(values) == 12
    for row in values:
        bounds = row["PGD's answer"], row["game value, at least"], row["at most"]
        assert list(bounds) == sorted(bounds)
        assert row["AA, at least"] <= row["AA, at most"]
    # One model of normal training serves both radii.
    assert len(list((tmp_path / "models").glob("*.onnx"))) == 3


def test_trade_off(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(trade_off, "TRAINED", ("0", "0.1"))
    record = table(capsys, "trade-off", tmp_path, "--epochs", 1, "--limit", 3)
    rows, chosen = (each["rows"] for each in record["tables"])
    assert all(ordered(row) for row in rows)
    first, second = chosen
    assert first["accuracy"] == max(row["accuracy"] for row in rows)
    assert second["exact, at most"] >= max(row["exact, at least"] for row in rows)
