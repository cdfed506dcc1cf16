"""The game on a network: answers against games that are solved exactly, and against brute force."""

import random
from fractions import Fraction

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from constructions import game_losses
from constructions.game_instances import instance_a, instance_a_prime, instance_b
from constructions.segment import smallest_margin
from torchbridge import stackelberg
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import LinfBall
from torchbridge.stackelberg import (
    MARGIN,
    ZERO_ONE,
    Answer,
    Sample,
    adversarial_accuracy,
    best_response,
    exact_margin,
    gradient_response,
    proved_margin,
    ramp,
    truncated,
    value,
)
from verifier.core.errors import PropertyError
from verifier.core.exact import fractions
from verifier.core.network import Layer, Network

GAP = Fraction(1, 2**30)

#: Instances and parameters that floats hold: the equilibria of A and A', better ones, and others.
PLAYED = (
    (instance_a(), (-2, 2)),
    (instance_a(Fraction(3)), (-1, 6)),
    (instance_a(), (0.5, -1.25)),
    (instance_a_prime(), (-2, 1, -1, 2)),
    (instance_a_prime(), (-0.5, 1, -1, 2)),
    (instance_a_prime(), (1, 0.5, -0.75, -1)),
    (instance_b(), (0.5,)),
    (instance_b(), (1.25,)),
)


def played(game, theta):
    """The network, its samples, and the exact margins."""
    theta = fractions(theta)
    pairs = zip(game.points, game.labels, strict=True)
    samples = [Sample(LinfBall((x,), game.eps), y - 1) for x, y in pairs]
    return game.network(theta), samples, game.checked_margins(theta)


@pytest.mark.parametrize(("game", "theta"), PLAYED)
def test_the_verifier_answers_as_the_exact_game(game, theta):
    network, samples, margins = played(game, theta)
    starts = gradient_response(network, samples)
    answers = []
    for sample, t, (x, found) in zip(samples, margins, starts, strict=True):
        assert sample.ball.contains(x)
        assert found == exact_margin(network, sample.label, x) >= t
        answer = best_response(network, sample, timeout=60, gap=GAP, starts=(x,))
        assert answer.low <= t <= answer.high == exact_margin(network, sample.label, answer.point)
        assert answer.high - answer.low <= GAP
        assert sample.ball.contains(answer.point)
        assert answer.safe == (t > 0)
        answers.append(answer)
    share = game_losses.adversarial_accuracy(margins)
    assert adversarial_accuracy(answers) == (share, share)
    for mine, theirs in (
        (MARGIN, game_losses.MARGIN_LOSS),
        (truncated(Fraction(8)), game_losses.truncated_loss(Fraction(8))),
        (ramp(Fraction(1, 10)), game_losses.ramp_loss(Fraction(1, 10))),
    ):
        low, high = value(mine, answers)
        assert mine.mean(margins) == theirs(margins)
        assert low <= theirs(margins) <= high
        assert high - low <= 10 * GAP
    assert ZERO_ONE.mean(margins) == 1 - share


def test_a_relu_game_has_exactly_known_margins():
    """A' at its equilibrium: φ* = −5 and AA = 2/3, not only enclosed."""
    network, samples, margins = played(instance_a_prime(), (-2, 1, -1, 2))
    answers = [
        best_response(network, sample, timeout=60, gap=Fraction(0), starts=(x,))
        for sample, (x, _) in zip(samples, gradient_response(network, samples), strict=True)
    ]
    assert all(answer.exact for answer in answers)
    assert tuple(answer.high for answer in answers) == margins == (1, -1, 15)
    assert value(MARGIN, answers) == (-5, -5)
    assert adversarial_accuracy(answers) == (Fraction(2, 3), Fraction(2, 3))


