"""Gradients of a network: exactly in one linear region, and enclosed over many of them.

Going back from the outputs, a row y of derivatives with respect to one layer's activations becomes
λ y with respect to its pre-activations, where λ is 1, 0, or anything in [0, 1] for a ReLU whose
phase is not known, and (λ y) W with respect to the activations before. Everything below is exact
rational interval arithmetic, except where a float64 result is widened by its own rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.bounds.interval import Bounds, interval_bounds
from verifier.bounds.linear import root_bounds
from verifier.core.exact import round_down, round_up
from verifier.core.network import Network
from verifier.core.property import Box
from verifier.search.exact_forms import exact_layer, fraction
from verifier.search.lipschitz_domain import Domain
from verifier.search.lipschitz_evidence import ACTIVE, INACTIVE, OPEN, Attained

_ZERO = fmpq(0)


def known_phases(
    network: Network, box: Box | None, stop: Callable[[], bool] = lambda: False
) -> list[np.ndarray]:
    """Per layer the phases that no point of the domain contradicts, as far as bounds tell.

    Args:
        network: any network.
        box: the domain; None for all of R^d.
        stop: asked between steps; bounds not tightened by then stay as they are.
    """
    bounds: list[Bounds] | None = None
    if box is not None and network.is_float:
        lower, upper = box.outward()
        with np.errstate(all="ignore"):
            bounds = interval_bounds(network, lower, upper)
            if all(np.isfinite(end).all() for pair in bounds for end in pair):
                bounds = root_bounds(network, lower, upper, bounds=bounds, stop=stop)[1]
    out, nonnegative = [], np.zeros(network.n_inputs, dtype=bool)
    for k, layer in enumerate(network.layers):
        phases = np.where(layer.relu, OPEN, ACTIVE).astype(np.int8)
        # Sums of outputs of ReLUs need no bounds: signs say enough, without rounding.
        weight = layer.dense
        rising = ~((weight < 0) | ((weight != 0) & ~nonnegative)).any(axis=1) & (layer.bias >= 0)
        falling = ~((weight > 0) | ((weight != 0) & ~nonnegative)).any(axis=1) & (layer.bias <= 0)
        if bounds is not None:
            low, high = bounds[k]
            rising, falling = rising | (low >= 0), falling | (high <= 0)
        phases[layer.relu & falling] = INACTIVE
        phases[layer.relu & rising] = ACTIVE
        nonnegative = layer.relu | rising.astype(bool)
        out.append(phases)
    return out


class Slopes:
    """Exact weights of one network with the rows of outputs that are asked about.

    Args:
        network: the network.
        rows: (K, n_outputs) exact numbers: the K functions rows · F whose slopes count.
    """

    def __init__(self, network: Network, rows: np.ndarray) -> None:
        self.network = network
        self.layers = [exact_layer(layer) for layer in network.layers]
        entries = [fmpq(*v.as_integer_ratio()) for v in rows.ravel()]
        self.rows = fmpq_mat(len(rows), rows.shape[1], entries)
        self.relu = [layer.relu for layer in network.layers]

    def forward(self, k: int, before: fmpq_mat) -> fmpq_mat:
        """Layer k's pre-activations as forms, from the activations before it as forms."""
        weight, bias = self.layers[k]
        forms = weight * before
        last = forms.ncols() - 1
        for i, b in enumerate(bias):
            forms[i, last] += b
        return forms

    def at(self, domain: Domain, x: Sequence[fmpq]) -> Attained | None:
        """The exact Jacobian at a point of the domain, or None if the point lies on a kink.

        Args:
            domain: whose free coordinates count.
            x: free coordinates.
        """
        column = fmpq_mat(domain.n + 1, 1, [*x, fmpq(1)])
        forms, pattern = domain.start, []
        for k, relu in enumerate(self.relu):
            forms = self.forward(k, forms)
            z = forms * column
            active = [bool(not r or z[i, 0] > 0) for i, r in enumerate(relu)]
            for i, on in enumerate(active):
                if on:
                    continue
                if z[i, 0] == 0 and any(forms[i, j] != 0 for j in range(domain.n)):
                    return None
                for j in range(domain.n + 1):
                    forms[i, j] = _ZERO
            pattern.append(tuple(active))
        slope, row = row_norm(self.rows * forms)
        gradient = [Fraction(0)] * len(domain.whole(x))
        product = self.rows * forms
        for column_index, j in enumerate(domain.free):
            gradient[j] = fraction(product[row, column_index])
        return Attained(domain.whole(x), fraction(slope), row, tuple(gradient), tuple(pattern))


def row_norm(forms: fmpq_mat) -> tuple[fmpq, int]:
    """The largest ℓ1 norm of the gradients of forms, and whose it is."""
    n = forms.ncols() - 1
    norms = [sum((abs(forms[k, j]) for j in range(n)), _ZERO) for k in range(forms.nrows())]
    best = max(range(len(norms)), key=norms.__getitem__)
    return norms[best], best


@dataclass(frozen=True, eq=False)
class Range:
    """Intervals for a (K, n) matrix: centre ± radius, exactly.

    Args:
        low, high: object arrays (K, n) of rationals.
    """

    low: np.ndarray
    high: np.ndarray

    def through(self, phases: np.ndarray) -> Range:
        """Times λ, column by column: 0, 1 or [0, 1]."""
        zero = np.full(self.low.shape, _ZERO, dtype=object)
        off, unknown = phases == INACTIVE, phases == OPEN
        return Range(
            np.where(off, zero, np.where(unknown, np.minimum(self.low, zero), self.low)),
            np.where(off, zero, np.where(unknown, np.maximum(self.high, zero), self.high)),
        )

    def times(self, weight: fmpq_mat) -> Range:
        """The intervals of (this matrix) · weight."""
        middle, spread = _array(self.centre * weight), _array(self.radius * absolute(weight))
        return Range(middle - spread, middle + spread)

    @property
    def centre(self) -> fmpq_mat:
        """The intervals' midpoints."""
        return _matrix((self.low + self.high) / 2)

    @property
    def radius(self) -> fmpq_mat:
        """Half of the intervals' widths."""
        return _matrix((self.high - self.low) / 2)

    @cached_property
    def floats(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) rounded outwards to float64."""
        down, above = np.vectorize(_down, [float]), np.vectorize(_up, [float])
        return down(self.low), above(self.high)


def backward_ranges(slopes: Slopes, phases: list[np.ndarray]) -> list[Range]:
    """For each layer the range of the rows' derivatives with respect to its activations.

    Args:
        slopes: the network.
        phases: per layer what is known of every coordinate on the whole domain.
    """
    rows = _array(slopes.rows)
    out = [Range(rows, rows)]
    for (weight, _), known in zip(slopes.layers[:0:-1], phases[:0:-1], strict=True):
        out.append(out[-1].through(known).times(weight))
    return out[::-1]


def absolute(matrix: fmpq_mat) -> fmpq_mat:
    """|M|, entry by entry."""
    return fmpq_mat(
        matrix.nrows(), matrix.ncols(), [abs(v) for row in matrix.tolist() for v in row]
    )


def _matrix(array: np.ndarray) -> fmpq_mat:
    return fmpq_mat(array.shape[0], array.shape[1], list(array.ravel()))


def _array(matrix: fmpq_mat) -> np.ndarray:
    out = np.empty((matrix.nrows(), matrix.ncols()), dtype=object)
    for i, row in enumerate(matrix.tolist()):
        out[i] = row
    return out


def _down(number: Any) -> float:
    return round_down(fraction(number))


def _up(number: Any) -> float:
    return round_up(fraction(number))
