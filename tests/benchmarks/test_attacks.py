"""The benchmark of attacks writes its files, and looks at what rivals claim exactly."""

import csv
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from verifier.core.network import Layer, Network

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "attacks", raising=False)
    import attacks

    return attacks


def test_its_files(script, tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--limit", "4", "--model", "digits-mlp"]
    parts = [word for part in ("pixels", "balls", "gap", "masked") for word in ("--part", part)]
    assert script.main([*arguments, *parts]) == 0
    rows = list(csv.DictReader((tmp_path / "attacks.csv").open()))
    assert len(rows) == len(capsys.readouterr().out.splitlines())
    assert {row["part"] for row in rows} == {"pixels", "balls", "gap", "masked"}
    assert all(0 <= int(r["broken"]) <= int(r["clean"]) <= int(r["points"]) == 4 for r in rows)
    text = (tmp_path / "attacks.md").read_text()
    assert "## masked" in text
    assert (tmp_path / "attacks.png").read_bytes().startswith(b"\x89PNG")
    by = {(r["part"], r["attack"], r["size"]): int(r["broken"]) for r in rows}
    assert by["gap", "auto", "1/20"] <= by["gap", "certify auto", "1/20"]
    assert by["balls", "fgsm", "1/10"] <= by["balls", "auto", "1/10"]


def test_claims_are_looked_at_exactly(script):
    """Wrong and inside, wrong an ulp outside, right, and a point that was wrong before."""
    from attack_rivals import claims

    from torchbridge.attacks.regions import LinfBall

    network = Network((Layer(np.array([[1.0], [-1.0]]), np.array([0.0, 0.5]), np.zeros(2, bool)),))
    third = Fraction(1, 3)
    regions = [LinfBall((Fraction(c),), third) for c in (0.5, 0.5, 0.5, 0.125)]
    outside = np.float32(0.5 - 1 / 3)
    while Fraction(float(outside)) >= Fraction(1, 2) - third:
        outside = np.nextafter(outside, np.float32(0))
    moved = np.array([[0.25], [outside], [0.375], [0.0]])
    assert claims(network.exact, regions, np.array([0, 0, 0, 0]), moved) == (2, 1, 3)


def test_bad_input(script, tmp_path):
    for arguments in (["--limit", "0"], ["--part", "nothing"], ["--model", "nothing"]):
        with pytest.raises(SystemExit):
            script.main(["--out", str(tmp_path), *arguments])
