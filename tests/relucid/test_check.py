"""Proofs at the command line: written whole, bound to their files, and checked by themselves."""

import json
import re
import signal
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from command_line import (
    Result,
    assert_refused,
    command,
    identity_network,
    property_text,
    relucid,
    write_model,
)

from verifier.core.network import Layer, Network
from verifier.io.onnx import load_model
from verifier.io.vnnlib import read_property
from verifier.proof.claim import header
from verifier.proof.format import MAGIC, Writer
from verifier.search import proof_lp, proofs


def rugged_network(lift: float = 0.0) -> Network:
    """Two inputs, 32 neurons; the first output is lifted by a constant."""
    rng = np.random.default_rng(4)
    relu = np.ones(16, dtype=bool)
    layers = (
        Layer(rng.normal(size=(16, 2)) * 2, rng.normal(size=16) * 2, relu),
        Layer(rng.normal(size=(16, 16)) / 3, rng.normal(size=16), relu),
        Layer(rng.normal(size=(2, 16)), np.array([lift, 0.0]), np.zeros(2, dtype=bool)),
    )
    return Network(layers)


def threshold_text(bound: float, reach: str = "1.0") -> str:
    """Unsafe: Y_0 >= bound on a square."""
    text = "".join(f"(declare-const {n} Real)\n" for n in ("X_0", "X_1", "Y_0", "Y_1"))
    text += "".join(f"(assert (<= -{reach} X_{i} {reach}))\n" for i in range(2))
    return text + f"(assert (>= Y_0 {bound}))\n"


@pytest.fixture(scope="module")
def rugged(tmp_path_factory):
    """A model, a property that holds by little, and a proof of it."""
    folder = tmp_path_factory.mktemp("rugged")
    network = rugged_network()
    model, prop, proof = folder / "m.onnx", folder / "p.vnnlib", folder / "p.proof"
    write_model(model, network)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 301)] * 2), axis=-1).reshape(-1, 2)
    top = float(network.float64(grid)[:, 0].max())
    prop.write_text(threshold_text(round(top + 0.02, 4)))
    done = subprocess.run(
        command("certify", model, "--property", prop, "--proof", proof, "--json", "--timeout", 600),
        capture_output=True,
        text=True,
        check=True,
    )
    return model, prop, proof, json.loads(done.stdout)


@pytest.fixture
def small(tmp_path):
    """The identity and a property that it has."""
    prop = tmp_path / "p.vnnlib"
    prop.write_text(property_text("0.5"))
    return write_model(tmp_path / "m.onnx"), prop, tmp_path / "p.proof"


def fields(result: Result) -> dict[str, str]:
    """The lines behind the first word."""
    return dict(line.split(": ", 1) for line in result.out.splitlines()[1:])


def assert_invalid(result: Result, *words: str) -> None:
    """Status 1, INVALID and why on stdout, nothing on stderr."""
    assert result.status == 1, (result.out, result.err)
    lines = result.out.splitlines()
    assert lines[0] == "INVALID"
    assert [line.split(":")[0] for line in lines[1:4]] == ["rule", "step", "why"]
    assert result.err == ""
    for word in words:
        assert word in result.out, result.out


# Valid -------------------------------------------------------------------------------------------


def test_a_proof_is_written_checked_and_checked_again(capsys, rugged):
    model, prop, proof, record = rugged
    assert record["verdict"] == "proved"
    assert record["proof"] == str(proof)
    assert record["proof_bytes"] == proof.stat().st_size
    assert (record["proof_check"], record["proof_problem"]) == ("VALID", None)
    result = relucid(capsys, "check", model, prop, proof)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[0] == "VALID"
    shown = fields(result)
    assert shown["proved"].startswith("no point of the input box has unsafe outputs")
    assert int(shown["nodes"]) == record["proof_nodes"] > 10


def test_the_plain_checker_says_the_same(capsys, rugged):
    model, prop, proof, record = rugged
    result = relucid(capsys, "check", model, prop, proof, "--plain", "--json")
    shown = json.loads(result.out)
    assert (result.status, shown["result"], shown["semantics"]) == (0, "VALID", "real")
    assert shown["nodes"] == record["proof_nodes"]
    other = prop.with_name("another.vnnlib")
    other.write_text(prop.read_text() + "; a comment is another file\n")
    result = relucid(capsys, "check", model, other, proof, "--plain")
    assert_invalid(result, "rule: header", "step: property", "the proof is about another property")


