"""FAB: projections beside a linear program, and what it breaks beside exact verdicts."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from attack_targets import UNIT, answers, centers, check, linear, random_network, regions, run
from scipy.optimize import linprog

from torchbridge.attacks.fab import FAB, projected
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import LinfBall
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted
from verifier.search.portfolio import certify


def smallest(x, g, gain, low, high):
    """min ‖d‖∞ with g·d = gain within the range, by a linear program over (d, t); None if none."""
    d = len(x)
    eye, one = np.eye(d), np.ones((d, 1))
    result = linprog(
        np.append(np.zeros(d), 1.0),
        A_ub=np.block([[eye, -one], [-eye, -one]]), b_ub=np.zeros(2 * d),
        A_eq=np.append(g, 0.0)[None], b_eq=[gain],
        bounds=[*((low - v, high - v) for v in x), (0, None)],
    )  # fmt: skip
    return result.fun if result.status == 0 else None


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-np.inf, np.inf), (0.0, np.inf)])
def test_projections_are_the_shortest(low, high):
    rng = np.random.default_rng(0)
    x = rng.random((60, 7))
    x[:20] = np.round(x[:20])
    g = rng.normal(size=x.shape) * (rng.random(x.shape) < 0.7)
    gain = rng.normal(size=60) * 2
    gain[:3], g[3:6] = 0.0, 0.0
    d = projected(*(torch.tensor(v) for v in (x, g, gain)), low, high).numpy()
    assert (x + d >= low).all()
    assert (x + d <= high).all()
    reached = np.isclose((g * d).sum(1), gain, atol=1e-9)
    seen = set()
    for i in range(60):
        wanted = smallest(x[i], g[i], gain[i], low, high)
        seen.add(wanted is None)
        assert reached[i] == (wanted is not None)
        if wanted is not None:
            assert np.abs(d[i]).max() == pytest.approx(wanted, abs=1e-8)
        else:  # all the room there is, in the direction that helps
            up = np.sign(g[i]) * np.sign(gain[i])
            assert (d[i] == np.where(up > 0, high - x[i], np.where(up < 0, low - x[i], 0))).all()
    assert seen == {True, False}


def exactly_broken(network, balls, labels):
    """Which balls hold a wrong point, decided by the verifier."""
    out = []
    for ball, label in zip(balls, labels, strict=True):
        box = Box.ball(ball.center, ball.size, UNIT)
        verdict = certify(network, Property.robustness(box, label, network.n_outputs), timeout=30)
        assert isinstance(verdict, (Proved, Refuted))
        out.append(isinstance(verdict, Refuted))
    return out


def test_nearly_all_that_can_be_broken_is():
    rng = np.random.default_rng(1)
    network = random_network(rng, (6, 10, 10, 4))
    points = centers(rng, 24, 6)
    labels = answers(network, points)
    broken = wanted = one_step = 0
    for radius in ("1/16", "1/8"):
        balls = regions(LinfBall, points, radius)
        possible = exactly_broken(network, balls, labels)
        found = run(network, FAB(), balls, labels)
        broken += check(network, balls, labels, found)
        assert not any(f.witness and not p for f, p in zip(found, possible, strict=True))
        wanted += sum(possible)
        weak = FAB(steps=1, restarts=1)
        one_step += check(network, balls, labels, run(network, weak, balls, labels))
    assert 10 < wanted < 40
    assert broken >= 0.97 * wanted
    assert one_step < broken


def test_a_flat_loss_leaves_inputs_where_they_are():
    network = linear(np.zeros((3, 4)), [1.0, 0.0, 0.0])
    balls = regions(LinfBall, centers(np.random.default_rng(2), 3, 4), "1/4")
    assert all(one.witness is None for one in run(network, FAB(), balls, [0, 0, 0]))


def test_random_starts_after_all_classes():
    """With two classes the second start is random: seeds matter, and nothing else."""
    rng = np.random.default_rng(3)
    network = random_network(rng, (6, 12, 2))
    points = centers(rng, 30, 6)
    labels = answers(network, points)
    balls = regions(LinfBall, points, "1/4")
    attack = FAB(steps=1, restarts=8)
    first, again, other = (
        [one.witness for one in run(network, attack, balls, labels, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    pgd = check(network, balls, labels, run(network, PGD(), balls, labels))
    fab = check(network, balls, labels, run(network, FAB(), balls, labels))
    assert fab >= 0.95 * pgd > 3
