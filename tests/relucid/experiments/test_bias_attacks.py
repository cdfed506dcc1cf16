"""``relucid experiment bias-attacks`` on digits, with little effort."""

import json

import pytest
from command_line import relucid

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from relucid.experiments import bias_attacks

SMALL = ("--data", "digits", "--architecture", "mlp", "--epochs", 2, "--threads", 1, "--limit", 15)


def test_rates(capsys, tmp_path, monkeypatch):
    for name, value in (("STEPS", 4), ("ROUNDS", 1), ("QUERIES", 20), ("DRAWS", 2)):
        monkeypatch.setattr(bias_attacks, name, value)
    arguments = ("experiment", "bias-attacks", *SMALL, "--out", tmp_path, "--json")
    result = relucid(capsys, *arguments)
    assert result.status == 0, result.err
    record = json.loads(result.out)
    attacks, creation = (table["rows"] for table in record["tables"])
    at = [head for head in attacks[0] if head.startswith("broken at")]
    assert len(at) == 3
    groups = {(row["training"], row["attacked"]) for row in attacks}
    assert len(groups) == 4
    for training, part in groups:
        rows = [r for r in attacks if (r["training"], r["attacked"]) == (training, part)]
        *each, together = rows
        assert len(each) == (6 if part == "B_C" else 4)
        for head in at:
            assert together[head] >= max(row[head] for row in each)
        assert together[at[0]] <= together[at[1]] <= together[at[2]]
        assert all(0 < row["points (proved right)"] <= 15 for row in rows)
    assert any(row[at[2]] > 0 for row in attacks)
    assert [row["tries"] for row in creation] == [300] * 9
    again = relucid(capsys, *arguments)
    assert json.loads(again.out) == record
    assert sorted(path.name for path in tmp_path.glob("bias-attacks*")) == [
        "bias-attacks-creation.csv", "bias-attacks.csv", "bias-attacks.md", "bias-attacks.png"
    ]  # fmt: skip
