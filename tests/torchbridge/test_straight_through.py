"""The bias part for training: the values that derivatives give, and a gradient that they lack."""

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn
from torch.nn import functional

from torchbridge.bias_classifier import parts
from torchbridge.straight_through import straight_through_parts
from torchbridge.training.architectures import ARCHITECTURES, SMALLEST, build
from verifier.core.errors import ModelError


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_values_are_those_of_derivatives(name):
    side = SMALLEST.get(name, 5)
    model = build(name, (2, side, side), 3, seed=4).double().eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.bias)
    x = torch.rand(3, 2, side, side, dtype=torch.float64)
    expected, found = parts(model, x), straight_through_parts(model, x, 0.3)
    for theirs, ours in zip(expected, found, strict=True):
        assert torch.allclose(theirs, ours, atol=1e-9)


def test_gates_are_moved_by_a_loss_of_the_bias_part():
    """The first layer's weights decide gates only, so that the plain gradient is 0 for them."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3))
    x, labels = torch.rand(6, 4), torch.randint(0, 3, (6,))
    slopes = []
    for found in (parts(model, x), straight_through_parts(model, x)):
        loss = functional.cross_entropy(found.bias, labels)
        (slope,) = torch.autograd.grad(loss, model[0].weight)
        slopes.append(float(slope.abs().max()))
    assert slopes[0] < 1e-7
    assert slopes[1] > 1e-4


def test_training_with_it_reaches_what_the_plain_gradient_does_not():
    """Inside or outside of a band: no gate of the untrained network stands at its ends."""
    x = torch.linspace(-1, 1, 201)[:, None]
    labels = ((x[:, 0] > 0.2) & (x[:, 0] < 0.6)).long()

    def right(of) -> int:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(400):
            loss = functional.cross_entropy(of(model, x).bias, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return int((parts(model, x).bias.argmax(1) == labels).sum())

    plain, through = right(parts), right(lambda model, x: straight_through_parts(model, x, 0.2))
    assert through >= 190
    assert through > plain + 20


def test_what_has_no_bias_part_here_is_refused():
    x = torch.rand(2, 4)
    with pytest.raises(ModelError, match="Tanh"):
        straight_through_parts(nn.Sequential(nn.Linear(4, 2), nn.Tanh()), x)
    normalised = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(ModelError, match="evaluation mode"):
        straight_through_parts(normalised, torch.rand(2, 1, 5, 5))
