"""Ascent along the gradients of guides, judged by a target whose own gradient says nothing.

BPDA (Athalye, Carlini and Wagner 2018) in its general form: every point on the way is tried on the
target itself; only the direction comes from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchbridge.attacks.interface import (
    Best,
    Classifier,
    Control,
    Norm,
    Task,
    gradient,
    margin,
)
from torchbridge.attacks.losses import Loss, loss_of


@dataclass(frozen=True)
class Guided:
    """Steps rate · (upper − lower) · sign(m), cut to the box, m the decaying mean of gradients.

    Each start follows one guide and one loss of the guide's outputs: the first starts all guides
    with the first loss at the input itself, and so on; later rounds start at random points.

    Args:
        guides: classifiers with gradients, on the same inputs and classes as the target.
        steps: of each start.
        rounds: each guide starts so often.
        rate: the first step's length, a share of the box's side; it falls linearly to a hundredth.
        momentum: what is kept of the mean in a step.
        losses: what the rounds climb, in turn.
    """

    guides: tuple[Classifier, ...]
    steps: int = 40
    rounds: int = 2
    rate: float = 0.25
    momentum: float = 0.75
    losses: tuple[Loss, ...] = (Loss.margin, Loss.ce)

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    def run(self, task: Task, control: Control) -> Tensor:
        """Starts until the target is wrong at a point of every box; see ``Attack.run``."""
        best, starts = Best(task), self.rounds * len(self.guides)
        for start in range(starts):
            rows = best.open
            if len(rows) == 0 or control.stop():
                break
            part, (turn, k) = task.rows(rows), divmod(start, len(self.guides))
            x = part.x
            if turn > 0:
                share = control.uniform(tuple(x.shape), x)
                x = part.lower + share * (part.upper - part.lower)
            loss = self.losses[turn % len(self.losses)]
            self._follow(self.guides[k], part, x, loss, rows, best, control.part(start, starts))
        control.progress("guided", 1.0)
        return best.points

    def _follow(
        self, guide: Classifier, task: Task, x: Tensor, loss: Loss, rows: Tensor, best: Best,
        control: Control,
    ) -> None:  # fmt: skip
        """One start; inputs leave it as soon as the target is wrong."""
        mean = torch.zeros_like(x)
        for step in range(self.steps + 1):
            with torch.no_grad():
                margins = margin(task.model(x), task.labels)
            best.offer(rows, x, margins)
            going = torch.nonzero(~(margins < 0))[:, 0]
            if step == self.steps or control.stop() or len(going) == 0:
                return
            control.progress("guided", step / self.steps)
            task, rows, x, mean = task.rows(going), rows[going], x[going], mean[going]
            _, g = gradient(guide, x, loss_of(loss, task.labels))
            length = g.abs().mean(1, keepdim=True)
            mean = self.momentum * mean + g / (length + (length == 0))
            rate = self.rate * (1.0 - 0.99 * step / self.steps)
            x = x + rate * (task.upper - task.lower) * mean.sign()
            x = torch.minimum(torch.maximum(x, task.lower), task.upper)


@dataclass(frozen=True)
class RandomSigns:
    """One uniformly random corner of the box: what an attack is worth whose direction is hidden."""

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    def run(self, task: Task, control: Control) -> Tensor:
        """The corners, whatever the target says there."""
        up = control.uniform(tuple(task.x.shape), task.x) < 0.5
        return torch.where(up, task.upper, task.lower)


def straight(target: Classifier, guide: Classifier) -> Classifier:
    """The target's outputs with the guide's derivative, so that losses weigh by the target's."""

    def both(x: Tensor) -> Tensor:
        z = guide(x)
        with torch.no_grad():
            gap = target(x) - z
        return z + gap

    return both
