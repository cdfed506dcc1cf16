"""Small classifiers and their balls, shared by the tests of attacks."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch

from torchbridge.attacks.campaign import Attacked, Named, Run, attack_points
from torchbridge.attacks.interface import Norm
from torchbridge.attacks.regions import L2Ball, LinfBall, PixelBall, Region
from torchbridge.attacks.target import Target
from verifier.core.decision import Decision, Rule
from verifier.core.network import Layer, Network

torch.set_num_threads(1)  # small products: threads would only wait for each other

UNIT = (Fraction(0), Fraction(1))
BALLS = {Norm.linf: LinfBall, Norm.l2: L2Ball, Norm.l0: PixelBall}


def linear(weight: object, bias: object) -> Network:
    """z = W x + b."""
    matrix = np.asarray(weight, dtype=np.float64)
    return Network((Layer(matrix, np.asarray(bias), np.zeros(len(matrix), dtype=bool)),))


def random_network(rng: np.random.Generator, sizes: tuple[int, ...]) -> Network:
    """Float32 weights, ReLU everywhere but at the end; every class occurs around 1/2."""
    layers, middle = [], np.full(sizes[0], 0.5)
    for k, (n, m) in enumerate(pairwise(sizes)):
        weight = (rng.normal(size=(m, n)) * (4.0 / n) ** 0.5).astype(np.float32)
        bias = (rng.normal(size=m) * 0.2).astype(np.float32)
        z = weight @ middle + bias
        if k == len(sizes) - 2:
            bias = (bias - z).astype(np.float32)
        middle = np.maximum(z, 0.0)
        layers.append(Layer(weight, bias, np.full(m, k < len(sizes) - 2)))
    return Network(tuple(layers))


def target(network: Network, rule: Rule = Rule.argmax) -> Target:
    """The network as something to attack."""
    return Target.of(network, Decision(rule))


def centers(rng: np.random.Generator, count: int, dimension: int) -> list[tuple[Fraction, ...]]:
    """Float32 points of [0, 1], a quarter of the coordinates at a border."""
    x = rng.random((count, dimension)).astype(np.float32)
    border = rng.random(x.shape) < 0.25
    x = np.where(border, np.round(x), x)
    return [tuple(Fraction(float(v)) for v in row) for row in x]


def answers(network: Network, points: list[tuple[Fraction, ...]]) -> list[int]:
    """The class of each point, exactly."""
    return [max(range(network.n_outputs), key=network.exact(p).__getitem__) for p in points]


def regions(
    kind: type[Region], points: list[tuple[Fraction, ...]], size: object, **more: object
) -> list[Region]:
    """The same ball around each, cut to [0, 1]."""
    return [kind(p, Fraction(size), UNIT, **more) for p in points]  # type: ignore[arg-type]


def run(
    network: Network, attack: object, balls: list[Region], labels: list[int], **more: object
) -> list[Attacked]:
    """One attack on every ball."""
    run = Run(**more)  # type: ignore[arg-type]
    return list(attack_points(target(network), [Named("it", attack)], balls, labels, run))


def check(network: Network, balls: list[Region], labels: list[int], found: list[Attacked]) -> int:
    """Every witness once more, by definition and without the code under test; how many there are.

    A float32 point (but for unchanged exact coordinates), in [0, 1], within the radius, wrong.
    """
    count = 0
    for ball, label, one in zip(balls, labels, found, strict=True):
        if one.witness is None:
            continue
        count += 1
        x, c = one.witness.x, ball.center
        assert all(0 <= v <= 1 for v in x)
        change = [abs(a - b) for a, b in zip(x, c, strict=True)]
        if isinstance(ball, LinfBall):
            assert max(change) <= ball.size
        elif isinstance(ball, L2Ball):
            assert sum(v * v for v in change) <= ball.size**2
        else:
            assert isinstance(ball, PixelBall)
            pixels = len(c) // ball.channels
            assert len({j % pixels for j, v in enumerate(change) if v}) <= ball.size
        if one.by:
            assert all(
                Fraction(float(np.float32(float(v)))) == v or v == m
                for v, m in zip(x, c, strict=True)
            )
        y = network.exact(x)
        assert y == one.witness.y
        assert max(v for k, v in enumerate(y) if k != label) >= y[label]
    return count


def smallest_margin(network: Network, ball: Region, label: int) -> Fraction:
    """Of a linear network of two classes on a ball cut to [0, 1], exactly."""
    w = network.layers[0].weight
    row = [
        Fraction(float(a)) - Fraction(float(b)) for a, b in zip(w[label], w[1 - label], strict=True)
    ]
    x = [
        max(Fraction(0), c - ball.size) if v > 0 else min(Fraction(1), c + ball.size)
        for c, v in zip(ball.center, row, strict=True)
    ]
    y = network.exact(x)
    return y[label] - y[1 - label]
