"""Torch module, network, ONNX file: the same function, exactly, whichever way."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

import onnxruntime
from torch import nn

from tests.strategies import generators, networks
from torchbridge import convert
from torchbridge.convert import NetworkModule, to_module, to_network, to_onnx
from verifier.core.errors import ExportError, ModelError, NetworkError
from verifier.core.network import Layer, Network
from verifier.core.rounding import Rounding
from verifier.io.onnx import load_model

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Residual(nn.Module):
    """x + block(x)."""

    def __init__(self, *block):
        super().__init__()
        self.block = nn.Sequential(*block)

    def forward(self, x):
        return x + self.block(x)


def random_module(rng, kind=torch.float64):
    """A small network of convolutions, pools, residual blocks and linear layers, and its input.

    Weights are multiples of 1/8, so that float64 arithmetic on dyadic points rounds nothing.
    """
    torch.manual_seed(int(rng.integers(2**31)))
    channels, size = int(rng.integers(1, 3)), int(rng.choice([4, 6]))
    layers, shape = [], (channels, size, size)
    for _ in range(int(rng.integers(1, 4))):
        what = str(rng.choice(["conv", "residual", "max", "average", "relu", "leaky"]))
        c, n = shape[0], shape[1]
        if what == "conv":
            out = int(rng.integers(1, 4))
            layers += [nn.Conv2d(c, out, 3, padding=1, bias=bool(rng.integers(2))), nn.ReLU()]
            shape = (out, n, n)
        elif what == "residual":
            layers.append(Residual(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(inplace=True)))
        elif what in ("max", "average") and n % 2 == 0:
            layers.append(nn.MaxPool2d(2) if what == "max" else nn.AvgPool2d(2))
            shape = (c, n // 2, n // 2)
        else:
            layers.append(nn.LeakyReLU(0.25) if what == "leaky" else nn.ReLU())
    layers += [nn.Flatten(), nn.Dropout(), nn.Linear(int(np.prod(shape)), 3)]
    module = nn.Sequential(*layers).to(kind).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-16, 17, parameter.shape) / 8.0)
    return module, (channels, size, size)


def dyadic(rng, shape, count):
    return rng.integers(-16, 17, (count, *shape)) / 8.0


def exact(network, points):
    return [network.exact(p.ravel().tolist()) for p in points]


def computed(module, points):
    """Torch's values in float64 as Fractions; exact where nothing is rounded."""
    kind = next(module.parameters()).dtype
    with torch.no_grad():
        values = module(torch.from_numpy(points).to(kind)).double().numpy()
    return [tuple(map(Fraction, row.tolist())) for row in values]


@settings(max_examples=25, deadline=None)
@given(generators(), st.sampled_from([torch.float32, torch.float64]))
def test_module_to_network_is_exact(rng, kind):
    module, shape = random_module(rng, kind)
    network = to_network(module, shape, name="net")
    assert (network.input_shape, network.name) == (shape, "net")
    points = dyadic(rng, shape, 4)
    assert exact(network, points) == computed(copy.deepcopy(module).double(), points)


@settings(max_examples=40, deadline=None)
@given(networks(), generators())
def test_network_to_module_and_back_is_the_same_network(network, rng):
    module = to_module(network)
    back = to_network(module)
    for mine, theirs in zip(network.layers, back.layers, strict=True):
        assert np.array_equal(mine.dense, theirs.dense)
        assert np.array_equal(mine.bias, theirs.bias)
        assert np.array_equal(mine.relu, theirs.relu)
    points = dyadic(rng, (network.n_inputs,), 3)
    assert exact(back, points) == exact(network, points)
    with torch.no_grad():
        values = module(torch.from_numpy(points)).numpy()
    scale = max(np.abs(layer.dense).sum() + np.abs(layer.bias).sum() for layer in network.layers)
    allowed = 1e-13 * (1 + scale) ** network.depth * (1 + np.abs(points).max())
    expected = [[float(v) for v in row] for row in exact(network, points)]
    assert np.abs(values - expected).max() <= allowed


@settings(max_examples=15, deadline=None)
@given(generators())
def test_module_to_onnx_is_read_as_the_same_network_and_runs(tmp_path_factory, rng):
    module, shape = random_module(rng, torch.float32)
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    to_onnx(module, path, shape)
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"]
    points = dyadic(rng, shape, 4)
    assert exact(load_model(path).network, points) == exact(to_network(module, shape), points)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for point, value in zip(points, computed(module.double(), points), strict=True):
        feed = {session.get_inputs()[0].name: point[None].astype(np.float32)}
        got = session.run(None, feed)[0].ravel()
        expected = np.array([float(v) for v in value])
        assert np.allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("device", DEVICES)
