"""One step along the signs of the gradient (Goodfellow, Shlens and Szegedy 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, gradient, margin
from torchbridge.attacks.losses import Loss, loss_of


@dataclass(frozen=True)
class FGSM:
    """x + ε sign ∇loss(x): the best point of the ball if the network is affine on it.

    For more than two classes that is so with the cross-entropy of one other class only; here the
    step is taken for the margin to the runner-up.

    Args:
        loss: what is climbed.
    """

    loss: Loss = Loss.margin

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    def run(self, task: Task, control: Control) -> Tensor:
        """To the faces of the box, along the signs; see ``Attack.run``."""
        best, rows = Best(task), torch.arange(len(task), device=task.x.device)
        z, g = gradient(task.model, task.x, loss_of(self.loss, task.labels))
        best.offer(rows, task.x, margin(z, task.labels))
        moved = torch.where(g > 0, task.upper, torch.where(g < 0, task.lower, task.x))
        with torch.no_grad():
            best.offer(rows, moved, margin(task.model(moved), task.labels))
        control.progress("fgsm", 1.0)
        return best.points
