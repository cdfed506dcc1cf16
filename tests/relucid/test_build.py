"""``relucid build`` from the outside: files, claims, JSON, and what it refuses."""

import json
from fractions import Fraction

import numpy as np
import pytest
from command_line import assert_refused, relucid

from relucid import proving
from relucid.written import read_back
from verifier.core.network import Layer, Network
from verifier.io.onnx import load_model

CONSTRUCTIONS = {
    "optimal-robust": (7, 11),
    "class-sum": (8, 12),
    "blocks": (12, 2 * 3 + 2),
    "shallow": (2 * (5 + 4), 4),
    "compact": (8, 4),  # no two points share a box; 1, 2, 1, 2, 2 faces keep their enemies away
    "compact-nearest": (8, 2 + 3),
    "bias": (2 * (5 + 4), 4),
    "depth-two": (4, 2),
    "lipschitz": (7, 2 * 3 + 1),
    "lipschitz-multiclass": (8, 5 * 3 + 1),
    "nearest-class": (8, 5 * 3 + 1),
    "memorize-depth2": (3, 2),
    "memorize-sqrt": (10, 1 + 1 * 5 + 3),
}
POINTS = ((0, 0, 0), (8, 1, 1), (1, 9, 0), (10, 9, 1), (20, 20, 0))


@pytest.fixture
def data(tmp_path):
    """Five points of two classes; λ = 8."""
    path = tmp_path / "d.csv"
    path.write_text("".join(f"{a},{b},{label}\n" for a, b, label in POINTS))
    return path


def build(capsys, data, name, out, *more):
    width = ["--width", "13"] if name == "blocks" else []
    return relucid(capsys, "build", name, data, "--out", out, *width, *more)


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_sizes_and_labels_of_the_file(capsys, tmp_path, data, name):
    result = build(capsys, data, name, tmp_path / "n.onnx", "--json")
    assert result.status == 0
    answer = json.loads(result.out)
    assert (answer["width"], answer["depth"]) == CONSTRUCTIONS[name]
    assert (answer["points"], answer["dimension"], answer["separation"]) == (5, 2, "8")
    assert answer["labels"] == (["0", "1"])
    assert all(claim["holds"] for claim in answer["claims"])
    assert answer["bytes"] == (tmp_path / "n.onnx").stat().st_size
    model = load_model(tmp_path / "n.onnx")
    for a, b, label in POINTS:
        value = model.run(np.array([a, b], dtype=answer["type"]))
        if len(value) > 1:
            assert value.argmax() == label
        else:
            assert value[0] == (2 * label - 1 if name == "lipschitz" else label + 1)


def test_the_answer_for_people(capsys, tmp_path, data):
    result = build(capsys, data, "optimal-robust", tmp_path / "n.onnx", "--ratio", "0.5")
    assert result.status == 0
    for words in (
        "N = 5, d = 2, m = 2",
        "λ = 8, points 0 and 1",
        "radius       2, ρ = 0.5",
        "depth 11, width 7",
        "1 = 0, 2 = 1",
        "read back from the file",
    ):
        assert words in result.out
    assert "NO" not in result.out


def test_one_network_for_every_radius(capsys, tmp_path, data):
    result = build(capsys, data, "lipschitz", tmp_path / "n.onnx")
    assert "radius       below 4" in result.out
    assert "at most 0.25 in ℓ∞" in result.out
    assert "−1 = 0, +1 = 1" in result.out


@pytest.mark.parametrize(
    ("option", "radius"), [(["--ratio", "1/2"], 2), (["--mu", "3.5"], Fraction(7, 2)), ([], None)]
)
def test_the_radius(capsys, tmp_path, data, option, radius):
    result = build(capsys, data, "shallow", tmp_path / "n.onnx", "--json", *option)
    expected = Fraction(99, 25) if radius is None else radius
    assert Fraction(json.loads(result.out)["radius"]) == expected


def test_the_midpoint_is_the_reason_for_refusal(capsys, tmp_path, data):
    result = build(capsys, data, "class-sum", tmp_path / "n.onnx", "--mu", "4.0001")
    assert_refused(
        result, "40001/10000", "λ/2 = 4", "midpoint (4, 1/2)", "0 (label 0)", "both balls"
    )
    assert not (tmp_path / "n.onnx").exists()


def test_what_depth_two_cannot_do(capsys, tmp_path):
    wheel = tmp_path / "wheel.csv"
    wheel.write_text("0,0,1\n1,0.5,2\n0.5,1.5,1\n-0.5,1,2\n")
    out = tmp_path / "n.onnx"
    refused = build(capsys, wheel, "depth-two", out, "--mu", "0.4")
    assert_refused(refused, "no depth-2 network of any width", "2/5", "exactly 5/16", "λ/2 = 1/2")
    assert not out.exists()
    answer = json.loads(build(capsys, wheel, "depth-two", out, "--ratio", "1/2", "--json").out)
    assert (answer["radius"], answer["label_step"]) == ("5/32", 1)


def test_numbers_that_no_file_holds(capsys, tmp_path):
    out = tmp_path / "n.onnx"
    result = build(capsys, "digits", "memorize-sqrt", out, "--limit", "500")
    assert result.status == 2
    assert "float64 has 53" in result.err.splitlines()[-1]
    assert "needs" in result.err
    assert not out.exists()
    for words in ("width 11", "numbers      up to", "float64 does not hold", "N log2 m"):
        assert words in result.out
    assert "NO" not in result.out
    answer = json.loads(build(capsys, "digits", "memorize-sqrt", out, "--limit=500", "--json").out)
    assert answer["bits"] > 53
    assert (answer["model"], answer["type"], answer["bytes"]) == (None, None, None)
    assert all(claim["holds"] for claim in answer["claims"])


