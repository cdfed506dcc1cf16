"""Architectures by name, as plain ReLU networks that ``torchbridge.convert`` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import prod
from types import MappingProxyType

import torch
from torch import Tensor, nn

from verifier.core.errors import DataError

Shape = tuple[int, ...]
Module = nn.Sequential
"""What an architecture is, for those who may not import Torch."""


class Residual(nn.Module):
    """x ↦ shortcut(x) + block(x).

    Args:
        block: the long way.
        shortcut: the short way; the identity by default.
    """

    def __init__(self, block: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The sum, of the block's output shape."""
        return self.shortcut(x) + self.block(x)


def build(name: str, shape: Shape, classes: int, seed: int) -> nn.Sequential:
    """An untrained module on batches (n, channels, rows, columns), or (n, d) for ``mlp``.

    Args:
        name: one of ``ARCHITECTURES``.
        shape: of one input; two numbers are the rows and columns of one channel.
        classes: number of outputs.
        seed: of the initial weights (Torch's usual initialisation).

    Raises:
        DataError: there is no such architecture, or it cannot take such inputs.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise DataError(f"there is no architecture {name!r}; expected one of {known}")
    if len(shape) == 2:
        shape = (1, *shape)
    if name != "mlp":
        if len(shape) != 3:
            raise DataError(
                f"{name} takes pictures; points of shape {shape} are none; mlp takes them"
            )
        if min(shape[1:]) < SMALLEST[name]:
            side, (rows, columns) = SMALLEST[name], shape[1:]
            fit = [each for each in ARCHITECTURES if SMALLEST.get(each, 0) <= min(shape[1:])]
            raise DataError(
                f"{name} needs pictures of {side} × {side} at least, got {rows} × {columns}, which "
                f"{', '.join(fit)} can take"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name](shape, classes)


def mlp(shape: Shape, classes: int) -> nn.Sequential:
    """d-64-64-classes."""
    sizes = (prod(shape), 64, 64)
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, classes))


def small_cnn(shape: Shape, classes: int) -> nn.Sequential:
    """Two strided convolutions 4 × 4 (16 and 32 channels), 100 neurons: small enough to prove."""
    features = nn.Sequential(
        nn.Conv2d(shape[0], 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    inside = _width(features, shape)
    return nn.Sequential(*features, nn.Linear(inside, 100), nn.ReLU(), nn.Linear(100, classes))


def lenet5(shape: Shape, classes: int) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) with ReLU and maximum pools: 6 and 16 channels, 120-84."""
    features = nn.Sequential(
        nn.Conv2d(shape[0], 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    inside = _width(features, shape)
    return nn.Sequential(
        *features, nn.Linear(inside, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, classes),
    )  # fmt: skip


def resnet18(shape: Shape, classes: int) -> nn.Sequential:
    """ResNet-18 (He et al. 2016) for 32 × 32 pictures: first stride 1, no first pool."""
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    ]  # fmt: skip
    inside = 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [*_basic(inside, outside, stride), *_basic(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def _basic(inside: int, outside: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """A basic block and the ReLU behind it."""
    block = nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
    )
    if stride == 1 and inside == outside:
        return Residual(block), nn.ReLU()
    shortcut = nn.Sequential(
        nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
    )
    return Residual(block, shortcut), nn.ReLU()


def vgg16(shape: Shape, classes: int) -> nn.Sequential:
    """VGG-16 (Simonyan and Zisserman 2015), batch-normalised, one linear layer at the end."""
    layers: list[nn.Module] = []
    inside = shape[0]
    for count, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            convolution = nn.Conv2d(inside, channels, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
            inside = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def _width(features: nn.Module, shape: Shape) -> int:
    """How many numbers the features of one input are."""
    with torch.no_grad():
        return features(torch.zeros(1, *shape)).shape[1]


ARCHITECTURES: Mapping[str, Callable[[Shape, int], nn.Sequential]] = MappingProxyType(
    {
        "mlp": mlp,
        "small-cnn": small_cnn,
        "lenet5": lenet5,
        "resnet18": resnet18,
        "vgg16": vgg16,
    }
)

#: Rows and columns that an architecture needs.
SMALLEST: Mapping[str, int] = MappingProxyType(
    {"small-cnn": 4, "lenet5": 12, "resnet18": 8, "vgg16": 32}
)
