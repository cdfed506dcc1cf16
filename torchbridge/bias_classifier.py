"""The bias classifier argmax B_C of a Torch module, in batches (T8; Yu and Gao 2021).

Off the kinks a ReLU network is C(x) = J_C(x) x + B_C(x); W_C(x) = J_C(x) x is its first-degree part
and B_C its bias part, which is constant on every linear region, so that its gradient is zero. The
values here are Torch's, with its relu'(0) = 0; ``verifier.bounds.bias`` says what is certain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from torchbridge.training.points import Points

#: Points evaluated at a time.
_BATCH = 500


class Parts(NamedTuple):
    """C(x) = W_C(x) + B_C(x).

    Args:
        output: C(x), (n, m).
        first_degree: W_C(x) = J_C(x) x, (n, m).
        bias: B_C(x), (n, m).
    """

    output: Tensor
    first_degree: Tensor
    bias: Tensor


def parts(model: Callable[[Tensor], Tensor], x: Tensor) -> Parts:
    """The three outputs at each x, by one forward pass with derivatives along x.

    Gradients with respect to weights flow through all three.

    Args:
        model: a piecewise linear module whose rows do not depend on each other (evaluation mode,
            if it normalises batches).
        x: (n, ...).
    """
    both = torch.func.jvp(model, (x,), (x,))
    output, first_degree = both[0], both[1]
    return Parts(output, first_degree, output - first_degree)


def bias_part(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """x ↦ B_C(x), as a classifier."""
    return lambda x: parts(model, x).bias


@torch.no_grad()
def correct(model: Callable[[Tensor], Tensor], points: Points) -> tuple[int, int, int]:
    """How many points argmax C, argmax W_C and argmax B_C classify as labelled, as Torch computes.

    Args:
        model: as for ``parts``, on the processor.
        points: to classify.
    """
    counts = torch.zeros(3, dtype=torch.int64)
    for rows in torch.split(torch.arange(len(points)), _BATCH):
        labels = points.classes(rows, torch.device("cpu"))
        found = parts(model, points.inputs(rows, torch.device("cpu")))
        counts += torch.stack([(part.argmax(1) == labels).sum() for part in found])
    whole, first_degree, bias = counts.tolist()
    return whole, first_degree, bias
