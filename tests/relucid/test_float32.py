"""--semantics float32 at the command line: what float32 computes, and what it does not."""

import json
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from command_line import Result, assert_refused, relucid, write_model

from tests.float32_runs import order_matters, rounds_away
from tests.onnx_graphs import Writer
from verifier.core.network import Layer, Network
from verifier.io.onnx import load_model


def text(faces, unsafe: str) -> str:
    """A VNN-LIB property of one output."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(faces))]
    lines += ["(declare-const Y_0 Real)"]
    lines += [f"(assert (<= {low} X_{i} {high}))" for i, (low, high) in enumerate(faces)]
    return "\n".join([*lines, f"(assert {unsafe})"]) + "\n"


def asked(capsys, tmp_path, semantics, *more):
    """The verdict on m.onnx and p.vnnlib with a proof, and the result."""
    result = relucid(
        capsys, "certify", tmp_path / "m.onnx", "--property", tmp_path / "p.vnnlib", "--semantics",
        semantics, "--proof", tmp_path / "p.proof", "--timeout", 20, *more,
    )  # fmt: skip
    return result.out.split("\n", 1)[0], result


def checked(capsys, tmp_path):
    return relucid(
        capsys, "check", tmp_path / "m.onnx", tmp_path / "p.vnnlib", tmp_path / "p.proof"
    )


def test_robust_in_exact_arithmetic_only(capsys, tmp_path):
    write_model(tmp_path / "m.onnx", order_matters(2.0**27))
    (tmp_path / "p.vnnlib").write_text(text([(1, 1)], "(<= Y_0 0.0)"))
    word, result = asked(capsys, tmp_path, "real")
    assert (word, result.status) == ("proved", 0)
    assert "in exact real arithmetic" in checked(capsys, tmp_path).out
    word, result = asked(capsys, tmp_path, "float32")
    assert (word, result.status) == ("refuted", 0)
    assert "semantics: float32, in any order of summation" in result.out
    assert "X_0 = 1" in result.out
    assert "Y_0 = -3.5" in result.out
    assert "VALID" in result.out
    said = checked(capsys, tmp_path).out
    assert said.startswith("VALID\nrefuted: the witness is a float32 point")
    # What stands beside the verdict is what onnxruntime computes there.
    (y,) = load_model(tmp_path / "m.onnx").run(np.ones(1))
    agrees = "onnxruntime agrees" if y <= 0 else "onnxruntime does not break here"
    assert agrees in result.out


def test_robust_in_float32_only(capsys, tmp_path):
    """Every float32 sum is 1, as onnxruntime's is; the exact value reaches the threshold."""
    write_model(tmp_path / "m.onnx", rounds_away())
    unsafe = f"(>= Y_0 {Decimal(1 + 2.0**-25)})"
    (tmp_path / "p.vnnlib").write_text(text([(1, 1), (1, 1)], unsafe))
    word, result = asked(capsys, tmp_path, "real")
    assert word == "refuted"
    assert "onnxruntime does not break here" in result.out
    (y,) = load_model(tmp_path / "m.onnx").run(np.ones(2))
    assert y == 1.0
    word, result = asked(capsys, tmp_path, "float32", "--no-check-proof")
    assert (word, result.status) == ("unknown", 0)
    assert "the exact counterexample that was found is none in float32" in result.out


def test_proved_for_every_order(capsys, tmp_path):
    rng = np.random.default_rng(5)
    sizes = (2, 12, 12, 1)
    layers = [
        Layer(
            np.float32(rng.normal(size=(m, n))), np.float32(rng.normal(size=m)), np.full(m, m > 1)
        )
        for n, m in pairwise(sizes)
    ]
    network = Network(tuple(layers))
    write_model(tmp_path / "m.onnx", network)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 101)] * 2), axis=-1).reshape(-1, 2)
    top = round(float(network.float64(grid).max()) + 0.05, 3)
    (tmp_path / "p.vnnlib").write_text(text([(0, 1), (0, 1)], f"(>= Y_0 {top})"))
    _, result = asked(capsys, tmp_path, "float32", "--json")
    record = json.loads(result.out)
    assert (record["verdict"], record["semantics"], record["proof_check"]) == (
        "proved", "float32", "VALID",
    )  # fmt: skip
    done = checked(capsys, tmp_path)
    assert "proved: no float32 point of the input box" in done.out
    done = relucid(
        capsys, "check", tmp_path / "m.onnx", tmp_path / "p.vnnlib", tmp_path / "p.proof", "--json"
    )
    assert json.loads(done.out)["semantics"] == "float32"


