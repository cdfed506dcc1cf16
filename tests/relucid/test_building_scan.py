"""``relucid build optimal-robust --scan`` from the outside."""

import json

import numpy as np
import onnxruntime
import pytest
from command_line import assert_refused, relucid

POINTS = ((0, 0, 3), (8, 1, 5), (1, 9, 3), (10, 9, 5), (20, 20, 3))


@pytest.fixture
def data(tmp_path):
    """Five points of two classes; λ = 8."""
    path = tmp_path / "d.csv"
    path.write_text("".join(f"{a},{b},{label}\n" for a, b, label in POINTS))
    return path


def test_the_file_and_its_claims(capsys, tmp_path, data):
    out = tmp_path / "n.onnx"
    result = relucid(capsys, "build", "optimal-robust", data, "--scan", "--out", out, "--json")
    assert result.status == 0
    answer = json.loads(result.out)
    assert (answer["width"], answer["depth"], answer["points"]) == (7, 11, 5)
    assert all(claim["holds"] for claim in answer["claims"])
    (balls,) = [claim for claim in answer["claims"] if claim["name"] == "balls proved"]
    assert (balls["expected"], balls["actual"]) == (5, 5)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for a, b, label in POINTS:
        x = np.array([a, b]) + rng.uniform(-3.9, 3.9, size=(50, 2))
        values = session.run(None, {"input": x.astype(np.float32)})[0]
        assert (values == {3: 1, 5: 2}[label]).all()
    chain = relucid(capsys, "build", "optimal-robust", data, "--json")
    same = ("width", "depth", "relus", "nonzeros", "dense_parameters", "radius", "closest_pair")
    assert {k: answer[k] for k in same} == {k: json.loads(chain.out)[k] for k in same}
    certified = relucid(
        capsys, "certify", out, "--data", data, "--eps", "3.9", "--no-clip", "--json"
    )
    assert [record["verdict"] for record in json.loads(certified.out)] == ["proved"] * 5


def test_text_without_a_file(capsys, data):
    result = relucid(capsys, "build", "optimal-robust", data, "--scan", "--no-prove")
    assert result.status == 0
    assert "depth 11, width 7" in result.out
    assert "balls proved" not in result.out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--mu", "4"], "radius 4 is not below λ/2 = 4"),
        (["--out", "missing/n.onnx"], "does not exist"),
    ],
)
def test_what_is_refused(capsys, data, more, message):
    assert_refused(relucid(capsys, "build", "optimal-robust", data, "--scan", *more), message)


def test_scan_belongs_to_one_construction(capsys, data):
    result = relucid(capsys, "build", "shallow", data, "--scan")
    assert_refused(result, "--scan goes with optimal-robust")
