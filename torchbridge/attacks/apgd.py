"""Auto-PGD (Croce and Hein 2020): projected gradient ascent that finds its own step size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, gradient, margin
from torchbridge.attacks.losses import Loss, loss_of


@dataclass(frozen=True)
class APGD:
    """Signs with momentum; at checkpoints the step is halved where the loss has stopped rising.

    Args:
        steps: of each start.
        restarts: how many starts, the first at the input itself.
        loss: what is climbed.
        targeted: climb towards one other class at a time, start by start the ones with the largest
            outputs first, by z_t − z_y over the spread of the outputs.
    """

    steps: int = 60
    restarts: int = 2
    loss: Loss = Loss.ce
    targeted: bool = False

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    def run(self, task: Task, control: Control) -> Tensor:
        """Starts until every input is broken; see ``Attack.run``."""
        best = Best(task)
        with torch.no_grad():
            z = task.model(task.x)
        order = z.scatter(1, task.labels[:, None], -torch.inf).argsort(1, descending=True)
        for start in range(self.restarts):
            rows = best.open
            if len(rows) == 0 or control.stop():
                break
            part = task.rows(rows)
            loss = loss_of(self.loss, part.labels)
            if self.targeted:
                rank = start % (z.shape[1] - 1)
                loss = _towards(order[rows, rank], part.labels)
            first = part.x
            if start > 0 and not self.targeted:
                share = control.uniform(tuple(first.shape), first)
                first = part.lower + share * (part.upper - part.lower)
            _climb(part, first, loss, self.steps, rows, best, control.part(start, self.restarts))
        control.progress("apgd", 1.0)
        return best.points


def _towards(target: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """(z_t − z_y) / (z_(1) − (z_(3) + z_(4)) / 2), the divisor 1 with less than four classes."""

    def loss(z: Tensor) -> Tensor:
        gap = (z.gather(1, target[:, None]) - z.gather(1, labels[:, None]))[:, 0]
        if z.shape[1] < 4:
            return gap
        ranked = z.sort(dim=1, descending=True).values
        return gap / (ranked[:, 0] - 0.5 * (ranked[:, 2] + ranked[:, 3]) + 1e-12)

    return loss


def _checkpoints(steps: int) -> set[int]:
    """At shares 0.22, then ever closer, but never closer than 0.06."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {int(share * steps + 0.5) for share in shares[1:]}


def _climb(
    task: Task, first: Tensor, loss: Callable[[Tensor], Tensor], steps: int, rows: Tensor,
    best: Best, control: Control,
) -> None:  # fmt: skip
    """One start: points, losses and step sizes of all inputs side by side."""

    def into(x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, task.lower), task.upper)

    def at(x: Tensor) -> tuple[Tensor, Tensor]:
        z, g = gradient(task.model, x, loss)
        best.offer(rows, x, margin(z, task.labels))
        return loss(z), g

    x = before = first
    value, g = at(x)
    top, top_x, top_g = value.clone(), x.clone(), g.clone()
    rate = (task.upper - task.lower).clone()
    last_top, rises = top.clone(), torch.zeros_like(value)
    halved = torch.ones_like(value, dtype=torch.bool)
    checkpoints, last = _checkpoints(steps), 0
    for step in range(1, steps + 1):
        if control.stop() or not (best.margins[rows] >= 0).any():
            return
        control.progress("apgd", step / (steps + 1))
        weight = 0.75 if step > 1 else 1.0
        straight = into(x + rate * g.sign())
        moved = into(x + weight * (straight - x) + (1 - weight) * (x - before))
        before, x = x, moved
        old, (value, g) = value, at(x)
        rises += value > old
        better = value > top
        top = torch.where(better, value, top)
        top_x, top_g = (
            torch.where(better[:, None], new, kept) for new, kept in ((x, top_x), (g, top_g))
        )
        if step in checkpoints:
            slow = rises < 0.75 * (step - last)
            stuck = ~halved & (top <= last_top)
            halved = slow | stuck
            rate = torch.where(halved[:, None], rate / 2, rate)
            x, g = (
                torch.where(halved[:, None], kept, now) for kept, now in ((top_x, x), (top_g, g))
            )
            before = torch.where(halved[:, None], x, before)
            value = torch.where(halved, top, value)
            last_top, last, rises = top.clone(), step, torch.zeros_like(value)
