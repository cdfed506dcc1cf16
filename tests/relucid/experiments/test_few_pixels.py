"""``relucid experiment few-pixels``: counts that other commands and exact evaluation confirm."""

import csv
import json
from fractions import Fraction

import numpy as np
import pytest
from command_line import assert_refused, relucid

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from constructions.dataset import load_dataset
from verifier.core.exact import fractions
from verifier.io.onnx import load_model

GIVEN = (
    "experiment", "few-pixels", "--data", "digits", "--architecture", "mlp", "--epochs", 2,
    "--threads", 1, "--limit", 5, "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("few")


def records(folder, name):
    return [
        record
        for path in sorted((folder / "steps").glob(f"{name}-*.json"))
        for record in json.loads(path.read_text())["records"]
    ]


def test_successes_are_exact_and_counted(capsys, folder):
    result = relucid(capsys, *GIVEN, "--out", folder)
    assert result.status == 0, result.err
    main, rates, shares = json.loads(result.out)["tables"]
    assert [row["attack"] for row in main["rows"]] == ["jsma", *["one-pixel"] * 3]
    assert [row["pixels allowed"] for row in main["rows"]] == [9, 1, 3, 5]
    (model,) = (folder / "models").glob("mlp-normal-*.onnx")
    network, data = load_model(model).network, load_dataset("digits:test")
    points = [fractions(data.float32(i)) for i in range(5)]
    right = [
        max(range(10), key=network.exact(p).__getitem__) == data.labels[i]
        for i, p in enumerate(points)
    ]
    jsma = records(folder, "jsma")
    assert main["rows"][0]["tried"] == len(jsma) == 9 * sum(right)
    successes = 0
    for record in jsma:
        if record["changes"] is None:
            continue
        successes += 1
        point = list(points[record["row"]])
        for j, value in record["changes"]:
            assert np.float32(value) == value
            assert 0 <= value <= 1
            point[j] = Fraction(value)
        assert len(record["changes"]) == record["pixels"] <= 9
        y = network.exact(point)
        assert all(v < y[record["target"]] for k, v in enumerate(y) if k != record["target"])
    assert main["rows"][0]["succeeded (exact)"] == successes > 0
    assert len(rates["rows"]) == len(shares["rows"]) == 10
    evolved = [row["succeeded (exact)"] for row in main["rows"][1:]]
    assert evolved[0] <= evolved[-1]
    assert {row["tried"] for row in main["rows"][1:]} == {sum(right)}
    assert (folder / "few-pixels.png").read_bytes()[:4] == b"\x89PNG"
    with (folder / "few-pixels-rates.csv").open() as stream:
        assert len(list(csv.reader(stream))) == 11


def test_again_without_computing(capsys, folder, monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("computed again")

    monkeypatch.setattr("relucid.experiments.few_pixels.reach_classes", refuse)
    monkeypatch.setattr("relucid.experiments.few_pixels.attack_points", refuse)
    before = (folder / "few-pixels.csv").read_bytes()
    assert relucid(capsys, *GIVEN, "--out", folder).status == 0
    assert (folder / "few-pixels.csv").read_bytes() == before


def test_points_that_are_no_pictures(capsys, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("a,b,label\n0.5,7,0\n0.25,3,1\n")
    given = ("experiment", "few-pixels", "--data", path, "--out", tmp_path / "o")
    assert_refused(relucid(capsys, *given, "--architecture", "mlp"), "pictures with values in")
