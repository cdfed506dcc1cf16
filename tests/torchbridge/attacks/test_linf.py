"""FGSM and PGD: optimal where that is known, exact at the end, the same for the same seed."""

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("torch")

from attack_targets import (
    answers,
    centers,
    check,
    linear,
    random_network,
    regions,
    run,
    smallest_margin,
    target,
)

from torchbridge.attacks.campaign import Named, Run, attack_points
from torchbridge.attacks.fgsm import FGSM
from torchbridge.attacks.losses import Loss
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import LinfBall
from torchbridge.attacks.target import Target
from verifier.core.decision import Rule
from verifier.core.errors import DataError, NetworkError

ATTACKS = {
    "fgsm": FGSM(),
    "pgd": PGD(steps=20, restarts=2),
    "pgd-ce": PGD(steps=20, restarts=1, losses=(Loss.ce,)),
    "pgd-dlr": PGD(steps=20, restarts=1, losses=(Loss.dlr,), momentum=0.0),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_optimal_on_linear_networks(name):
    """Broken exactly where the optimum is an error; dyadic radii, so the faces are float32."""
    rng = np.random.default_rng(0)
    network = linear(rng.integers(-8, 9, (2, 6)) / 8.0, [0.0, 0.25])
    points = [tuple(Fraction(round(v * 64), 64) for v in p) for p in centers(rng, 40, 6)]
    labels = answers(network, points)
    seen = set()
    for size in (Fraction(1, 16), Fraction(1, 8), Fraction(1, 4), Fraction(1)):
        balls = regions(LinfBall, points, size)
        found = run(network, ATTACKS[name], balls, labels)
        check(network, balls, labels, found)
        for ball, label, one in zip(balls, labels, found, strict=True):
            optimum = smallest_margin(network, ball, label)
            seen.add(optimum > 0)
            if optimum < 0:
                assert one.witness is not None
            if optimum > 0:
                assert one.witness is None
    assert seen == {True, False}


@pytest.mark.parametrize("radius", ["1/3", "0", "1/10", "3/2", "1e-45", "1e-60", "8/255"])
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_hostile_radii(name, radius):
    rng = np.random.default_rng(1)
    network = random_network(rng, (5, 12, 12, 3))
    points = centers(rng, 30, 5)
    labels = answers(network, points)
    labels[:3] = [(k + 1) % 3 for k in labels[:3]]  # wrong as they are
    balls = regions(LinfBall, points, radius)
    found = run(network, ATTACKS[name], balls, labels)
    count = check(network, balls, labels, found)
    assert all(one.witness.x == ball.center for one, ball in zip(found[:3], balls, strict=False))
    if radius in ("1/3", "3/2"):
        assert count > 3
    if radius in ("0", "1e-60"):
        assert count == 3


def test_no_clip_range_and_a_huge_radius():
    rng = np.random.default_rng(2)
    network = random_network(rng, (4, 8, 3))
    points = centers(rng, 10, 4)
    labels = answers(network, points)
    for size in (Fraction(10), Fraction(10**60)):
        balls = [LinfBall(p, size) for p in points]
        for attack in ATTACKS.values():
            for ball, one in zip(balls, run(network, attack, balls, labels), strict=True):
                assert one.witness is None or ball.contains(one.witness.x)


def test_pgd_finds_at_least_what_fgsm_finds():
    rng = np.random.default_rng(3)
    network = random_network(rng, (10, 20, 20, 4))
    points = centers(rng, 60, 10)
    labels = answers(network, points)
    balls = regions(LinfBall, points, "1/8")
    fgsm = check(network, balls, labels, run(network, FGSM(), balls, labels))
    pgd = check(network, balls, labels, run(network, PGD(), balls, labels))
    assert 0 < fgsm <= pgd < 60


def test_seeds():
    """The same seed gives the same points; and the seed matters."""
    rng = np.random.default_rng(4)
    network = random_network(rng, (10, 20, 20, 4))
    points = centers(rng, 40, 10)
    labels = answers(network, points)
    balls = regions(LinfBall, points, "1/10")
    attack = PGD(steps=1, restarts=6)

    def found(seed):
        return [one.witness for one in run(network, attack, balls, labels, seed=seed)]

    first = found(7)
    assert found(7) == first
    assert any(found(seed) != first for seed in (8, 9, 10))


def test_stopping_and_progress():
    rng = np.random.default_rng(5)
    network = random_network(rng, (10, 20, 4))
    points = centers(rng, 20, 10)
    labels = answers(network, points)
    balls = regions(LinfBall, points, "1/1000")
    said = []
    found = run(
        network, PGD(), balls, labels, batch=5, progress=lambda what, share: said.append(share)
    )
    assert all(one.finished for one in found)
    assert said == sorted(said)
    assert 0 <= said[0] < said[-1] == 1.0
    calls = iter(range(10**6))
    stopped = run(network, PGD(), balls, labels, batch=5, stop=lambda: next(calls) > 3)
    assert not all(one.finished for one in stopped)
    assert len(stopped) == 20


def test_ties_are_errors():
    """z_0 = x_0, z_1 = x_1: equal at the nearest face of the ball, and nowhere reversed."""
    network = linear(np.eye(2), [0.0, 0.0])
    center = (Fraction(1, 2), Fraction(1, 4))
    assert run(network, PGD(), [LinfBall(center, Fraction(1, 8))], [0])[0].witness is not None
    just_less = Fraction(1, 8) - Fraction(1, 2**20)
    assert run(network, PGD(), [LinfBall(center, just_less)], [0])[0].witness is None


def test_a_success_in_floats_only_is_no_success():
    """A module that says the opposite of the network: what it calls broken is not."""
    network = linear([[1.0, 0.0], [0.0, 0.0]], [0.0, 0.0])

    class Liar:
        def __call__(self, x):
            return network_module(x).flip(1)

    network_module = target(network).module
    lying = Target(Liar(), network.exact, target(network).decision, 2)
    ball = LinfBall((Fraction(1, 2), Fraction(1, 2)), Fraction(1, 4))
    (one,) = attack_points(lying, [Named("it", PGD())], [ball], [0], Run())
    assert one.witness is None
    assert one.claims == 1


@pytest.mark.parametrize("rule", [Rule.sign, Rule.label])
def test_one_output(rule):
    """A sign, x − 1/2; a label, 1 + x: both change at 1/2."""
    network = linear([[1.0]], [-0.5 if rule is Rule.sign else 1.0])
    center = (Fraction(1, 4),)
    for attack in (FGSM(), PGD()):
        for size, broken in ((Fraction(1, 8), False), (Fraction(3, 8), True)):
            ball = LinfBall(center, size)
            (one,) = attack_points(target(network, rule), [Named("it", attack)], [ball], [0], Run())
            assert (one.witness is not None) == broken


def test_bad_input():
    network = linear(np.eye(2), [0.0, 0.0])
    ball = LinfBall((Fraction(1, 2), Fraction(1, 4)), Fraction(1, 8))
    other = LinfBall((Fraction(1, 4), Fraction(1, 2)), Fraction(1, 8))
    good = target(network)
    attacks = [Named("it", PGD())]

    def broken(module):
        return Target(module, network.exact, good.decision, 2)

    with pytest.raises(DataError, match="0 inputs"):
        list(attack_points(good, attacks, [], [], Run()))
    with pytest.raises(DataError, match="2 labels"):
        list(attack_points(good, attacks, [ball], [0, 0], Run()))
    with pytest.raises(NetworkError, match="NaN or infinite"):
        list(attack_points(broken(lambda x: x * float("nan")), attacks, [ball], [0], Run()))
    with pytest.raises(NetworkError, match="shape"):
        list(attack_points(broken(lambda x: x[:, 0]), attacks, [ball], [0], Run()))
    with pytest.raises(NetworkError, match="one output"):
        list(attack_points(broken(lambda x: x[:, :1]), attacks, [other], [1], Run()))
    three = linear(np.zeros((3, 2)), [0.0, 0.0, 1.0])
    short = Target(lambda x: x, three.exact, good.decision, 3)
    with pytest.raises(DataError, match="label 2 is not one of the 2 classes"):
        list(attack_points(short, attacks, [ball], [2], Run()))
