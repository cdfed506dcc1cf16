"""Networks with a hidden counterexample (Zhou et al. 2024, "Testing Neural Network Verifiers").

A box around x has a label y, a wrong label k, and a point p inside. Training minimises

    mean relu(z_y(p) − z_k(p) + λ)  +  mean cross-entropy of y at the points of a window,

so that p becomes a counterexample with a margin of about λ while everything that attacks find in
the box is pulled back to y: in each step a short attack adds points from fresh starts to the
window, and the oldest leave it. Now and then a long attack follows, and the counterexamples that it
finds are caught: they stay in a window of their own, whose loss is added. Beside such boxes clean
ones, without p, are learnt in the same way. What training promises is measured in floats; the
caller evaluates p exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from torchbridge.attacks.interface import Control, Task, margin
from torchbridge.attacks.pgd import PGD
from torchbridge.training.objectives import Ascent, Balls
from verifier.core.errors import DataError

#: Steps over which the step size rises, a share of all; Torch's cycle divides by zero where that
#: is exactly one step, and the cycle of a shorter run is cut off.
_RISE, _CYCLE = 0.1, 11


@dataclass(frozen=True, eq=False)
class Boxes:
    """n boxes to learn; the first of them have a counterexample.

    Args:
        low, high: (n, d) float32 faces.
        labels: (n,) int64, the label of each box.
        points: (h, d) float32, the counterexamples of the first h boxes.
        wrong: (h,) int64, the classes there.

    Raises:
        DataError: sizes that do not fit, a point outside of its box, a class that is the label.
    """

    low: np.ndarray
    high: np.ndarray
    labels: np.ndarray
    points: np.ndarray
    wrong: np.ndarray

    def __post_init__(self) -> None:
        h = len(self.points)
        if not h or self.low.shape != self.high.shape or len(self.labels) != len(self.low):
            raise DataError("boxes need as many labels, and at least one counterexample")
        if h > len(self.low) or len(self.wrong) != h:
            raise DataError(f"{h} counterexamples do not go with {len(self.low)} boxes")
        inside = (self.low[:h] <= self.points) & (self.points <= self.high[:h])
        if not inside.all():
            raise DataError("a counterexample lies outside of its box")
        if (self.wrong == self.labels[:h]).any():
            raise DataError("a counterexample has the label of its box")


@dataclass(frozen=True)
class Hiding:
    """How to train.

    Args:
        architecture: mlp (two hidden layers) or cnn (two convolutions 3 × 3, a linear layer).
        width: neurons of a hidden layer, or channels of the second convolution.
        classes: number of outputs.
        steps: of Adam.
        rate: largest step size; it rises over the first tenth and falls to zero along a cosine.
        margin: λ.
        window: points of each box that are kept.
        starts: points of each box that an attack adds in a step; the window holds that many steps
            less.
        ascent: the short attack.
        every: steps from one long attack to the next.
        long: the long attack, on the boxes with a counterexample.
        many: its starts in each of them.
        caught: counterexamples of the long attack that are kept.
    """

    architecture: str = "mlp"
    width: int = 64
    classes: int = 3
    steps: int = 2000
    rate: float = 5e-3
    margin: float = 0.01
    window: int = 300
    starts: int = 10
    ascent: Ascent = field(default_factory=lambda: Ascent(5, 0.4))
    every: int = 10
    many: int = 128
    long: PGD = field(default_factory=lambda: PGD(steps=40, restarts=1))
    caught: int = 1000

    def __post_init__(self) -> None:
        for name in ("width", "steps", "starts", "every", "many", "caught"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.classes < 2 or self.window < self.starts:
            raise DataError("expected 2 classes at least, and a window of at least the starts")
        if not (0 < self.margin < math.inf and 0 < self.rate < math.inf):
            raise DataError("the margin and the step size must be positive")

    def memory(self, inputs: int) -> int:
        """Bytes that training and the network as matrices take, about and from above."""
        width, side = self.width, math.isqrt(inputs)
        first, half = max(1, width // 2), (side + 1) // 2
        if self.architecture == "mlp":
            neurons, weights = 2 * width, width * (inputs + width + self.classes)
        else:
            neurons = first * side * side + width * half * half
            weights = 9 * first * (side * side + width * half * half)
            weights += width * half * half * self.classes
        points = self.window + self.caught + self.many + width
        # Weights, their gradients and two moments; the same as sparse float64 matrices. Activations
        # and their gradients, of a few evaluations.
        return 32 * weights + 24 * points * (inputs + neurons + self.classes)

    def build(self, inputs: int) -> tuple[nn.Sequential, tuple[int, ...]]:
        """An untrained module, and the shape of one input.

        Raises:
            DataError: an unknown architecture, or inputs that are no square picture.
        """
        if self.architecture == "mlp":
            width = self.width
            parts = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
            return nn.Sequential(*parts, nn.Linear(width, self.classes)), (inputs,)
        if self.architecture != "cnn":
            raise DataError(f"there is no architecture {self.architecture!r}; mlp or cnn")
        side = math.isqrt(inputs)
        if side * side != inputs or side < 3:
            raise DataError(f"cnn takes squares of 3 × 3 at least; {inputs} inputs are none")
        first, half = max(1, self.width // 2), (side + 1) // 2
        convolutions = [
            nn.Conv2d(1, first, 3, padding=1), nn.ReLU(),
            nn.Conv2d(first, self.width, 3, stride=2, padding=1), nn.ReLU(),
        ]  # fmt: skip
        head = nn.Linear(self.width * half * half, self.classes)
        return nn.Sequential(*convolutions, nn.Flatten(), head), (1, side, side)


Listener = Callable[[float, float, float], None]
"""Told the share of the steps that is done, the largest z_y − z_k at the counterexamples, and the
loss on the window."""


def train_hidden(
    boxes: Boxes, hiding: Hiding, seed: int, listen: Listener
) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A network whose counterexamples are hidden, as far as training goes, on one processor.

    Args:
        boxes: what to learn.
        hiding: how.
        seed: of weights and attacks; the same one gives the same network.
        listen: told after every step.

    Returns:
        the module in evaluation mode, and the shape of one input.

    Raises:
        DataError: the architecture does not fit, or a label is none of the classes.
    """
    if max(boxes.labels.max(), boxes.wrong.max()) >= hiding.classes or boxes.labels.min() < 0:
        raise DataError(f"a label is not one of {hiding.classes} classes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, shape = hiding.build(boxes.low.shape[1])
    noise = Generator().manual_seed(seed)
    state = _Window(boxes, hiding, shape)
    state.aim(cast(nn.Linear, model[0]), noise)
    optimizer = torch.optim.Adam(model.parameters(), hiding.rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, hiding.rate, total_steps=max(_CYCLE, hiding.steps), pct_start=_RISE
    )
    for step in range(hiding.steps):
        state.attack(model, step, noise)
        if step % hiding.every == 0:
            state.catch(model, noise)
        optimizer.zero_grad()
        lead = state.lead(model)
        window = state.loss(model)
        total = (lead + hiding.margin).relu().mean() + window
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        listen((step + 1) / hiding.steps, float(lead.max().detach()), float(window.detach()))
    return model.eval(), shape


class _Window:
    """The points of each box that the network must get right, as a ring."""

    def __init__(self, boxes: Boxes, hiding: Hiding, shape: tuple[int, ...]) -> None:
        def rows(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).reshape(-1, *shape)

        starts = hiding.starts
        low, high = (rows(face).repeat_interleave(starts, 0) for face in (boxes.low, boxes.high))
        labels = torch.from_numpy(boxes.labels.astype(np.int64)).repeat_interleave(starts)
        self.balls = Balls((low + high) / 2, labels, low, high)
        rows_of = torch.arange(len(boxes.points)).repeat_interleave(hiding.many) * starts
        middle = self.balls.x[rows_of]
        self.hidden = Balls(middle, labels[rows_of], low[rows_of], high[rows_of])
        self.points, self.ascent = rows(boxes.points), hiding.ascent
        self.own = torch.from_numpy(boxes.labels[: len(boxes.points)].astype(np.int64))[:, None]
        self.wrong = torch.from_numpy(boxes.wrong.astype(np.int64))[:, None]
        self.slots = hiding.window // starts
        self.ring: list[Tensor] = []
        self.long, self.limit = hiding.long, hiding.caught
        self.caught, self.caught_labels = self.points[:0], labels[:0]

    @torch.no_grad()
    def aim(self, first: nn.Linear | nn.Conv2d, noise: Generator) -> None:
        """Let the first layer's kinks run through the boxes, each through a random point of one.

        With the usual initialisation a box is so small that nearly all neurons are linear on it,
        and a network that is linear on a box has nowhere to hide a point.

        Args:
            first: the first layer.
            noise: chooses the points.
        """
        low, high = self.balls.low, self.balls.high
        weight, bias = first.weight, cast(Tensor, first.bias)
        weight *= 2 / (high - low).mean()
        rows = torch.randint(len(low), (len(bias),), generator=noise)
        share = torch.rand(low[rows].shape, generator=noise)
        bias.zero_()
        found = first(low[rows] + share * (high - low)[rows]).reshape(len(bias), len(bias), -1)
        own = found[torch.arange(len(bias)), torch.arange(len(bias))]
        place = torch.randint(own.shape[1], (len(bias), 1), generator=noise)
        bias.copy_(-own.gather(1, place)[:, 0])

    def attack(self, model: nn.Sequential, step: int, noise: Generator) -> None:
        """New points from an attack take the place of the oldest."""
        model.requires_grad_(False)
        found = self.ascent.run(
            self.balls,
            lambda x: functional.cross_entropy(model(x), self.balls.labels, reduction="sum"),
            noise,
        )
        model.requires_grad_(True)
        if len(self.ring) < self.slots:
            self.ring.append(found)
        else:
            self.ring[step % self.slots] = found

    def catch(self, model: nn.Sequential, noise: Generator) -> None:
        """Counterexamples of a long attack join those that were caught; the oldest leave."""
        low, high, labels = self.hidden.low, self.hidden.high, self.hidden.labels
        start = low + torch.rand(low.shape, generator=noise) * (high - low)
        shape, flat = low.shape[1:], (len(low), -1)

        def scores(x: Tensor) -> Tensor:
            return model(x.reshape(-1, *shape))

        rows = [t.reshape(flat) for t in (start, low, high)]
        task = Task(scores, rows[0], labels, rows[1], rows[2], 0.0, (1, 1, rows[0].shape[1]))
        model.requires_grad_(False)
        found = self.long.run(task, Control(noise)).reshape(low.shape)
        with torch.no_grad():
            wrong = margin(model(found), labels) <= 0
        model.requires_grad_(True)
        self.caught = torch.cat([self.caught, found[wrong]])[-self.limit :]
        self.caught_labels = torch.cat([self.caught_labels, labels[wrong]])[-self.limit :]

    def lead(self, model: nn.Sequential) -> Tensor:
        """z_y − z_k at each counterexample, (h,)."""
        z = model(self.points)
        return (z.gather(1, self.own) - z.gather(1, self.wrong))[:, 0]

    def loss(self, model: nn.Sequential) -> Tensor:
        """Mean cross-entropy of the window, and of what was caught."""
        labels = self.balls.labels.repeat(len(self.ring))
        total = functional.cross_entropy(model(torch.cat(self.ring)), labels)
        if len(self.caught):
            total = total + functional.cross_entropy(model(self.caught), self.caught_labels)
        return total
