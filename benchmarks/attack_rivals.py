"""Foolbox, the Adversarial Robustness Toolbox and torchattacks, where they are installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from torchbridge.attacks.exact import Exact
from torchbridge.attacks.fab import FAB
from torchbridge.attacks.regions import Region
from torchbridge.attacks.target import Target
from verifier.core.exact import fractions

Rival = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(n, d) float32 points and (n,) labels to (n, d) points."""

STEPS, RESTARTS, QUERIES = 40, 5, 1000


class Flat(torch.nn.Module):
    """A target on float32 pictures or rows."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32 outputs for (n, ...) inputs."""
        return self.target.module(x.reshape(len(x), -1).to(self.target.dtype)).float()


def rivals(
    target: Target, shape: tuple[int, int, int], radius: float
) -> Iterator[tuple[str, Rival]]:
    """The attacks of whatever is installed, on inputs in [0, 1].

    Args:
        target: the classifier.
        shape: of a picture.
        radius: of the ℓ∞ ball, as a float.
    """
    if find_spec("foolbox") is not None:
        yield from _foolbox(Flat(target), radius)
    if find_spec("art") is not None:
        yield from _art(Flat(target), shape, target.n_outputs, radius)
    if find_spec("torchattacks") is not None:
        yield _fab(Flat(target), shape, target.n_outputs, radius)


def _foolbox(module: Any, radius: float) -> Iterator[tuple[str, Rival]]:
    """FGSM, and PGD with as many steps and restarts as ours."""
    import foolbox

    attacks = {
        "foolbox fgsm": foolbox.attacks.LinfFastGradientAttack(),
        "foolbox pgd": foolbox.attacks.LinfPGD(steps=STEPS).repeat(RESTARTS),
    }
    for name, attack in attacks.items():

        def run(x: np.ndarray, labels: np.ndarray, attack: Any = attack) -> np.ndarray:
            model = foolbox.PyTorchModel(module, bounds=(0, 1))
            _, moved, _ = attack(model, torch.tensor(x), torch.tensor(labels), epsilons=radius)
            return np.asarray(moved.numpy())

        yield name, run


def _art(
    module: Any, shape: tuple[int, int, int], classes: int, radius: float
) -> Iterator[tuple[str, Rival]]:
    """PGD, Auto-PGD and Square with as many steps, restarts and queries as ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import (
            AutoProjectedGradientDescent,
            ProjectedGradientDescentPyTorch,
            SquareAttack,
        )
        from art.estimators.classification import PyTorchClassifier

    model = PyTorchClassifier(
        module, torch.nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0),
        device_type="cpu",
    )  # fmt: skip
    attacks = {
        "art pgd": ProjectedGradientDescentPyTorch(
            model, eps=radius, eps_step=radius / 4, max_iter=STEPS, num_random_init=RESTARTS,
            batch_size=256, verbose=False,
        ),
        "art auto-pgd": AutoProjectedGradientDescent(
            model, eps=radius, eps_step=radius / 4, max_iter=60, nb_random_init=2,
            loss_type="cross_entropy", batch_size=256, verbose=False,
        ),
        "art square": SquareAttack(
            model, eps=radius, max_iter=QUERIES, nb_restarts=1, batch_size=256, verbose=False
        ),
    }  # fmt: skip
    for name, attack in attacks.items():

        def run(x: np.ndarray, labels: np.ndarray, attack: Any = attack) -> np.ndarray:
            moved = attack.generate(x.reshape(-1, *shape), np.eye(classes)[labels])
            return np.asarray(moved.reshape(len(x), -1))

        yield name, run


def _fab(
    module: Any, shape: tuple[int, int, int], classes: int, radius: float
) -> tuple[str, Rival]:
    """The fast adaptive boundary attack as its authors wrote it, with as many steps as ours."""
    import torchattacks

    ours = FAB()
    attack = torchattacks.FAB(
        module, norm="Linf", eps=radius, steps=ours.steps, n_restarts=1, multi_targeted=True,
        n_classes=classes,
    )  # fmt: skip

    def run(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        moved = attack(torch.tensor(x).reshape(-1, *shape), torch.tensor(labels))
        return np.asarray(moved.detach().reshape(len(x), -1).numpy())

    return "torchattacks fab", run


def claims(
    exact: Exact, regions: Sequence[Region], labels: np.ndarray, moved: np.ndarray
) -> tuple[int, int, int]:
    """Of correctly classified points: how many were moved to a wrong one, and how many inside.

    Returns:
        (wrong points by exact evaluation wherever they lie, those inside of the exact ball, clean).
    """
    wrong = inside = clean = 0
    for region, label, row in zip(regions, labels.tolist(), moved, strict=True):
        if _breaks(exact(region.center), label):
            continue
        clean += 1
        point = fractions(row)
        if _breaks(exact(point), label):
            wrong += 1
            inside += region.contains(point)
    return wrong, inside, clean


def _breaks(y: Sequence[Any], label: int) -> bool:
    """Whether another output reaches the label's."""
    return bool(max(v for k, v in enumerate(y) if k != label) >= y[label])
