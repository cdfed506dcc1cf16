"""Operators of Torch, on numbers that float64 sums exactly, so that Torch itself is exact."""

from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn
from torch.nn import functional as fn

from torchbridge.convert import to_network
from torchbridge.graph import trace
from torchbridge.operators import MOVING, OPERATORS
from verifier.core.errors import ModelError


class Of(nn.Module):
    """A function of the input and of some parameters, multiples of 1/8."""

    def __init__(self, function, *shapes, kind=torch.float64):
        super().__init__()
        rng = np.random.default_rng(7)
        self.function, self.count = function, len(shapes)
        for k, shape in enumerate(shapes):
            values = torch.from_numpy(rng.integers(-16, 17, shape) / 8.0).to(kind)
            self.register_parameter(f"p{k}", nn.Parameter(values))
        if not shapes:
            self.register_parameter("unused", nn.Parameter(torch.zeros(1, dtype=kind)))
        self.eval()

    def forward(self, x):
        return self.function(x, *(getattr(self, f"p{k}") for k in range(self.count)))


def dyadic(shape, seed, count=20):
    return np.random.default_rng(seed).integers(-24, 25, (count, *shape)) / 8.0


def _normalisation():
    """A batch normalisation whose variance + eps are powers of 4."""
    norm = nn.BatchNorm2d(2, eps=2.0**-10)
    rng = np.random.default_rng(8)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor[:] = torch.from_numpy(rng.integers(-16, 17, 2) / 8.0)
        norm.running_var[:] = torch.tensor([4.0, 0.25]) - 2.0**-10
    return norm.eval()