def test_sizes_and_claims_without_a_file(capsys, tmp_path, data):
    for name in ("memorize-sqrt", "optimal-robust"):
        result = relucid(capsys, "build", name, data)
        assert result.status == 0
        assert "none, --out names one" in result.out
        assert "read back" not in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_nearest_class_is_the_network_of_lipschitz_multiclass(capsys, tmp_path, data):
    names = ("nearest-class", "lipschitz-multiclass")
    for name in names:
        build(capsys, data, name, tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in names)
    assert first == second


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("memorize-sqrt", ["--ratio", "0.5"], ["points only"]),
        ("memorize-depth2", ["--mu", "1"], ["points only"]),
        ("nearest-class", ["--mu", "1"], ["every radius"]),
        ("class-sum", ["--ratio", "1"], ["--ratio", "below 1", "balls meet"]),
        ("class-sum", ["--ratio", "0.5", "--mu", "1"], ["exclude"]),
        ("class-sum", ["--mu", "-1"], ["at least 0"]),
        ("class-sum", ["--mu", "half"], ["--mu", "decimal"]),
        ("class-sum", ["--width", "20"], ["--width", "blocks"]),
        ("lipschitz", ["--ratio", "0.5"], ["every radius"]),
        ("tower", [], ["tower", "optimal-robust"]),
        ("class-sum", ["--limit", "1"], ["label 0"]),
    ],
)
def test_wrong_requests(capsys, tmp_path, data, name, more, words):
    assert_refused(build(capsys, data, name, tmp_path / "n.onnx", *more), *words)


def test_blocks_need_a_width(capsys, tmp_path, data):
    out = tmp_path / "n.onnx"
    assert_refused(relucid(capsys, "build", "blocks", data, "--out", out), "needs it")
    narrow = relucid(capsys, "build", "blocks", data, "--out", out, "--width", "7")
    assert_refused(narrow, "3d + 2 = 8")


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_the_verifier_proves_every_ball(capsys, tmp_path, data, name):
    answer = json.loads(build(capsys, data, name, tmp_path / "n.onnx", "--json").out)
    if name.startswith("memorize"):  # integers that no float holds, sums that cancel
        proved = answer["balls"] is not None and answer["balls"]["proved"] == 5
        assert proved == any(c["name"] == "balls proved" for c in answer["claims"])
        return
    assert (answer["balls"]["proved"], answer["balls"]["points"]) == (5, 5)
    share = Fraction(1) if answer["radius_attained"] else Fraction(999, 1000)
    assert Fraction(answer["balls"]["radius"]) == share * Fraction(answer["radius"])
    (claim,) = [c for c in answer["claims"] if c["name"] == "balls proved"]
    assert (claim["expected"], claim["actual"], claim["holds"]) == (5, 5, True)
    certified = relucid(
        capsys, "certify", tmp_path / "n.onnx", "--data", data, "--json",
        "--eps", answer["balls"]["radius"], "--center", "exact",
    )  # fmt: skip
    assert {r["verdict"] for r in json.loads(certified.out)} == {"proved"}


def test_no_proof_unless_it_is_wanted(capsys, tmp_path, data, monkeypatch):
    out = tmp_path / "n.onnx"
    assert "balls proved" not in build(capsys, data, "shallow", out, "--no-prove").out
    monkeypatch.setattr(proving, "CHEAP", 0)
    result = build(capsys, data, "shallow", out)
    assert "balls proved" not in result.out
    assert "--prove" in result.err
    assert "balls proved" in build(capsys, data, "shallow", out, "--prove").out


def test_what_the_pass_does_not_prove_is_no_claim():
    assert len(proving.BallProof(Fraction(1), 4, 5, 0).claims("n")) == 0
    (claim,) = proving.BallProof(Fraction(1), 5, 5, 7).claims("n")
    assert "7 max rules" in claim.source


def test_the_midpoint_of_pictures_is_shown(capsys, tmp_path):
    result = relucid(
        capsys, "build", "shallow", "digits", "--limit", "50", "--mu", "1/2",
        "--out", tmp_path / "n.onnx",
    )  # fmt: skip
    assert result.status == 2
    assert "midpoint" in result.err.splitlines()[0]
    last = result.err.splitlines()[-1]
    assert last.startswith("relucid: digits: radius 1/2 is not below λ/2")
    assert "at coordinate" in last


def test_no_place_to_write(capsys, tmp_path, data):
    assert_refused(build(capsys, data, "shallow", tmp_path / "no" / "n.onnx"), "does not exist")
    assert_refused(build(capsys, data, "shallow", tmp_path), "is a folder")


def test_data_that_no_network_memorizes(capsys, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("1,1,0\n2,2,1\n1,1,1\n")
    assert_refused(build(capsys, path, "shallow", tmp_path / "n.onnx"), "λ = 0", "0 and 2")


def network(weight: float, bias: float = 1.0) -> Network:
    layer = Layer(np.array([[weight]]), np.array([bias]), np.zeros(1, dtype=bool))
    return Network((layer,))


def test_a_file_with_other_numbers_breaks_the_claim(tmp_path):
    from verifier.io.onnx import export_onnx

    path = tmp_path / "n.onnx"
    export_onnx(network(1.0), path)
    assert read_back(network(1.0), path).hold
    for other in (network(2.0), network(1.0, 2.0)):
        assert [claim.name for claim in read_back(other, path).broken] == ["same numbers"]
    broken = [claim.name for claim in read_back(network(1.0, 0.0), path).broken]
    assert broken == ["nonzeros", "same numbers"]
