"""``relucid attack`` from the outside: tables, files, exact successes, and what it refuses."""

import csv
import json
from fractions import Fraction

import numpy as np
import pytest
from command_line import assert_refused, relucid, write_model

from relucid.bundled import open_model
from torchbridge import installed
from verifier.core.network import Layer, Network

pytest.importorskip("torch")


@pytest.fixture
def model(tmp_path):
    """y = x for x >= 0: class 0 where x_0 > x_1."""
    return write_model(tmp_path / "m.onnx")


@pytest.fixture
def data(tmp_path):
    """Radii 1/8, 3/8; the third point is wrong, the fourth a tie."""
    path = tmp_path / "d.csv"
    path.write_text("0.5,0.25,0\n0.25,1,1\n0.5,0.75,0\n0.5,0.5,1\n")
    return path


def answers(capsys, *arguments: object) -> list[dict]:
    result = relucid(capsys, "attack", *arguments, "--json")
    assert result.status == 0, result.err
    return json.loads(result.out)


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_what_is_broken(capsys, model, data, method):
    for eps, expected in (
        ("1/16", ["held", "held", "wrong", "wrong"]),
        ("1/4", ["broken", "held", "wrong", "wrong"]),
        ("3/8", ["broken", "broken", "wrong", "wrong"]),  # a tie, at the corner of the ball
    ):
        records = answers(capsys, model, "--data", data, "--eps", eps, "--method", method)
        assert [r["result"] for r in records] == expected
        assert [r["predicted"] for r in records] == [0, 1, 1, 0]
        for record in records:
            assert record["verdict"] == ("unknown" if record["result"] == "held" else "refuted")
            assert record["attack"] == (method if record["result"] == "broken" else None)


def test_successes_on_digits_are_exact(capsys):
    """Evaluated once more here, in the ball of radius 1/10 around the float32 values."""
    from constructions.dataset import load_dataset

    points = load_dataset("digits", default_split="test")
    network = open_model("digits-mlp").network
    records = answers(capsys, "digits-mlp", "--data", "digits", "--eps", "1/10", "--limit", 30)
    broken = [r for r in records if r["result"] == "broken"]
    assert len(broken) > 10
    for record in broken:
        x = [Fraction(v) for v in record["witness"]["x"]]
        center = [Fraction(float(v)) for v in points.float32(record["index"])]
        assert max(abs(a - b) for a, b in zip(x, center, strict=True)) <= Fraction(1, 10)
        assert all(0 <= v <= 1 for v in x)
        y = network.exact(x)
        assert max(v for k, v in enumerate(y) if k != record["label"]) >= y[record["label"]]
        assert record["witness"]["replay"]["x"] == [float(v) for v in x]


def test_the_table_and_its_summary(capsys, model, data):
    result = relucid(capsys, "attack", model, "--data", data, "--eps", "1/4")
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[0].endswith("pgd, ℓ∞ balls of radius 1/4")
    assert lines[2].split() == ["index", "label", "result", "seconds", "evidence"]
    assert "pgd: ℓ∞ distance" in lines[3]
    assert "the point itself is classified 1" in lines[5]
    assert lines[8:] == [
        "clean accuracy         2/4 = 50.0%",
        "accuracy under attack  1/4 = 25.0%",
        "successes              1, each inside its ball and wrong in exact arithmetic; 1 of them "
        "in onnxruntime",
    ]


def test_files(capsys, tmp_path):
    out, folder, picture = tmp_path / "o.csv", tmp_path / "w", tmp_path / "p.png"
    result = relucid(
        capsys, "attack", "digits-mlp", "--data", "digits", "--eps", "1/5", "--limit", 4,
        "--out", out, "--counterexample", folder, "--picture", picture,
    )  # fmt: skip
    assert result.status == 0, result.err
    rows = list(csv.DictReader(out.open()))
    broken = [row["index"] for row in rows if row["result"] != "held"]
    assert sorted(p.name for p in folder.iterdir()) == [f"{i}.txt" for i in broken]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_no_picture_without_a_success(capsys, tmp_path):
    result = relucid(
        capsys, "attack", "digits-mlp", "--data", "digits", "--eps", "0", "--limit", 2,
        "--picture", tmp_path / "p.png",
    )  # fmt: skip
    assert "nothing was broken" in result.err
    assert not (tmp_path / "p.png").exists()


