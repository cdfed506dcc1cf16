"""The bias part with a gradient for training: gates are exact forwards and smooth backwards.

B_C(x) is what remains of a forward pass when the input's own part is left out: β = 0 at the input,
β ↦ W β + b in affine layers, β ↦ 1[u > 0] · β in a ReLU whose pre-activation is u, and in a maximum
pool the entry of β that belongs to the largest u. The gates 1[u > 0] are constant almost
everywhere, so that the plain gradient of a loss of B_C cannot move them: training could only fit
numbers to regions that another loss chose. A straight-through estimator (Bengio et al. 2013) takes
the derivative of the logistic function of u / width in their place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbridge.bias_classifier import Parts
from torchbridge.training.architectures import Residual
from verifier.core.errors import ModelError

#: x ↦ W x + b, as they stand or in evaluation mode.
_AFFINE = (
    nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten,
    nn.Identity,
)  # fmt: skip


def straight_through_parts(model: nn.Module, x: Tensor, width: float = 1.0) -> Parts:
    """The values of ``torchbridge.bias_classifier.parts``, with gradients through the gates too.

    Args:
        model: in evaluation mode if it normalises batches.
        x: (n, ...).
        width: of the logistic function that gates have the derivative of.

    Raises:
        ModelError: a layer that is not known here.
    """
    output, bias = _through(model, x, torch.zeros_like(x), width)
    return Parts(output, output - bias, bias)


def _through(model: nn.Module, u: Tensor, bias: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Values and bias parts behind a module."""
    if isinstance(model, nn.Sequential):
        for part in model:
            u, bias = _through(part, u, bias, width)
        return u, bias
    if isinstance(model, Residual):
        long, short = (_through(p, u, bias, width) for p in (model.block, model.shortcut))
        return long[0] + short[0], long[1] + short[1]
    if isinstance(model, nn.ReLU):
        smooth = torch.sigmoid(u / width)
        # smooth − smooth is 0 to the bit, so that the gate's value is exact.
        return torch.relu(u), ((u > 0).to(u.dtype) + (smooth - smooth.detach())) * bias
    if isinstance(model, nn.MaxPool2d):
        pooled, places = nn.functional.max_pool2d(
            u, model.kernel_size, model.stride, model.padding, model.dilation, model.ceil_mode,
            return_indices=True,
        )  # fmt: skip
        return pooled, bias.flatten(2).gather(2, places.flatten(2)).view_as(pooled)
    if isinstance(model, _AFFINE):
        if isinstance(model, nn.BatchNorm2d) and model.training:
            raise ModelError("batch normalisation has a bias part in evaluation mode only")
        return model(u), model(bias)
    raise ModelError(f"no bias part of a layer {type(model).__name__}")
