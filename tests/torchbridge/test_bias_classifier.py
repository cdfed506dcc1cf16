"""The three parts of a module's output, against exact arithmetic on the same weights."""

from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn
from torch.nn import functional

from constructions.bias_part import bias_part as exact_bias
from torchbridge.bias_classifier import bias_part, parts
from torchbridge.convert import to_network
from torchbridge.training.architectures import build
from torchbridge.training.objectives import Ascent, Balls, BiasAdversarial
from verifier.bounds.bias import bias_bounds


@pytest.mark.parametrize("seed", range(5))
def test_the_bias_part_is_the_exact_one(seed):
    torch.manual_seed(seed)
    model = (
        nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
        .double()
        .eval()
    )
    network = to_network(model, (3,))
    x = torch.randint(-8, 9, (20, 3)).double() / 8
    found = parts(model, x)
    assert torch.equal(bias_part(model)(x), found.bias)
    assert torch.allclose(found.output, model(x))
    for row, bias in zip(x, found.bias, strict=True):
        expected = exact_bias(network, [Fraction(float(v)) for v in row])
        assert np.allclose(bias.detach().numpy(), [float(v) for v in expected], atol=1e-10)


def test_pools_and_convolutions_lie_within_the_certain_bounds():
    model = build("lenet5", (12, 12), 4, seed=3).double().eval()
    network = to_network(model, (1, 12, 12))
    x = torch.rand(5, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = parts(model, x).bias.detach().numpy()
    for row, value in zip(x, values, strict=True):
        point = row.reshape(-1).numpy()
        low, high = bias_bounds(network, point, point)
        assert (low - 1e-12 <= value).all()
        assert (value <= high + 1e-12).all()
        assert (high - low < 1e-6).all()


def test_moving_within_a_region_leaves_the_bias_part_as_it_is():
    model = build("mlp", (6,), 3, seed=1).double()
    x = torch.rand(8, 6, dtype=torch.float64)
    near = x + 1e-9
    assert torch.allclose(parts(model, x).bias, parts(model, near).bias, atol=1e-12)
    assert not torch.equal(parts(model, x).output, parts(model, near).output)


def test_the_objective_is_the_sum_of_two_cross_entropies():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    balls = Balls.around(torch.rand(6, 5), torch.randint(0, 3, (6,)), 0.0, (0.0, 1.0))
    noise = torch.Generator().manual_seed(0)
    both, alone = (
        BiasAdversarial(Ascent(1), whole).loss(model, balls, noise) for whole in (1.0, 0.0)
    )
    found = parts(model, balls.x)
    assert torch.allclose(alone, functional.cross_entropy(found.bias, balls.labels))
    assert torch.allclose(
        both - alone, functional.cross_entropy(found.output, balls.labels), atol=1e-5
    )
    both.backward()
    assert all(p.grad is not None for p in model.parameters())
