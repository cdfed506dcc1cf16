"""The training loop: the same steps whether it runs through or is killed and goes on.

Weights, batches and attacks come from one seed, and everything that a step depends on is in the
checkpoint; on one device with one number of threads, a run that was interrupted ends with the same
bits as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from torchbridge.attacks.interface import margin
from torchbridge.training import checkpoint
from torchbridge.training.architectures import build
from torchbridge.training.checkpoint import EpochRow, State
from torchbridge.training.objectives import Ascent, Balls
from torchbridge.training.points import Points, moved
from torchbridge.training.recipe import Recipe
from verifier.core.errors import DataError

#: Steps over which the step size rises, a share of all.
_RISE = 0.2
#: Held-out points that the attack after an epoch tries.
_ATTACKED = 500
_EVALUATED = 1000


@dataclass(frozen=True)
class Report:
    """Where a run stands, for a person who waits.

    Args:
        epoch: from 1.
        share: of all steps, done.
        loss: mean of the present epoch's steps.
        left: seconds that the rest will take at the present speed.
        history: finished epochs.
    """

    epoch: int
    share: float
    loss: float
    left: float
    history: tuple[EpochRow, ...]


Listener = Callable[[Report], None]


class Training:
    """One run.

    Args:
        recipe: what to do.
        data: the points to learn.
        held_out: the points to look at after every epoch.
        device: where.
        path: of the checkpoint; None keeps none.
        every: seconds between two checkpoints.

    Raises:
        DataError: the architecture cannot take such points, or the sets do not fit each other.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Points,
        held_out: Points,
        *,
        device: torch.device | None = None,
        path: Path | None = None,
        every: float = 30.0,
    ) -> None:
        if (data.shape, data.n_classes) != (held_out.shape, held_out.n_classes):
            raise DataError(
                f"{held_out.name}: held-out points of shape {held_out.shape} and "
                f"{held_out.n_classes} classes, but those learnt have {data.shape} and "
                f"{data.n_classes} ({data.name})"
            )
        if data.n_classes < 2:
            raise DataError(
                f"{data.name}: all points have one label; expected two classes at least"
            )
        self.recipe, self.path, self.every = recipe, path, every
        self.device = device or torch.device("cpu")
        self.points, self.held_out = data, held_out
        if recipe.flip and len(data.shape) != 3:
            raise DataError(f"{data.name}: only pictures can be mirrored and moved")
        model = build(recipe.architecture, data.shape, data.n_classes, recipe.seed)
        self.per_epoch = math.ceil(len(data) / recipe.batch)
        _require_spread(model, data, recipe, len(data) - (self.per_epoch - 1) * recipe.batch)
        self.model = model.to(self.device)
        if self.device.type == "cpu":
            # A convolution's gradient by its one input channel is twice as fast in this order.
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.rate, weight_decay=recipe.decay
        )
        self.noise = Generator(self.device).manual_seed(recipe.seed)
        self.state = State(recipe.described(), self.points.described())
        self.steps = self.per_epoch * recipe.epochs

    def resume(self) -> bool:
        """Go on from the checkpoint if there is one; whether there was.

        Raises:
            DataError: the checkpoint is damaged, or of another run.
        """
        if self.path is None or not self.path.exists():
            return False
        self.state = checkpoint.load(self.path, self.state, self.model, self.optimiser, self.noise)
        return True

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            OSError: the place cannot be written to.
        """
        if self.path is not None:
            checkpoint.save(self.path, self.state, self.model, self.optimiser, self.noise)

    def run(self, listen: Listener = lambda report: None) -> nn.Sequential:
        """Train to the end; the module, in evaluation mode.

        Args:
            listen: told after every step.

        Raises:
            DataError: the loss is not a number any more.
            OSError: the checkpoint cannot be written.
        """
        self.model.train()
        saved = time.monotonic()
        order = torch.zeros(0, dtype=torch.int64)
        epoch, spent, first = -1, 0.0, self.state.step
        while self.state.step < self.steps:
            begun = time.monotonic()
            if self.state.step // self.per_epoch != epoch:
                epoch = self.state.step // self.per_epoch
                order = self._order(epoch)
            position = self.state.step % self.per_epoch * self.recipe.batch
            self.state.loss += self.step(order[position : position + self.recipe.batch])
            self.state.step += 1
            self.state.seconds += time.monotonic() - begun
            if self.state.step % self.per_epoch == 0:
                self._end_epoch()
            now = time.monotonic()
            spent += now - begun
            left = spent / (self.state.step - first) * (self.steps - self.state.step)
            if now - saved >= self.every:
                self.save()
                saved = time.monotonic()
            listen(self._report(left))
        self.save()
        self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return self.model.eval()

    def _order(self, epoch: int) -> Tensor:
        """The order of the points in an epoch: a function of seed and epoch."""
        mixed = (self.recipe.seed * 1_000_003 + epoch) % 2**63
        return torch.randperm(len(self.points), generator=Generator().manual_seed(mixed))

    def step(self, rows: Tensor) -> float:
        """One step of the optimiser on some of the points; the loss before it.

        Raises:
            DataError: the loss is not a number any more.
        """
        share = self.state.step / self.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate * _rate(share)
        x = self.points.inputs(rows, self.device)
        if self.recipe.flip:
            x = moved(x, self.noise)
        labels = self.points.classes(rows, self.device)
        balls = Balls.around(x, labels, self.recipe.radius(share), self.points.span)
        loss = self.recipe.objective.loss(self.model, balls, self.noise)
        value = loss.item()
        if not math.isfinite(value):
            raise DataError(
                f"the loss is {value} after {self.state.step} steps; a smaller step size may help"
            )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return value

    def _end_epoch(self) -> None:
        """Add the epoch to the history."""
        state = self.state
        share = state.step / self.steps
        radius = self.recipe.radius(share)
        row = EpochRow(
            state.step // self.per_epoch, state.loss / self.per_epoch, radius, state.seconds,
            accuracy(self.model, self.held_out),
        )  # fmt: skip
        if radius > 0:
            # Who watches draws numbers of his own: training must not depend on the held-out points.
            watch = Generator(self.device).manual_seed(self.recipe.seed)
            row.robust = robust_share(self.model, self.held_out, radius, watch)
        state.history.append(row)
        state.loss = state.seconds = 0.0

    def _report(self, left: float) -> Report:
        state = self.state
        done = state.step % self.per_epoch
        last = state.history[-1].loss if state.history else math.nan
        return Report(
            min(state.step // self.per_epoch + 1, self.recipe.epochs), state.step / self.steps,
            state.loss / done if done else last, left, tuple(state.history),
        )  # fmt: skip


def _require_spread(model: nn.Module, data: Points, recipe: Recipe, last: int) -> None:
    """Refuse batches of one point where a batch normalisation sees one number a channel.

    Raises:
        DataError: the last batch, of so many points, is one.
    """
    if last > 1 or not any(isinstance(part, nn.BatchNorm2d) for part in model.modules()):
        return
    try:
        copy.deepcopy(model).train()(torch.zeros(1, *data.shape))
    except ValueError as problem:
        raise DataError(
            f"{data.name}: {recipe.architecture} normalises over a batch, and {len(data)} points "
            f"in batches of {recipe.batch} leave one alone; expected another batch size"
        ) from problem


def _rate(share: float) -> float:
    """The step size after this share of all steps, of the largest one."""
    if share < _RISE:
        return 0.05 + 0.95 * share / _RISE
    return 0.5 * (1 + math.cos(math.pi * (share - _RISE) / (1 - _RISE)))


@torch.no_grad()
def accuracy(model: nn.Module, points: Points) -> float:
    """Share of points whose label is the largest output, as Torch computes it."""
    before, device = model.training, next(model.parameters()).device
    model.eval()
    right = 0
    for rows in torch.split(torch.arange(len(points)), _EVALUATED):
        found = model(points.inputs(rows, device)).argmax(1)
        right += int((found == points.classes(rows, device)).sum())
    model.train(before)
    return right / len(points)


def robust_share(
    model: nn.Module, points: Points, radius: float, noise: Generator, ascent: Ascent | None = None
) -> float:
    """Share of the first points that a short attack does not break: what training is watched by.

    Neither exact nor strong: ``torchbridge.attacks`` and the verifier say what holds.
    """
    ascent = ascent or Ascent(10, 0.25)
    before, device = model.training, next(model.parameters()).device
    model.eval()
    rows = torch.arange(min(len(points), _ATTACKED))
    labels = points.classes(rows, device)
    balls = Balls.around(points.inputs(rows, device), labels, radius, points.span)
    x = ascent.run(balls, lambda x: -margin(model(x), labels).sum(), noise)
    with torch.no_grad():
        right = (margin(model(balls.x), labels) > 0) & (margin(model(x), labels) > 0)
    model.train(before)
    return float(right.float().mean())
