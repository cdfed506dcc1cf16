"""Few pixels towards a chosen class: beside all choices of pixels, and exact at the end."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from attack_targets import UNIT, answers, centers, linear, random_network, target

from torchbridge.attacks.chosen_class import reach_classes
from torchbridge.attacks.interface import Control
from torchbridge.attacks.regions import PixelBall


def test_two_opposite_outputs_need_the_fewest_pixels():
    """With z_1 = −z_0 salient pairs have the largest gains; pairs, so one pixel more at most."""
    rng = np.random.default_rng(0)
    row = rng.integers(-8, 9, (1, 12)) / 8.0
    network = linear(np.concatenate([row, -row]), [0.0, 0.125])
    points = centers(rng, 20, 12)
    seen = set()
    for point, label in zip(points, answers(network, points), strict=True):
        w = [Fraction(float(v)) for v in network.layers[0].weight[label]]
        other = network.layers[0].weight[1 - label].tolist()
        w = [a - Fraction(b) for a, b in zip(w, other, strict=True)]
        y = network.exact(point)
        gap = y[label] - y[1 - label]
        gains = sorted(
            (max(v * c, v * (c - 1)) for v, c in zip(w, point, strict=True)), reverse=True
        )
        needed = next((k for k in range(1, 13) if sum(gains[:k]) > gap), None)
        for size in (1, 2, 5, 12):
            ball = PixelBall(point, Fraction(size), UNIT)
            (one,) = reach_classes(target(network), ball, label, (1, 3, 4), Control())
            assert one.target == 1 - label
            possible = needed is not None and needed <= size
            seen.add(possible)
            assert (one.point is not None) == possible
            if one.point is not None:
                z = network.exact(one.point)
                assert z[1 - label] > z[label]
                assert ball.contains(one.point)
                assert needed <= one.pixels <= needed + 1
    assert seen == {True, False}


def test_every_other_class_and_nothing_from_wrong_points():
    rng = np.random.default_rng(1)
    network = random_network(rng, (9, 20, 4))
    points = centers(rng, 8, 9)
    reached = 0
    for point, label in zip(points, answers(network, points), strict=True):
        ball = PixelBall(point, Fraction(4), UNIT)
        found = reach_classes(target(network), ball, label, (1, 3, 3), Control())
        assert [one.target for one in found] == [k for k in range(4) if k != label]
        for one in found:
            assert (one.point is None) == (one.pixels == 0)
            if one.point is None:
                continue
            reached += 1
            y = network.exact(one.point)
            assert max(range(4), key=y.__getitem__) == one.target
            changed = [j for j, (a, b) in enumerate(zip(one.point, point, strict=True)) if a != b]
            assert len(changed) == one.pixels <= 4
            # Fewer of the same pixels were not enough on the way: pairs were added one by one.
            assert any(
                max(range(4), key=network.exact(_partly(point, one.point, few)).__getitem__)
                != one.target
                for few in combinations(changed, max(0, len(changed) - 2))
            )
        wrong = (label + 1) % 4
        assert reach_classes(target(network), ball, wrong, (1, 3, 3), Control()) == ()
    assert reached > 8


def _partly(before, after, chosen):
    return tuple(after[j] if j in chosen else v for j, v in enumerate(before))


def test_a_stop_reaches_nothing():
    rng = np.random.default_rng(2)
    network = random_network(rng, (9, 20, 4))
    (point,) = centers(rng, 1, 9)
    (label,) = answers(network, [point])
    ball = PixelBall(point, Fraction(9), UNIT)
    found = reach_classes(target(network), ball, label, (1, 3, 3), Control(stop=lambda: True))
    assert [one.point for one in found] == [None] * 3
