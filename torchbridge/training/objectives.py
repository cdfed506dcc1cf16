"""What training minimises: one class an objective, each a loss of a batch at a radius.

The radius is that of ℓ∞ balls around the inputs, cut to the range of the data. The points that the
inner attacks find are used as they are: what a network is worth afterwards is for the attacks of
``torchbridge.attacks`` and for the verifier to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from torchbridge.attacks.interface import margin
from torchbridge.straight_through import straight_through_parts
from torchbridge.training.interval import worst_logits, worst_logits_backward

PointLoss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Balls:
    """Inputs with the boxes around them.

    Args:
        x: (n, ...) inputs.
        labels: (n,) int64.
        low, high: (n, ...) ends of the balls, cut to the range of the data.
    """

    x: Tensor
    labels: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, x: Tensor, labels: Tensor, radius: float, span: tuple[float, float]) -> Balls:
        """The balls of a radius around inputs, cut to ``span``."""
        return cls(x, labels, (x - radius).clamp(*span), (x + radius).clamp(*span))


class Objective(Protocol):
    """A loss that training minimises."""

    @property
    def robust(self) -> bool:
        """Whether the radius matters."""
        ...

    def loss(self, model: nn.Sequential, balls: Balls, noise: Generator) -> Tensor:
        """The loss of one batch.

        Args:
            model: in training mode; it is in it afterwards too.
            balls: the batch.
            noise: for everything random.
        """
        ...


@dataclass(frozen=True)
class Ascent:
    """Projected sign ascent from a random point of the ball (Madry et al. 2018).

    With one step of 1.25 radii it is fast adversarial training's attack (Wong et al. 2020).

    Args:
        steps: number of steps.
        share: length of a step, a share of the ball's radius.
    """

    steps: int = 7
    share: float = 0.3

    def run(self, balls: Balls, loss: PointLoss, noise: Generator) -> Tensor:
        """Points of the balls where ``loss``, summed over the batch, is larger."""
        width = (balls.high - balls.low) / 2
        start = torch.rand(balls.x.shape, generator=noise, device=balls.x.device)
        x = balls.low + 2 * width * start
        for _ in range(self.steps):
            x.requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(x), x)
            x = (x.detach() + self.share * width * slope.sign()).clamp(balls.low, balls.high)
        return x.detach()


class _Evaluating:
    """The model in evaluation mode for a while: attacks must not move running statistics."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.before = model, model.training

    def __enter__(self) -> None:
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.before)


@dataclass(frozen=True)
class Natural:
    """Cross-entropy at the inputs."""

    robust = False

    def loss(self, model: nn.Sequential, balls: Balls, noise: Generator) -> Tensor:
        """Cross-entropy at the inputs."""
        return functional.cross_entropy(model(balls.x), balls.labels)


@dataclass(frozen=True)
class Adversarial:
    """Cross-entropy at the worst points that an attack finds (Madry et al. 2018).

    Args:
        ascent: the attack, on the same loss.
    """

    ascent: Ascent = Ascent()
    robust = True

    def loss(self, model: nn.Sequential, balls: Balls, noise: Generator) -> Tensor:
        """max over the ball, as far as the attack gets, of the cross-entropy."""

        def climb(x: Tensor) -> Tensor:
            return functional.cross_entropy(model(x), balls.labels, reduction="sum")

        with _Evaluating(model):
            x = self.ascent.run(balls, climb, noise)
        return functional.cross_entropy(model(x), balls.labels)


@dataclass(frozen=True)
class MarginGame:
    """The classifier's loss in the Stackelberg game: max(max_{l≠y} z_l − z_y, −τ), at its worst.

    With τ = ∞ this is the raw margin loss, whose equilibrium need not have the best adversarial
    accuracy, because one far point pays for several lost ones; for finite τ that every margin can
    reach it has (T9.2).

    Args:
        ascent: the adversary, on the same loss.
        tau: margins beyond it earn nothing more.
    """

    ascent: Ascent = Ascent()
    tau: float = math.inf
    robust = True

    def loss(self, model: nn.Sequential, balls: Balls, noise: Generator) -> Tensor:
        """Mean truncated margin loss at the points that the adversary finds."""

        def climb(x: Tensor) -> Tensor:
            return -margin(model(x), balls.labels).sum()

        with _Evaluating(model):
            x = self.ascent.run(balls, climb, noise)
        return (-margin(model(x), balls.labels)).clamp(min=-self.tau).mean()


@dataclass(frozen=True)
class Trades:
    """Cross-entropy at x plus β times the divergence to the worst point (Zhang et al. 2019).

    Args:
        beta: weight of the second term.
        ascent: the attack, on the divergence.
    """

    beta: float = 6.0
    ascent: Ascent = Ascent()
    robust = True

    def loss(self, model: nn.Sequential, balls: Balls, noise: Generator) -> Tensor:
        """CE(C(x), y) + β · max KL(C(x) ‖ C(x'))."""
        with _Evaluating(model), torch.no_grad():
            target = functional.softmax(model(balls.x), 1)

        def climb(x: Tensor) -> Tensor:
            return functional.kl_div(functional.log_softmax(model(x), 1), target, reduction="sum")

        with _Evaluating(model):
            x = self.ascent.run(balls, climb, noise)
        logits = model(balls.x)
        divergence = functional.kl_div(
            functional.log_softmax(model(x), 1), functional.softmax(logits, 1),
            reduction="batchmean",
        )  # fmt: skip
        return functional.cross_entropy(logits, balls.labels) + self.beta * divergence


@dataclass(frozen=True)
class Certified:
    """Cross-entropy of the worst logits that bounds allow, mixed with that at the input.

    Args:
        share: of the first, between 0 and 1.
        backward: whether bounds come from a backward pass (CROWN-IBP) or from intervals alone.
    """

    share: float = 0.5
    backward: bool = False
    robust = True

    def loss(self, model: nn.Sequential, balls: Balls, noise: Generator) -> Tensor:
        """(1 − share) · CE(C(x), y) + share · CE(worst logits, y)."""
        clean = functional.cross_entropy(model(balls.x), balls.labels)
        bound = worst_logits_backward if self.backward else worst_logits
        worst = bound(model, balls.low, balls.high, balls.labels)
        return (1 - self.share) * clean + self.share * functional.cross_entropy(worst, balls.labels)


@dataclass(frozen=True)
class BiasAdversarial:
    """Cross-entropy of the bias part B_C, and of C, at the worst points for C (T8).

    B_C has no gradient to climb; points are sought along that of C, which is what an attacker of
    the original model does. Weights have one through ``torchbridge.straight_through``: without it
    B_C stays several points behind.

    Args:
        ascent: the attack on the cross-entropy of C.
        whole: weight of the cross-entropy of C.
        width: of the smooth gates of the gradient.
    """

    ascent: Ascent = Ascent()
    whole: float = 1.0
    width: float = 1.0
    robust = True

    def loss(self, model: nn.Sequential, balls: Balls, noise: Generator) -> Tensor:
        """CE(B_C(x'), y) + whole · CE(C(x'), y)."""

        def climb(x: Tensor) -> Tensor:
            return functional.cross_entropy(model(x), balls.labels, reduction="sum")

        with _Evaluating(model):
            x = self.ascent.run(balls, climb, noise)
            found = straight_through_parts(model, x, self.width)
        whole = functional.cross_entropy(found.output, balls.labels)
        return functional.cross_entropy(found.bias, balls.labels) + self.whole * whole
