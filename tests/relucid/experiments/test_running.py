"""``relucid experiment`` from the outside."""

import csv
import json

import numpy as np
import pytest
from command_line import assert_refused, relucid

from relucid.experiment import ExperimentName
from relucid.experiments.catalogue import EXPERIMENTS, experiment

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

SMALL = ("--data", "digits", "--architecture", "mlp", "--epochs", 1, "--threads", 1)


def test_every_experiment_is_found():
    assert [str(name) for name in ExperimentName] == list(EXPERIMENTS)
    assert all(callable(experiment(name)) for name in EXPERIMENTS)


def test_bias_parts_again_without_training(capsys, tmp_path):
    arguments = ("experiment", "bias-parts", *SMALL, "--out", tmp_path / "o", "--json")
    first = relucid(capsys, *arguments)
    assert first.status == 0, first.err
    record = json.loads(first.out)
    rows = record["tables"][0]["rows"]
    assert [row["training"] for row in rows] == ["normal", "adversarial", "bias-adversarial"]
    models = sorted((tmp_path / "o" / "models").glob("*.onnx"))
    assert len(models) == 3
    times = [path.stat().st_mtime_ns for path in models]
    again = relucid(capsys, *arguments)
    assert json.loads(again.out) == record
    assert [path.stat().st_mtime_ns for path in models] == times
    with (tmp_path / "o" / "bias-parts.csv").open() as stream:
        assert [float(row["C"]) for row in csv.DictReader(stream)] == [row["C"] for row in rows]


def test_without_a_test_part_the_table_says_what_it_measures_on(capsys, tmp_path):
    same = "points that were learnt"
    sets = ("digits:test", "digits:all", "digits")
    for name, data, expected in zip("abc", sets, (True, True, False), strict=True):
        arguments = ("experiment", "bias-parts", *SMALL, "--data", data, "--out", tmp_path / name)
        result = relucid(capsys, *arguments)
        assert result.status == 0, result.err
        assert (same in result.out) == expected
        assert (same in (tmp_path / name / "bias-parts.md").read_text()) == expected


def test_the_count_is_that_of_exact_arithmetic(capsys, tmp_path):
    """C's accuracy, as certify at radius 0 decides it."""
    result = relucid(capsys, "experiment", "bias-parts", *SMALL, "--out", tmp_path, "--json")
    row = json.loads(result.out)["tables"][0]["rows"][0]
    (model,) = (tmp_path / "models").glob("mlp-normal-*.onnx")
    exact = relucid(capsys, "certify", model, "--data", "digits", "--eps", "0", "--json")
    proved = [r["verdict"] == "proved" for r in json.loads(exact.out)]
    assert row["C"] == pytest.approx(sum(proved) / len(proved), abs=1.5 / len(proved))


def test_bad_input(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    start = ("experiment", "bias-parts", "--data", "digits")
    assert_refused(relucid(capsys, *start, "--out", tmp_path / "file"), "is a file")
    assert_refused(relucid(capsys, *start, "--out", tmp_path / "o"), "12 × 12")
    wrong = relucid(capsys, *start, "--out", tmp_path / "o", "--timeout", 0)
    assert_refused(wrong, "--timeout")


def test_points_without_blocks_are_refused_before_the_training(capsys, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.random((20, 8, 8)), y=np.arange(20) % 4)
    result = relucid(
        capsys, "experiment", "bias-safety", "--data", tmp_path / "d.npz", "--epochs", 1, "--out",
        tmp_path / "o",
    )  # fmt: skip
    assert_refused(result, "pictures of integers")
    assert not (tmp_path / "o" / "models").exists()
