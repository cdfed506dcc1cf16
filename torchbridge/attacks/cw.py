"""The attacks of Carlini and Wagner (2017): the margin as loss, minimised by Adam."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, gradient, margin


@dataclass(frozen=True)
class CWLinf:
    """Adam on max(margin, −κ) inside the ℓ∞ ball.

    Args:
        steps: of each start.
        restarts: how many starts, the first at the input itself.
        rate: Adam's step, a share of the box's side; it falls to 0 like a quarter of a cosine.
    """

    steps: int = 60
    restarts: int = 3
    rate: float = 0.2

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    def run(self, task: Task, control: Control) -> Tensor:
        """Starts until every input is broken; see ``Attack.run``."""
        best = Best(task)
        for start in range(self.restarts):
            rows = best.open
            if len(rows) == 0 or control.stop():
                break
            part = task.rows(rows)
            x, width = part.x, part.upper - part.lower
            if start > 0:
                x = part.lower + control.uniform(tuple(x.shape), x) * width
            mean, square = torch.zeros_like(x), torch.zeros_like(x)
            for step in range(self.steps + 1):
                z, g = gradient(part.model, x, _margins(part.labels))
                best.offer(rows, x, margin(z, part.labels))
                if control.stop() or not (best.margins[rows] >= 0).any():
                    break
                control.progress("cw", (start + step / (self.steps + 1)) / self.restarts)
                mean, square, direction = adam(g * width, mean, square, step)
                rate = self.rate * math.cos(0.5 * math.pi * step / (self.steps + 1))
                x = torch.minimum(
                    torch.maximum(x - rate * width * direction, part.lower), part.upper
                )
        control.progress("cw", 1.0)
        return best.points


def _margins(labels: Tensor) -> Callable[[Tensor], Tensor]:
    """The margins of outputs, for these labels."""
    return lambda z: margin(z, labels)


def adam(g: Tensor, mean: Tensor, square: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's moments and direction (Kingma and Ba 2015) after this gradient, steps from 0."""
    mean, square = 0.9 * mean + 0.1 * g, 0.99 * square + 0.01 * g * g
    first, second = 1 - 0.9 ** (step + 1), 1 - 0.99 ** (step + 1)
    tiny = torch.finfo(g.dtype).tiny
    return mean, square, torch.nan_to_num((mean / first) / ((square / second).sqrt() + tiny))


@dataclass(frozen=True)
class CWL2:
    """The original attack: minimise ‖δ‖₂² + c · max(margin, −κ) over everything an input may be.

    x = lower + (tanh w + 1)/2 · (upper − lower) keeps to the range; c is searched for each input by
    bisection, upwards by tens until something is found. The nearest point found is returned.

    Args:
        steps: of Adam, for each c.
        searches: how many values of c.
        rate: Adam's step.
        first: the first c.
        confidence: κ.
    """

    steps: int = 150
    searches: int = 6
    rate: float = 0.03
    first: float = 0.1
    confidence: float = 0.0

    @property
    def norm(self) -> Norm:
        """ℓ2."""
        return Norm.l2

    def run(self, task: Task, control: Control) -> Tensor:
        """The nearest wrong point of each input; see ``Attack.run``."""
        nearest, points = torch.full_like(task.x[:, 0], math.inf), task.x.clone()
        low, c = torch.zeros_like(nearest), torch.full_like(nearest, self.first)
        high = torch.full_like(nearest, math.inf)
        for search in range(self.searches):
            if control.stop():
                break
            found = self._minimise(task, c, nearest, points, control, search)
            high = torch.where(found, torch.minimum(high, c), high)
            low = torch.where(found, low, torch.maximum(low, c))
            c = torch.where(high.isinf(), 10 * c, 0.5 * (low + high))
        control.progress("cw-l2", 1.0)
        # What is farther than asked about is drawn in, and mostly right again there.
        share = (task.size / nearest.sqrt()).clamp(max=1.0)
        return task.x + torch.where(share < 1, share, 1.0)[:, None] * (points - task.x)

    def _minimise(
        self, task: Task, c: Tensor, nearest: Tensor, points: Tensor, control: Control, search: int
    ) -> Tensor:
        """One value of c for each input: writes what is nearer; which inputs were broken."""
        width = task.upper - task.lower
        share = ((task.x - task.lower) / torch.where(width > 0, width, 1)).clamp(1e-6, 1 - 1e-6)
        w = torch.atanh(2 * share - 1)
        mean, square = torch.zeros_like(w), torch.zeros_like(w)
        found = torch.zeros_like(c, dtype=torch.bool)
        for step in range(self.steps + 1):
            if control.stop():
                break
            control.progress("cw-l2", (search + step / (self.steps + 1)) / self.searches)
            w = w.detach().requires_grad_()
            x = task.lower + 0.5 * (w.tanh() + 1) * width
            margins = margin(task.model(x), task.labels)
            squares = (x - task.x).square().sum(1)
            loss = squares + c * margins.clamp(min=-self.confidence)
            (g,) = torch.autograd.grad(loss.sum(), w)
            with torch.no_grad():
                broken = margins < 0
                found |= broken
                better = broken & (squares < nearest)
                nearest[better], points[better] = squares[better], x[better]
                mean, square, direction = adam(torch.nan_to_num(g), mean, square, step)
                w = w - self.rate * direction
        return found