def test_random_networks_on_segments():
    """Against every kink of a network with one input."""
    rng = random.Random(5)
    for _ in range(4):
        network = random_network(rng, 1)
        center, eps = Fraction(rng.randint(-8, 8), 8), Fraction(1, 2)
        label = rng.randrange(3)
        t, _ = smallest_margin(network, label, (center - eps,), (center + eps,))
        sample = Sample(LinfBall((center,), eps), label)
        assert proved_margin(network, sample.ball.box, label, backward=False) <= t
        assert proved_margin(network, sample.ball.box, label) <= t
        assert proved_margin(network, sample.ball.box, label, timeout=0) <= t
        answer = best_response(network, sample, timeout=60, gap=Fraction(1, 1024))
        assert answer.low <= t <= answer.high <= answer.low + Fraction(1, 1024)
        assert answer.safe == (t > 0)


def random_network(rng, n_inputs):
    """Two layers of four with weights of eighths, three outputs."""
    import numpy as np

    layers, size = [], n_inputs
    for width, relu in ((4, True), (4, True), (3, False)):
        weight = [[rng.randint(-8, 8) / 8 for _ in range(size)] for _ in range(width)]
        bias = [rng.randint(-8, 8) / 8 for _ in range(width)]
        layers.append(Layer(np.array(weight), np.array(bias), np.full(width, relu)))
        size = width
    return Network(tuple(layers))


def test_the_time_limit_leaves_bounds(monkeypatch):
    """Without any engine's answer: unknown, between the proved bound and the centre."""
    network = random_network(random.Random(1), 2)
    sample = Sample(LinfBall((Fraction(0), Fraction(0)), Fraction(1)), 0)
    centre = exact_margin(network, 0, sample.ball.center)
    label = 0
    if centre <= 0:
        label = max(range(3), key=lambda k: exact_margin(network, k, sample.ball.center))
    sample = Sample(sample.ball, label)
    monkeypatch.setattr(stackelberg, "certify", lambda *a, **k: stackelberg.Unknown("none"))
    monkeypatch.setattr(stackelberg, "proved_margin", lambda *a, **k: Fraction(-9))
    answer = best_response(network, sample, timeout=1, gap=Fraction(1, 8))
    assert answer.safe is None
    assert answer.low == -9 < 0 < answer.high == exact_margin(network, label, answer.point)
    assert adversarial_accuracy([answer]) == (0, 1)
    assert not answer.exact


def test_points_outside_of_the_ball_do_not_count():
    network, samples, _ = played(instance_a(), (-2, 2))
    answer = best_response(network, samples[2], timeout=5, starts=((Fraction(0),),))
    assert samples[2].ball.contains(answer.point)
    assert answer.safe


def test_bounds_of_shares():
    rows = [(True, 1, 2), (False, -3, -1), (None, -1, 1), (True, 0, 5)]
    answers = [Answer(safe, Fraction(low), Fraction(high), ()) for safe, low, high in rows]
    assert adversarial_accuracy(answers) == (Fraction(1, 2), Fraction(3, 4))
    assert value(MARGIN, answers) == (Fraction(-7, 4), Fraction(3, 4))
    assert value(truncated(Fraction(1)), answers) == (Fraction(-2, 4), Fraction(3, 4))


def test_refused():
    network, samples, _ = played(instance_a(), (-2, 2))
    with pytest.raises(PropertyError, match="gap"):
        best_response(network, samples[0], timeout=1, gap=Fraction(-1))
    with pytest.raises(PropertyError, match="label"):
        best_response(network, Sample(samples[0].ball, 2), timeout=1)
    with pytest.raises(PropertyError):
        best_response(network, Sample(LinfBall((Fraction(0),) * 2, Fraction(1)), 0), timeout=1)


def test_descent_that_goes_on_is_not_worse():
    """The default goes on where a point is lost; PGD alone stops there."""
    network, samples, margins = played(instance_a(), (-2, 2))
    strong = [t for _, t in gradient_response(network, samples)]
    plain = [t for _, t in gradient_response(network, samples, attack=PGD())]
    assert strong == list(margins)
    assert all(a <= b for a, b in zip(strong, plain, strict=True))
