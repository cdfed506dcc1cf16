"""Hiding the gradient of a two-class bias classifier behind a random matrix (T8 d).

C̃(x) = C(x) + R x has the bias part of C. With m = 2, independent fair signs, λ ≤ |R_1j| ≤ 2λ,
3λ ≤ |R_2j| ≤ 4λ and |J_1j| + |J_2j| < λ at x, the sign of the gradient of every usual loss of C̃ is
±sign(R_2), uniform on {−1, 1}^d (D.2). Whether the last holds is decided here by rigorous bounds
on J_C, for all consistent patterns, on kinks too; nothing is sampled. With all R_ij uniform in
[−λ, λ] the direction is nearly uniform (D.3).

The signs alone are hidden, and only from whoever takes them from the gradient of C̃: B_C̃ = B_C can
be queried and decided as ever. For more than two classes D.2 is false of the usual attacks.
"""

from __future__ import annotations

import math
from enum import StrEnum
from fractions import Fraction

import numpy as np
import torch
from torch import Generator, Tensor, nn

from torchbridge.attacks.interface import Control, Task, gradient
from torchbridge.attacks.losses import Loss, loss_of
from torchbridge.attacks.pgd import PGD
from verifier.bounds.float_error import TINY, down, gamma, up
from verifier.bounds.interval import Bounds
from verifier.bounds.jacobian import jacobian_bounds, magnitude
from verifier.core.errors import DataError, NetworkError
from verifier.core.network import Network

#: Magnitudes are drawn from a grid, so that they are float32 numbers.
GAP_STEPS, UNIFORM_STEPS = 1 << 12, 1 << 20


class Law(StrEnum):
    """How R is drawn, entry by entry and independently.

    gap: row i = 1, 2, … has fair signs and magnitudes in [(2i−1)λ, 2iλ]: the matrix M(λ).
    uniform: the entries are uniform in [−λ, λ]: the matrix U(λ).

    Magnitudes are uniform on the points of a grid of 2^-12 λ, and of 2^-19 λ for ``uniform``; D.2
    does not use how they are distributed.
    """

    gap = "gap"
    uniform = "uniform"


def random_rows(law: Law, classes: int, inputs: int, scale: float, generator: Generator) -> Tensor:
    """R, (classes, inputs), float32 numbers.

    Args:
        law: how they are drawn.
        classes, inputs: the shape.
        scale: λ, a power of two, so that nothing is rounded.
        generator: source of the random numbers.

    Raises:
        DataError: a scale that is no power of two, or one that float32 cannot hold, or more than
            1024 classes.
    """
    if not 2.0**-60 <= scale <= 2.0**60 or math.frexp(scale)[0] != 0.5 or classes > 1024:
        raise DataError(
            f"the scale of R must be a power of two from 2^-60 to 2^60, with at most 1024 classes; "
            f"got {scale} and {classes}"
        )
    shape = (classes, inputs)
    if law is Law.gap:
        sign = 2 * torch.randint(2, shape, generator=generator) - 1
        least = 2 * torch.arange(classes)[:, None] + 1
        steps = torch.randint(GAP_STEPS + 1, shape, generator=generator)
        units = (sign * (least * GAP_STEPS + steps)).double() / GAP_STEPS
    else:
        steps = torch.randint(UNIFORM_STEPS, shape, generator=generator)
        units = (2 * steps + 1 - UNIFORM_STEPS).double() / UNIFORM_STEPS
    return (units * scale).float()


