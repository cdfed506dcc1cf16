"""ONNX models that Torch runs with their own operators."""

import numpy as np
import pytest
import torch
from onnx_graphs import Writer
from operator_cases import ALL, CASES, Case, X, ints, one_node_model

from torchbridge import onnx_module
from torchbridge.attacks.target import Target
from torchbridge.convert import NetworkModule, to_module, to_onnx
from torchbridge.onnx_module import OPERATORS, OnnxModule
from torchbridge.training.architectures import build
from verifier.core.decision import Decision, Rule
from verifier.core.errors import ModelError, UnsupportedOperatorError
from verifier.io.onnx import load_model

ARGMAX = Decision(Rule.argmax)


@pytest.mark.parametrize(("operator", "c"), ALL)
def test_each_form_of_an_operator_is_the_networks_or_refused(operator: str, c: Case, tmp_path):
    writer, output = one_node_model(c, operator, vary=False)
    model = load_model(writer.save(tmp_path / "model.onnx", output))
    try:
        module = OnnxModule(model)
    except UnsupportedOperatorError:
        return
    points = np.random.default_rng(11).integers(-6, 7, (5, model.network.n_inputs))
    got = module(torch.tensor(points, dtype=module.kind)).numpy()
    assert got.dtype == model.input_dtype
    exact = [[float(v) for v in model.network.exact(point)] for point in points]
    np.testing.assert_allclose(got, exact, rtol=0 if c.exact else 1e-5, atol=1e-4)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_every_operator_of_the_table_runs(operator, tmp_path):
    def runs(c: Case) -> bool:
        writer, output = one_node_model(c, operator, vary=False)
        model = load_model(writer.save(tmp_path / "model.onnx", output))
        try:
            return bool(OnnxModule(model))
        except UnsupportedOperatorError:
            return False

    assert any(runs(c) for c in CASES[operator])


def _lenet(folder):
    to_onnx(build("lenet5", (1, 28, 28), 10, 3).eval(), folder / "lenet5.onnx", (1, 28, 28))
    return load_model(folder / "lenet5.onnx")


def test_gradients_are_those_of_the_networks_layers(tmp_path):
    model = _lenet(tmp_path)
    rows = torch.rand(3, 784, generator=torch.Generator().manual_seed(1))
    gradients = []
    for module in (OnnxModule(model), to_module(model.network, "float32")):
        x = rows.clone().requires_grad_(True)
        module(x)[:, 4].sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_attacks_run_convolutions_as_such_and_other_models_by_layers(tmp_path):
    assert isinstance(Target.of_model(_lenet(tmp_path), ARGMAX).module, OnnxModule)
    to_onnx(build("mlp", (4,), 3, 0).eval(), tmp_path / "mlp.onnx", (4,))
    model = load_model(tmp_path / "mlp.onnx")
    assert isinstance(Target.of_model(model, ARGMAX).module, NetworkModule)
    writer = Writer((1, 1, 3, 3))
    convolved = writer.node("Conv", X, ints(2, 1, 2, 2))
    path = writer.save(
        tmp_path / "t.onnx", writer.node("ConvTranspose", convolved, ints(2, 1, 2, 2))
    )
    assert isinstance(Target.of_model(load_model(path), ARGMAX).module, NetworkModule)


def test_a_single_number_as_output(tmp_path):
    writer = Writer((1, 1, 2, 4))
    convolved = writer.node("Conv", X, ints(2, 1, 1, 1))
    limited = writer.node("Clip", convolved, None, np.full((1,), 2.0))
    path = writer.save(tmp_path / "model.onnx", writer.node("ReduceSum", limited, keepdims=0))
    model = load_model(path)
    points = np.random.default_rng(2).integers(-3, 4, (4, 8))
    module = OnnxModule(model)
    got = module(torch.tensor(points, dtype=module.kind)).numpy()
    assert got.tolist() == [[float(v) for v in model.network.exact(p)] for p in points]
    assert module(torch.zeros(0, 8)).shape == (0, 1)


def test_an_operator_that_is_wrong_is_noticed(tmp_path, monkeypatch):
    model = _lenet(tmp_path)
    monkeypatch.setitem(onnx_module.OPERATORS, "Relu", lambda *_: torch.abs)
    with pytest.raises(ModelError, match=r"lenet5\.onnx: Torch gives other outputs"):
        OnnxModule(model)
    with pytest.raises(ModelError, match="other outputs"):  # no silent way round it
        Target.of_model(model, ARGMAX)
