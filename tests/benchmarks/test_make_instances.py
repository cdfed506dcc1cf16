"""The sets that are made of bundled networks and of constructions."""

import csv
import importlib.util
from pathlib import Path

import pytest

from verifier.core.verdict import Proved
from verifier.io.onnx import load_model
from verifier.io.vnnlib import read_property
from verifier.search.portfolio import certify


@pytest.fixture
def script(monkeypatch):
    path = Path(__file__).parents[2] / "benchmarks" / "make_instances.py"
    spec = importlib.util.spec_from_file_location("make_instances", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CONSTRUCTIONS", (("compact", "--ratio", "99/100"),))
    return module


def test_every_instance_can_be_asked_and_those_of_constructions_are_proved(script, tmp_path):
    assert script.main([str(tmp_path), "--count", "2"]) == 0
    counts = {}
    for name in script.SETS:
        with (tmp_path / name / "instances.csv").open(newline="") as lines:
            rows = list(csv.reader(lines))
        counts[name] = len(rows)
        for model, prop, limit in rows:
            network = load_model(tmp_path / name / model).network
            sizes = {"n_inputs": network.n_inputs, "n_outputs": network.n_outputs}
            asked = read_property(tmp_path / name / prop, **sizes).prop
            assert float(limit) > 0
            if name == "constructions":
                assert isinstance(certify(network, asked, timeout=60), Proved)
    assert counts == {"models": 4 * 2 * 2, "constructions": 2}


def test_bad_input(script, tmp_path, capsys):
    (tmp_path / "models").touch()
    assert script.main([str(tmp_path), "--set", "models"]) == 2
    assert "make_instances: " in capsys.readouterr().err
