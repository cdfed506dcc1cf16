"""Gradient masking, and two ways around it (Athalye, Carlini and Wagner 2018).

A layer without useful gradients makes gradient attacks fail and networks no safer. BPDA keeps the
layer in the forward pass and replaces its derivative in the backward pass; EOT climbs the mean over
what is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import Any

import torch
from torch import Tensor

from torchbridge.attacks.exact import Exact
from torchbridge.attacks.interface import Classifier


def straight_through(layer: Classifier, model: Classifier) -> Classifier:
    """BPDA: model(layer(x)) with the derivative of the layer taken for the identity.

    Args:
        layer: (n, d) to (n, d), near the identity.
        model: what follows.
    """

    class Through(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return layer(x)

        @staticmethod
        def backward(context: Any, g: Tensor) -> Tensor:
            return g

    return lambda x: model(Through.apply(x))  # type: ignore[no-untyped-call]


def quantised(levels: int) -> Classifier:
    """x ↦ ⌊levels · x⌋ / levels; its gradient is 0 wherever it has one.

    Exact in floats if levels is a power of two and x is in [0, 1].
    """
    return lambda x: torch.floor(x * levels) / levels


def exact_quantised(exact: Exact, levels: int) -> Exact:
    """The exact classifier behind ``quantised(levels)``."""

    def evaluate(x: Sequence[Fraction]) -> tuple[Fraction, ...]:
        return exact([Fraction(floor(v * levels), levels) for v in x])

    return evaluate


class Randomised:
    """A classifier that adds one of finitely many shifts, drawn at random at every call.

    What it means is its mean over all shifts: ``exact_mean``. A single call's gradient belongs to
    one shift only.

    Args:
        model: what follows.
        shifts: (k, d), each as likely as the others.
        generator: draws them.
    """

    def __init__(self, model: Classifier, shifts: Tensor, generator: torch.Generator) -> None:
        self.model, self.shifts, self.generator = model, shifts, generator

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs of each row with a shift of its own."""
        draw = torch.randint(len(self.shifts), (len(x),), generator=self.generator)
        return self.model(x + self.shifts[draw.to(x.device)])


def expectation(model: Classifier, draws: int) -> Classifier:
    """EOT: the mean of several calls of a random classifier, with its gradient.

    Args:
        model: random.
        draws: how many calls.
    """

    def mean(x: Tensor) -> Tensor:
        z = model(x.repeat(draws, 1))
        return z.reshape(draws, len(x), -1).mean(0)

    return mean


def exact_mean(exact: Exact, shifts: Sequence[Sequence[Fraction]]) -> Exact:
    """The exact mean of a classifier's outputs over all shifts."""

    def evaluate(x: Sequence[Fraction]) -> tuple[Fraction, ...]:
        rows = [exact([v + s for v, s in zip(x, shift, strict=True)]) for shift in shifts]
        return tuple(sum(column, Fraction(0)) / len(shifts) for column in zip(*rows, strict=True))

    return evaluate
