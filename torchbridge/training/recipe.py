"""Named ways to train."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

from torchbridge.training.objectives import (
    Adversarial,
    Ascent,
    BiasAdversarial,
    Certified,
    MarginGame,
    Natural,
    Objective,
    Trades,
)
from verifier.core.errors import DataError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run does, but for the data.

    Args:
        name: of the recipe it comes from.
        objective: what is minimised.
        architecture: see ``architectures``.
        eps: ℓ∞ radius; without meaning where the objective is not robust.
        epochs: passes over the data.
        batch: inputs a step.
        rate: largest step size of Adam; it rises over the first fifth of all steps and falls to
            zero along a cosine.
        decay: weight decay (decoupled).
        ramp: share of the epochs over which the radius grows from 0.
        flip: whether pictures are mirrored at random and moved by up to four pixels.
        seed: of weights, order and attacks.
    """

    name: str
    objective: Objective
    architecture: str = "lenet5"
    eps: float = 0.1
    epochs: int = 10
    batch: int = 128
    rate: float = 2e-3
    decay: float = 1e-4
    ramp: float = 0.0
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for what, value, least in (("epochs", self.epochs, 1), ("batch", self.batch, 1)):
            if value < least:
                raise DataError(f"{what} must be at least {least}, got {value}")
        if not 0 <= self.eps <= 1e6:
            raise DataError(f"the radius must be a number from 0 on, got {self.eps}")
        if not 0 < self.rate <= 1e3:
            raise DataError(f"the step size must be positive, got {self.rate}")

    def radius(self, share: float) -> float:
        """The radius after this share of all steps."""
        if not self.objective.robust:
            return 0.0
        return self.eps * min(1.0, share / self.ramp) if self.ramp > 0 else self.eps

    def described(self) -> str:
        """All of it, as one line of JSON: two recipes are the same if these are."""
        fields = asdict(self) | {"objective": type(self.objective).__name__}
        fields["details"] = asdict(self.objective)  # type: ignore[call-overload]
        return json.dumps(fields, sort_keys=True, default=str)


def recipe(name: str, **changes: object) -> Recipe:
    """A named recipe with some of its numbers changed.

    Args:
        name: one of ``RECIPES``.
        changes: fields of ``Recipe``; None leaves a field as it is.

    Raises:
        DataError: there is no such recipe, or a number has no meaning.
    """
    if name not in RECIPES:
        raise DataError(f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}")
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(RECIPES[name], **given)  # type: ignore[arg-type]


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        made.name: made
        for made in (
            Recipe("normal", Natural(), epochs=8),
            Recipe("adversarial", Adversarial(), epochs=15),
            Recipe("adversarial-fast", Adversarial(Ascent(1, 1.25)), epochs=15),
            Recipe("adversarial-cw", MarginGame(tau=1.0), epochs=15, ramp=0.5),
            Recipe("trades", Trades(), epochs=15),
            Recipe("bias-adversarial", BiasAdversarial(), epochs=15),
            Recipe("certified", Certified(), "small-cnn", epochs=40, ramp=0.5),
            Recipe(
                "certified-backward", Certified(backward=True), "small-cnn", epochs=40, ramp=0.5
            ),
        )
    }
)
