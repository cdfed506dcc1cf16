"""What gradient attacks climb: larger where the classifier is closer to an error."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from torch import Tensor
from torch.nn import functional

from torchbridge.attacks.interface import margin


class Loss(StrEnum):
    """Names of the losses."""

    margin = "margin"
    ce = "ce"
    dlr = "dlr"


def loss_of(name: Loss, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss of outputs (n, classes) for these labels, (n,).

    margin: max_{k≠y} z_k − z_y, the loss of Carlini and Wagner (2017) without its constant.
    ce: cross-entropy; its gradient vanishes in floats where a network is very sure.
    dlr: −(z_y − max_{k≠y} z_k) / (z_(1) − z_(3)), with z sorted downwards (Croce and Hein 2020):
        the same for z and for all c z + d, c > 0. With two classes, the divisor is z_(1) − z_(2)
        without its gradient, since the quotient would be constant.
    """
    if name is Loss.margin:
        return lambda z: -margin(z, labels)
    if name is Loss.ce:
        return lambda z: functional.cross_entropy(z, labels, reduction="none")
    return lambda z: _dlr(z, labels)


def _dlr(z: Tensor, labels: Tensor) -> Tensor:
    """See ``loss_of``."""
    ranked = z.sort(dim=1, descending=True).values
    if z.shape[1] == 2:
        return -margin(z, labels) / ((ranked[:, 0] - ranked[:, 1]).detach() + 1e-12)
    return -margin(z, labels) / (ranked[:, 0] - ranked[:, 2] + 1e-12)