def test_weights_keep_every_bit(device):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval().to(device)
    network = to_network(module, (5,))
    for layer, part in zip(network.layers, (module[0], module[2]), strict=True):
        assert np.array_equal(layer.dense, part.weight.detach().cpu().double().numpy())
        assert np.array_equal(layer.bias, part.bias.detach().cpu().double().numpy())
    assert module[0].weight.device.type == device


def test_a_batch_normalisation_is_rounded_and_says_so():
    torch.manual_seed(4)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten())
    module.train()(torch.randn(8, 1, 4, 4))
    network = to_network(module.eval(), (1, 4, 4))
    assert any("BatchNormalization" in note and "'1." in note for note in network.notes)
    x = torch.randn(1, 1, 4, 4)
    expected = copy.deepcopy(module).double()(x.double()).detach().numpy().ravel()
    got = np.array([float(v) for v in network.exact(x.double().numpy().ravel().tolist())])
    # eps is the float32 nearest to 1e-5 in a float32 model.
    assert np.abs(got - expected).max() < 1e-6


def test_shared_and_computed_parameters():
    shared = nn.Linear(3, 3)
    module = nn.Sequential(shared, nn.ReLU(), shared).eval()
    network = to_network(module, (3,))
    assert np.array_equal(network.layers[0].dense, network.layers[1].dense)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)).eval()
    network = to_network(normed, (3,))
    assert np.array_equal(network.layers[0].dense, normed.weight.detach().double().numpy())
    assert any("constants were combined" in note for note in network.notes)


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval()
    before = copy.deepcopy(module.state_dict())
    to_network(module, (3,))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def _sparse_network():
    rng = np.random.default_rng(5)
    weight = rng.integers(-8, 9, (12, 20)) / 4.0 * (rng.random((12, 20)) < 0.1)
    first = Layer(sp.csr_array(weight), rng.integers(-8, 9, 12) / 4.0, np.arange(12) % 3 > 0)
    second = Layer(rng.integers(-8, 9, (2, 12)) / 4.0, np.zeros(2), np.zeros(2, bool))
    return Network((first, second), (4, 5), "sparse")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_sparse_layers_stay_sparse_and_have_gradients(kind, device):
    network = _sparse_network()
    module = to_module(network, kind).to(device)
    assert module.weight0.layout == torch.sparse_coo
    x = torch.randn(3, 4, 5, dtype=getattr(torch, kind), device=device, requires_grad=True)
    module(x).sum().backward()
    first, second = network.layers
    rows = x.detach().cpu().double().numpy().reshape(3, 20)
    on = (rows @ first.dense.T + first.bias > 0) | ~first.relu
    expected = (on * second.dense.sum(axis=0)) @ first.dense
    assert np.allclose(x.grad.cpu().double().numpy().reshape(3, 20), expected, atol=1e-5)
    assert module.weight1.grad is not None
    back = to_network(module)
    assert np.array_equal(back.layers[0].dense, first.dense)
    assert (back.input_shape, back.name) == ((4, 5), "sparse")


def test_trained_weights_come_back():
    module = to_module(_sparse_network())
    with torch.no_grad():
        module.bias0 += 0.1
    assert np.array_equal(to_network(module).layers[0].bias, module.bias0.detach().numpy())
    with torch.no_grad():
        module.bias0[2] = float("nan")
    with pytest.raises(NetworkError, match="NaN or infinite"):
        to_network(module)


def test_a_network_module_is_written_as_its_network(tmp_path):
    network = _sparse_network()
    to_onnx(to_module(network), tmp_path / "n.onnx")
    x = (np.arange(20) / 8.0).tolist()
    assert load_model(tmp_path / "n.onnx").network.exact(x) == network.exact(x)


def _one(weight, bias=0.0, **options):
    return Network((Layer(np.array([[weight]]), np.array([bias]), np.array([True]), **options),))


@pytest.mark.parametrize("value", [0.1, 1e300, 2.0**-160, 1 + 2.0**-30])
def test_float32_holds_or_refuses(value):
    for network in (_one(value), _one(1.0, value)):
        with pytest.raises(ExportError, match=r"layer 0: .* is no float32 number"):
            to_module(network, "float32")
        assert isinstance(to_module(network), NetworkModule)


