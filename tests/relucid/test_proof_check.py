"""What a check says of itself while it runs and when it ends."""

import numpy as np
import pytest
from command_line import property_text, write_model

from relucid import proof_check
from relucid.proof_check import Check, check_proof
from verifier.core.errors import PropertyError
from verifier.core.network import Layer, Network
from verifier.core.verdict import Proved
from verifier.io.onnx import load_model
from verifier.io.vnnlib import parse_property
from verifier.proof.integers import TooWideError
from verifier.search import proofs
from verifier.search.portfolio import certify


@pytest.fixture
def proved(tmp_path):
    """(model, property, its hash, proof)."""
    model = load_model(write_model(tmp_path / "m.onnx"))
    file = parse_property(property_text("0.5"), n_inputs=2, n_outputs=2)
    verdict = certify(model.network, file.prop, engine="bab", proof=True)
    assert isinstance(verdict, Proved)
    path = tmp_path / "p.proof"
    with path.open("wb") as stream:
        sha = {"model_sha256": model.sha256, "property_sha256": file.sha256}
        proofs.write(stream, model.network, file.prop, verdict, **sha)
    return model, file.prop, file.sha256, path


def test_progress_goes_up_to_the_end_of_the_file(proved):
    told = []
    result = check_proof(*proved, lambda what, share: told.append((what, share)))
    assert result.word == "VALID"
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1
    assert {what for what, _ in told} == {"checking the proof"}


def test_a_network_beyond_the_checkers_integers_is_not_valid(proved, monkeypatch):
    def too_wide(*_, **kw):
        raise TooWideError("a layer has 300000 neurons")

    monkeypatch.setattr(proof_check, "check_file", too_wide)
    result = check_proof(*proved)
    assert (result.verdict, result.rule) == (None, "network")
    assert result.lines()[0] == "INVALID"
    assert result.lines()[3] == "why: a layer has 300000 neurons"


def test_a_property_that_reads_more_than_the_model_tells_is_refused(proved, tmp_path):
    """Behind a Softmax only the order of the outputs is known; a bound on one says nothing."""
    from onnx import helper, load, save

    model = tmp_path / "s.onnx"
    proto = load(tmp_path / "m.onnx")
    last = proto.graph.output[0].name
    proto.graph.node.append(helper.make_node("Softmax", [last], ["probability"]))
    proto.graph.output[0].name = "probability"
    save(proto, model)
    text = property_text("0.5").split("(assert (or")[0] + "(assert (>= Y_0 2.0))\n"
    file = parse_property(text, n_inputs=2, n_outputs=2)
    with pytest.raises(PropertyError, match="only the order of the outputs"):
        check_proof(load_model(model), file.prop, file.sha256, proved[3])


def test_lines_of_a_refutation_name_no_nodes():
    lines = Check("refuted", 0, 1.0).lines()
    assert lines[0] == "VALID"
    assert not any(line.startswith("nodes") for line in lines)


def test_a_model_with_other_weights_is_another_model(proved, tmp_path):
    _, prop, sha256, path = proved
    eye, none = np.eye(2), np.zeros(2)
    layers = (Layer(eye, none, np.ones(2, bool)), Layer(eye * 1.5, none, np.zeros(2, bool)))
    other = load_model(write_model(tmp_path / "o.onnx", Network(layers)))
    result = check_proof(other, prop, sha256, path)
    assert (result.rule, result.step) == ("header", "model")