IMAGE, PLANE = (2, 4, 6), (3, 4)
CASES = {
    "_to_copy": (Of(lambda x: torch.ops.aten._to_copy.default(x)), PLANE),
    "abs": (Of(lambda x: x.abs()), PLANE),
    "adaptive_avg_pool1d": (Of(lambda x: fn.adaptive_avg_pool1d(x, 2)), (3, 8)),
    "adaptive_avg_pool2d": (Of(lambda x: fn.adaptive_avg_pool2d(x, (2, 1))), (2, 4, 2)),
    "adaptive_avg_pool3d": (Of(lambda x: fn.adaptive_avg_pool3d(x, 1)), (1, 2, 2, 4)),
    "add": (Of(lambda x, p: torch.add(x, p, alpha=2) + x + 0.5, (4,)), PLANE),
    "addmm": (Of(lambda x, p, q: torch.addmm(q, x, p), (4, 3), (3,)), (4,)),
    "avg_pool1d": (Of(lambda x: fn.avg_pool1d(x, 2)), (2, 6)),
    "avg_pool2d": (Of(lambda x: fn.avg_pool2d(x, 2, stride=1, padding=1)), IMAGE),
    "avg_pool3d": (Of(lambda x: fn.avg_pool3d(x, (1, 2, 2))), (1, 2, 4, 4)),
    "batch_norm": (_normalisation(), (2, 3, 3)),
    "_native_batch_norm_legit_no_training": (
        nn.Sequential(_normalisation(), nn.ReLU(inplace=True)).eval(), (2, 3, 3)
    ),
    "cat": (Of(lambda x, p: torch.cat([x, -x, p], 1), (1, 2, 4)), PLANE),
    "clamp": (Of(lambda x: x.clamp(-1, 0.5)), PLANE),
    "clamp_max": (Of(lambda x: torch.clamp_max(x, 0.25)), PLANE),
    "clamp_min": (Of(lambda x: torch.clamp_min(x, 0.25)), PLANE),
    "constant_pad_nd": (
        Of(lambda x: torch.ops.aten.constant_pad_nd.default(x, [1, 2], 0.5)), PLANE
    ),
    "conv1d": (Of(lambda x, p, q: fn.conv1d(x, p, q, padding="same"), (2, 3, 4), (2,)), (3, 5)),
    "conv2d": (
        Of(
            lambda x, p, q: fn.conv2d(
                fn.conv2d(x, p, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2), q
            ),
            (4, 1, 3, 2), (2, 4, 1, 1),
        ),
        IMAGE,
    ),
    "conv3d": (Of(lambda x, p: fn.conv3d(x, p, padding="valid"), (2, 1, 2, 2, 1)), (1, 3, 3, 2)),
    "div": (Of(lambda x, p: x / 4 + x / p.abs().clamp(2, 2), (4,)), PLANE),
    "dropout": (nn.Dropout().eval(), PLANE),
    "feature_dropout": (nn.Dropout2d().eval(), IMAGE),
    "hardtanh": (nn.Hardtanh(-0.5, 2.0).eval(), PLANE),
    "leaky_relu": (nn.LeakyReLU(0.25).eval(), PLANE),
    "linear": (Of(lambda x, p, q: fn.linear(fn.linear(x, p, q), p), (4, 4), (4,)), PLANE),
    "matmul": (Of(lambda x, p: torch.matmul(p, x) @ p.T, (4, 4)), (2, 4, 4)),
    "max_pool1d": (Of(lambda x: fn.max_pool1d(x, 3, 2, 1)), (2, 7)),
    "max_pool2d": (Of(lambda x: fn.max_pool2d(x, (2, 3), 2, ceil_mode=True)), (2, 5, 6)),
    "max_pool3d": (Of(lambda x: fn.max_pool3d(x, 2, dilation=(1, 2, 1))), (1, 2, 4, 2)),
    "maximum": (Of(lambda x, p: torch.maximum(x, -x + p), (4,)), PLANE),
    "mean": (Of(lambda x: x.mean((1, 3)) - x.mean()), (*IMAGE[:2], 8)),
    "minimum": (Of(lambda x, p: torch.minimum(p, x), (4,)), PLANE),
    "mm": (Of(lambda x, p: torch.mm(x, p), (4, 3)), (4,)),
    "mul": (Of(lambda x, p: x * p * 0.5, (3, 1)), PLANE),
    "neg": (Of(lambda x: -x), PLANE),
    "pad": (
        Of(lambda x: fn.pad(fn.pad(x, (1, 2), mode="reflect"), (-1, 1, 0, 2), value=2.0)), PLANE
    ),
    "prelu": (Of(lambda x, p: fn.prelu(x, p), (3,)), PLANE),
    "relu": (Of(lambda x: fn.relu_(x - 0.125)), PLANE),
    "to": (Of(lambda x: x.to(torch.float64) + x), PLANE),
    "expand_as": (Of(lambda x: x[:, :1].expand_as(x)), PLANE),
    "movedim": (Of(lambda x: x.movedim(1, 2)), PLANE),
    "view_as": (Of(lambda x: x.view_as(x[0].transpose(0, 1)[None])), PLANE),
    "relu6": (Of(lambda x: fn.relu6(4 * x)), PLANE),
    "rsub": (Of(lambda x: torch.rsub(x, 1.0, alpha=2)), PLANE),
    "stack": (Of(lambda x, p: torch.stack([x[:, 0], x[:, 1], p], -1), (1, 4)), PLANE),
    "sub": (Of(lambda x, p: torch.sub(p, x, alpha=3), (4,)), PLANE),
    "sum": (Of(lambda x: x.sum(1, keepdim=True) + x.sum()), PLANE),
    "chunk": (Of(lambda x: x.chunk(2, 1)[1]), PLANE),
    "clone": (Of(lambda x: x.clone()), PLANE),
    "contiguous": (Of(lambda x: x.transpose(1, 2).contiguous()), PLANE),
    "detach": (Of(lambda x: x.detach()), PLANE),
    "expand": (Of(lambda x: x[:, :1].expand(1, 5, 4)), PLANE),
    "flatten": (nn.Flatten().eval(), IMAGE),
    "flip": (Of(lambda x: x.flip(1, 2)), PLANE),
    "numpy_T": (Of(lambda x: x.T), (4,)),
    "permute": (Of(lambda x: x.permute(0, 3, 1, 2)), IMAGE),
    "pixel_shuffle": (Of(lambda x: fn.pixel_shuffle(x, 2)), (4, 2, 3)),
    "pixel_unshuffle": (Of(lambda x: fn.pixel_unshuffle(x, 2)), (1, 4, 6)),
    "repeat": (Of(lambda x: x.repeat(1, 2, 1)), PLANE),
    "reshape": (Of(lambda x: x.transpose(1, 2).reshape(1, -1)), PLANE),
    "roll": (Of(lambda x: x.roll(1, 2)), PLANE),
    "select": (Of(lambda x: x[:, 1]), PLANE),
    "slice": (Of(lambda x: x[:, ::2, 1:]), PLANE),
    "split": (Of(lambda x: x.split(2, 2)[1]), PLANE),
    "split_with_sizes": (Of(lambda x: x.split([1, 3], 2)[1]), PLANE),
    "squeeze": (Of(lambda x: x[:, :1].squeeze(1)), PLANE),
    "t": (Of(lambda x: x.t()), (4,)),
    "transpose": (Of(lambda x: x.transpose(1, 2)), PLANE),
    "unbind": (Of(lambda x: x.unbind(1)[2]), PLANE),
    "unflatten": (Of(lambda x: x.unflatten(2, (2, 2)).permute(0, 3, 1, 2)), PLANE),
    "unsqueeze": (Of(lambda x: x.unsqueeze(1)), PLANE),
    "upsample_nearest1d": (Of(lambda x: fn.interpolate(x, scale_factor=2)), PLANE),
    "upsample_nearest2d": (Of(lambda x: fn.interpolate(x, scale_factor=(2, 3))), IMAGE),
    "view": (Of(lambda x: x.view(1, -1)), PLANE),
}  # fmt: skip


