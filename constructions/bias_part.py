"""The bias part B_C of a ReLU network, exactly (T8 a; Yu and Gao 2021).

For an activation pattern z (one bit a ReLU) the network is the affine map J_z x + β_z, with

    J⁰ = I, β⁰ = 0,   Jˡ = diag(zˡ) Wˡ Jˡ⁻¹,   βˡ = zˡ ∘ (Wˡ βˡ⁻¹ + bˡ).

z is consistent with x if z_i = 1 where the pre-activation u_i(x) > 0 and z_i = 0 where u_i(x) < 0;
where u_i(x) = 0 it is free. C(x) = J_z x + β_z for every consistent z, and the bias classifier is
argmax β_z. Off the kinks only one z is consistent; on a kink β is set-valued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from constructions.rational_points import Vector
from verifier.core.errors import NetworkError
from verifier.core.exact import fractions
from verifier.core.network import Layer, Network

Pattern = tuple[bool, ...]
"""One bit for each ReLU, layer by layer; coordinates without a ReLU have none."""

MAX_FREE = 16

_ZERO: Any = Fraction(0)


@dataclass(frozen=True, eq=False)
class Forms:
    """n affine forms J x + β.

    Args:
        slope: J, (n, d) Fractions.
        constant: β, (n,) Fractions.
    """

    slope: np.ndarray
    constant: np.ndarray

    @classmethod
    def identity(cls, d: int) -> Forms:
        """x itself."""
        return cls(_objects(np.eye(d, dtype=int)), _objects(np.zeros(d, dtype=int)))

    def through(self, layer: Layer) -> Forms:
        """W (J x + β) + b."""
        weight, bias = _objects(layer.dense), _objects(layer.bias)
        return Forms(weight.dot(self.slope), weight.dot(self.constant) + bias)

    def masked(self, layer: Layer, bits: Sequence[bool]) -> Forms:
        """The forms after the layer's ReLUs with these bits."""
        on = np.ones(len(self.constant), dtype=bool)
        on[layer.relu] = bits
        return Forms(
            np.where(on[:, None], self.slope, _ZERO),
            np.where(on, self.constant, _ZERO),
        )

    def row(self, i: int) -> tuple[Vector, Fraction]:
        """Form i as (J_i, β_i)."""
        return tuple(self.slope[i]), self.constant[i]


def _objects(array: np.ndarray) -> np.ndarray:
    out = np.empty(array.size, dtype=object)
    out[:] = fractions(array.ravel())
    return out.reshape(array.shape)


def forms_of(network: Network, pattern: Pattern) -> tuple[list[tuple[Vector, Fraction]], Forms]:
    """(u_i as a form for each ReLU, the outputs as forms) under a pattern.

    A pattern that is too short gives the forms of its own ReLUs and those that follow in the same
    layer as far as they are known, and the pre-activations of that layer instead of the outputs.

    Raises:
        NetworkError: more bits than ReLUs.
    """
    if len(pattern) > network.n_relu:
        raise NetworkError(f"{len(pattern)} bits for a network with {network.n_relu} ReLUs")
    units: list[tuple[Vector, Fraction]] = []
    current, start = Forms.identity(network.n_inputs), 0
    for layer in network.layers:
        current = current.through(layer)
        units += [current.row(int(i)) for i in np.flatnonzero(layer.relu)]
        if start + layer.n_relu > len(pattern):
            break
        current = current.masked(layer, pattern[start : start + layer.n_relu])
        start += layer.n_relu
    return units, current


def constant_of(network: Network, pattern: Pattern) -> Vector:
    """β of a whole pattern, without J: n_outputs Fractions.

    Raises:
        NetworkError: not one bit for each ReLU.
    """
    if len(pattern) != network.n_relu:
        raise NetworkError(f"{len(pattern)} bits for a network with {network.n_relu} ReLUs")
    start, d = 0, network.n_inputs
    current = Forms(np.empty((d, 0), dtype=object), _objects(np.zeros(d, dtype=int)))
    for layer in network.layers:
        current = current.through(layer).masked(layer, pattern[start : start + layer.n_relu])
        start += layer.n_relu
    return tuple(current.constant)


def signs_at(network: Network, x: Sequence[Fraction]) -> tuple[int, ...]:
    """The sign −1, 0, 1 of each ReLU's pre-activation at x."""
    found = []
    for layer, (z, _) in zip(network.layers, network.exact_trace(x), strict=True):
        found += [(z[i] > 0) - (z[i] < 0) for i in np.flatnonzero(layer.relu)]
    return tuple(found)


def consistent(signs: Sequence[int], pattern: Pattern) -> bool:
    """Whether the pattern is in Z(x): only where the sign is 0 it may be either."""
    return len(signs) == len(pattern) and all(
        sign == 0 or bit == (sign > 0) for sign, bit in zip(signs, pattern, strict=True)
    )


def bias_part(network: Network, x: Sequence[Fraction]) -> Vector:
    """B_C(x) with relu'(0) = 0, as the common frameworks have it; n_outputs Fractions."""
    pattern = tuple(sign > 0 for sign in signs_at(network, x))
    return constant_of(network, pattern)


def bias_values(network: Network, x: Sequence[Fraction]) -> set[Vector]:
    """𝔅(x) = {β_z : z consistent with x}: one vector off the kinks.

    With any relu'(0) in [0, 1], of each unit and at each call, β_y − β_k is a convex combination of
    those of these vectors.

    Raises:
        NetworkError: more than ``MAX_FREE`` free units.
    """
    signs = signs_at(network, x)
    free = [i for i, sign in enumerate(signs) if sign == 0]
    if len(free) > MAX_FREE:
        raise NetworkError(f"{len(free)} units have a kink at the point; expected ≤ {MAX_FREE}")
    found = set()
    for bits in product((False, True), repeat=len(free)):
        pattern = [sign > 0 for sign in signs]
        for i, bit in zip(free, bits, strict=True):
            pattern[i] = bit
        found.add(constant_of(network, tuple(pattern)))
    return found
