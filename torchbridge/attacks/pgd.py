"""Projected gradient ascent with restarts (Madry et al. 2018), by signs with momentum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, gradient, margin
from torchbridge.attacks.losses import Loss, loss_of


@dataclass(frozen=True)
class PGD:
    """Steps rate · (upper − lower) · sign(m), cut to the box, m the decaying mean of gradients.

    The first start is the input itself, the others are uniform in the box. From start to start the
    losses alternate; the rate falls linearly to a hundredth.

    Args:
        steps: of each start.
        restarts: how many starts; inputs that are broken take part in no more of them.
        rate: the first step's length, a share of the box's side.
        momentum: what is kept of the mean in a step; 0 for the plain attack.
        losses: what the starts climb, in turn.
        confidence: inputs go on until their margin is below minus this.
    """

    steps: int = 40
    restarts: int = 5
    rate: float = 0.25
    momentum: float = 0.75
    losses: tuple[Loss, ...] = (Loss.margin, Loss.ce)
    confidence: float = 0.0

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    def run(self, task: Task, control: Control) -> Tensor:
        """Starts until every input is broken; see ``Attack.run``."""
        best = Best(task)
        for start in range(self.restarts):
            rows = best.above(-self.confidence)
            if len(rows) == 0 or control.stop():
                break
            part = task.rows(rows)
            x = part.x
            if start > 0:
                share = control.uniform(tuple(x.shape), x)
                x = part.lower + share * (part.upper - part.lower)
            self._climb(part, x, self.losses[start % len(self.losses)], rows, best, control, start)
        control.progress("pgd", 1.0)
        return best.points

    def _climb(
        self, task: Task, x: Tensor, loss: Loss, rows: Tensor, best: Best, control: Control,
        start: int,
    ) -> None:  # fmt: skip
        """One start; inputs leave it as soon as they are broken."""
        mean, width = torch.zeros_like(x), task.upper - task.lower
        for step in range(self.steps + 1):
            z, g = gradient(task.model, x, loss_of(loss, task.labels))
            margins = margin(z, task.labels)
            best.offer(rows, x, margins)
            going = ~(margins < -self.confidence)
            if step == self.steps or control.stop() or not going.any():
                return
            control.progress("pgd", (start + step / self.steps) / self.restarts)
            index = torch.nonzero(going)[:, 0]
            task, rows, x, width = task.rows(index), rows[index], x[index], width[index]
            length = g.abs().mean(1, keepdim=True)
            mean = self.momentum * mean[index] + (g / (length + (length == 0)))[index]
            rate = self.rate * (1.0 - 0.99 * step / self.steps)
            x = x + rate * width * mean.sign()
            x = torch.minimum(torch.maximum(x, task.lower), task.upper)