def test_every_operator_of_the_tables_has_a_case():
    assert set(CASES) == set(OPERATORS) | set(MOVING)


@pytest.mark.parametrize("name", CASES)
def test_the_network_is_the_module_exactly(name):
    module, shape = CASES[name]
    module = module.double()
    with torch.no_grad():
        program = torch.export.export(module, (torch.zeros(1, *shape, dtype=torch.float64),))
    if name.startswith("_native"):
        program = program.run_decompositions({})
    calls = [n.target for n in program.graph.nodes if hasattr(n.target, "_schema")]
    assert name in {call.name().split("::")[1].split(".")[0].rstrip("_") for call in calls}
    network = to_network(module, shape)
    for x in dyadic(shape, len(name)):
        with torch.no_grad():
            expected = module(torch.from_numpy(x[None])).ravel().tolist()
        assert network.exact(x.ravel().tolist()) == tuple(map(Fraction, expected))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.GELU()), r"module '1' \(GELU\): gelu has no exact"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), r"module '1' \(Softmax\).*leave it out"),
        (Of(lambda x: x * x), "both depend on the input"),
        (Of(lambda x: x / (x + 100)), "quotient by a tensor"),
        (Of(lambda x: x @ x.t()), "both depend on the input"),
        (Of(lambda x, p: fn.linear(p, x), (4, 4)), "its weight depends on the input"),
        (Of(lambda x: fn.dropout(x)), "in training mode it is random"),
        (Of(lambda x: x.to(torch.float16)), "rounds"),
        (Of(lambda x, p: p, (4,)), "does not depend on the input"),
        (Of(lambda x: (x, x)), "returns tuple, expected one tensor"),
        (Of(lambda x: x if x.sum() > 0 else -x), "cannot run or trace"),
        (nn.Linear(5, 2), "cannot run or trace the module on an input of shape"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train(), "is in training mode"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).train()), "is in training mode"),
        (nn.Linear(4, 4).half(), "weight has type torch.float16"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).double()), "1.weight has type"),
        (Of(lambda x: fn.batch_norm(x.view(1, 2, 2), None, None, training=True)), "of the batch"),
        (Of(lambda x: fn.adaptive_avg_pool1d(x[:, None], 3)), "windows of different sizes"),
    ],
)  # fmt: skip
def test_what_has_no_exact_form_is_refused_by_name(module, message):
    if "training mode, where" not in message and "is in training" not in message:
        module.eval()
    with pytest.raises(ModelError, match=message) as caught:
        to_network(module, (4,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value):
    module = nn.Linear(3, 2).eval()
    with torch.no_grad():
        module.weight[0, 0] = value
    with pytest.raises(ModelError, match="NaN or infinite"):
        to_network(module, (3,))


def test_an_empty_shape_is_refused():
    with pytest.raises(ModelError, match="empty dimension"):
        trace(nn.Flatten().eval(), (0, 3))
