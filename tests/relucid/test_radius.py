"""``relucid radius`` from the outside: both ends, files, JSON, interrupts, and what it refuses."""

import csv
import json
import signal
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from command_line import assert_refused, command, relucid, write_model

from relucid.bundled import model_path
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.io.onnx import load_model
from verifier.search.portfolio import certify


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
    result = relucid(capsys, "radius", *arguments, "--json")
    assert result.status == 0, result.err
    return json.loads(result.out)


def test_both_ends_enclose_the_radius(capsys, model, data):
    first, second, wrong, tie = answers(capsys, model, "--data", data)
    for record, exact in ((first, Fraction(1, 8)), (second, Fraction(3, 8))):
        proved, refuted = Fraction(record["proved_eps"]), Fraction(record["refuted_eps"])
        assert proved < exact <= refuted
        assert (refuted - proved) / refuted <= Fraction(1, 1000)
        assert record["gap"] == pytest.approx(float((refuted - proved) / refuted))
        assert record["reason"] is None
    for record in (wrong, tie):
        assert (record["proved_eps"], record["refuted_eps"]) == (None, "0")
        assert record["witness"]["x"] in (["1/2", "3/4"], ["1/2", "1/2"])


def test_the_refuted_eps_is_the_distance_of_the_witness(capsys, model, data):
    (record,) = answers(capsys, model, "--data", data, "--index", 0)
    x = [Fraction(v) for v in record["witness"]["x"]]
    assert max(abs(x[0] - Fraction(1, 2)), abs(x[1] - Fraction(1, 4))) == Fraction(
        record["refuted_eps"]
    )
    assert x[0] <= x[1]


