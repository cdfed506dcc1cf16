"""The experiments that prove something of bias classifiers, from the outside."""

import json

import pytest
from command_line import relucid

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

SMALL = ("--data", "digits", "--architecture", "mlp", "--epochs", 2, "--threads", 1, "--json")


def tables(capsys, name, out, *more):
    result = relucid(capsys, "experiment", name, *SMALL, "--out", out, *more)
    assert result.status == 0, result.err
    return [table["rows"] for table in json.loads(result.out)["tables"]]


def test_bias_verified(capsys, tmp_path):
    (rows,) = tables(capsys, "bias-verified", tmp_path, "--limit", 6, "--timeout", 1)
    assert [row["radius"] for row in rows] == [0.01, 0.02, 0.05, 0.1]
    for row in rows:
        shares = [row[k] for k in row if k.endswith(("(exact)", "(exact witnesses)"))]
        assert shares == sorted(shares, reverse=True)
        undecided = row["not refuted (exact)"] - row["proved (exact)"]
        assert row["undecided"] == pytest.approx(6 * undecided)
    # A wrong point of a ball lies in the larger ones, and is kept.
    for head, falling in (("not refuted (exact)", True), ("refuted by the MILP", False)):
        column = [row[head] for row in rows]
        assert column == sorted(column, reverse=falling)
    assert rows[0]["proved (exact)"] > 0
    assert rows[-1]["not refuted (exact)"] < 1
    steps = sorted((tmp_path / "steps").iterdir())
    found = [p for s in steps for p in json.loads(s.read_text()).get("points", [])]
    assert len(found) == 24
    assert all(len(p["x"]) == 64 and p["pattern"] for p in found if p["answer"] == "refuted")
    # A second run reads all of it back.
    times = [path.stat().st_mtime_ns for path in steps]
    tables(capsys, "bias-verified", tmp_path, "--limit", 6, "--timeout", 1)
    assert [path.stat().st_mtime_ns for path in steps] == times


def test_bias_safety(capsys, tmp_path):
    rates, slopes, direction, law = tables(capsys, "bias-safety", tmp_path, "--limit", 4)
    assert [row["radius"] for row in rates] == [0.1, 0.2, 0.3]
    bounds = [row["no entry of J is larger (proved)"] for row in slopes]
    assert bounds == sorted(bounds)
    # The theorem: proved for every matrix, at every coordinate; the margin in floats agrees.
    assert [row["coordinates ±sign R_2j"] for row in direction[:3]] == [1, 1, 1]
    # The exact law: the same points are lost, counted twice.
    for row in law:
        assert row["sign vectors, each once"] == 256
        assert row["lost along the hidden gradient (exact)"] == row["lost by random signs (exact)"]
