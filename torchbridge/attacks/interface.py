"""The one interface of all attacks: a task goes in, the best point found for each input comes out.

An attack is a frozen dataclass of its settings with a method ``run(task, control)``. It works in
floats and promises nothing: ``torchbridge.attacks.campaign`` moves what it returns into the exact
ball and evaluates it exactly. All attacks keep the point with the smallest margin
z_label − max_{k≠label} z_k, and leave an input alone once its margin is negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

Classifier = Callable[[Tensor], Tensor]
"""(batch, d) inputs to (batch, classes) outputs, differentiable unless an attack says otherwise."""


class Norm(StrEnum):
    """What the size of a change is: ``linf``, ``l2``, or ``l0``, the number of changed pixels."""

    linf = "linf"
    l2 = "l2"
    l0 = "l0"


@dataclass(frozen=True, eq=False)
class Task:
    """What to attack.

    Args:
        model: the classifier.
        x: (n, d) inputs, within [lower, upper].
        labels: (n,) int64, what the classifier should say.
        lower, upper: (n, d) faces of the box in which points may lie: the ball (ℓ∞), or all that
            an input may be (ℓ2, ℓ0).
        size: the radius, or the number of pixels that may change.
        shape: (channels, rows, columns) of one input, row-major; (1, 1, d) if it is no picture.
        span: lowest and highest value that a coordinate can have, in the ball or beyond it.
    """

    model: Classifier
    x: Tensor
    labels: Tensor
    lower: Tensor
    upper: Tensor
    size: float
    shape: tuple[int, int, int]
    span: tuple[float, float] = (-math.inf, math.inf)

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor) -> Task:
        """The task of some of the inputs."""
        return Task(
            self.model, self.x[index], self.labels[index], self.lower[index], self.upper[index],
            self.size, self.shape, self.span,
        )  # fmt: skip


def _silent(what: str, fraction: float) -> None:
    """No progress is shown."""


def _never() -> bool:
    """Nobody stops it."""
    return False


@dataclass(frozen=True, eq=False)
class Control:
    """What goes on beside an attack.

    Args:
        generator: source of everything random, on the CPU: a seed gives the same points on every
            device.
        progress: told what is done and the fraction of the work that is done.
        stop: asked after every step; an attack that is stopped returns what it has.
    """

    generator: torch.Generator = field(default_factory=torch.Generator)
    progress: Callable[[str, float], None] = _silent
    stop: Callable[[], bool] = _never

    @classmethod
    def seeded(
        cls,
        seed: int,
        progress: Callable[[str, float], None] = _silent,
        stop: Callable[[], bool] = _never,
    ) -> Control:
        """With a generator that starts at the seed."""
        return cls(torch.Generator().manual_seed(seed), progress, stop)

    def part(self, index: int, count: int) -> Control:
        """For one of several equal parts of the work."""
        return replace(
            self, progress=lambda what, share: self.progress(what, (index + share) / count)
        )

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), of the type and on the device of ``like``."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float64).to(like)

    def integers(self, high: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform integers in [0, high), on the device of ``like``."""
        return torch.randint(high, shape, generator=self.generator).to(like.device)


class Attack(Protocol):
    """Settings, and how to attack with them."""

    @property
    def norm(self) -> Norm:
        """What the task's size means."""
        ...

    def run(self, task: Task, control: Control) -> Tensor:
        """The best point found for each input, (n, d), within the task's box.

        Args:
            task: what to attack.
            control: randomness, progress, stop.
        """
        ...


def margin(z: Tensor, labels: Tensor) -> Tensor:
    """z_label − max_{k≠label} z_k, (n,): negative where another class is larger."""
    own = z.gather(1, labels[:, None])[:, 0]
    others = z.scatter(1, labels[:, None], -math.inf)
    return own - others.amax(1)


class Best:
    """For every input of a task the point with the smallest margin so far.

    Args:
        task: whose inputs; each is its own first point, with a margin yet unknown.
    """

    def __init__(self, task: Task) -> None:
        self.points = task.x.clone()
        self.margins = torch.full_like(task.x[:, 0], math.inf)

    def offer(self, rows: Tensor, points: Tensor, margins: Tensor) -> Tensor:
        """Keep what is better.

        Args:
            rows: (k,) which inputs.
            points: (k, d).
            margins: (k,) of the points; one that is NaN is never better.

        Returns:
            (k,) bool: which were.
        """
        better = margins < self.margins[rows]
        kept = rows[better]
        self.points[kept] = points[better].detach()
        self.margins[kept] = margins[better].detach()
        return better

    @property
    def open(self) -> Tensor:
        """The inputs that have no point with a negative margin."""
        return self.above(0.0)

    def above(self, level: float) -> Tensor:
        """The inputs that have no point with a margin below the level."""
        return torch.nonzero(~(self.margins < level))[:, 0]


def gradient(
    model: Classifier, x: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Outputs at x, and the gradient of each row's own loss.

    Args:
        model: the classifier.
        x: (n, d).
        loss: from (n, classes) outputs to (n,) losses.

    Returns:
        z (n, classes) and the gradient (n, d), both detached; 0 where the loss does not depend on
        x, and where the gradient is not finite.
    """
    x = x.detach().requires_grad_()
    z = model(x)
    total = loss(z).sum()
    if not total.requires_grad:
        return z.detach(), torch.zeros_like(x)
    (g,) = torch.autograd.grad(total, x)
    return z.detach(), torch.nan_to_num(g, nan=0.0, posinf=0.0, neginf=0.0)
