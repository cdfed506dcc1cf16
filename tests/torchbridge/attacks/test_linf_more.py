"""APGD, the margin by Adam, Square, targeted APGD: beside closed forms, and beside each other."""

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("torch")

from attack_targets import (
    BALLS,
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

from torchbridge.attacks.apgd import APGD
from torchbridge.attacks.campaign import Run, attack_points
from torchbridge.attacks.cw import CWLinf
from torchbridge.attacks.fab import FAB
from torchbridge.attacks.losses import Loss
from torchbridge.attacks.methods import METHODS, Effort, chosen, norm_of
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import LinfBall
from torchbridge.attacks.square import Square
from verifier.core.errors import PropertyError

OPTIMAL = {
    "apgd-ce": APGD(steps=30, restarts=1),
    "apgd-dlr": APGD(steps=30, restarts=1, loss=Loss.dlr),
    "apgd-targeted": APGD(steps=30, restarts=1, targeted=True),
    "cw": CWLinf(steps=40, restarts=1),
    "fab": FAB(steps=20, restarts=2),
}


def linear_task():
    rng = np.random.default_rng(0)
    network = linear(rng.integers(-8, 9, (2, 6)) / 8.0, [0.0, 0.25])
    points = [tuple(Fraction(round(v * 64), 64) for v in p) for p in centers(rng, 40, 6)]
    return network, points, answers(network, points)


@pytest.mark.parametrize("name", [*OPTIMAL, "square"])
def test_linear_networks(name):
    """Gradient attacks break what can be broken; nothing breaks what cannot."""
    network, points, labels = linear_task()
    missed = 0
    for size in (Fraction(1, 16), Fraction(1, 4), Fraction(1)):
        balls = regions(LinfBall, points, size)
        found = run(network, OPTIMAL.get(name, Square(queries=200)), balls, labels)
        check(network, balls, labels, found)
        for ball, label, one in zip(balls, labels, found, strict=True):
            optimum = smallest_margin(network, ball, label)
            if optimum > 0:
                assert one.witness is None
            if optimum < 0:
                missed += one.witness is None
    assert missed == 0 if name in OPTIMAL else missed <= 6


@pytest.mark.parametrize("name", [*OPTIMAL, "square"])
@pytest.mark.parametrize("radius", ["1/3", "0", "3/2", "1e-45"])
def test_hostile_radii(name, radius):
    rng = np.random.default_rng(1)
    network = random_network(rng, (5, 12, 12, 5))
    points = centers(rng, 20, 5)
    labels = answers(network, points)
    balls = regions(LinfBall, points, radius)
    found = run(network, OPTIMAL.get(name, Square(queries=100)), balls, labels)
    count = check(network, balls, labels, found)
    assert count > 0 if radius in ("1/3", "3/2") else count == 0


def test_attacks_agree_about_random_networks():
    """None is far behind the ensemble, which breaks all that any of its parts breaks alone."""
    rng = np.random.default_rng(2)
    network = random_network(rng, (12, 24, 24, 6))
    points = centers(rng, 60, 12)
    labels = answers(network, points)
    balls = regions(LinfBall, points, "1/10")
    counts = {}
    for name in ("apgd", "cw", "fab", "square", "pgd", "auto"):
        found = list(attack_points(target(network), chosen(name, Effort()), balls, labels, Run()))
        counts[name] = check(network, balls, labels, found)
    assert 10 < counts["auto"] < 60
    assert all(0.85 * counts["auto"] <= counts[name] <= counts["auto"] for name in counts)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"transfer"}))
def test_seeds_and_one_step(name):
    """Every method: the same seed, the same points; and the smallest effort is enough to run."""
    rng = np.random.default_rng(3)
    network = random_network(rng, (9, 16, 4))
    points = centers(rng, 12, 9)
    labels = answers(network, points)
    balls = regions(BALLS[norm_of(name)], points, "1" if norm_of(name) == "l0" else "1/5")
    known = {f for _, attack in METHODS[name]() for f in vars(attack)}
    small = {k: v for k, v in (("steps", 1), ("restarts", 2), ("queries", 30)) if k in known}
    first, second = (
        list(
            attack_points(
                target(network), chosen(name, Effort(**small)), balls, labels, Run(seed=5),
                shape=(1, 3, 3),
            )
        )
        for _ in range(2)
    )  # fmt: skip
    check(network, balls, labels, first)
    assert [a.witness for a in first] == [b.witness for b in second]


def test_stopping():
    rng = np.random.default_rng(5)
    network = random_network(rng, (9, 20, 4))
    points = centers(rng, 8, 9)
    labels = answers(network, points)
    for attack in (*OPTIMAL.values(), Square()):
        balls = regions(LinfBall, points, "1/1000")
        calls = iter(range(10**6))
        stopped = run(network, attack, balls, labels, stop=lambda calls=calls: next(calls) > 3)
        assert all(one.finished == (one.witness is not None) for one in stopped)
        assert not all(one.finished for one in stopped)
        assert next(calls) < 12


def test_two_classes_and_every_loss():
    """DLR and the targeted loss need three or four classes; with two they are other quotients."""
    rng = np.random.default_rng(6)
    network = random_network(rng, (6, 12, 2))
    points = centers(rng, 30, 6)
    labels = answers(network, points)
    balls = regions(LinfBall, points, "1/4")
    counts = {
        name: check(network, balls, labels, run(network, attack, balls, labels))
        for name, attack in {**OPTIMAL, "pgd": PGD()}.items()
    }
    assert 5 < max(counts.values()) <= 1.4 * min(counts.values())


def test_a_setting_that_nothing_has():
    for name, given in (
        ("fgsm", {"steps": 1}),
        ("square", {"restarts": 1}),
        ("pgd", {"queries": 9}),
    ):
        with pytest.raises(PropertyError, match="says nothing to the method"):
            chosen(name, Effort(**given))
    with pytest.raises(ValueError, match="surrogate"):
        chosen("transfer", Effort())