class Hidden(nn.Module):
    """C̃(x) = C(x) + R x; ``torchbridge.convert`` makes a network and ONNX of it, exactly.

    Args:
        model: C, on batches of inputs of any shape.
        rows: R, (classes, inputs).
    """

    def __init__(self, model: nn.Module, rows: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("rows", rows.clone())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(n, classes)."""
        return self.model(x) + nn.functional.linear(x.flatten(1), self.get_buffer("rows"))

    @property
    def matrix(self) -> np.ndarray:
        """R, exactly: (classes, inputs) float64."""
        return np.asarray(self.get_buffer("rows").double().cpu().numpy())


def hide(model: nn.Module, law: Law, classes: int, inputs: int, scale: float, seed: int) -> Hidden:
    """C̃ with a matrix drawn from a seed; arguments and errors as for ``random_rows``."""
    return Hidden(model, random_rows(law, classes, inputs, scale, Generator().manual_seed(seed)))


def float_direction(
    model: nn.Module, x: np.ndarray, labels: np.ndarray, shape: tuple[int, ...], loss: Loss
) -> np.ndarray:
    """sign ∇ of a loss at each x as Torch computes it, (n, d) in −1, 0, 1.

    With ``Loss.ce`` this is A_1; its factor softmax − one-hot underflows where the classifier is
    very sure, which leaves 0: masking, not safety. With ``Loss.margin`` it is A_2.

    Args:
        model: on the processor, in float32.
        x: (n, d) float32.
        labels: (n,).
        shape: of one input.
        loss: whose gradient.
    """
    points = torch.from_numpy(np.asarray(x, np.float32)).reshape(len(x), *shape)
    g = gradient(model, points, loss_of(loss, torch.from_numpy(np.asarray(labels))))[1]
    return np.asarray(g.sign().reshape(len(x), -1).numpy(), dtype=np.int8)


def climbed(
    model: nn.Module, balls: tuple[np.ndarray, np.ndarray, np.ndarray], labels: np.ndarray,
    shape: tuple[int, ...], seed: int, attack: PGD,
) -> np.ndarray:  # fmt: skip
    """The points that projected gradient ascent on C finds, (n, d) float32, within the balls.

    Args:
        model: C, on the processor, in float32.
        balls: x, lower and upper faces, each (n, d) float32.
        labels: (n,).
        shape: of one input.
        seed: of the starts.
        attack: its settings.
    """
    x, lower, upper = (torch.from_numpy(np.asarray(part, np.float32)) for part in balls)
    classes = torch.from_numpy(np.asarray(labels))

    def classifier(points: Tensor) -> Tensor:
        return torch.as_tensor(model(points.reshape(len(points), *shape)))

    size = float((upper - lower).max()) / 2
    task = Task(classifier, x, classes, lower, upper, size, (1, 1, x.shape[1]))
    return np.asarray(attack.run(task, Control.seeded(seed)).detach().numpy())


def entry_bound(network: Network, bounds: list[Bounds] | None) -> float:
    """A number that max_ij |J_C(x)_ij| does not exceed where the pre-activation bounds hold.

    Args:
        network: C.
        bounds: as ``jacobian_bounds`` takes them; None for all of R^d.
    """
    return float(magnitude(jacobian_bounds(network, bounds)).max())


def scale_above(entries: float) -> float:
    """The least power of two λ with |J_ij| < λ/2 for |J_ij| ≤ entries.

    Raises:
        NetworkError: no finite bound, or λ is beyond 2^60.
    """
    exponent = math.frexp(entries)[1] if np.isfinite(entries) else 99
    # entries < 2^exponent ≤ 2 entries
    scale = 2.0 ** max(exponent + 1, -60)
    if scale > 2.0**60:
        raise NetworkError(f"no useful bound on the Jacobian's entries: {entries}")
    return scale


def always_uniform(network: Network, bounds: list[Bounds] | None, scale: float) -> np.ndarray:
    """(d,) bool: where the direction's coordinate is ±sign R_2j for all magnitudes of R (D.2).

    That is where |J_1j| + |J_2j| < λ is proved, for all inputs within the bounds. If it holds for
    all j the direction is exactly uniform there, whatever R is drawn.

    Raises:
        NetworkError: not two classes.
    """
    _require_two(network)
    sizes = magnitude(jacobian_bounds(network, bounds))
    return np.asarray(up(sizes.sum(axis=0), 2) < scale)


def slope_difference(network: Network, bounds: list[Bounds] | None) -> Bounds:
    """Bounds (d,) on J_2j − J_1j where pre-activation bounds hold, for all consistent patterns.

    Raises:
        NetworkError: not two classes.
    """
    _require_two(network)
    low, high = jacobian_bounds(network, bounds, np.array([[-1.0, 1.0]]))
    return low[0], high[0]


def certain_direction(
    difference: Bounds, label: int, least: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """sign ∇(C̃_k − C̃_y) as far as it is proved, for all R with least ≤ R ≤ most: (d,).

    1 or −1, and 0 where neither is proved.

    Args:
        difference: of ``slope_difference``.
        label: y, 0 or 1.
        least, most: (2, d) float64; both are R for a matrix that was drawn.
    """
    low, high = difference
    size = magnitude((least, most)).sum(axis=0) + magnitude((low, high))
    error = gamma(4) * size + TINY
    below = (least[1] - most[0]) + low - error
    above = (most[1] - least[0]) + high + error
    towards = np.where(down(below) > 0, 1, np.where(up(above) < 0, -1, 0))
    return np.asarray(towards if label == 0 else -towards, dtype=np.int8)


def uniform_excess(inputs: int, gap: float, scale: float) -> Fraction:
    """How many times the rate of random signs the rate along A is at most, for ``Law.uniform``.

    With |J_1j − J_2j| ≤ μ each sign has a probability of at most (1 + 1/N + μ/λ)/2, N = 2^20 being
    the steps of the grid; so every sign vector has at most (1 + 1/N + μ/λ)^d 2^-d (D.3). Added to
    the rate is at most d/N, the probability that a coordinate of A is 0.

    Args:
        inputs: d.
        gap: μ.
        scale: λ.
    """
    return (1 + Fraction(1, UNIFORM_STEPS) + Fraction(gap) / Fraction(scale)) ** inputs


def _require_two(network: Network) -> None:
    """Raise NetworkError unless there are two classes: the theorem is about no other number."""
    if network.n_outputs != 2:
        raise NetworkError(
            f"the direction is uniform for two classes; {network.name} has {network.n_outputs}"
        )
