"""``relucid generate`` from the outside."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import pytest
from command_line import assert_refused, relucid

from relucid.generate import FamilyName
from relucid.generating.catalogue import FAMILIES, family
from verifier.core.errors import DataError
from verifier.io.onnx import load_model
from verifier.io.vnnlib import read_property

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

SMALL = (
    "--set", "steps=300", "--set", "width=16", "--set", "inputs=3", "--set", "restarts=2",
    "--set", "attempts=1", "--set", "window=50", "--set", "proof_seconds=5",
)  # fmt: skip


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "ground_truth.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def point(path: Path) -> list[Fraction]:
    """The inputs in a witness file."""
    lines = path.read_text().replace("(", " ").replace(")", " ").splitlines()
    return [Fraction(line.split()[1]) for line in lines if line.split()[0].startswith("X_")]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    from relucid.cli import run

    folder = tmp_path_factory.mktemp("set") / "hidden"
    words = ["generate", "hidden", "--out", folder, "--count", 2, *SMALL]
    assert run([str(w) for w in words]) == 0
    return folder


def test_every_family_is_found():
    assert [str(name) for name in FamilyName] == list(FAMILIES)
    assert all(family(name).difficulties for name in FAMILIES)


def test_the_truth_is_exact_on_the_files(made):
    truths = rows(made)
    assert [row["truth"] for row in truths].count("sat") == 2
    for row in truths:
        model = load_model(made / row["network"])
        network = model.network
        file = read_property(
            made / row["property"], n_inputs=network.n_inputs, n_outputs=network.n_outputs
        )
        if row["truth"] == "sat":
            x = point(made / row["evidence"])
            assert file.prop.violation(x, network.exact(x)) is not None
            middle = [(a + b) / 2 for a, b in zip(*bounds(file.prop), strict=True)]
            assert file.prop.violation(middle, network.exact(middle)) is None


def bounds(prop) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    box = prop.cases[0].box
    return box.lower, box.upper


def test_proofs_are_valid_and_certify_agrees(capsys, made):
    for row in rows(made):
        files = made / row["network"], made / row["property"]
        if row["truth"] == "unsat":
            result = relucid(capsys, "check", *files, made / row["evidence"])
            assert result.status == 0
            assert "VALID" in result.out
        result = relucid(
            capsys, "certify", files[0], "--property", files[1], "--timeout", 10, "--json"
        )
        verdict = json.loads(result.out)["verdict"]
        assert verdict != {"sat": "proved", "unsat": "refuted"}[row["truth"]]


def test_lists_go_together(made):
    truths = rows(made)
    with (made / "instances.csv").open(newline="") as stream:
        listed = [tuple(line[:2]) for line in csv.reader(stream)]
    assert listed == [(row["network"], row["property"]) for row in truths]
    with (made / "known.csv").open(newline="") as stream:
        known = list(csv.reader(stream))
    assert known == [[Path(n).name, Path(p).name, r["truth"]]
                     for (n, p), r in zip(listed, truths, strict=True)]  # fmt: skip


def test_a_finished_set_is_not_made_again(capsys, made):
    files = sorted(p for p in made.rglob("*") if p.is_file())
    before = {path: path.read_bytes() for path in files}
    times = {p: p.stat().st_mtime_ns for p in files if p.suffix == ".onnx"}
    (made / "steps" / "1.json").unlink()
    (made / "onnx" / "hidden_1.onnx").unlink()
    arguments = ("generate", "hidden", "--out", made, "--count", 2, *SMALL)
    result = relucid(capsys, *arguments, "--json")
    assert result.status == 0, result.err
    assert len(json.loads(result.out)["instances"]) == len(rows(made))
    assert (made / "onnx" / "hidden_0.onnx").stat().st_mtime_ns == times[
        made / "onnx" / "hidden_0.onnx"
    ]
    # The seed decides: what was lost comes back bit for bit.
    again = made / "onnx" / "hidden_1.onnx"
    assert again.read_bytes() == before[again]
    assert_refused(relucid(capsys, *arguments, "--seed", 1), "another family, seed")
    assert_refused(relucid(capsys, *arguments, "--set", "width=17"), "other settings")


def test_bad_input(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    start = ("generate", "hidden", "--count", 1, "--out")
    assert_refused(relucid(capsys, *start, tmp_path / "file"), "is a file")
    out = tmp_path / "o"
    assert_refused(relucid(capsys, *start, out, "--difficulty", "absurd"), "easy, medium, hard")
    assert_refused(relucid(capsys, *start, out, "--set", "depth=3"), "NAME=VALUE")
    assert_refused(relucid(capsys, *start, out, "--set", "steps=x"), "whole number")
    assert_refused(relucid(capsys, *start, out, "--set", "eps=1/0"), "ratio")
    assert_refused(relucid(capsys, *start, out, "--set", "eps=2"), "always meet")
    assert_refused(relucid(capsys, *start, out, "--set", "eps=1e999999999"), "expected a decimal")
    assert_refused(relucid(capsys, *start, out, "--set", "width=1000000"), "GiB")
    assert_refused(
        relucid(capsys, *start, out, "--set", f"inputs=1{'0' * 400}"), "up to 1000000000"
    )
    assert_refused(relucid(capsys, "generate", "absurd", "--out", out), "FAMILY")


def test_training_without_success_is_said(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("relucid.generating.hidden._witness", lambda *_: None)
    few = ("--count", 1, "--set", "steps=1", "--set", "attempts=1")
    result = relucid(capsys, "generate", "hidden", "--out", tmp_path, *few)
    # Progress may have been shown before.
    assert result.status == 2
    assert "no counterexample" in result.err.splitlines()[-1]
    assert not (tmp_path / "instances.csv").exists()


def test_settings_are_read_as_their_types():
    settings = family("hidden").settings("easy", ["eps=1/3", "steps=7", "margin=0.5"])
    assert (settings.eps, settings.steps, settings.margin) == (Fraction(1, 3), 7, 0.5)
    with pytest.raises(DataError, match="finite"):
        family("hidden").settings(None, ["margin=inf"])
