"""JSMA and differential evolution beside all choices of pixels, where the optimum is a corner."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("torch")

from attack_targets import answers, centers, check, linear, random_network, regions, run, target

from torchbridge.attacks.campaign import Named, Run, attack_points
from torchbridge.attacks.jsma import JSMA
from torchbridge.attacks.one_pixel import OnePixel
from torchbridge.attacks.regions import PixelBall

SHAPE = (1, 3, 4)


def breakable(network, ball, label):
    """Whether some choice of pixels and of ends of their range breaks a linear network."""
    w = network.layers[0].weight
    row = [Fraction(float(v)) for v in w[label] - w[1 - label]]
    y = network.exact(ball.center)
    pixels = len(row) // ball.channels
    # What each pixel can take from the margin, over all of its channels.
    gains = [
        sum(max(v * c, v * (c - 1)) for v, c in list(zip(row, ball.center, strict=True))[p::pixels])
        for p in range(pixels)
    ]
    best = max(sum(chosen) for chosen in combinations(gains, min(int(ball.size), pixels)))
    return y[label] - y[1 - label] - best


def pictures(channels, seed=0):
    rng = np.random.default_rng(seed)
    row = rng.integers(-8, 9, (1, 12 * channels)) / 8.0
    network = linear(np.concatenate([row, -row]), [0.0, 0.125])
    points = centers(rng, 30, 12 * channels)
    return network, points, answers(network, points)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_jsma_is_optimal_for_two_opposite_outputs(channels, count):
    """a = −b: the most salient pair is the pair of the two largest gains."""
    network, points, labels = pictures(channels)
    balls = regions(PixelBall, points, count, channels=channels)
    found = list(
        attack_points(
            target(network), [Named("it", JSMA())], balls, labels, Run(), shape=(channels, 3, 4)
        )
    )
    check(network, balls, labels, found)
    for ball, label, one in zip(balls, labels, found, strict=True):
        margin = breakable(network, ball, label)
        assert (one.witness is not None) == (margin <= 0) or abs(margin) < Fraction(1, 10**5)


@pytest.mark.parametrize("channels", [1, 3])
def test_evolution_finds_nearly_all_that_one_pixel_breaks(channels):
    network, points, labels = pictures(channels, seed=1)
    balls = regions(PixelBall, points, 1, channels=channels)
    found = list(
        attack_points(
            target(network), [Named("it", OnePixel())], balls, labels, Run(), shape=(channels, 3, 4)
        )
    )
    assert check(network, balls, labels, found) > 3
    for ball, label, one in zip(balls, labels, found, strict=True):
        margin = breakable(network, ball, label)
        if margin > 0:
            assert one.witness is None
        if margin < Fraction(-1, 10):
            assert one.witness is not None


@pytest.mark.parametrize("attack", [JSMA(), OnePixel(queries=400)])
@pytest.mark.parametrize("size", [0, 1, 12, 40])
def test_hostile_numbers_of_pixels(attack, size):
    rng = np.random.default_rng(2)
    network = random_network(rng, (12, 16, 5))
    points = centers(rng, 6, 12)
    labels = answers(network, points)
    balls = regions(PixelBall, points, size)
    count = check(network, balls, labels, run(network, attack, balls, labels))
    assert size > 0 or count == 0
    assert size < 12 or count > 0


def test_exact_middles_stay_exact():
    """Pixels that no float32 holds keep their value where they do not change."""
    network = linear(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), [0.0, 0.0])
    center = (Fraction(1, 3), Fraction(1, 7), Fraction(1, 5))
    ball = PixelBall(center, Fraction(1), (Fraction(0), Fraction(1)))
    for attack in (JSMA(), OnePixel()):
        (one,) = run(network, attack, [ball], [0])
        assert one.witness is not None
        assert sum(a != c for a, c in zip(one.witness.x, center, strict=True)) == 1


def test_seeds_and_stops():
    rng = np.random.default_rng(3)
    network = random_network(rng, (12, 16, 4))
    points = centers(rng, 8, 12)
    labels = answers(network, points)
    balls = regions(PixelBall, points, 2)

    def found(seed, **more):
        return run(network, OnePixel(queries=400), balls, labels, seed=seed, **more)

    assert [a.witness for a in found(1)] == [a.witness for a in found(1)]
    assert [a.witness for a in found(1)] != [a.witness for a in found(2)]
    assert not any(one.finished for one in found(1, stop=lambda: True))
