"""The Square attack (Andriushchenko et al. 2020): random squares at the ball's faces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, margin

#: After these shares of all queries the squares become half as large.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square:
    """A change is kept if it lowers the margin; squares shrink with the number of queries.

    Args:
        queries: evaluations of each input.
        share: of the picture that the first squares cover.
    """

    queries: int = 1000
    share: float = 0.8

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    @torch.no_grad()
    def run(self, task: Task, control: Control) -> Tensor:
        """Until all queries are used or every input is broken; see ``Attack.run``."""
        best = Best(task)
        rows = best.open
        best.offer(rows, task.x, margin(task.model(task.x), task.labels))
        rows = best.open
        if len(rows):
            x = self._stripes(task.rows(rows), control)
            best.offer(rows, x, margin(task.model(x), task.labels[rows]))
        for query in range(2, self.queries):
            rows = best.open
            if len(rows) == 0 or control.stop():
                break
            control.progress("square", query / self.queries)
            part = task.rows(rows)
            share = self.share / 2 ** sum(query > h * self.queries for h in _HALVINGS)
            x = self._squares(part, best.points[rows], share, control)
            best.offer(rows, x, margin(part.model(x), part.labels))
        control.progress("square", 1.0)
        return best.points

    @staticmethod
    def _stripes(task: Task, control: Control) -> Tensor:
        """Every column of every channel at one face or the other."""
        channels, height, width = task.shape
        up = control.uniform((len(task), channels, 1, width), task.x) < 0.5
        up = up.expand(-1, -1, height, -1).reshape(len(task), -1)
        return torch.where(up, task.upper, task.lower)

    @staticmethod
    def _squares(task: Task, x: Tensor, share: float, control: Control) -> Tensor:
        """x with one random square of each input at the faces, a face for each channel."""
        channels, height, width = task.shape
        side = max(1, round((share * height * width) ** 0.5))
        if min(height, width) == 1:  # no picture: a stretch of coordinates
            side = max(1, round(share * height * width))
        n = len(task)
        row = control.integers(max(1, height - side + 1), (n, 1), x)
        column = control.integers(max(1, width - side + 1), (n, 1), x)
        i, j = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        tall, wide = (i >= row) & (i < row + side), (j >= column) & (j < column + side)
        inside = (tall[:, None, :, None] & wide[:, None, None, :]).expand(-1, channels, -1, -1)
        up = control.uniform((n, channels, 1, 1), x) < 0.5
        up = up.expand(-1, -1, height, width).reshape(n, -1)
        return torch.where(inside.reshape(n, -1), torch.where(up, task.upper, task.lower), x)
