"""Objectives against closed forms on linear models; attacks stay in their balls."""

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn
from torch.nn import functional

from torchbridge.training.objectives import (
    Adversarial,
    Ascent,
    Balls,
    Certified,
    MarginGame,
    Natural,
    Trades,
)

EPS = 0.2


def linear(seed, classes=2):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, classes))


def balls_of(seed, count=8, classes=2):
    torch.manual_seed(seed)
    return Balls.around(
        torch.rand(count, 6), torch.randint(0, classes, (count,)), EPS, (0.0, 1.0)
    )  # fmt: skip


def noise():
    return torch.Generator().manual_seed(1)


def worst_points(model, balls):
    """With two classes and a linear model the worst point of a box is a corner, the same for all
    losses that rise with z_other − z_label."""
    weight = model[1].weight
    sign = torch.where(balls.labels == 0, 1.0, -1.0)[:, None] * (weight[1] - weight[0])
    return torch.where(sign > 0, balls.high, balls.low)


def test_the_attack_reaches_the_worst_corner_of_a_linear_model():
    for seed in range(5):
        model, balls = linear(seed), balls_of(seed)
        worst = model(worst_points(model, balls))
        expected = functional.cross_entropy(worst, balls.labels)
        assert Adversarial().loss(model, balls, noise()).item() == pytest.approx(expected.item())
        own = worst.gather(1, balls.labels[:, None]) - worst.gather(1, 1 - balls.labels[:, None])
        found = MarginGame().loss(model, balls, noise())
        assert found.item() == pytest.approx(-own.mean().item(), abs=1e-6)
        # For a linear model, intervals with the last layer's differences are exact.
        certified = Certified(share=1.0).loss(model, balls, noise())
        assert certified.item() == pytest.approx(expected.item())


def test_margins_beyond_tau_earn_nothing():
    model, balls = linear(3), balls_of(3)
    with torch.no_grad():
        model[1].weight *= 100
    raw = MarginGame().loss(model, balls, noise())
    cut = MarginGame(tau=0.5).loss(model, balls, noise())
    assert cut > raw
    assert MarginGame(tau=0.0).loss(model, balls, noise()) >= 0
    assert MarginGame(tau=math.inf).loss(model, balls, noise()) == raw


def test_points_of_an_attack_lie_in_their_boxes():
    model, balls = linear(4, 5), balls_of(4, 50, 5)
    for ascent in (Ascent(), Ascent(1, 1.25), Ascent(0), Ascent(20, 3.0)):
        x = ascent.run(
            balls, lambda x: functional.cross_entropy(model(x), balls.labels), noise()
        )  # fmt: skip
        assert (balls.low <= x).all()
        assert (x <= balls.high).all()
        assert not x.requires_grad


@pytest.mark.parametrize(
    "objective", [Natural(), Adversarial(), MarginGame(), Trades(), Certified(), Trades(beta=0.0)]
)
def test_losses_have_gradients_and_leave_the_model_as_it_was(objective):
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    ).train()
    balls = Balls.around(torch.rand(7, 1, 6, 6), torch.randint(0, 4, (7,)), EPS, (0.0, 1.0))
    with torch.no_grad():
        reference = nn.Sequential(*model)  # one pass in training mode moves the statistics
        before = model[1].num_batches_tracked.item()
    loss = objective.loss(model, balls, noise())
    loss.backward()
    assert model.training
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model[3:].parameters())
    passes = 2 if isinstance(objective, Trades) else 1
    assert reference[1].num_batches_tracked.item() == before + passes


def test_a_larger_radius_never_lowers_the_certified_loss():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    x, labels = torch.rand(5, 6), torch.randint(0, 3, (5,))
    for backward in (False, True):
        values = []
        for radius in (0.0, 0.05, 0.1, 0.4):
            balls = Balls.around(x, labels, radius, (0.0, 1.0))
            values.append(Certified(1.0, backward).loss(model, balls, noise()).item())
        assert values[0] == pytest.approx(functional.cross_entropy(model(x), labels).item())
        if not backward:
            assert values == sorted(values)


def test_trades_is_the_clean_loss_plus_a_divergence():
    model, balls = linear(6, 3), balls_of(6, classes=3)
    clean = functional.cross_entropy(model(balls.x), balls.labels)
    assert Trades(beta=0.0).loss(model, balls, noise()).item() == pytest.approx(clean.item())
    one, six = (Trades(beta=b).loss(model, balls, noise()) - clean for b in (1.0, 6.0))
    assert one > 0
    assert six.item() == pytest.approx(6 * one.item(), rel=1e-4)
