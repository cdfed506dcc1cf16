"""The attacks by their names, with the settings that a user may change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from torchbridge.attacks.apgd import APGD
from torchbridge.attacks.campaign import Named
from torchbridge.attacks.cw import CWL2, CWLinf
from torchbridge.attacks.fab import FAB
from torchbridge.attacks.fgsm import FGSM
from torchbridge.attacks.interface import Classifier, Norm
from torchbridge.attacks.jsma import JSMA
from torchbridge.attacks.losses import Loss
from torchbridge.attacks.one_pixel import OnePixel
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.square import Square
from torchbridge.attacks.substitute import Substitute
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
    "fgsm": lambda: (("fgsm", FGSM()), ("fgsm", FGSM(Loss.ce))),
    "pgd": lambda: (("pgd", PGD()),),
    "cw": lambda: (("cw", CWLinf()),),
    "cw-l2": lambda: (("cw-l2", CWL2()),),
    "apgd": lambda: (("apgd-ce", APGD()), ("apgd-dlr", APGD(loss=Loss.dlr))),
    "fab": lambda: (("fab", FAB()),),
    "square": lambda: (("square", Square()),),
    "one-pixel": lambda: (("one-pixel", OnePixel()),),
    "jsma": lambda: (("jsma", JSMA()),),
    "transfer": lambda: (("transfer", PGD(restarts=1, confidence=math.inf)),),
    "auto": lambda: (
        ("apgd-ce", APGD()),
        ("apgd-dlr", APGD(loss=Loss.dlr)),
        ("apgd-targeted", APGD(restarts=9, targeted=True)),
        ("pgd", PGD()),
        ("cw", CWLinf()),
        ("fab", FAB()),
        ("square", Square()),
    ),
}
"""Each method is one attack, or several in order. ``transfer`` is run on a surrogate."""


def chosen(method: str, effort: Effort, surrogate: Classifier | None = None) -> tuple[Named, ...]:
    """The attacks of a method.

    Args:
        method: a name in ``METHODS``.
        effort: changed settings.
        surrogate: what ``transfer`` attacks instead of the target.

    Raises:
        PropertyError: a setting that none of the attacks has.
        ValueError: a surrogate is missing.
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
        changed = replace(attack, **{k: v for k, v in given.items() if k in mine})
        if method == "transfer":
            if surrogate is None:
                raise ValueError("transfer needs a surrogate")
            changed = Substitute(surrogate, changed)
        out.append(Named(name, changed))
    return tuple(out)


def norm_of(method: str) -> Norm:
    """What the size of a ball means for a method."""
    return METHODS[method]()[0][1].norm