def test_samples_of_a_data_set(capsys, tmp_path):
    result = relucid(
        capsys, "certify", "digits-mlp", "--data", "digits", "--eps", "0.02", "--limit", 8,
        "--semantics", "float32", "--proof", tmp_path / "proofs", "--out", tmp_path / "r.json",
    )  # fmt: skip
    assert result.status == 0
    assert "computed in float32" in result.out
    records = json.loads((tmp_path / "r.json").read_text())
    assert {r["verdict"] for r in records} == {"proved"}
    assert {(r["semantics"], r["proof_check"]) for r in records} == {("float32", "VALID")}
    one = relucid(
        capsys,
        "check",
        "digits-mlp",
        tmp_path / "proofs" / "3.vnnlib",
        tmp_path / "proofs" / "3.proof",
    )
    assert one.out.startswith("VALID\nproved: no float32 point")


def test_refuted_samples(capsys, tmp_path):
    """A wide ball around a digit, and a digit that is misclassified as it is."""
    result = relucid(
        capsys, "certify", "digits-mlp", "--data", "digits", "--eps", "0.3", "--limit", 2,
        "--semantics", "float32", "--proof", tmp_path / "proofs", "--json",
    )  # fmt: skip
    records = json.loads(result.out)
    assert [r["verdict"] for r in records] == ["refuted", "refuted"]
    for r in records:
        assert r["proof_check"] == "VALID"
        assert r["witness"]["margin"] >= 0
        assert [float(Fraction(v)) for v in r["witness"]["x"]] == r["witness"]["replay"]["x"]
    wrong = relucid(
        capsys, "certify", "digits-mlp", "--data", "digits", "--eps", "0", "--limit", 60,
        "--semantics", "float32", "--json",
    )  # fmt: skip
    records = [r for r in json.loads(wrong.out) if r["label"] != r["predicted"]]
    assert records
    assert {r["verdict"] for r in records} == {"refuted"}


@pytest.mark.parametrize("engine", ["milp", "lp", "interval"])
def test_engines_of_exact_arithmetic(capsys, tmp_path, engine):
    write_model(tmp_path / "m.onnx")
    (tmp_path / "p.vnnlib").write_text(text([(0, 1)], "(>= Y_0 2.0)"))
    _, result = asked(capsys, tmp_path, "float32", "--engine", engine)
    assert_refused(result, "--semantics float32 takes auto or bab")


def test_a_model_whose_rounding_is_not_known(capsys, tmp_path):
    w = Writer((1, 1))
    w.save(tmp_path / "m.onnx", w.node("Mul", w.node("Gemm", "x", [[1.0]]), np.float32(3)))
    (tmp_path / "p.vnnlib").write_text(text([(0, 1)], "(>= Y_0 4.0)"))
    word, _ = asked(capsys, tmp_path, "real")
    assert word == "proved"
    _, result = asked(capsys, tmp_path, "float32")
    assert_refused(result, "no float32 semantics: node 'n1' (Mul): what it rounds is not modelled")
    # A proof that says float32 about such a model is none.
    path = tmp_path / "p.proof"
    path.write_bytes(path.read_bytes().replace(b'"real"', b'"float32"'))
    data = bytearray(path.read_bytes())
    data[16] += 3
    path.write_bytes(data)
    said: Result = checked(capsys, tmp_path)
    assert said.status == 1
    assert said.out.startswith("INVALID\nrule: network")
    assert "what it rounds is not modelled" in said.out
