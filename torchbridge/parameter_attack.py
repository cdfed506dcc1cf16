"""A parameter attack by gradients, to set beside the constructed ones (T10; Yu, Wang, Gao 2022).

Every weight and bias moves by at most γ, by sign ascent on

    cross-entropy at adversarial points of the balls  −  β · cross-entropy at the points themselves,

so that labels stay and robustness goes. It promises nothing: what became of a network is for exact
evaluation, attacks and the verifier to say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, nn
from torch.nn import functional

from torchbridge.attacks.interface import Control, Task
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import LinfBall, Point
from torchbridge.attacks.target import Target
from torchbridge.training.objectives import Ascent, Balls
from torchbridge.training.points import Points
from verifier.core.errors import DataError

#: Share of γ that is used: rounding must not lead beyond it.
_WITHIN = 0.999


@dataclass(frozen=True)
class SignAscent:
    """How to attack.

    Args:
        gamma: γ, the most that a number may change.
        eps: ℓ∞ radius of the balls that are to lose their robustness.
        steps: of ascent, each on one batch.
        batch: points a step.
        share: length of the first step, a share of γ; it falls to a hundredth.
        keep: β.
        inner: finds the adversarial points.
    """

    gamma: float
    eps: float
    steps: int = 200
    batch: int = 256
    share: float = 0.25
    keep: float = 4.0
    inner: Ascent = field(default_factory=lambda: Ascent(5, 0.4))

    def __post_init__(self) -> None:
        if not (self.gamma > 0 and self.eps >= 0 and self.steps > 0 and self.batch > 0):
            raise DataError("a parameter attack needs γ > 0, a radius, steps and a batch size")

    def run(
        self, model: nn.Sequential, points: Points, seed: int, listen: Callable[[float], None]
    ) -> nn.Sequential:
        """The attacked module; the given one stays as it is.

        Args:
            model: on the processor, in evaluation mode.
            points: whose labels are to stay.
            seed: of batches and inner attacks.
            listen: told the share of the steps that is done.
        """
        attacked = copy.deepcopy(model).eval()
        noise = Generator().manual_seed(seed)
        start = [p.detach().clone() for p in attacked.parameters()]
        reach = self.gamma * _WITHIN
        device = torch.device("cpu")
        for step in range(self.steps):
            rows = torch.randint(len(points), (self.batch,), generator=noise)
            x, labels = points.inputs(rows, device), points.classes(rows, device)
            balls = Balls.around(x, labels, self.eps, points.span)
            attacked.requires_grad_(False)
            near = self._inner(attacked, balls, noise)
            attacked.requires_grad_(True)
            gain = functional.cross_entropy(attacked(near), labels)
            gain = gain - self.keep * functional.cross_entropy(attacked(x), labels)
            slopes = torch.autograd.grad(gain, list(attacked.parameters()))
            length = self.gamma * self.share * (1 - 0.99 * step / self.steps)
            with torch.no_grad():
                for p, first, slope in zip(attacked.parameters(), start, slopes, strict=True):
                    moved = p + length * slope.sign()
                    p.copy_(moved.clamp(first - reach, first + reach))
            listen((step + 1) / self.steps)
        return attacked.requires_grad_(False)

    def _inner(self, model: nn.Module, balls: Balls, noise: Generator) -> torch.Tensor:
        """Adversarial points."""

        def loss(x: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(model(x), balls.labels, reduction="sum")

        return self.inner.run(balls, loss, noise)


@torch.no_grad()
def accuracy(model: Callable[[torch.Tensor], torch.Tensor], points: Points) -> int:
    """How many points Torch classifies as labelled, in float32 on the processor."""
    right, cpu = 0, torch.device("cpu")
    for rows in torch.split(torch.arange(len(points)), 500):
        found = model(points.inputs(rows, cpu)).argmax(1)
        right += int((found == points.classes(rows, cpu)).sum())
    return right


def closest(
    target: Target, regions: Sequence[LinfBall], labels: Sequence[int], seed: int
) -> list[Point]:
    """In each ball the point with the smallest margin that PGD found, moved into the exact ball.

    Args:
        target: a classifier.
        regions: balls, each of which holds a float32 point.
        labels: of their centres.
        seed: of the starts.

    Raises:
        DataError: a ball without float32 points.
    """
    faces = [np.stack(side) for side in zip(*(r.search_box for r in regions), strict=True)]
    low, high = (torch.from_numpy(face).to(target.device, target.dtype) for face in faces)
    middle = torch.from_numpy(np.stack([r.center32 for r in regions])).to(low)
    x = torch.minimum(torch.maximum(middle, low), high)
    shape = (1, 1, x.shape[1])
    task = Task(target.module, x, torch.tensor(labels), low, high, 0.0, shape)
    found = PGD(confidence=float("inf")).run(task, Control.seeded(seed)).double().numpy()
    points = [region.inward(row) for region, row in zip(regions, found, strict=True)]
    if any(point is None for point in points):
        raise DataError("a ball holds no float32 point")
    return [point for point in points if point is not None]
