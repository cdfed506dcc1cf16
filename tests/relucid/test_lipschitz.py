"""``relucid lipschitz`` from the outside: domains, functions, JSON, evidence, and refusals."""

import json
from fractions import Fraction

import numpy as np
import pytest
from command_line import assert_refused, hard_instance, property_text, relucid, write_model

from verifier.core.network import Layer, Network


@pytest.fixture
def model(tmp_path):
    """(relu(x − 1) + 3 relu(y), −2x): steep in x only right of 1."""
    layers = (
        Layer(np.array([[1.0, 0], [0, 1], [1, 0]]), np.array([-1.0, 0, 0]), [True, True, False]),
        Layer(np.array([[1.0, 3, 0], [0, 0, -2]]), np.zeros(2), np.zeros(2, bool)),
    )
    return write_model(tmp_path / "m.onnx", Network(layers))


def answer(capsys, *arguments: object) -> dict:
    result = relucid(capsys, "lipschitz", *arguments, "--json")
    assert result.status == 0, result.err
    return json.loads(result.out)


def test_everywhere_and_in_a_box(capsys, model):
    record = answer(capsys, model)
    assert (record["exact"], record["lower"], record["upper"]) == (True, "4", "4")
    assert record["domain"] == "everywhere"
    assert record["reason"] is None
    assert record["attained"]["gradient"] == ["1", "3"]
    record = answer(capsys, model, "--box", "-1/2", "1")
    assert (record["lower"], record["upper"]) == ("3", "3")
    assert record["domain"] == {"lower": ["-1/2", "-1/2"], "upper": ["1", "1"]}


def test_one_output_and_a_margin(capsys, model):
    assert answer(capsys, model, "--output", 1)["lower"] == "2"
    assert answer(capsys, model, "--margin", 0, 1)["lower"] == "6"
    assert answer(capsys, model, "--margin", 0, 1, "--box", "-2", "-1")["lower"] == "2"


def test_a_ball_of_a_data_set(capsys, model, tmp_path):
    (tmp_path / "d.csv").write_text("0,-3,0\n5,5,1\n")
    ball = ("--data", tmp_path / "d.csv", "--eps", "1/2")
    assert answer(capsys, model, *ball)["lower"] == "2"
    assert answer(capsys, model, *ball, "--index", 1)["lower"] == "4"
    record = answer(capsys, model, *ball, "--clip", "-4", "1/4")
    assert record["domain"] == {"lower": ["-1/2", "-7/2"], "upper": ["1/4", "-5/2"]}


def test_the_box_of_a_property(capsys, model, tmp_path):
    path = tmp_path / "p.vnnlib"
    path.write_text(property_text())
    record = answer(capsys, model, "--property", path)
    assert record["domain"] == {"lower": ["3/5", "0"], "upper": ["1", "1/2"]}
    assert record["lower"] == "3"


def test_text_and_the_second_check(capsys, model):
    result = relucid(capsys, "lipschitz", model, "--check")
    lines = result.out.splitlines()
    assert lines[0] == f"{model}: 2 inputs, 2 ReLUs, 2 outputs"
    assert "  where     everywhere" in lines
    assert "  exact     4" in lines
    assert "  gradient  (1, 3)" in lines
    assert lines[-2].endswith("checked again")


def test_the_evidence_as_a_file(capsys, model, tmp_path):
    out = tmp_path / "evidence.json"
    record = answer(capsys, model, "--out", out)
    written = json.loads(out.read_text())
    assert {key: written[key] for key in record} == record
    assert len(written["tree"]) == record["cells"]
    caps = [Fraction(step["capped"]) for step in written["tree"] if "capped" in step]
    assert max(caps) == 4


def test_a_digit_model_on_a_small_ball(capsys):
    record = answer(
        capsys, "digits-mlp-robust", "--data", "digits", "--eps", "0.01", "--timeout", 20
    )
    assert record["exact"]
    assert Fraction(record["lower"]) > 0


def test_the_time_limit_leaves_two_bounds(capsys, tmp_path):
    hard, _ = hard_instance(tmp_path)
    record = answer(capsys, hard, "--box", "-1", "1", "--timeout", "0.5")
    assert not record["exact"]
    assert record["reason"] == "time limit"
    assert 0 < Fraction(record["lower"]) < Fraction(record["upper"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--box", "0", "1", "--property", "p.vnnlib"], ["exclude"]),
        (["--data", "d.csv"], ["--eps"]),
        (["--eps", "0.1"], ["--data"]),
        (["--index", "3"], ["--data"]),
        (["--box", "1", "1"], ["LOW < HIGH"]),
        (["--box", "0", "nan"], ["--box", "nan"]),
        (["--data", "d.csv", "--eps", "0"], ["positive"]),
        (["--data", "d.csv", "--eps", "1", "--clip", "0", "1", "--no-clip"], ["exclude"]),
        (["--data", "d.csv", "--eps", "1", "--clip", "1", "0"], ["LOW <= HIGH, got 1 0"]),
        (["--output", "2"], ["no output 2", "0..1"]),
        (["--margin", "0", "0"], ["different"]),
        (["--margin", "0", "-1"], ["no output -1"]),
        (["--margin", "0", "1", "--output", "0"], ["exclude"]),
        (["--timeout", "0"], ["--timeout"]),
        (["--property", "missing.vnnlib"], ["missing.vnnlib"]),
        (["--out", "evidence.txt"], [".json"]),
        (["--out", "missing/evidence.json"], ["missing", "does not exist"]),
    ],
)
def test_wrong_options(capsys, model, options, words):
    assert_refused(relucid(capsys, "lipschitz", model, *options), *words)


def test_points_that_do_not_fit(capsys, model, tmp_path):
    (tmp_path / "d.csv").write_text("1,2,3,0\n2,1,3,1\n")
    options = ("--data", tmp_path / "d.csv", "--eps", "1")
    assert_refused(relucid(capsys, "lipschitz", model, *options), "3 coordinates", "2 inputs")


def test_several_boxes(capsys, model, tmp_path):
    path = tmp_path / "p.vnnlib"
    names = [f"(declare-const {v}_{i} Real)" for v in "XY" for i in range(2)]
    cases = [f"(and (>= X_0 {a}) (<= X_0 {a + 1}) (>= X_1 0) (<= X_1 1))" for a in (0, 5)]
    path.write_text("\n".join([*names, f"(assert (or {' '.join(cases)}))", "(assert (>= Y_0 9))"]))
    assert_refused(relucid(capsys, "lipschitz", model, "--property", path), "one input box, got 2")
