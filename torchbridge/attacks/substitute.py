"""Attacks through something else than the target: a surrogate, or a model with honest gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from torchbridge.attacks.interface import Attack, Best, Classifier, Control, Norm, Task, margin
from torchbridge.attacks.target import Target
from verifier.core.errors import DataError


@dataclass(frozen=True)
class Substitute:
    """Another classifier is attacked, and what comes out is tried on the target, with one query.

    Black-box transfer (Papernot et al. 2017) if the other one is a surrogate; BPDA and EOT
    (Athalye, Carlini and Wagner 2018) if it is the target with other gradients.

    Args:
        model: the other classifier, on the same inputs and classes.
        inner: the attack on it.
    """

    model: Classifier
    inner: Attack

    @property
    def norm(self) -> Norm:
        """That of the inner attack."""
        return self.inner.norm

    def run(self, task: Task, control: Control) -> Tensor:
        """The inner attack's points; see ``Attack.run``."""
        other = replace(task, model=self.model)
        points = self.inner.run(other, control)
        best, rows = Best(task), torch.arange(len(task), device=task.x.device)
        with torch.no_grad():
            best.offer(rows, points, margin(task.model(points), task.labels))
        return best.points


def train_surrogate(
    x: Tensor,
    labels: Tensor,
    classes: int,
    *,
    seed: int,
    epochs: int = 40,
    width: int = 64,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> nn.Module:
    """A small network that answers as the target did: two hidden layers, Adam, cross-entropy.

    Args:
        x: (n, d) inputs.
        labels: (n,) what the target said.
        classes: how many classes.
        seed: of its weights and of the order of the inputs.
        epochs: passes over the inputs.
        width: of the hidden layers.
        progress: told what is done.

    Raises:
        DataError: no inputs, or as many answers as inputs is not what is given.
    """
    if len(x) == 0 or len(x) != len(labels):
        raise DataError(f"a surrogate cannot learn from {len(x)} inputs with {len(labels)} answers")
    generator = torch.Generator().manual_seed(seed)
    sizes = (x.shape[1], width, width, classes)
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        linear = nn.Linear(n, m, dtype=x.dtype)
        with torch.no_grad():
            shape = (m, n)
            linear.weight.copy_(torch.randn(shape, generator=generator) * (2.0 / n) ** 0.5)
            linear.bias.zero_()
        layers += [linear, nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(x.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for first in range(0, len(x), 64):
            rows = order[first : first + 64]
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(x[rows]), labels[rows]))
            optimiser.step()
        progress("surrogate", (epoch + 1) / epochs)
    return model.eval().requires_grad_(False)


def in_place_of(target: Target, other: Target) -> Classifier:
    """The other classifier on the target's inputs, with outputs of the target's type."""
    return lambda x: other.module(x.to(other.dtype)).to(target.dtype)


def learned(
    target: Target, points: np.ndarray, seed: int, progress: Callable[[str, float], None]
) -> Classifier:
    """A surrogate trained on the target's answers; see ``train_surrogate``.

    Args:
        target: asked once for each point.
        points: (n, d) floats.
        seed: of the training.
        progress: told what is done.
    """
    x = torch.tensor(points).to(target.device, target.dtype)
    with torch.no_grad():
        parts = [target.module(x[i : i + 1024]).argmax(1) for i in range(0, len(x), 1024)]
    return train_surrogate(x, torch.cat(parts), target.n_outputs, seed=seed, progress=progress)
