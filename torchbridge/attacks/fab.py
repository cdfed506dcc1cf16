"""The fast adaptive boundary attack (Croce and Hein 2020): the nearest point on the other side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, gradient, margin

#: The weight of the step from the input, at most; steps go this much past the boundary; a point on
#: the other side is drawn back to this share of its distance.
_PULL, _OVERSHOOT, _BACK = 0.1, 1.05, 0.9


@dataclass(frozen=True)
class FAB:
    """Steps to the linearised boundary from the point and from the input, weighed by length.

    Towards the class t the boundary near x is the hyperplane of f = z_t − z_y and its gradient g.
    The ℓ∞ projections onto it of x and of the input x₀, within all that an input may be, are mixed;
    what comes out on the other side counts if it lies in the ball, and the search goes
    on from a point closer to x₀. Points may lie outside of the ball on the way; each is also tried
    where it is cut to the ball.

    Args:
        steps: of each start.
        restarts: how many starts: one for each other class in the order of the outputs, from the
            input itself, then again from random points of the ball.
    """

    steps: int = 50
    restarts: int = 9

    @property
    def norm(self) -> Norm:
        """ℓ∞."""
        return Norm.linf

    def run(self, task: Task, control: Control) -> Tensor:
        """Starts until every input is broken; see ``Attack.run``."""
        best, everything = Best(task), torch.arange(len(task), device=task.x.device)
        with torch.no_grad():
            z = task.model(task.x)
        best.offer(everything, task.x, margin(z, task.labels))
        order = z.scatter(1, task.labels[:, None], -torch.inf).argsort(1, descending=True)
        classes = z.shape[1] - 1
        for start in range(self.restarts):
            rows = best.open
            if len(rows) == 0 or control.stop():
                break
            part, first = task.rows(rows), task.x[rows]
            if start >= classes:
                share = control.uniform(tuple(first.shape), first)
                first = part.lower + share * (part.upper - part.lower)
            target = order[rows, start % classes]
            self._approach(part, first, target, rows, best, control.part(start, self.restarts))
        control.progress("fab", 1.0)
        return best.points

    def _approach(
        self, task: Task, x: Tensor, target: Tensor, rows: Tensor, best: Best, control: Control
    ) -> None:
        """One start: inputs leave it once a point in their ball is on the other side."""
        for step in range(self.steps):
            if control.stop():
                return
            control.progress("fab", step / self.steps)
            labels = task.labels
            z, g = gradient(task.model, x, partial(_apart, target, labels))
            x = _mixed(task, x, _apart(target, labels, z), g)
            cut = torch.minimum(torch.maximum(x, task.lower), task.upper)
            with torch.no_grad():
                margins = margin(task.model(torch.cat([x, cut])), labels.repeat(2))
            over = margins[: len(x)] < 0
            best.offer(rows, cut, margins[len(x) :])
            x = torch.where(over[:, None], task.x + _BACK * (x - task.x), x)
            index = torch.nonzero(~(best.margins[rows] < 0))[:, 0]
            if len(index) < len(rows):
                task, rows, target, x = task.rows(index), rows[index], target[index], x[index]
            if len(rows) == 0:
                return


def _mixed(task: Task, x: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """The next points: both projections, a little overshot, weighed by each other's length."""
    low, high = task.span
    away = (g * (x - task.x)).sum(1)
    near = projected(x, g, -f, low, high)
    far = projected(task.x, g, away - f, low, high)
    length = near.abs().amax(1)
    pull = length / (length + far.abs().amax(1)).clamp(min=torch.finfo(x.dtype).tiny)
    pull = pull.clamp(max=_PULL)[:, None]
    moved = (1 - pull) * (x + _OVERSHOOT * near) + pull * (task.x + _OVERSHOOT * far)
    return moved.clamp(low, high)


def projected(x: Tensor, g: Tensor, gain: Tensor, low: float, high: float) -> Tensor:
    """The smallest d in ℓ∞ with g·d = gain and low ≤ x + d ≤ high, row by row.

    Every coordinate goes as far as the common step t, or to the end of its range: with w = |g| and
    room r in the direction that helps, Σ_j w_j min(t, r_j) = |gain|. Sorted by r this is piecewise
    linear. Where even all of the room is too little, d uses all of it.

    Args:
        x: (n, d) within [low, high].
        g: (n, d).
        gain: (n,).
        low, high: the range; infinite if there is none.
    """
    direction, need = g.sign() * gain.sign()[:, None], gain.abs()[:, None]
    room = torch.where(direction > 0, high - x, torch.where(direction < 0, x - low, 0.0))
    room = room.clamp(min=0)
    r, order = room.sort(dim=1)
    w = g.abs().gather(1, order)
    rest = w.flip(1).cumsum(1).flip(1)  # of the coordinates that still move at t = r_k
    spent = torch.where(w > 0, w * r, 0.0).cumsum(1)
    spent = torch.cat([torch.zeros_like(need), spent[:, :-1]], dim=1)
    moving = torch.where(rest > 0, rest * r, 0.0)
    k = (spent + moving < need).sum(1, keepdim=True).clamp(max=x.shape[1] - 1)
    step = (need - spent.gather(1, k)) / rest.gather(1, k)
    step = torch.nan_to_num(step, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)
    return direction * torch.minimum(room, step)


def _apart(target: Tensor, labels: Tensor, z: Tensor) -> Tensor:
    """z_t − z_y."""
    return (z.gather(1, target[:, None]) - z.gather(1, labels[:, None]))[:, 0]