def test_networks_without_a_float_form_are_refused():
    exact_weight = np.array([[Fraction(1, 3)]], dtype=object)
    third = Network((Layer(exact_weight, np.array([0], dtype=object), np.array([True])),))
    for network in (third, _one(1.0, rounding=Rounding(2.0**-24, 2.0**-149))):
        with pytest.raises(ExportError, match="layer 0: exact numbers without a float64 form"):
            to_module(network)
    with pytest.raises(ExportError, match="unknown type 'half'"):
        to_module(_one(1.0), "half")


def test_inputs_that_do_not_fit_are_refused():
    module = to_module(_sparse_network())
    for shape in ((20,), (2, 19), (2, 4, 4)):
        with pytest.raises(ModelError, match=r"expected \(batch, ...\) with 20 numbers a row"):
            module(torch.zeros(shape, dtype=torch.float64))


def test_the_shape_of_an_input_is_needed(tmp_path):
    with pytest.raises(ModelError, match="the shape of one input is needed"):
        to_network(nn.Linear(2, 2).eval())
    with pytest.raises(ModelError, match="the shape of one input is needed"):
        to_onnx(nn.Linear(2, 2).eval(), tmp_path / "n.onnx")


def test_files_that_cannot_be_written_or_run_are_refused(tmp_path):
    with pytest.raises(ExportError, match="cannot be written"):
        to_onnx(nn.Linear(2, 2).eval(), tmp_path / "none" / "n.onnx", (2,))
    with pytest.raises(ModelError, match="onnxruntime refuses the model"):
        to_onnx(nn.Conv2d(1, 1, 2).double().eval(), tmp_path / "n.onnx", (1, 3, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_translation_that_is_wrong_is_noticed(monkeypatch):
    def wrong(writer, arguments):
        return writer.emit("Neg", [arguments["self"].name], arguments["self"].shape)

    monkeypatch.setitem(convert.trace.__globals__["OPERATORS"], "relu", wrong)
    with pytest.raises(ModelError, match=r"net: import refused: .* in Torch"):
        to_network(nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval(), (2,), name="net")


def test_large_modules_are_compared_without_their_network(tmp_path, monkeypatch):
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).eval()
    monkeypatch.setattr(convert, "_LOWERED", 3 * 16 * 9 + 48 * 2 - 1)
    monkeypatch.setattr(convert, "_network", None)
    to_onnx(module, tmp_path / "n.onnx", (1, 6, 6))
    monkeypatch.undo()
    points = dyadic(np.random.default_rng(1), (1, 6, 6), 2)
    read = load_model(tmp_path / "n.onnx").network
    assert exact(read, points) == exact(to_network(module, (1, 6, 6)), points)


def test_a_large_module_that_is_written_wrongly_is_noticed(tmp_path, monkeypatch):
    def wrong(writer, arguments):
        return writer.emit("Neg", [arguments["self"].name], arguments["self"].shape)

    monkeypatch.setitem(convert.trace.__globals__["OPERATORS"], "relu", wrong)
    monkeypatch.setattr(convert, "_LOWERED", 0)
    module = nn.Sequential(nn.Linear(2, 4), nn.ReLU()).eval()
    with pytest.raises(ModelError, match="other outputs in onnxruntime than in Torch"):
        to_onnx(module, tmp_path / "n.onnx", (2,))
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(convert, "_BYTES", 1e15)
    with pytest.raises(ModelError, match=r"about 4\.0e\+00 nonzeros, which takes 4000000 GB"):
        to_network(nn.Linear(2, 2).eval(), (2,))


def test_a_dense_module_is_written_with_nothing_but_gemms_and_relus(tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    to_onnx(module, tmp_path / "m.onnx", (3,))
    graph = load_model(tmp_path / "m.onnx").proto.graph
    assert [node.op_type for node in graph.node] == ["Gemm", "Relu", "Gemm"]
    assert graph.node[-1].output[0] == graph.output[0].name == "output"


def test_flattening_says_no_batch_size(tmp_path):
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(8, 2)).eval()
    to_onnx(module, tmp_path / "m.onnx", (1, 3, 3))
    graph = load_model(tmp_path / "m.onnx").proto.graph
    assert [node.op_type for node in graph.node] == ["Conv", "Flatten", "Gemm"]


def test_a_module_that_computes_nothing_is_written_too(tmp_path):
    to_onnx(nn.Flatten().eval(), tmp_path / "m.onnx", (3,))
    assert load_model(tmp_path / "m.onnx").network.exact([1, 2, 3]) == (1, 2, 3)
