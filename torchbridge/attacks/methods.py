"""The attacks by their names, with the settings that a user may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from torchbridge.attacks.campaign import Named
from torchbridge.attacks.fgsm import FGSM
from torchbridge.attacks.interface import Norm
from torchbridge.attacks.pgd import PGD
from verifier.core.errors import PropertyError


@dataclass(frozen=True)
class Effort:
    """What a user may change; None leaves an attack's own setting.

    Args:
        steps: gradient steps of a start.
        restarts: starts.
        queries: evaluations of an input by attacks without gradients.
    """

    steps: int | None = None
    restarts: int | None = None
    queries: int | None = None


METHODS: dict[str, Callable[[], tuple[tuple[str, Any], ...]]] = {
    "fgsm": lambda: (("fgsm", FGSM()),),
    "pgd": lambda: (("pgd", PGD()),),
}
"""Each method is one attack, or several in order."""


def chosen(method: str, effort: Effort) -> tuple[Named, ...]:
    """The attacks of a method.

    Args:
        method: a name in ``METHODS``.
        effort: changed settings.

    Raises:
        PropertyError: a setting that none of the attacks has.
    """
    attacks = METHODS[method]()
    given = {f.name: v for f in fields(effort) if (v := getattr(effort, f.name)) is not None}
    known = {f.name for _, attack in attacks for f in fields(attack)}
    for name in given:
        if name not in known:
            raise PropertyError(f"--{name} says nothing to the method {method}")
    out = []
    for name, attack in attacks:
        mine = {f.name for f in fields(attack)}
        out.append(Named(name, replace(attack, **{k: v for k, v in given.items() if k in mine})))
    return tuple(out)


def norm_of(method: str) -> Norm:
    """What the size of a ball means for a method."""
    return METHODS[method]()[0][1].norm
