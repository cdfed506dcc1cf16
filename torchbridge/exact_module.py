"""Modules in exact arithmetic, layer by layer, without the matrices of a network.

A ``Network`` writes a convolution as a sparse matrix; ResNet-18 on 32 × 32 pictures would have 560
million numbers. Here activations are integers over one denominator, cut into limbs of 16 bits,
weights into limbs of 24. Torch convolves limbs with limbs in float64, where every product and every
sum is an integer below 2^53 and so exact in any order of summation; carries and Python's integers
put the results together. Nothing is rounded but the constants of batch normalisations, as in every
import (``verifier.io.onnx``): weight / sqrt(variance + ε), and what is added after it, are rounded
to float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from torchbridge.training.architectures import Residual
from verifier.core.errors import ModelError
from verifier.core.exact import common_denominator, fractions, scaled_integers

#: Bytes of a limb of an activation, and of a weight where a sum has less than 2^13 terms.
_BYTES, _WEIGHT_BYTES = 2, 3
#: Limbs that are convolved at a time.
_AT_A_TIME = 16
#: What has a rule, unless a class made from it computes something else.
_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Sequential, Residual, nn.Identity, nn.Dropout, nn.Flatten, nn.ReLU, nn.Linear, nn.Conv2d,
    nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Values:
    """Activations of one input: integers (object array, without a batch) over a denominator."""

    numerators: np.ndarray
    denominator: int

    def stripped(self) -> _Values:
        """Without common factors of two."""
        bits = int(np.bitwise_or.reduce(self.numerators, axis=None)) | self.denominator
        shift = (bits & -bits).bit_length() - 1
        return _Values(self.numerators >> shift, self.denominator >> shift) if shift else self

    def over(self, denominator: int) -> np.ndarray:
        """Numerators over a multiple of the denominator."""
        return self.numerators * (denominator // self.denominator)


class ExactModule:
    """A module's exact function of one input.

    Args:
        module: a chain of convolutions, linear layers, batch normalisations, ReLUs, pools,
            flattenings and ``Residual`` blocks, in evaluation mode; weights are read at every call.
        shape: (channels, rows, columns) of one input.
    """

    def __init__(self, module: nn.Module, shape: Sequence[int]) -> None:
        self.module, self.shape = module, tuple(shape)

    def __call__(self, x: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """The outputs at a rational point.

        Raises:
            ModelError: a layer that has no rule here, or a wrong number of inputs.
        """
        point = fractions(x)
        if len(point) != math.prod(self.shape):
            raise ModelError(f"expected {math.prod(self.shape)} inputs, got {len(point)}")
        integers, denominator = common_denominator(point)
        values = np.array(integers, dtype=object).reshape(self.shape)
        out = _applied(self.module, _Values(values, denominator))
        return tuple(Fraction(v, out.denominator) for v in out.numerators.ravel())


def _applied(module: nn.Module, a: _Values) -> _Values:
    """One layer, or all of a chain.

    Raises:
        ModelError: a layer that has no rule here.
    """
    kind = next((kind for kind in _LAYERS if isinstance(module, kind)), None)
    if kind is None or type(module).forward is not kind.forward:
        raise ModelError(f"exact evaluation of modules has no rule for {type(module).__name__}")
    if isinstance(module, nn.Sequential):
        for part in module:
            a = _applied(part, a)
        return a
    if module.training:
        raise ModelError(f"{type(module).__name__} is in training mode")
    if isinstance(module, Residual):
        short, long = _applied(module.shortcut, a), _applied(module.block, a)
        common = math.lcm(short.denominator, long.denominator)
        return _Values(short.over(common) + long.over(common), common).stripped()
    if isinstance(module, (nn.Identity, nn.Dropout)):
        return a
    if isinstance(module, nn.Flatten):
        if (module.start_dim, module.end_dim) != (1, -1):
            raise ModelError("exact evaluation of modules flattens all of an input only")
        return _Values(a.numerators.reshape(-1), a.denominator)
    if isinstance(module, nn.ReLU):
        return _Values(np.where(a.numerators < 0, 0, a.numerators), a.denominator)
    rank = 1 if isinstance(module, nn.Linear) else 3
    if a.numerators.ndim != rank:
        raise ModelError(
            f"exact evaluation of modules takes {rank} axes before {type(module).__name__}, got "
            f"shape {a.numerators.shape}"
        )
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        return _affine(module, a).stripped()
    if isinstance(module, nn.BatchNorm2d):
        return _normalised(module, a).stripped()
    return _pooled(module, a).stripped()


def _affine(module: nn.Linear | nn.Conv2d, a: _Values) -> _Values:
    """W a + b."""
    weight = _array(module.weight)
    integers, shift = scaled_integers(weight.ravel())
    if isinstance(module, nn.Linear):
        z = integers.reshape(weight.shape).dot(a.numerators)
    else:
        z = _convolved(module, integers.reshape(weight.shape), a.numerators)
    out = _over_two(_Values(z, a.denominator), shift)
    if module.bias is None:
        return out
    return _added(out, _array(module.bias))


def _over_two(a: _Values, shift: int) -> _Values:
    """a · 2^−shift."""
    if shift < 0:
        return _Values(a.numerators * (1 << -shift), a.denominator)
    return _Values(a.numerators, a.denominator << shift)


def _added(a: _Values, offset: np.ndarray) -> _Values:
    """A float64 number a channel added."""
    integers, shift = scaled_integers(offset)
    low = max(0, shift)
    common = math.lcm(a.denominator, 1 << low)
    factor = (common >> low) * (1 << max(0, -shift))
    spread = (integers * factor).reshape(-1, *([1] * (a.numerators.ndim - 1)))
    return _Values(a.over(common) + spread, common)


def _normalised(module: nn.BatchNorm2d, a: _Values) -> _Values:
    """A batch normalisation with its running statistics.

    Raises:
        ModelError: it has none.
    """
    if module.running_var is None or module.running_mean is None:
        raise ModelError("a batch normalisation without running statistics")
    wide = np.longdouble
    spread = np.sqrt(_array(module.running_var).astype(wide) + wide(module.eps))
    factor = (1 if module.weight is None else _array(module.weight).astype(wide)) / spread
    offset = 0 if module.bias is None else _array(module.bias).astype(wide)
    offset = offset - _array(module.running_mean).astype(wide) * factor
    integers, shift = scaled_integers(factor.astype(np.float64))
    scaled = _Values(a.numerators * integers[:, None, None], a.denominator)
    return _added(_over_two(scaled, shift), offset.astype(np.float64))


def _pooled(module: nn.Module, a: _Values) -> _Values:
    """A pool of the largest values, or of means.

    Raises:
        ModelError: padding, dilation, or an adaptive pool with more than one output.
    """
    if isinstance(module, nn.AdaptiveAvgPool2d):
        if module.output_size not in (1, (1, 1)):
            raise ModelError("exact evaluation of modules has adaptive pools with one output only")
        count = math.prod(a.numerators.shape[1:])
        total = a.numerators.reshape(len(a.numerators), -1).sum(axis=1)
        return _Values(total.reshape(-1, 1, 1), a.denominator * count)
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    rest: tuple[Any, ...] = (_pair(module.padding), _pair(getattr(module, "dilation", 1)))
    if rest != ((0, 0), (1, 1)) or module.ceil_mode:
        raise ModelError("exact evaluation of modules has pools without padding or dilation only")
    windows = np.lib.stride_tricks.sliding_window_view(a.numerators, kernel, axis=(1, 2))
    windows = windows[:, :: stride[0], :: stride[1]]
    flat = windows.reshape(*windows.shape[:3], -1)
    if isinstance(module, nn.MaxPool2d):
        return _Values(flat.max(axis=-1), a.denominator)
    divisor = getattr(module, "divisor_override", None) or math.prod(kernel)
    return _Values(flat.sum(axis=-1), a.denominator * divisor)


def _pair(value: Any) -> tuple[int, int]:
    """A number for both axes, or one for each."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _array(tensor: Tensor) -> np.ndarray:
    """The same numbers as float64.

    Raises:
        ModelError: one is NaN or infinite.
    """
    array = tensor.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise ModelError("a weight is NaN or infinite")
    return array