def test_a_time_limit(capsys, model, data):
    records = answers(capsys, model, "--data", data, "--eps", "1/16", "--timeout", "1e-9")
    assert [r["result"] for r in records] == ["stopped", "stopped", "wrong", "wrong"]
    assert records[0]["reason"] == "stopped"


@pytest.mark.parametrize("method", ["apgd", "cw", "cw-l2", "square", "transfer", "auto"])
def test_every_method_on_digits(capsys, method):
    """Each breaks something; every success is inside its ball, and wrong by exact evaluation."""
    from constructions.dataset import load_dataset

    points = load_dataset("digits", default_split="test")
    network = open_model("digits-mlp").network
    eps = Fraction(4, 5) if method == "cw-l2" else Fraction(1, 7)
    records = answers(
        capsys, "digits-mlp", "--data", "digits", "--eps", eps, "--limit", 12, "--method", method
    )
    broken = [r for r in records if r["result"] == "broken"]
    assert len(broken) >= 5
    for record in broken:
        x = [Fraction(v) for v in record["witness"]["x"]]
        center = [Fraction(float(v)) for v in points.float32(record["index"])]
        change = [abs(a - b) for a, b in zip(x, center, strict=True)]
        squares = sum(v * v for v in change)
        assert squares <= eps**2 if method == "cw-l2" else max(change) <= eps
        assert record["norm"] == ("l2" if method == "cw-l2" else "linf")
        y = network.exact(x)
        assert max(v for k, v in enumerate(y) if k != record["label"]) >= y[record["label"]]


@pytest.mark.parametrize("method", ["one-pixel", "jsma"])
def test_pixels(capsys, method):
    counts = []
    for pixels in (1, 3):
        result = relucid(
            capsys, "attack", "digits-conv", "--data", "digits", "--limit", 12,
            "--pixels", pixels, "--method", method, "--json",
        )  # fmt: skip
        records = json.loads(result.out)
        assert all(r["pixels"] == str(pixels) for r in records)
        counts.append(sum(r["result"] == "broken" for r in records))
    assert 0 < counts[0] <= counts[1]
    text = relucid(
        capsys, "attack", "digits-conv", "--data", "digits", "--limit", 12, "--method", method
    ).out
    assert f"{method}: 1 pixel, classified" in text
    assert f"{method}, 1 pixel cut to [0, 1]" in text


def test_attacks_beside_the_exact_answer(capsys):
    """No attack breaks what is proved; the ensemble breaks nearly all that is refuted."""
    result = relucid(
        capsys, "certify", "digits-mlp", "--data", "digits", "--eps", "1/12", "--limit", 12,
        "--json",
    )  # fmt: skip
    exact = [r["verdict"] for r in json.loads(result.out)]
    assert set(exact) == {"proved", "refuted"}
    found = answers(
        capsys, "digits-mlp", "--data", "digits", "--eps", "1/12", "--limit", 12, "--method", "auto"
    )
    for verdict, record in zip(exact, found, strict=True):
        assert verdict == "refuted" or record["result"] == "held"
    refuted = exact.count("refuted")
    assert sum(r["verdict"] == "refuted" for r in found) >= refuted - 1


def test_a_given_surrogate(capsys, tmp_path):
    arguments = ("digits-conv", "--data", "digits", "--eps", "1/5", "--limit", 12)
    records = answers(capsys, *arguments, "--method", "transfer", "--surrogate", "digits-mlp")
    assert sum(r["result"] == "broken" for r in records) >= 3
    wrong = write_model(tmp_path / "two.onnx")
    assert_refused(
        relucid(capsys, "attack", *arguments, "--method", "transfer", "--surrogate", wrong),
        "64 inputs and 10 outputs",
    )


