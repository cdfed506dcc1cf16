"""Few pixels, chosen by the Jacobian's saliency (Papernot et al. 2016), towards one class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchbridge.attacks.interface import Best, Control, Norm, Task, gradient, margin

#: Entries of the tables of pairs that are held at a time.
_ENTRIES = 10_000_000


@dataclass(frozen=True)
class JSMA:
    """Pairs of pixels go to an end of their range, each at most once.

    For the target t let a_p and b_p be what moving pixel p adds, to first order, to z_t and to
    Σ_{j≠t} z_j. Among the pairs with a_p + a_q > 0 > b_p + b_q the one with the largest
    −(a_p + a_q)(b_p + b_q) is taken; where there is none, the one with the largest
    a_p + a_q − b_p − b_q; the last one of an odd number goes alone. A coordinate moves to that end
    of its range that serves a − b.

    Args:
        targets: how many classes are tried, in the order of the outputs at the input.
    """

    targets: int = 9

    @property
    def norm(self) -> Norm:
        """Number of pixels."""
        return Norm.l0

    def run(self, task: Task, control: Control) -> Tensor:
        """Target by target until every input is broken; see ``Attack.run``."""
        best = Best(task)
        with torch.no_grad():
            z = task.model(task.x)
        order = z.scatter(1, task.labels[:, None], -torch.inf).argsort(1, descending=True)
        tried = min(self.targets, z.shape[1] - 1)
        pixels = task.shape[1] * task.shape[2]
        batch = max(1, _ENTRIES // (pixels * pixels))
        for rank in range(tried):
            left = best.open
            for first in range(0, len(left), batch):
                rows = left[first : first + batch]
                if control.stop():
                    return best.points
                _towards(task.rows(rows), order[rows, rank], rows, best)
            control.progress("jsma", (rank + 1) / tried)
        control.progress("jsma", 1.0)
        return best.points


def reach(task: Task, targets: Tensor, control: Control) -> Tensor:
    """The first point on each input's way where its target is the largest output, (n, d).

    Inputs that never come there keep their own point.

    Args:
        task: whose ``size`` is the number of pixels that may change; ``labels`` are not used.
        targets: (n,) a class for each input.
        control: progress, and stop.
    """
    found = task.x.clone()
    pixels = task.shape[1] * task.shape[2]
    batch = max(1, _ENTRIES // (pixels * pixels))
    for first in range(0, len(task), batch):
        rows = torch.arange(first, min(len(task), first + batch), device=task.x.device)
        walk = _Walk(task.rows(rows), targets[rows])
        while len(rows) and not control.stop() and walk.step():
            with torch.no_grad():
                there = margin(task.model(walk.x), walk.target) > 0
            found[rows[there]] = walk.x[there]
            rows = rows[~there]
            walk.keep(~there)
        control.progress("jsma", min(len(task), first + batch) / len(task))
    return found


def _towards(task: Task, target: Tensor, rows: Tensor, best: Best) -> None:
    """All inputs towards their targets until every one of them is broken."""
    walk = _Walk(task, target)
    while walk.step():
        with torch.no_grad():
            best.offer(rows, walk.x, margin(task.model(walk.x), task.labels))
        if not (best.margins[rows] >= 0).any():
            return


class _Walk:
    """Inputs on their way to targets, two pixels a step.

    Args:
        task: the inputs, and how many pixels may change.
        target: (n,) where to.

    Attributes:
        x: (n, d) where they are.
    """

    def __init__(self, task: Task, target: Tensor) -> None:
        self.task, self.target, self.x = task, target, task.x.clone()
        self.pixels = task.shape[1] * task.shape[2]
        self.left = min(int(task.size), self.pixels)
        self.free = torch.ones(len(task), self.pixels, dtype=torch.bool, device=task.x.device)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of them, (n,) bool."""
        index = torch.nonzero(rows)[:, 0]
        self.task, self.target = self.task.rows(index), self.target[index]
        self.x, self.free = self.x[index], self.free[index]

    def step(self) -> bool:
        """Move the most salient pair of pixels, the last one alone; False if none may move."""
        if self.left <= 0 or not self.free.any():
            return False
        task, target = self.task, self.target
        _, up = gradient(task.model, self.x, lambda z: z.gather(1, target[:, None])[:, 0])
        _, whole = gradient(task.model, self.x, lambda z: z.sum(1))
        down = whole - up
        # The end of the range that serves a − b, and what going there adds.
        end = torch.where(up - down > 0, task.upper, task.lower)
        channels, moves = task.shape[0], end - self.x
        a, b = ((g * moves).reshape(len(task), channels, -1).sum(1) for g in (up, down))
        chosen, lines = torch.zeros_like(self.free), torch.arange(len(task), device=self.x.device)
        if self.left == 1 or self.pixels == 1:
            chosen[lines, _single(a, b, self.free)] = True
        else:
            first, second = _pair(a, b, self.free)
            chosen[lines, first] = chosen[lines, second] = True
        chosen &= self.free
        self.free &= ~chosen
        self.x = torch.where(chosen.repeat(1, channels), end, self.x)
        self.left -= 2
        return True


def _single(a: Tensor, b: Tensor, free: Tensor) -> Tensor:
    """For each row the free pixel with the largest −a b where a > 0 > b, else the largest a − b."""
    value, pixel = torch.where(free & (a > 0) & (b < 0), -a * b, -torch.inf).max(1)
    gain = torch.where(free, a - b, -torch.inf)
    return torch.where(value > -torch.inf, pixel, gain.argmax(1))


def _pair(a: Tensor, b: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the pair of free pixels with the largest saliency; see ``JSMA``."""
    n, pixels = a.shape
    gain = torch.where(free, a - b, -torch.inf)
    rise, fall = a[:, :, None] + a[:, None, :], b[:, :, None] + b[:, None, :]
    allowed = (free[:, :, None] & free[:, None, :]) & (rise > 0) & (fall < 0)
    allowed &= ~torch.eye(pixels, dtype=torch.bool, device=a.device)
    saliency = torch.where(allowed, -rise * fall, -torch.inf).reshape(n, -1)
    value, flat = saliency.max(1)
    two = gain.topk(2, dim=1).indices
    good = value > -torch.inf
    return torch.where(good, flat // pixels, two[:, 0]), torch.where(good, flat % pixels, two[:, 1])