def _convolved(module: nn.Conv2d, weight: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The convolution of integers (channels, rows, columns), without the bias.

    Raises:
        ModelError: padding by anything but zeros, or sums too long to be exact.
    """
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ModelError("exact evaluation of modules pads convolutions by numbers of zeros only")
    terms = math.prod(weight.shape[1:])
    if terms >= 1 << 21:
        raise ModelError(f"exact evaluation of modules adds up to 2^21 products, not {terms}")
    wide = _WEIGHT_BYTES if terms < 1 << 13 else _BYTES
    total: Any = 0
    limbs = _limbs(a, _BYTES)
    for place, kernel in enumerate(_limbs(weight, wide)):
        parts = []
        for first in range(0, len(limbs), _AT_A_TIME):
            z = functional.conv2d(
                limbs[first : first + _AT_A_TIME], kernel, None, module.stride, module.padding,
                module.dilation, module.groups,
            )  # fmt: skip
            parts.append(z.to(torch.int64).numpy())
        total = total + (_joined(np.concatenate(parts)) << (8 * wide * place))
    return np.asarray(total)


def _limbs(integers: np.ndarray, size: int) -> Tensor:
    """Limbs of so many bytes of integers, lowest first, each with the integer's sign: float64."""
    flat = [int(v) for v in integers.ravel()]
    count = max(1, -(-max(abs(v).bit_length() for v in flat) // (8 * size)))
    data = b"".join(abs(v).to_bytes(count * size, "little") for v in flat)
    each = np.frombuffer(data, dtype=np.uint8).reshape(len(flat), count, size)
    places = 256.0 ** np.arange(size)
    signs = np.array([(v > 0) - (v < 0) for v in flat], dtype=np.float64)
    limbs = (each @ places) * signs[:, None]
    return torch.from_numpy(np.ascontiguousarray(limbs.T).reshape(count, *integers.shape))


def _joined(parts: np.ndarray) -> np.ndarray:
    """Σ_j parts[j] · 2^(16 j) as Python's integers; parts are int64 below 2^53 in size."""
    count, shape = len(parts), parts.shape[1:]
    parts = parts.reshape(count, -1)
    carry, low = np.zeros(parts.shape[1], dtype=np.int64), np.empty(parts.shape, dtype="<u2")
    for j in range(count):
        carry = carry + parts[j]
        low[j] = carry & 0xFFFF
        carry >>= 16
    ends = carry.astype("<i8")[:, None].view(np.uint8)
    data = np.concatenate([np.ascontiguousarray(low.T).view(np.uint8), ends], axis=1).tobytes()
    size = 2 * count + 8
    out = np.empty(parts.shape[1], dtype=object)
    out[:] = [
        int.from_bytes(data[k : k + size], "little", signed=True) for k in range(0, len(data), size)
    ]
    return out.reshape(shape)