def test_a_sign(capsys, tmp_path):
    network = Network((Layer(np.array([[1.0]]), np.array([-0.5]), np.array([False])),))
    model = write_model(tmp_path / "sign.onnx", network)
    path = tmp_path / "d.csv"
    path.write_text("0.25,0\n1,1\n")
    options = ("--outputs", "sign", "--no-clip", "--eps", "1/3")
    assert [r["result"] for r in answers(capsys, model, "--data", path, *options)] == [
        "broken", "held",
    ]  # fmt: skip


def test_without_torch(capsys, monkeypatch, model, data):
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    result = relucid(capsys, "attack", model, "--data", data, "--eps", "1/4")
    assert_refused(result, "pip install relucid[torch]")


BAD = [
    (["--eps", "-1"], "--eps"),
    (["--eps", "x"], "--eps"),
    ([], "--eps"),
    (["--eps", "1", "--pixels", "2"], "no --pixels"),
    (["--eps", "1", "--method", "none"], "--method"),
    (["--eps", "1", "--method", "fgsm", "--steps", "2"], "--steps says nothing"),
    (["--eps", "1", "--steps", "0"], "--steps"),
    (["--eps", "1", "--method", "one-pixel"], "no --eps"),
    (["--method", "jsma"], "range for their values"),
    (["--pixels", "0", "--method", "jsma"], "--pixels"),
    (["--eps", "1", "--surrogate", "digits-mlp"], "--method transfer"),
    (["--eps", "1", "--device", "nowhere"], "--device nowhere"),
    (["--eps", "1", "--timeout", "nan"], "--timeout"),
    (["--eps", "1", "--index", "4"], "no point 4"),
    (["--eps", "1", "--clip", "0.6", "1"], "outside of [3/5, 1]"),
    (["--eps", "1", "--outputs", "sign"], "one output"),
    (["--eps", "1", "--out", "missing/o.csv"], "does not exist"),
    (["--eps", "1", "--picture", "p.png"], "no pictures"),
    (["--eps", "1", "--counterexample", "d.csv"], "is a file"),
    (["--eps", "1", "--seed", "18446744073709551616"], "--seed"),
]


@pytest.mark.parametrize(("arguments", "word"), BAD)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, model, data, arguments, word):
    monkeypatch.chdir(tmp_path)
    assert_refused(relucid(capsys, "attack", model, "--data", data, *arguments), word)


def test_points_and_labels_that_do_not_fit(capsys, model, tmp_path):
    assert_refused(
        relucid(capsys, "attack", model, "--data", "digits", "--eps", "1"), "64 coordinates"
    )
    (tmp_path / "empty.csv").write_text("")
    assert_refused(
        relucid(capsys, "attack", model, "--data", tmp_path / "empty.csv", "--eps", "1"), "empty"
    )
    (tmp_path / "three.csv").write_text("0.5,0.25,2\n0,1,1\n0,1,0\n")
    assert_refused(
        relucid(capsys, "attack", model, "--data", tmp_path / "three.csv", "--eps", "1"), "label"
    )


def test_every_method_has_a_name_here():
    from relucid.attack import Method
    from torchbridge.attacks.interface import Norm
    from torchbridge.attacks.methods import METHODS, norm_of

    assert {str(m) for m in Method} == set(METHODS)
    for method in Method:
        assert method.counts_pixels == (norm_of(str(method)) is Norm.l0)


def test_an_interrupt_writes_what_is_finished(capsys, tmp_path, monkeypatch):
    """After the first batch."""
    from relucid import attacking

    real = attacking.attack_points

    def stopped(*arguments, **options):
        for attacked in real(*arguments, **options):
            if attacked.row == 256:
                raise KeyboardInterrupt
            yield attacked

    monkeypatch.setattr(attacking, "attack_points", stopped)
    out = tmp_path / "o.json"
    result = relucid(
        capsys, "attack", "digits-mlp", "--data", "digits", "--eps", "1/50", "--limit", 300,
        "--method", "fgsm", "--out", out,
    )  # fmt: skip
    assert result.status == 130
    assert "interrupted after 256 of 300" in result.out
    assert result.err.endswith("relucid: interrupted\n")
    assert len(json.loads(out.read_text())) == 256
