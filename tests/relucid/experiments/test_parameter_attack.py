"""The experiment on attacks on parameters, on digits and a small network."""

import csv
import json
from fractions import Fraction

import pytest
from command_line import relucid

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

import torchbridge.parameter_attack as by_gradients
from relucid.experiments import parameter_attack
from verifier.core.errors import DataError

SMALL = ("--data", "digits", "--architecture", "mlp", "--epochs", 1, "--threads", 1, "--limit", 2)


def test_the_table(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(parameter_attack, "GAMMAS", (0.005,))
    monkeypatch.setattr(parameter_attack, "DELTAS", (Fraction(1, 8),))
    arguments = (
        "experiment", "parameter-attack", *SMALL, "--timeout", 0.5, "--out", tmp_path, "--json"
    )  # fmt: skip
    result = relucid(capsys, *arguments)
    assert result.status == 0, result.err
    record = json.loads(result.out)
    rows = record["tables"][0]["rows"]
    assert {row["attack"] for row in rows} == {"none", "constructed", "gradients"}
    before = {row["training"]: row for row in rows if row["attack"] == "none"}
    for row in rows:
        assert row["proved"] <= row["not refuted"] <= row["under PGD"]
        if row["attack"] == "constructed":
            # Exactly the outputs of the network on all points, and no ball is left.
            assert row["accuracy (measured)"] == before[row["training"]]["accuracy (measured)"]
            assert row["outputs kept (exact)"] == 1797
            assert row["not refuted"] == 0
        if row["attack"] != "none":
            assert 0 < Fraction(row["largest change (exact)"].lstrip("≈")) <= Fraction(row["δ"])
    assert relucid(capsys, *arguments).out == result.out
    with (tmp_path / "parameter-attack.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(rows)
    assert len(list(tmp_path.glob("parameter-attack-*-block-8.onnx"))) == 2


def test_settings_without_meaning_are_refused():
    for wrong in ({"gamma": 0.0}, {"steps": 0}, {"batch": 0}, {"eps": -1.0}):
        with pytest.raises(DataError):
            by_gradients.SignAscent(**({"gamma": 0.1, "eps": 0.1} | wrong))


def test_a_network_that_has_nothing_right(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(parameter_attack, "right", lambda *_: [])
    result = relucid(capsys, "experiment", "parameter-attack", *SMALL, "--out", tmp_path)
    assert result.status == 2
    assert "no held-out point" in result.err.splitlines()[-1]