def test_the_check_as_json(capsys, rugged):
    model, prop, proof, _ = rugged
    result = relucid(capsys, "check", model, prop, proof, "--json")
    record = json.loads(result.out)
    assert result.status == 0
    assert (record["result"], record["verdict"], record["semantics"]) == ("VALID", "proved", "real")
    assert record["model_sha256"] == load_model(model).sha256
    assert (record["rule"], record["step"], record["why"]) == (None, None, None)
    assert 0 <= record["seconds"] < 60
    other = prop.with_name("other.vnnlib")
    other.write_text(prop.read_text() + "; a comment is another file\n")
    result = relucid(capsys, "check", model, other, proof, "--json")
    record = json.loads(result.out)
    assert (result.status, record["result"], record["verdict"]) == (1, "INVALID", None)
    assert (record["rule"], record["step"]) == ("header", "property")


def test_a_refutation_carries_the_exact_witness(capsys, small):
    model, prop, proof = small
    prop.write_text(property_text("0.7"))
    result = relucid(capsys, "certify", model, "--property", prop, "--proof", proof)
    assert result.status == 0
    assert re.search(r"proof: .*p\.proof, \d+\.\d kB, VALID", result.out)
    result = relucid(capsys, "check", model, prop, proof)
    assert result.out.splitlines()[0] == "VALID"
    assert "its outputs are unsafe" in fields(result)["refuted"]


def test_nothing_is_written_where_nothing_was_decided(capsys, small):
    model, prop, proof = small
    prop.write_text(property_text("0.7"))
    result = relucid(
        capsys, "certify", model, "--property", prop, "--proof", proof, "--engine", "lp"
    )
    if result.out.startswith("unknown"):
        assert (result.status, proof.exists()) == (0, False)


def test_a_check_can_be_left_out(capsys, small):
    model, prop, proof = small
    arguments = ("certify", model, "--property", prop, "--proof", proof, "--no-check-proof")
    result = relucid(capsys, *arguments)
    assert "kB, not checked" in result.out
    assert relucid(capsys, "check", model, prop, proof).out.startswith("VALID")
    record = json.loads(relucid(capsys, *arguments, "--json").out)
    assert (record["proof"], record["proof_check"]) == (str(proof), None)


@pytest.mark.parametrize("eps", ["0.03", "8/255", "0"])
def test_every_point_of_a_data_set_has_its_question_and_its_answer(capsys, tmp_path, eps):
    model, data = write_model(tmp_path / "m.onnx"), tmp_path / "d.csv"
    data.write_text("0.5,0.25,0\n0.25,1,1\n0.5,0.75,0\n0.5,0.4999,0\n")
    out, table = tmp_path / "proofs", tmp_path / "out.csv"
    result = relucid(
        capsys, "certify", model, "--data", data, "--eps", eps, "--proof", out, "--out", table
    )
    assert result.status == 0, result.err
    assert len(list(out.iterdir())) == 8
    assert "proofs                4/4 written, 4 VALID, " in result.out
    verdicts = ["proved", "proved", "refuted", "proved" if eps == "0" else "refuted"]
    for i, verdict in enumerate(verdicts):
        prop, proof = out / f"{i}.vnnlib", out / f"{i}.proof"
        shown = relucid(capsys, "check", model, prop, proof)
        assert shown.out.startswith("VALID")
        assert verdict in fields(shown)
        box = read_property(prop, n_inputs=2, n_outputs=2).prop.cases[0].box
        assert box.upper[0] - box.lower[0] == 2 * Fraction(eps)
        assert str(proof) in table.read_text()


@pytest.mark.parametrize("engine", ["auto", "interval"])
def test_balls_of_a_deep_network_by_construction(capsys, tmp_path, engine):
    """The pass over all balls needs the rule for maxima; its proof is a few hundred bytes."""
    data, model, out = tmp_path / "d.csv", tmp_path / "m.onnx", tmp_path / "proofs"
    rng = np.random.default_rng(0)
    points = "".join(f"{a},{b},{k % 3}\n" for k, (a, b) in enumerate(rng.random((12, 2))))
    data.write_text(points)
    assert relucid(capsys, "build", "optimal-robust", data, "--out", model).status == 0
    built = json.loads(relucid(capsys, "separation", data, "--quick", "--json").out)
    eps = Fraction(built["lambda"]) / 2 * Fraction(9, 10)
    asked = ("--data", data, "--eps", eps, "--center", "exact", "--no-clip", "--engine", engine)
    result = relucid(capsys, "certify", model, *asked, "--proof", out, "--json")
    records = json.loads(result.out)
    assert result.status == 0, result.err
    assert [(r["verdict"], r["proof_check"]) for r in records] == [("proved", "VALID")] * 12
    assert all(r["statistics"]["max rules"] > 0 and r["proof_bytes"] < 2000 for r in records)
    for i in (0, 11):
        shown = relucid(capsys, "check", model, out / f"{i}.vnnlib", out / f"{i}.proof")
        assert shown.out.startswith("VALID")
    assert_invalid(relucid(capsys, "check", model, out / "1.vnnlib", out / "0.proof"))


