"""One score a class, whatever the outputs are: attacks lower the label's below another one's."""

from __future__ import annotations

import torch
from torch import Tensor

from torchbridge.attacks.interface import Classifier
from verifier.core.decision import Decision, Rule


def scores(module: Classifier, decision: Decision, n_classes: int) -> tuple[Classifier, int]:
    """A classifier whose largest output is the class that ``decision`` reads.

    argmax: the outputs themselves. sign: (−y, y). label: −|y − j| for j = 0 … n + 1, where class k
    is j = k + 1 and the two outer ones are no class.

    Args:
        module: (n, d) to (n, n_outputs).
        decision: how outputs mean a class.
        n_classes: at least so many classes.

    Returns:
        The classifier, and the column of class 0.
    """
    if decision.rule is Rule.argmax:
        return module, 0
    if decision.rule is Rule.sign:
        return lambda x: torch.cat([-(y := module(x)), y], dim=1), 0
    count = max(n_classes, len(decision.classes))

    def labels(x: Tensor) -> Tensor:
        y = module(x)
        return -(y - torch.arange(count + 2, dtype=y.dtype, device=y.device)).abs()

    return labels, 1
