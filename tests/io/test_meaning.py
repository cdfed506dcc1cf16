"""What outputs mean survives the file, and damaged entries are refused."""

import numpy as np
import onnx
import pytest

from verifier.core.decision import Decision, Rule
from verifier.core.errors import ModelError
from verifier.core.network import Layer, Network
from verifier.io.onnx import export_onnx, load_model

DECISIONS = [
    Decision(Rule.argmax, ("α", "b")),
    Decision(Rule.label, ("3", "7", "sieben")),
    Decision(Rule.sign, ("no", "yes")),
    Decision(Rule.label),
]


def network(n=1):
    return Network((Layer(np.eye(n), np.zeros(n), np.zeros(n, bool)),))


def damaged(path, **entries):
    model = onnx.load(path)
    for entry in model.metadata_props:
        entry.value = entries.get(entry.key.removeprefix("relucid."), entry.value)
    onnx.save(model, path)


@pytest.mark.parametrize("decision", DECISIONS, ids=str)
def test_it_is_read_as_it_was_written(tmp_path, decision):
    n = 2 if decision.rule is Rule.argmax else 1
    export_onnx(network(n), tmp_path / "m.onnx", decision=decision)
    assert load_model(tmp_path / "m.onnx").decision == decision


def test_other_models_have_none(tmp_path):
    export_onnx(network(), tmp_path / "m.onnx")
    assert load_model(tmp_path / "m.onnx").decision is None


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"decision": "largest"}, "largest"),
        ({"classes": "[1, 2]"}, "expected a list of names"),
        ({"classes": '"ab"'}, "expected a list of names"),
        ({"classes": "[1, "}, "relucid.classes"),
        ({"classes": '["a", "a"]'}, "twice"),
        ({"decision": "sign"}, "two classes"),
        ({"decision": "argmax"}, "m.onnx"),
    ],
)
def test_damaged_entries(tmp_path, entries, words):
    path = tmp_path / "m.onnx"
    export_onnx(network(), path, decision=DECISIONS[1])
    damaged(path, **entries)
    with pytest.raises(ModelError, match=words):
        load_model(path)
