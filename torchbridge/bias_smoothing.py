"""A smooth stand-in for the bias part, whose own gradient is zero.

C_τ has softplus_τ(u) = τ ln(1 + e^(u/τ)) for each ReLU and τ ln Σ e^(u/τ) for each maximum. Its
bias part B_τ(x) = C_τ(x) − J_{C_τ}(x) x tends to B_C(x) as τ → 0 wherever x is not on a kink, and
has the gradient −H_{C_τ}(x) x, H being the second derivative.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from torchbridge.attacks.interface import Classifier
from torchbridge.bias_classifier import bias_part
from verifier.core.errors import ModelError


class SmoothRelu(nn.Module):
    """u ↦ τ ln(1 + e^(u/τ))."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, u: Tensor) -> Tensor:
        """Of the same shape."""
        return self.tau * torch.logaddexp(u / self.tau, torch.zeros_like(u))


class SmoothPool(nn.Module):
    """τ ln Σ e^(u/τ) over windows of pictures (n, channels, rows, columns)."""

    def __init__(self, side: int, stride: int, tau: float) -> None:
        super().__init__()
        self.side, self.stride, self.tau = side, stride, tau

    def forward(self, u: Tensor) -> Tensor:
        """Of the shape that the maximum pool has."""
        windows = u.unfold(2, self.side, self.stride).unfold(3, self.side, self.stride)
        return self.tau * torch.logsumexp(windows.flatten(-2) / self.tau, -1)


def smoothed(module: nn.Module, tau: float) -> nn.Module:
    """A copy C_τ of a module, in evaluation mode and without gradients for its weights.

    Args:
        module: ReLUs, maximum pools of square windows without padding, and what is affine.
        tau: from 0 on, without 0.

    Raises:
        ModelError: another maximum pool.
    """
    made = copy.deepcopy(module)
    for parent in list(made.modules()):
        for name, child in list(parent._modules.items()):  # a shared one, each time
            if isinstance(child, nn.ReLU):
                setattr(parent, name, SmoothRelu(tau))
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, _pool(child, tau))
    return made.eval().requires_grad_(False)


def _pool(pool: nn.MaxPool2d, tau: float) -> SmoothPool:
    side, stride = pool.kernel_size, pool.stride
    plain = (pool.padding, pool.dilation, pool.ceil_mode) in ((0, 1, False), ((0, 0), 1, False))
    if not (plain and isinstance(side, int) and isinstance(stride, int)):
        raise ModelError(f"no smooth form of {pool}: expected square windows without padding")
    return SmoothPool(side, stride, tau)


def smooth_bias_part(module: nn.Module, tau: float) -> Classifier:
    """x ↦ B_τ(x), a classifier with a gradient; see above."""
    return bias_part(smoothed(module, tau))
