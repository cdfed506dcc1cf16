"""Training in a box of parameters reaches the equilibria that are known exactly."""

from fractions import Fraction

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn

from constructions.game_instances import instance_a
from torchbridge.attacks.regions import LinfBall
from torchbridge.convert import to_network
from torchbridge.stackelberg import MARGIN, Sample, adversarial_accuracy, best_response, value
from torchbridge.training.objectives import Ascent, Balls, MarginGame
from torchbridge.training.projected import play

GAME = instance_a()


def trained(objective, reach=1.0, seed=0):
    """A linear classifier of instance A after training, and the verifier's answers."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(1, 2))
    x = torch.tensor([[float(v)] for v in GAME.points])
    labels = torch.tensor([y - 1 for y in GAME.labels])
    balls = Balls.around(x, labels, float(GAME.eps), (-100.0, 100.0))
    play(model, objective, balls, reach=reach, steps=600, rate=0.05)
    network = to_network(model.eval(), (1,))
    answers = [
        best_response(
            network, Sample(LinfBall((p,), GAME.eps), y - 1), timeout=60, gap=Fraction(1, 2**20)
        )
        for p, y in zip(GAME.points, GAME.labels, strict=True)
    ]
    return model, answers


def test_the_raw_margin_loss_reaches_its_bad_equilibrium():
    """(w, c) = (−2, 2), the corner, with φ = −13/3 and AA = 1/3."""
    model, answers = trained(MarginGame(Ascent(3, 1.0)))
    weight, bias = model[0].weight[:, 0], model[0].bias
    assert (weight[1] - weight[0]).item() == -2
    assert (bias[1] - bias[0]).item() == 2
    assert adversarial_accuracy(answers) == (Fraction(1, 3), Fraction(1, 3))
    low, high = value(MARGIN, answers)
    assert low <= Fraction(-13, 3) <= high


@pytest.mark.parametrize("tau", [Fraction(7, 6), Fraction(7, 24)])
def test_the_truncated_loss_reaches_every_point(tau):
    """AA = 1 for τ up to the largest smallest margin 7/6 (T9.2)."""
    _, answers = trained(MarginGame(Ascent(3, 1.0), float(tau)))
    assert adversarial_accuracy(answers) == (1, 1)
    assert min(answer.low for answer in answers) > Fraction(9, 10) * min(tau, Fraction(1))


def test_parameters_stay_in_the_box():
    model, _ = trained(MarginGame(Ascent(1, 1.0)), reach=0.25)
    assert max(p.abs().max().item() for p in model.parameters()) == 0.25
