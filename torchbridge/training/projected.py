"""The classifier's move in the Stackelberg game: training in a box of parameters (T9)."""

from __future__ import annotations

import torch
from torch import Generator, nn

from torchbridge.training.objectives import Balls, Objective


def play(
    model: nn.Sequential,
    objective: Objective,
    balls: Balls,
    *,
    reach: float,
    steps: int = 2000,
    rate: float = 0.05,
    seed: int = 0,
) -> None:
    """Projected subgradient descent on all points at once; the model is changed in place.

    Args:
        model: in training mode afterwards if it was before.
        objective: the classifier's loss, with its adversary in it.
        balls: all points of the game.
        reach: E: every parameter is cut to [−E, E] after every step.
        steps: how many; their lengths fall to 0 linearly.
        rate: the first step, a multiple of the subgradient.
        seed: of the adversary's random starts.
    """
    noise = Generator(balls.x.device).manual_seed(seed)
    for step in range(steps):
        model.zero_grad()
        objective.loss(model, balls, noise).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=rate * (1 - step / steps))
                parameter.clamp_(-reach, reach)