def test_the_gap_and_the_exact_centre(capsys, model, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("0.9,0.2,0\n")
    for center in ("float32", "exact"):
        (record,) = answers(capsys, model, "--data", path, "--gap", "1e-12", "--center", center)
        exact = Fraction(7, 20)
        if center == "float32":
            exact = (Fraction(float(np.float32(0.9))) - Fraction(float(np.float32(0.2)))) / 2
        assert Fraction(record["proved_eps"]) < exact <= Fraction(record["refuted_eps"])
        assert record["gap"] <= 1e-12


def test_a_clip_range_without_counterexample(capsys, model, data):
    (record,) = answers(
        capsys, model, "--data", data, "--index", 0, "--clip", "1/4", "1/2", "--gap", "1/100"
    )
    # Within the range the two coordinates still meet.
    assert Fraction(record["refuted_eps"]) >= Fraction(1, 8)
    path = data.with_name("e.csv")
    path.write_text("3,0\n4,0\n")
    network = Network((Layer(np.array([[1.0], [0.0]]), np.zeros(2), np.zeros(2, dtype=bool)),))
    one = write_model(data.with_name("one.onnx"), network)
    (record, _) = answers(capsys, one, "--data", path, "--clip", 1, 5)
    assert record["everywhere"] is True
    assert (record["proved_eps"], record["refuted_eps"], record["gap"]) == ("2", None, 0.0)
    text = relucid(capsys, "radius", one, "--data", path, "--clip", 1, 5).out
    assert "no counterexample within the clip range" in text


def test_a_label_and_a_sign(capsys, tmp_path):
    """One output 1 + x: the label 1 up to x < 1/2; minus 3/2 the sign changes at x = 1/2."""
    path = tmp_path / "d.csv"
    path.write_text("0,0\n1,1\n")
    for bias, rule in ((1.0, "label"), (-0.5, "sign")):
        network = Network((Layer(np.array([[1.0]]), np.array([bias]), np.array([False])),))
        model = write_model(tmp_path / f"{rule}.onnx", network)
        for record in answers(capsys, model, "--data", path, "--outputs", rule, "--no-clip"):
            assert Fraction(record["proved_eps"]) < Fraction(1, 2)
            assert Fraction(record["refuted_eps"]) >= Fraction(1, 2)


def test_the_table_has_a_line_for_each_point_and_quantiles(capsys, model, data):
    result = relucid(capsys, "radius", model, "--data", data)
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[2].split()[:4] == ["index", "label", "proved", "refuted"]
    assert "the point itself is classified 1" in lines[5]
    assert "the point itself is classified 0" in lines[6]
    assert lines[8] == "4/4 to the gap asked for; 2 classified correctly"
    assert lines[10].startswith("proved")


def test_files_for_every_result(capsys, tmp_path):
    out, folder, picture = tmp_path / "o.csv", tmp_path / "w", tmp_path / "p.png"
    result = relucid(
        capsys, "radius", "digits-mlp", "--data", "digits", "--start", 3, "--limit", 2,
        "--out", out, "--counterexample", folder, "--picture", picture,
    )  # fmt: skip
    assert result.status == 0
    rows = list(csv.DictReader(out.open()))
    assert [row["index"] for row in rows] == ["3", "4"]
    assert sorted(p.name for p in folder.iterdir()) == ["3.txt", "4.txt"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "original" in result.out


def test_both_ends_on_digits_are_confirmed_by_other_engines(capsys):
    """The MILP engine proves the proved end; the network itself breaks at the refuted one."""
    network = load_model(model_path("digits-mlp")).network
    (record,) = answers(capsys, "digits-mlp", "--data", "digits", "--index", 6)
    from constructions.dataset import load_dataset
    from verifier.core.property import Property
    from verifier.core.verdict import Proved

    points = load_dataset("digits", default_split="test")
    center = [Fraction(float(v)) for v in points.float32(6)]
    box = Box.ball(center, Fraction(record["proved_eps"]), (0, 1))
    prop = Property.robustness(box, record["label"], 10)
    assert isinstance(certify(network, prop, engine="milp", timeout=60), Proved)
    y = network.exact([Fraction(v) for v in record["witness"]["x"]])
    assert max(v for k, v in enumerate(y) if k != record["label"]) >= y[record["label"]]
    assert record["gap"] <= 1e-3


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_known(tmp_path):
    """Points that are done, and both ends of the one under way."""
    out = tmp_path / "o.json"
    arguments = ("radius", "digits-conv", "--data", "digits", "--timeout", 100, "--out", out)
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "refuted" in line and "proved 0;" not in line:
            break
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.endswith("relucid: interrupted\n")
    assert "interrupted" in printed
    *_, record = json.loads(out.read_text())
    assert record["reason"] == "interrupted"
    assert Fraction(record["proved_eps"]) > 0


BAD = [
    (["--gap", "0"], "--gap"),
    (["--gap", "1"], "--gap"),
    (["--gap", "x"], "--gap"),
    (["--timeout", "0"], "--timeout"),
    (["--timeout", "nan"], "--timeout"),
    (["--index", "4"], "no point 4"),
    (["--start", "9"], "no point 9"),
    (["--index", "0", "--limit", "2"], "--index chooses one point"),
    (["--clip", "0", "1", "--no-clip"], "exclude each other"),
    (["--clip", "1", "0"], "LOW <= HIGH"),
    (["--clip", "0.6", "1"], "outside of [3/5, 1]"),
    (["--outputs", "sign"], "one output"),
    (["--out", "o.txt"], ".json or .csv"),
    (["--out", "missing/o.csv"], "does not exist"),
    (["--picture", "p.jpg"], ".png"),
    (["--picture", "p.png"], "no pictures"),
]


@pytest.mark.parametrize(("arguments", "word"), BAD)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, model, data, arguments, word):
    monkeypatch.chdir(tmp_path)
    assert_refused(relucid(capsys, "radius", model, "--data", data, *arguments), word)


def test_a_model_or_data_that_is_not_there(capsys, model, data, tmp_path):
    assert_refused(relucid(capsys, "radius", tmp_path / "no.onnx", "--data", data), "no.onnx")
    assert_refused(relucid(capsys, "radius", model, "--data", tmp_path / "no.csv"), "no.csv")
    assert_refused(relucid(capsys, "radius", model), "--data")
    assert_refused(relucid(capsys, "radius", model, "--data", "digits"), "64 coordinates")