def test_a_trained_classifier_of_digits(capsys, tmp_path):
    """64 inputs: too many to split; the bounds of neurons decide, and are in the proof."""
    asked = ("--data", "digits", "--index", 6, "--eps", "0.05", "--engine", "bab", "--json")
    result = relucid(capsys, "certify", "digits-mlp-robust", *asked, "--proof", tmp_path / "a")
    (record,) = json.loads(result.out)
    assert (result.status, record["verdict"], record["proof_check"]) == (0, "proved", "VALID")
    files = tmp_path / "a" / "6.vnnlib", tmp_path / "a" / "6.proof"
    assert relucid(capsys, "check", "digits-mlp-robust", *files).out.startswith("VALID")
    assert_invalid(relucid(capsys, "check", "digits-mlp", *files), "step: model")


def test_the_checker_loads_no_search_and_no_bounds(rugged):
    model, prop, proof, _ = rugged
    code = (
        "import sys; from relucid.cli import run; status = run(sys.argv[1:]); "
        "print(status, *[m for m in sys.modules if m.startswith(('verifier.search', "
        "'verifier.bounds', 'verifier.solvers', 'numba', 'pulp', 'highspy'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "check", *map(str, (model, prop, proof))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "VALID"
    assert done.stdout.splitlines()[-1] == "0"


# Not valid ---------------------------------------------------------------------------------------


def test_a_proof_about_another_model(capsys, tmp_path, rugged):
    _, prop, proof, _ = rugged
    model = write_model(tmp_path / "m.onnx", rugged_network(0.5))
    assert_invalid(relucid(capsys, "check", model, prop, proof), "rule: header", "step: model")


def test_a_proof_about_another_radius(capsys, tmp_path):
    model, data = write_model(tmp_path / "m.onnx"), tmp_path / "d.csv"
    data.write_text("0.5,0.25,0\n")
    for eps in ("0.03", "0.04"):
        out = tmp_path / eps
        relucid(capsys, "certify", model, "--data", data, "--eps", eps, "--proof", out)
    result = relucid(
        capsys, "check", model, tmp_path / "0.04" / "0.vnnlib", tmp_path / "0.03" / "0.proof"
    )
    assert_invalid(result, "rule: header", "step: property")


@pytest.mark.parametrize("change", ["model", "threshold"])
def test_a_forged_hash_does_not_help(capsys, tmp_path, rugged, change):
    """The proof's own header names the wrong files; what it proves must still be true of them."""
    model, prop, proof, _ = rugged
    if change == "model":
        model = write_model(tmp_path / "m.onnx", rugged_network(0.5))
    else:
        bound = float(re.search(r"Y_0 ([\d.]+)", prop.read_text())[1])
        prop = tmp_path / "q.vnnlib"
        prop.write_text(threshold_text(round(bound - 0.5, 4)))
    sha = load_model(model).sha256, read_property(prop, n_inputs=2, n_outputs=2).sha256
    data = proof.read_bytes()
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    forged = tmp_path / "f.proof"
    head = json.dumps(header(*sha)).encode()
    rest = data[len(MAGIC) + 4 + length :]
    forged.write_bytes(MAGIC + struct.pack("<I", len(head)) + head + rest)
    result = relucid(capsys, "check", model, prop, forged)
    assert_invalid(result)
    assert fields(result)["rule"] != "header"


def test_truncated_at_every_kind_of_place(capsys, tmp_path, rugged):
    model, prop, proof, _ = rugged
    data, cut = proof.read_bytes(), tmp_path / "c.proof"
    for size in [0, 1, 15, 16, 18, 20, 100, 300, len(data) // 2, len(data) - 20, len(data) - 1]:
        cut.write_bytes(data[:size])
        assert_invalid(relucid(capsys, "check", model, prop, cut), "rule: file")
    cut.write_bytes(data + b"\0")
    assert_invalid(relucid(capsys, "check", model, prop, cut), "the end is not where")


def test_no_flipped_bit_is_taken_for_a_proof(capsys, tmp_path, rugged):
    model, prop, proof, _ = rugged
    data, bad = proof.read_bytes(), tmp_path / "b.proof"
    rng = np.random.default_rng(7)
    for position in rng.choice(len(data), 40, replace=False):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        bad.write_bytes(changed)
        assert_invalid(relucid(capsys, "check", model, prop, bad))


@pytest.mark.parametrize("forgery", ["no blocks", "wrong witness"])
def test_a_proof_of_nothing(capsys, small, forgery):
    model, prop, proof = small
    sha = load_model(model).sha256, read_property(prop, n_inputs=2, n_outputs=2).sha256
    witness = None if forgery == "no blocks" else (Fraction(3, 5), Fraction(1, 2))
    with proof.open("wb") as stream:
        Writer(stream, header(*sha, witness)).close()
    words = ("0 of 1 cases",) if witness is None else ("rule: witness", "not unsafe")
    assert_invalid(relucid(capsys, "check", model, prop, proof), *words)


# What cannot be read, or written -----------------------------------------------------------------


def test_files_that_cannot_be_read_are_no_verdict(capsys, tmp_path, small):
    model, prop, proof = small
    relucid(capsys, "certify", model, "--property", prop, "--proof", proof)
    assert_refused(relucid(capsys, "check", model, prop, tmp_path / "x"), "x: cannot be read")
    assert_refused(relucid(capsys, "check", model, prop, tmp_path), "Is a directory")
    assert_refused(relucid(capsys, "check", model, proof, proof), "p.proof")
    assert_refused(relucid(capsys, "check", prop, prop, proof), "p.vnnlib")
    wide = write_model(tmp_path / "w.onnx", identity_network(3))
    assert_refused(relucid(capsys, "check", wide, prop, proof), "X_2 is not declared")


def test_places_where_no_proof_can_go(capsys, tmp_path, small):
    model, prop, _ = small
    one = ("certify", model, "--property", prop)
    assert_refused(relucid(capsys, *one, "--proof", tmp_path), "is a folder")
    assert_refused(relucid(capsys, *one, "--proof", tmp_path / "a" / "b"), "does not exist")
    assert_refused(relucid(capsys, *one, "--no-check-proof"), "goes with --proof")
    data = tmp_path / "d.csv"
    data.write_text("0.5,0.25,0\n")
    several = ("certify", model, "--data", data, "--eps", "0.1")
    assert_refused(relucid(capsys, *several, "--proof", prop), "is a file")


def test_evidence_that_cannot_be_written_is_said(capsys, monkeypatch, small):
    model, prop, proof = small
    monkeypatch.setattr(proof_lp._Conversion, "convert", lambda self, evidence: None)
    result = relucid(
        capsys, "certify", model, "--property", prop, "--proof", proof, "--engine", "lp"
    )
    assert result.status == 1
    assert result.out.startswith("proved\n")
    assert "evidence by linear programs not converted in time" in result.out
    assert result.err.startswith("relucid: there is no valid proof; ")
    assert result.err.count("\n") == 1
    assert not proof.exists()


def test_our_own_invalid_proof_is_a_defect_that_shows(capsys, monkeypatch, small):
    model, prop, proof = small
    proof.write_bytes(b"of an earlier run")

    def nothing(tree, case, writer):
        del tree, case, writer

    monkeypatch.setattr("verifier.search.proofs.WRITERS", dict.fromkeys(proofs.WRITERS, nothing))
    result = relucid(
        capsys, "certify", model, "--property", prop, "--proof", proof, "--engine", "bab", "--json"
    )
    record = json.loads(result.out)
    assert result.status == 1
    assert (record["verdict"], record["proof_check"]) == ("proved", "INVALID")
    assert record["proof"] == f"{proof}.invalid"
    assert "open nodes are left" in record["proof_problem"]
    assert "p.proof.invalid is INVALID" in result.err
    assert proof.read_bytes() == b"of an earlier run"


WRITE_SLOWLY = """
import sys, time
from verifier.proof import format
whole = format.Writer.block
def slow(self, name, **columns):
    whole(self, name, **columns)
    self.stream.flush()
    print("block", flush=True)
    time.sleep(60)
format.Writer.block = slow
from relucid.cli import main
main()
"""


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_a_run_that_ends_while_writing_leaves_no_proof(tmp_path, small, sent, status):
    model, prop, proof = small
    arguments = map(str, ("certify", model, "--property", prop, "--proof", proof))
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_SLOWLY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout.readline() == "block\n"
        process.send_signal(sent)
        process.communicate(timeout=20)
    assert process.returncode == status
    assert not proof.exists()
    left = [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert len(left) == (1 if sent == signal.SIGKILL else 0)


def test_an_interrupted_check_ends_with_130(rugged):
    model, prop, proof, _ = rugged
    code = (
        "import time; from verifier.proof import format; read = format.Reader.blocks\n"
        "def slow(self):\n    print('reading', flush=True)\n    time.sleep(600)\n"
        "    yield from read(self)\n"
        "format.Reader.blocks = slow\nfrom relucid.cli import main\nmain()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "check", *map(str, (model, prop, proof))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        # Far less than the minutes that it would go on for.
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "relucid: interrupted\n"
