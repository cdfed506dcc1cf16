"""Exact evaluation of modules: the same rational numbers as their networks'."""

from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn

from torchbridge import exact_module
from torchbridge.convert import to_network
from torchbridge.exact_module import ExactModule
from torchbridge.training.architectures import Residual, build
from verifier.core.errors import ModelError

#: Modules without a rounded constant, on (2, 6, 7).
PLAIN = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, (2, 3), stride=(1, 2)),
        nn.ReLU(), nn.Flatten(), nn.Linear(60, 3),
    ),
    "groups": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, dilation=2, bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(24, 3),
    ),
    "pools": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 2), nn.MaxPool2d(2, stride=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 3), nn.Identity(),
    ),
    "residual": lambda: nn.Sequential(
        Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())), nn.ReLU(),
        Residual(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 1)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3, 2),
    ),
}  # fmt: skip
SHAPE = (2, 6, 7)


def point(rng, shape):
    return [Fraction(int(v), 255) for v in rng.integers(-255, 256, int(np.prod(shape)))]


class Twice(nn.Sequential):
    """A chain that is none."""

    def forward(self, x):
        return 2 * super().forward(x)


def made(name, seed=0):
    torch.manual_seed(seed)
    return PLAIN[name]().eval()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [n for n in PLAIN if n != "residual"])
def test_the_networks_numbers(name, kind, monkeypatch):
    module = made(name).to(kind)
    with torch.no_grad():  # numbers of very different size need several limbs
        first = module[0].weight
        first.mul_(2.0 ** torch.randint(-40, 20, first.shape, dtype=kind))
    network = to_network(module.float() if kind == torch.float32 else module, SHAPE)
    rng = np.random.default_rng(1)
    exact = ExactModule(module, SHAPE)
    for _ in range(2):
        x = point(rng, SHAPE)
        assert exact(x) == network.exact(x)
    monkeypatch.setattr(exact_module, "_WEIGHT_BYTES", 1)
    monkeypatch.setattr(exact_module, "_AT_A_TIME", 3)
    assert exact(x) == network.exact(x)


def test_a_mean_is_a_fraction_and_no_float():
    """The network rounds 1/42; here it stays what it is."""
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = point(np.random.default_rng(2), SHAPE)
    assert ExactModule(module, SHAPE)(x) == (sum(x[:42]) / 42, sum(x[42:]) / 42)


def test_residual_blocks():
    module, x = made("residual"), point(np.random.default_rng(3), SHAPE)
    with torch.no_grad():
        array = torch.tensor([float(v) for v in x], dtype=torch.float64).reshape(1, *SHAPE)
        wanted = module.double()(array)[0]
    got = ExactModule(module, SHAPE)(x)
    assert np.allclose([float(v) for v in got], wanted.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["lenet5", "small-cnn", "mlp"])
def test_architectures(name):
    shape = (1, 12, 12)
    module = build(name, shape, 4, 0).eval()
    x = point(np.random.default_rng(4), shape)
    assert ExactModule(module, shape)(x) == to_network(module, shape).exact(x)


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_deep_ones_are_torchs_up_to_its_rounding(name):
    """Batch normalisations with statistics of their own; float64 is off by its rounding only."""
    shape = (3, 8, 8) if name == "resnet18" else (3, 32, 32)
    module = build(name, shape, 10, 0)
    generator = torch.Generator().manual_seed(5)
    keep = 8  # of the channels: the wide layers are the same code
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2, generator=generator)
            part.running_mean.uniform_(-0.1, 0.1, generator=generator)
    module = _narrowed(module.eval(), keep)
    x = point(np.random.default_rng(6), shape)
    with torch.no_grad():
        array = torch.tensor([float(v) for v in x], dtype=torch.float64).reshape(1, *shape)
        wanted = module.double()(array)[0].numpy()
    got = np.array([float(v) for v in ExactModule(module, shape)(x)])
    assert np.abs(got - wanted).max() <= 1e-10 * np.abs(wanted).max()


def _narrowed(module, keep):
    """The same layers with fewer channels."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            inside = min(keep, part.in_channels)
            part.weight = nn.Parameter(part.weight[:keep, :inside].detach().clone())
            part.in_channels, part.out_channels = inside, keep
        elif isinstance(part, nn.BatchNorm2d):
            for name in ("weight", "bias"):
                setattr(part, name, nn.Parameter(getattr(part, name)[:keep].detach().clone()))
            part.running_mean, part.running_var = part.running_mean[:keep], part.running_var[:keep]
            part.num_features = keep
        elif isinstance(part, nn.Linear):
            part.weight = nn.Parameter(part.weight[:, :keep].detach().clone())
            part.in_features = keep
    return module


def test_integers_beyond_64_bits():
    """A convolution of integers of 300 bits, beside Python's own sums."""
    rng = np.random.default_rng(7)
    a = np.array(
        [int(v) ** 9 * (-1) ** i for i, v in enumerate(rng.integers(0, 2**33, 18))], object
    )
    w = np.array([int(v) ** 3 * (-1) ** i for i, v in enumerate(rng.integers(0, 2**30, 8))], object)
    a, w = a.reshape(2, 3, 3), w.reshape(1, 2, 2, 2)
    got = exact_module._convolved(nn.Conv2d(2, 1, 2), w, a)
    for i in range(2):
        for j in range(2):
            assert got[0, i, j] == (a[:, i : i + 2, j : j + 2] * w[0]).sum()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")), "zeros"),
        (nn.Sequential(nn.Tanh()), "no rule for Tanh"),
        (nn.Sequential(nn.MaxPool2d(2, padding=1)), "without padding"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), "one output"),
        (nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), "running statistics"),
        # Torch gives other values there than a chain of whole inputs would.
        (nn.Linear(7, 7), r"1 axes before Linear, got shape \(2, 6, 7\)"),
        (nn.Sequential(nn.Flatten(2), nn.Linear(42, 3)), "flattens all"),
        (nn.Sequential(nn.Flatten(), nn.MaxPool2d(2)), "3 axes before MaxPool2d"),
        (nn.Sequential(Twice(nn.Flatten(), nn.Linear(84, 2))), "no rule for Twice"),
    ],
)
def test_what_has_no_rule_is_refused(module, message):
    with pytest.raises(ModelError, match=message):
        ExactModule(module.eval(), SHAPE)([Fraction(0)] * 84)


def test_bad_input():
    module = made("pools")
    with pytest.raises(ModelError, match="expected 84 inputs, got 3"):
        ExactModule(module, SHAPE)([Fraction(0)] * 3)
    with pytest.raises(ModelError, match="training mode"):
        ExactModule(module.train(), SHAPE)([Fraction(0)] * 84)
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        ExactModule(module.eval(), SHAPE)([Fraction(0)] * 84)
