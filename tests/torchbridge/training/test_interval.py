"""Training bounds hold at sampled points, are exact where they must be, and have gradients."""

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn

from torchbridge.training.architectures import build
from torchbridge.training.interval import interval, worst_logits, worst_logits_backward
from verifier.core.errors import ModelError

BOUNDS = [worst_logits, worst_logits_backward]


def chain(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4),
    )  # fmt: skip
    return model.double().eval()


def boxes(shape, radius, count=5):
    middle = torch.randn(count, *shape, dtype=torch.float64)
    return middle - radius, middle + radius


def differences(z, labels):
    return z - z.gather(1, labels[:, None])


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("seed", range(4))
def test_no_point_of_a_box_exceeds_its_bounds(bound, seed):
    model = chain(seed)
    low, high = boxes((2, 8, 8), 0.2)
    labels = torch.randint(0, 4, (5,))
    worst = bound(model, low, high, labels)
    for _ in range(200):
        share = torch.rand_like(low).round() if _ % 2 else torch.rand_like(low)
        found = differences(model(low + share * (high - low)), labels)
        assert (found <= worst + 1e-9).all()
    assert (worst.gather(1, labels[:, None]) == 0).all()


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_box_without_width_is_bounded_exactly(bound):
    model = chain(9)
    low, _ = boxes((2, 8, 8), 0.0)
    labels = torch.randint(0, 4, (5,))
    expected = differences(model(low), labels)
    assert torch.allclose(bound(model, low, low, labels), expected, atol=1e-10)


def test_the_backward_pass_is_exact_where_no_neuron_is_unstable():
    torch.manual_seed(3)
    first, last = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()
    with torch.no_grad():
        first.bias[:3] = 100.0
        first.bias[3:] = -100.0
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    low, high = boxes((4,), 1.0)
    labels = torch.tensor([0, 1, 2, 0, 1])
    weight = (last.weight * torch.tensor([1.0] * 3 + [0.0] * 3)) @ first.weight
    rows = weight[None] - weight[labels][:, None]
    middle = differences(model((low + high) / 2), labels)
    radius = ((high - low) / 2)[:, None, :]
    expected = middle + (rows.abs() * radius).sum(2)
    assert torch.allclose(worst_logits_backward(model, low, high, labels), expected)
    assert (worst_logits(model, low, high, labels) > expected + 1e-6).any()


@pytest.mark.parametrize("seed", range(3))
def test_backward_bounds_are_never_worse_and_mostly_better(seed):
    model = chain(seed + 20)
    low, high = boxes((2, 8, 8), 0.05)
    labels = torch.randint(0, 4, (5,))
    by_interval = worst_logits(model, low, high, labels)
    backward = worst_logits_backward(model, low, high, labels)
    assert (backward <= by_interval + 1e-12).all()
    assert (backward < by_interval - 1e-6).float().mean() > 0.3


@pytest.mark.parametrize("bound", BOUNDS)
def test_weights_get_the_gradients_of_the_bound(bound):
    model = chain(5)
    low, high = boxes((2, 8, 8), 0.1, 2)
    labels = torch.tensor([1, 2])
    weight = model[0].weight
    bound(model, low, high, labels).sum().backward()
    step = 1e-6 * torch.randn_like(weight)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step
            values.append(bound(model, low, high, labels).sum())
            weight -= sign * step
    slope = (values[0] - values[1]) / 2
    assert slope == pytest.approx(float((weight.grad * step).sum()), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "small-cnn", "mlp"])
def test_intervals_go_through_every_architecture(name):
    model = build(name, (3, 16, 16), 5, seed=1).double().eval()
    low, high = boxes((3, 16, 16), 0.01, 2)
    ends = interval(model, low, high)
    for share in (torch.zeros_like(low), torch.ones_like(low), torch.rand_like(low)):
        z = model(low + share * (high - low))
        assert (ends[0] <= z + 1e-9).all()
        assert (z <= ends[1] + 1e-9).all()


def test_what_has_no_rule_is_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    low, labels = torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64)
    for bound in BOUNDS:
        with pytest.raises(ModelError, match="Tanh"):
            bound(model, low, low, labels)
    with pytest.raises(ModelError, match="linear last layer"):
        worst_logits(model[:2], low, low, labels)
    pooled = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2))
    picture = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ModelError, match="MaxPool2d"):
        worst_logits_backward(pooled, picture, picture, labels)
