"""Differentiable bounds on a module's outputs over ℓ∞ balls, for certified training.

These are training aids in the module's own arithmetic: nothing is proved by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from torchbridge.training.architectures import Residual
from verifier.core.errors import ModelError

_MONOTONE = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)


def interval(module: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Interval bounds of the outputs over the boxes [low, high] (Gowal et al. 2018).

    A batch normalisation is bounded as in evaluation mode, with its running statistics.

    Args:
        module: of the layers that ``architectures`` uses.
        low, high: (n, ...).

    Raises:
        ModelError: a layer that has no rule here.
    """
    if isinstance(module, nn.Sequential):
        for part in module:
            low, high = interval(part, low, high)
        return low, high
    if isinstance(module, Residual):
        short = interval(module.shortcut, low, high)
        long = interval(module.block, low, high)
        return short[0] + long[0], short[1] + long[1]
    if isinstance(module, _MONOTONE):
        return module(low), module(high)
    middle, radius = (low + high) / 2, (high - low) / 2
    if isinstance(module, nn.Linear):
        middle, radius = module(middle), functional.linear(radius, module.weight.abs())
    elif isinstance(module, nn.Conv2d):
        middle = module(middle)
        radius = functional.conv2d(
            radius, module.weight.abs(), None, module.stride, module.padding, module.dilation,
            module.groups,
        )  # fmt: skip
    elif isinstance(module, nn.BatchNorm2d):
        scale, shift = _normalisation(module)
        middle, radius = middle * scale + shift, radius * scale.abs()
    else:
        raise ModelError(f"certified training has no rule for {type(module).__name__}")
    return middle - radius, middle + radius


def _normalisation(module: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor and summand of a batch normalisation in evaluation mode, (1, channels, 1, 1) each.

    Raises:
        ModelError: it keeps no running statistics.
    """
    if module.running_var is None or module.running_mean is None:
        raise ModelError("certified training needs batch normalisations with running statistics")
    scale = torch.rsqrt(module.running_var + module.eps)
    if module.weight is not None:
        scale = scale * module.weight
    shift = -module.running_mean * scale
    if module.bias is not None:
        shift = shift + module.bias
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


def worst_logits(model: nn.Sequential, low: Tensor, high: Tensor, labels: Tensor) -> Tensor:
    """Upper bounds (n, m) on y_j − y_label over boxes, by intervals; 0 at the label.

    The last layer is bounded together with the difference, which is tighter than bounding the
    outputs one by one.

    Raises:
        ModelError: a layer that has no rule here, or the last one is not linear.
    """
    rows, constants, below = _differences(model, labels)
    for part in below:
        low, high = interval(part, low, high)
    return _over_box(rows, constants, low, high)


def _differences(model: nn.Sequential, labels: Tensor) -> tuple[Tensor, Tensor, list[nn.Module]]:
    """Rows (n, m, features) and constants (n, m) of y_j − y_label, and the layers below.

    Raises:
        ModelError: the last layer is not linear.
    """
    last = model[-1]
    if not isinstance(last, nn.Linear):
        raise ModelError("certified training needs a linear last layer")
    rows = last.weight[None] - last.weight[labels][:, None]
    bias = last.bias
    return rows, bias[None] - bias[labels][:, None], list(model)[:-1]


def _over_box(rows: Tensor, constants: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The largest values (n, m) of forms (n, m, k) over boxes (n, k)."""
    middle, radius = ((low + high) / 2)[..., None], ((high - low) / 2)[..., None]
    return (rows @ middle + rows.abs() @ radius)[..., 0] + constants


def worst_logits_backward(
    model: nn.Sequential, low: Tensor, high: Tensor, labels: Tensor
) -> Tensor:
    """The same by one backward pass through linear bounds on every ReLU (Zhang et al. 2020).

    Pre-activations are bounded by intervals (CROWN-IBP); a ReLU's lower slope is 1 where its upper
    end is the larger, else 0. The smaller of this bound and that of ``worst_logits`` is returned.

    Args:
        model: a chain of linear layers, convolutions, ReLUs, average pools and flattenings.
        low, high: (n, ...).
        labels: (n,).

    Raises:
        ModelError: another kind of layer.
    """
    rows, constants, below = _differences(model, labels)
    boxes = [(low, high)]
    for part in below:
        boxes.append(interval(part, *boxes[-1]))
    by_interval = _over_box(rows, constants, *boxes[-1])
    form = rows
    for part, box in zip(below[::-1], boxes[-2::-1], strict=True):
        form, constants = _back(part, form, constants, box)
    count = len(labels)
    flat = [end.reshape(count, -1) for end in (low, high)]
    value = _over_box(form.reshape(count, form.shape[1], -1), constants, *flat)
    return torch.minimum(value, by_interval)


def _back(
    part: nn.Module, form: Tensor, constants: Tensor, box: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Upper bounds of forms (n, m, outputs) of a layer's outputs as forms of its inputs.

    Raises:
        ModelError: the layer has no rule here.
    """
    low, high = box
    if isinstance(part, nn.Flatten):
        return form.reshape(*form.shape[:2], *low.shape[1:]), constants
    if isinstance(part, nn.ReLU):
        return _relu_back(form, constants, low, high)
    if isinstance(part, nn.Linear):
        return form @ part.weight, constants + form @ part.bias
    if isinstance(part, nn.Conv2d):
        return _convolution_back(part, form, constants, low)
    if isinstance(part, nn.AvgPool2d):
        # The adjoint of a linear map is its vector-Jacobian product anywhere.
        flat = form.flatten(0, 1)
        pull = torch.func.vjp(part, low.new_zeros(len(flat), *low.shape[1:]))[1]
        return pull(flat)[0].unflatten(0, form.shape[:2]), constants
    raise ModelError(f"the backward bounds of certified training have no rule for {part}")


def _relu_back(form: Tensor, constants: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Through ReLUs: the chord above for positive coefficients, a line through 0 below."""
    dims = tuple(range(2, form.dim()))
    below, above = low.clamp(max=0), high.clamp(min=0)
    chord = above / (above - below).clamp(min=1e-12)
    slope = (above > -below).to(low.dtype)
    positive, negative = form.clamp(min=0), form.clamp(max=0)
    const = constants + (positive * (-chord * below)[:, None]).sum(dims)
    return positive * chord[:, None] + negative * slope[:, None], const


def _convolution_back(
    part: nn.Conv2d, form: Tensor, constants: Tensor, low: Tensor
) -> tuple[Tensor, Tensor]:
    """Through a convolution: the transposed one."""
    if part.bias is not None:
        constants = constants + form.sum((-2, -1)) @ part.bias
    flat = form.flatten(0, 1)
    shape = (len(flat), *low.shape[1:])
    back = conv2d_input(  # type: ignore[no-untyped-call]
        shape, part.weight, flat, part.stride, part.padding, part.dilation, part.groups
    )
    return back.unflatten(0, form.shape[:2]), constants
