"""Modules read back from the files that training writes."""

import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torchbridge.convert import to_onnx
from torchbridge.training.architectures import build
from torchbridge.training.reading import read_module
from verifier.core.errors import DataError, ModelError

CASES = {"mlp": (1, 5, 4), "small-cnn": (1, 8, 8), "lenet5": (1, 12, 12), "resnet18": (3, 8, 8)}


@pytest.mark.parametrize("name", CASES)
def test_every_number_comes_back(name, tmp_path):
    shape = CASES[name]
    module = build(name, shape, 3, 7)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.uniform_(-1, 1)
                part.running_var.uniform_(0.5, 2)
    module.eval()
    path = tmp_path / "m.onnx"
    to_onnx(module, path, shape)
    again = read_module(path, name, shape, 3)
    assert not again.training
    mine, theirs = module.state_dict(), again.state_dict()
    for key in mine:
        if "num_batches" not in key:
            assert torch.equal(mine[key], theirs[key])


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    to_onnx(build("small-cnn", (1, 8, 8), 3, 0).eval(), path, (1, 8, 8))
    with pytest.raises(ModelError, match=r"mlp: layer 1: expected numbers of shapes"):
        read_module(path, "mlp", (1, 8, 8), 3)
    with pytest.raises(ModelError, match=r"expected .*\(4, 100\).* got .*\(3, 100\)"):
        read_module(path, "small-cnn", (1, 8, 8), 4)
    with pytest.raises(DataError, match="no architecture"):
        read_module(path, "none", (1, 8, 8), 3)
    with pytest.raises(ModelError, match=r"none\.onnx"):
        read_module(tmp_path / "none.onnx", "mlp", (1, 8, 8), 3)


def test_a_graph_that_does_something_else_is_refused(tmp_path):
    """The same numbers, but one node is another."""
    path = tmp_path / "m.onnx"
    to_onnx(build("mlp", (1, 2, 2), 3, 0).eval(), path, (1, 2, 2))
    model = onnx.load(path)
    (relu, *_) = (node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Neg"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="is no mlp"):
        read_module(path, "mlp", (1, 2, 2), 3)
