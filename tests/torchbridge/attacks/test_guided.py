"""Guided ascent, where a target has no gradient of its own."""

import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from torchbridge.attacks.guided import Guided, RandomSigns, straight
from torchbridge.attacks.interface import Control, Task, gradient, margin
from torchbridge.attacks.pgd import PGD


def linear(x):
    return torch.stack([x.sum(1) - 1.5, 1.5 - x.sum(1)], 1)


def steps(x):
    """The same decision, constant almost everywhere."""
    return torch.sign(linear(x))


def task(model, size):
    x = torch.full((6, 3), 0.6)
    labels = torch.zeros(6, dtype=torch.int64)
    return Task(model, x, labels, x - size, x + size, size, (1, 1, 3))


@pytest.mark.parametrize(("size", "broken"), [(0.099, False), (0.101, True)])
def test_the_guide_shows_the_way_and_the_target_decides(size, broken):
    """x.sum() falls from 1.8 to 1.5 at radius 0.1, and the target jumps there."""
    where = task(steps, size)
    plain = PGD(steps=20, restarts=1).run(where, Control.seeded(0))
    assert torch.equal(plain, where.x)
    found = Guided((linear,), 20, 1).run(where, Control.seeded(0))
    assert ((found >= where.lower) & (found <= where.upper)).all()
    assert ((margin(steps(found), where.labels) < 0) == broken).all()


def test_a_guide_that_leads_away_is_not_followed_alone():
    where = task(steps, 0.2)
    away = Guided((lambda x: -linear(x),), 20, 1).run(where, Control.seeded(0))
    assert (margin(steps(away), where.labels) > 0).all()
    both = Guided((lambda x: -linear(x), linear), 20, 1).run(where, Control.seeded(0))
    assert (margin(steps(both), where.labels) < 0).all()


def test_straight_has_the_values_of_one_and_the_gradient_of_the_other():
    x = task(steps, 0.1).x
    z, g = gradient(straight(steps, linear), x, lambda z: z[:, 0])
    assert torch.allclose(z, steps(x))
    assert torch.equal(g, torch.ones_like(x))


def test_random_signs_are_fair_corners():
    x = torch.zeros(400, 3)
    where = Task(linear, x, x[:, 0].long(), x - 1, x + 1, 1.0, (1, 1, 3))
    found = RandomSigns().run(where, Control.seeded(1))
    assert (found.abs() == 1).all()
    assert (found.mean(0).abs() < 0.25).all()
    assert torch.equal(found, RandomSigns().run(where, Control.seeded(1)))
