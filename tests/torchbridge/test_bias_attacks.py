"""Attacks on the bias classifier: successes hold in exact arithmetic, inside of the exact balls."""

from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torch import nn

from constructions.bias_part import bias_values
from torchbridge.attacks.guided import Guided, RandomSigns
from torchbridge.attacks.interface import Control
from torchbridge.attacks.regions import LinfBall
from torchbridge.attacks.square import Square
from torchbridge.bias_attacks import (
    RIGHT,
    UNDECIDED,
    WRONG,
    Inputs,
    Subject,
    attack_states,
    clean_states,
    first_degree_guides,
    inputs_of,
    measured_wrong,
    smooth_guides,
)
from torchbridge.bias_classifier import parts
from torchbridge.bias_smoothing import smooth_bias_part, smoothed
from torchbridge.convert import to_network
from torchbridge.training.architectures import build
from torchbridge.training.points import Points
from verifier.core.errors import ModelError
from verifier.core.exact import fractions

UNIT = (Fraction(0), Fraction(1))


def subject_and_inputs(seed, bias, n=40):
    """A network whose classes at the points are what it says itself."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    ).eval()
    subject = Subject(module, to_network(module, (3,)), (3,), bias)
    x = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    labels = subject.classifier(x).argmax(1)
    return subject, Inputs(x, labels, (1, 1, 3), UNIT)


def exact_state(subject, x, label):
    """From all consistent patterns, in rational arithmetic."""
    point = fractions(np.asarray(x, dtype=np.float64))
    values = bias_values(subject.network, point) if subject.bias else {subject.network.exact(point)}
    others = [k for k in range(3) if k != label]
    if all(v[label] > v[k] for v in values for k in others):
        return RIGHT
    return WRONG if any(all(v[k] > v[label] for v in values) for k in others) else UNDECIDED


@pytest.mark.parametrize("bias", [False, True])
def test_states_are_the_exact_ones(bias):
    subject, inputs = subject_and_inputs(1, bias)
    assert clean_states(subject, inputs, lambda what, share: None) == RIGHT * len(inputs)
    for label in range(3):
        for x in inputs.x.numpy():
            assert subject.state(x, label) == exact_state(subject, x, label)


def test_on_a_kink_nothing_is_said():
    """At x = 1, u = x - 1 = 0 and β = (-1/2, -z) for any z in [0, 1]."""
    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for parameter, values in zip(
            module.parameters(), ([[1.0]], [-1.0], [[0.0], [1.0]], [-0.5, 0.0]), strict=True
        ):
            parameter.copy_(torch.tensor(values))
    subject = Subject(module.eval(), to_network(module, (1,)), (1,), bias=True)
    states = [[subject.state(np.array([x]), label) for label in (0, 1)] for x in (0.5, 1.0, 1.5)]
    assert states == [[WRONG, RIGHT], [UNDECIDED, UNDECIDED], [RIGHT, WRONG]]


@pytest.mark.parametrize("size", ["1/10", "1/3", "0"])
def test_every_success_is_one(size, monkeypatch):
    """The points that count lie in their balls exactly, and are wrong for every pattern."""
    subject, inputs = subject_and_inputs(2, bias=True)
    middles = [fractions(x.double().numpy()) for x in inputs.x]
    labels = dict(zip(middles, inputs.labels.tolist(), strict=True))
    looked = []
    inward = LinfBall.inward

    def watched(ball, x):
        point = inward(ball, x)
        looked.append((ball, point))
        return point

    monkeypatch.setattr(LinfBall, "inward", watched)
    total = 0
    for attack in (
        Guided(first_degree_guides(subject), 10, 1),
        Guided(smooth_guides(subject, (0.1,)), 10, 1),
        Square(60),
        RandomSigns(),
    ):
        looked.clear()
        found = attack_states(subject, attack, inputs, Fraction(size), Control.seeded(3))
        assert len(found) == len(inputs)
        assert all(ball.contains(point) for ball, point in looked)
        wrong = sum(
            exact_state(subject, [float(v) for v in point], labels[ball.center]) == WRONG
            for ball, point in looked
        )
        assert wrong == found.count(WRONG)
        total += wrong
    assert (total > 0) == (size != "0")


def test_no_points():
    subject, inputs = subject_and_inputs(0, bias=True, n=3)
    none, control = inputs.picked([]), Control.seeded(0)
    assert attack_states(subject, RandomSigns(), none, Fraction(1, 10), control) == ""
    assert measured_wrong(subject, RandomSigns(), none, Fraction(1, 10), control) == 0
    assert none.right(subject) == []


def test_what_is_measured_is_what_is_proved():
    subject, inputs = subject_and_inputs(2, bias=True)
    states = attack_states(subject, RandomSigns(), inputs, Fraction(1), Control.seeded(0))
    count = measured_wrong(subject, RandomSigns(), inputs, Fraction(1), Control.seeded(0))
    assert states.count(WRONG) == count > 0
    assert inputs.right(subject) == [True] * len(inputs)


def test_the_smooth_bias_part_tends_to_the_bias_part():
    module = build("lenet5", (1, 12, 12), 4, seed=3).double().eval()
    x = torch.rand(4, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    bias = parts(module, x).bias
    gaps = [(smooth_bias_part(module, tau)(x) - bias).abs().max().item() for tau in (1e-1, 1e-5)]
    assert gaps[1] < 1e-3 * gaps[0]
    assert torch.allclose(smoothed(module, 1e-7)(x), module(x), atol=1e-5)


def test_a_relu_that_stands_twice_is_smooth_in_both_places():
    relu, x = nn.ReLU(), torch.tensor([[-1.0, 2.0]])
    assert smoothed(nn.Sequential(relu, relu), 1.0)(x).equal(
        smoothed(nn.Sequential(nn.ReLU(), nn.ReLU()), 1.0)(x)
    )


def test_its_gradient_is_minus_the_second_derivative_times_x():
    module = build("mlp", (5,), 3, seed=0).double().eval()
    smooth = smoothed(module, 0.5)
    x = torch.rand(1, 5, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(smooth_bias_part(module, 0.5)(x)[0, 1], x)
    second = torch.autograd.functional.hessian(lambda x: smooth(x)[0, 1], x)
    assert torch.allclose(found[0], -second[0, :, 0] @ x[0].detach(), atol=1e-10)
    assert not found.equal(torch.zeros_like(found))


def test_other_pools_have_no_smooth_form():
    with pytest.raises(ModelError, match="square windows"):
        smoothed(nn.Sequential(nn.MaxPool2d(2, padding=1)), 0.1)


def test_inputs_of_points():
    codes = np.arange(12).reshape(3, 4)
    values = np.linspace(0, 1, 12, dtype=np.float32)
    labels = np.array([0, 1, 0])
    found = inputs_of(Points(codes, values, labels, (1, 2, 2), 2, (0.0, 1.0)), 2)
    assert (len(found), found.planes, found.clip) == (2, (1, 2, 2), UNIT)
    assert inputs_of(Points(codes, values, labels, (4,), 2), 3).clip is None
    assert found.picked([1]).labels.tolist() == [1]
    assert len(found.picked([])) == 0
