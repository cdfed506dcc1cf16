"""``relucid theorem``: every entry of the table, in words and as JSON."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command_line import Result, assert_refused, identity_network, relucid

from constructions.claims import ClaimError
from constructions.demonstration import Question, SlopeQuestion
from relucid.cli import run
from relucid.theorem import THEOREMS, ask, ask_slope
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Property
from verifier.io.onnx_export import export_onnx

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def printed():
    """What each theorem prints, of one run for all tests."""

    @cache
    def of(name):
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            status = run(["theorem", name])
        return Result(status, out.getvalue(), err.getvalue())

    return of


@pytest.mark.parametrize("name", sorted(THEOREMS))
def test_every_theorem_is_proved(printed, name):
    result = printed(name)
    assert result.status == 0, result.err
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == name
    assert max(map(len, lines)) <= 100
    heads = [line[2:12].strip() for line in lines[1:] if line[2:12].strip()]
    assert heads[:2] == ["theorem", "instance"]
    assert heads[2:] == ["proved", "by"] * (len(heads) // 2 - 1)
    assert len(heads) >= 4


@pytest.mark.parametrize("name", sorted(THEOREMS))
def test_json_says_the_same(capsys, printed, name):
    found = json.loads(relucid(capsys, "theorem", name, "--json").out)
    assert set(found) == {"theorem", "statement", "instance", "proved", "values", "seconds"}
    assert found["theorem"] == name
    words = " ".join(printed(name).out.split())
    for text in (found["statement"], found["instance"]):
        assert " ".join(text.split()) in words
    assert found["proved"]
    for item in found["proved"]:
        assert " ".join(item["claim"].split()) in words
        assert " ".join(item["certificate"].split()) in words


@pytest.mark.parametrize("name", sorted(THEOREMS))
def test_every_theorem_has_its_file_its_test_and_its_line_in_the_reference(name):
    module = THEOREMS[name]
    assert (ROOT / "constructions" / f"{module}.py").is_file()
    assert (ROOT / "tests" / "constructions" / f"test_{module}.py").is_file()
    section = (ROOT / "docs" / "reference.md").read_text().split("### relucid theorem")[1]
    assert f"| `{name}` |" in section.split("\n## ")[0]


def test_the_pinwheel_prints_its_exact_radius(printed):
    assert "exactly 29/70" in " ".join(printed("depth-two").out.split())


def test_an_unknown_name_is_refused_with_the_list(capsys):
    assert_refused(relucid(capsys, "theorem", "fermat"), "fermat", *THEOREMS)


def test_a_name_is_needed(capsys):
    assert_refused(relucid(capsys, "theorem"), "name")


# ----- questions for the verifier: relu(x) on a ball around 1


def near(radius, value=1):
    return Property.near(Box.ball([1], radius), value, f"radius {radius}")


def test_the_verifiers_answer_is_shown():
    network = identity_network(1)
    proved = ask(
        Question("relu(x) is near 1", network, (near(Fraction(1, 4)), near(Fraction(1, 3))))
    )
    assert proved.claim == "relu(x) is near 1"
    assert "each of 2 properties proved" in proved.certificate
    refuted = ask(Question("not so far out", network, (near(Fraction(1, 2)),), refuted=True))
    assert "the property refuted, by a point evaluated exactly" in refuted.certificate


@pytest.mark.parametrize(
    ("properties", "refuted", "words"),
    [
        ((near(Fraction(1, 4)), near(Fraction(3, 4))), False, "proved of radius 3/4, says refuted"),
        ((near(Fraction(3, 4)), near(Fraction(1, 4))), True, "refuted of radius 1/4, says proved"),
        ((near(Fraction(1, 4), value=2),), False, "proved of radius 1/4, says refuted"),
    ],
)
def test_another_verdict_than_the_theorems_is_an_error(properties, refuted, words):
    with pytest.raises(ClaimError, match=words):
        ask(Question("claim", identity_network(1), properties, refuted))


def test_a_question_asks_something():
    with pytest.raises(ValueError, match="asks nothing"):
        Question("claim", identity_network(1), ())


def test_a_slope_that_is_not_the_theorems_is_an_error():
    network = identity_network()
    claim = ask_slope(SlopeQuestion("steep", network, Fraction(1)))
    assert "exactly 1" in claim.certificate
    ask_slope(SlopeQuestion("steep", network, Fraction(1, 2), least=True))
    for constant, least in ((Fraction(1, 2), False), (Fraction(2), False), (Fraction(2), True)):
        with pytest.raises(ClaimError, match="between 1 and 1"):
            ask_slope(SlopeQuestion("steep", network, constant, least))


def test_the_width_bound_refutes_a_given_model(capsys, tmp_path):
    """784 inputs, 40 neurons: the points are in their balls, and onnxruntime agrees."""
    rng = np.random.default_rng(0)
    sizes, layers = (784, 40, 10), []
    for n, m in pairwise(sizes):
        relu = np.full(m, m != 10)
        layers.append(Layer(np.float32(rng.normal(size=(m, n))), np.zeros(m), relu))
    network, path = Network(tuple(layers)), tmp_path / "n.onnx"
    export_onnx(network, path)
    result = relucid(capsys, "theorem", "width-bound", "--model", path, "--mu", "0.3", "--json")
    values = json.loads(result.out)["values"]
    p, q = ([Fraction(v) for v in values[name]] for name in ("p", "q"))
    unit = [Fraction(int(j == values["k"])) for j in range(784)]
    assert max(map(abs, p)) <= Fraction(3, 10)
    assert max(abs(a - b) for a, b in zip(q, unit, strict=True)) <= Fraction(3, 10)
    assert network.exact(p) == network.exact(q) == tuple(map(Fraction, values["output"]))
    text = relucid(capsys, "theorem", "width-bound", "--model", path).out
    assert "(784 in all) (exactly: --json)" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lipschitz", "--model", "digits-mlp"], "--model goes with width-bound"),
        (["width-bound", "--mu", "1/3"], "--mu goes with --model"),
        (["width-bound", "--model", "digits-mlp", "--mu", "1/5"], "radii from 1/4 on"),
        (["width-bound", "--model", "missing.onnx"], "missing.onnx"),
    ],
)
def test_models_that_are_refused(capsys, arguments, message):
    assert_refused(relucid(capsys, "theorem", *arguments), message)
