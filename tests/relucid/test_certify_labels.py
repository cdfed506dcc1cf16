"""``relucid certify`` on networks whose output is a label or a sign, and on many points."""

import json
from fractions import Fraction

import pytest
from command_line import assert_refused, relucid

from constructions.dataset import load_dataset
from constructions.lipschitz import lipschitz
from constructions.robust import running_maximum, shallow
from verifier.core.decision import Decision, Rule
from verifier.io.onnx import export_onnx

POINTS = ((0, 0, 3), (8, 1, 7), (1, 9, 3), (10, 9, 7), (20, 20, 3))
LABEL, SIGN = Decision(Rule.label, ("3", "7")), Decision(Rule.sign, ("7", "3"))


@pytest.fixture
def data(tmp_path):
    """Five points of the classes 3 and 7; λ = 8."""
    path = tmp_path / "d.csv"
    path.write_text("".join(f"{a},{b},{label}\n" for a, b, label in POINTS))
    return path


@pytest.fixture
def model(tmp_path, data):
    """An optimal robust memorization of radius 3.9 that says what its output means."""
    path = tmp_path / "n.onnx"
    network = running_maximum(load_dataset(str(data)), Fraction(39, 10)).network
    export_onnx(network, path, decision=LABEL)
    return path


def certify(capsys, model, data, eps, *more):
    return relucid(capsys, "certify", model, "--data", data, "--eps", eps, *more)


def verdicts(result):
    assert result.status == 0, result.err
    return [r["verdict"] for r in json.loads(result.out)]


def test_all_balls_are_proved_by_one_pass(capsys, model, data):
    result = certify(capsys, model, data, "3.9", "--json")
    assert verdicts(result) == ["proved"] * 5
    record = json.loads(result.out)[1]
    assert (record["label"], record["predicted"]) == (7, 7)
    assert record["statistics"]["interval pass"] == 1
    assert record["statistics"]["max rules"] > 0


def test_other_engines_say_the_same(capsys, model, data):
    result = certify(capsys, model, data, "3.9", "--engine", "bab", "--json")
    assert verdicts(result) == ["proved"] * 5


def test_witnesses_beyond_the_radius(capsys, model, data):
    result = certify(capsys, model, data, "4.2", "--json", "--limit", "2")
    assert verdicts(result) == ["refuted", "refuted"]
    text = certify(capsys, model, data, "4.2", "--limit", "2").out
    assert "classified" in text


def test_a_file_that_says_nothing_needs_the_option(capsys, tmp_path, data):
    path = tmp_path / "plain.onnx"
    export_onnx(shallow(load_dataset(str(data)), Fraction(3)).network, path)
    assert_refused(certify(capsys, path, data, "3"), "--outputs label", "--outputs sign")
    # The classes that occur, in increasing order: 3 is the label 1, 7 the label 2.
    found = certify(capsys, path, data, "3", "--outputs", "label", "--json")
    assert verdicts(found) == ["proved"] * 5
    assert_refused(certify(capsys, path, data, "3", "--outputs", "argmax"), "largest output")


def test_signs(capsys, tmp_path, data):
    path = tmp_path / "sign.onnx"
    built = lipschitz(load_dataset(str(data)))
    names = tuple(str(label) for label in built.labels)
    export_onnx(built.network, path, decision=Decision(Rule.sign, names))
    assert verdicts(certify(capsys, path, data, "3.99", "--json")) == ["proved"] * 5
    turned = tmp_path / "turned.onnx"
    export_onnx(built.network, turned, decision=Decision(Rule.sign, names[::-1]))
    assert verdicts(certify(capsys, turned, data, "3.99", "--json")) == ["refuted"] * 5


def test_swapped_labels_are_refuted_at_the_sample(capsys, tmp_path, data, model):
    path = tmp_path / "swapped.onnx"
    network = running_maximum(load_dataset(str(data)), Fraction(39, 10)).network
    export_onnx(network, path, decision=Decision(Rule.label, ("7", "3")))
    result = certify(capsys, path, data, "0.5", "--json")
    assert verdicts(result) == ["refuted"] * 5
    assert [r["predicted"] for r in json.loads(result.out)] == [7, 3, 7, 3, 7]


def test_a_class_that_the_model_does_not_know(capsys, tmp_path, model):
    path = tmp_path / "other.csv"
    path.write_text("0,0,3\n9,9,4\n")
    assert_refused(certify(capsys, model, path, "1"), "label 4 of point 1", "classes 3, 7")


def test_long_tables_show_what_is_not_proved(capsys, tmp_path, model):
    path = tmp_path / "many.csv"
    rows = [f"{x / 50},{x / 60},3" for x in range(150)] + ["8,1,3"]
    path.write_text("\n".join(rows) + "\n8,1,7\n")
    out = certify(capsys, model, path, "0.5").out
    lines = [line for line in out.splitlines() if line[:1].isdigit() or line.startswith(" ")]
    assert any("refuted" in line for line in lines)
    assert len(lines) < 100
    assert "--out FILE writes a line for each" in out
    assert "certified accuracy" in out
