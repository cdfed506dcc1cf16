"""The ℓ2 attack of Carlini and Wagner beside the closed form on linear networks."""

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("torch")

from attack_targets import answers, centers, check, linear, random_network, regions, run

from torchbridge.attacks.cw import CWL2
from torchbridge.attacks.regions import L2Ball


def test_nearly_the_nearest_point_of_a_linear_network():
    """Distance margin / ‖w_0 − w_1‖₂; nothing within it, a witness within 3 % more."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(2, 5)).astype(np.float32)
    network = linear(w, [0.0, 0.0])
    # Far from the border, so that the nearest point lies in the range.
    points = [
        tuple(Fraction(float(np.float32(v))) for v in row) for row in rng.uniform(0.4, 0.6, (12, 5))
    ]
    labels = answers(network, points)
    row = (w[0] - w[1]).astype(np.float64)
    seen = 0
    for point, label in zip(points, labels, strict=True):
        y = network.exact(point)
        distance = float(y[label] - y[1 - label]) / float(np.sqrt((row * row).sum()))
        if distance > 0.3 or seen == 2:
            continue
        seen += 1
        for share, broken in ((0.999, False), (1.03, True)):
            ball = L2Ball(point, Fraction(distance * share), (Fraction(0), Fraction(1)))
            (one,) = run(network, CWL2(), [ball], [label])
            assert (one.witness is not None) == broken
            check(network, [ball], [label], [one])
    assert seen == 2


@pytest.mark.parametrize("radius", ["1/3", "0", "3/2", "1e-45", "1e40"])
def test_hostile_radii(radius):
    rng = np.random.default_rng(1)
    network = random_network(rng, (5, 12, 12, 3))
    points = centers(rng, 12, 5)
    labels = answers(network, points)
    balls = regions(L2Ball, points, radius)
    found = run(network, CWL2(steps=60, searches=4), balls, labels)
    count = check(network, balls, labels, found)
    assert count > 0 if radius in ("1/3", "3/2", "1e40") else count == 0
