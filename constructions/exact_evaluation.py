"""Exact evaluation of narrow deep networks: of many points at once, and along a ray.

``Network.exact`` evaluates one point. Here the nonzero weights of each layer are integers over one
denominator, so that a batch takes one multiplication of integers a nonzero weight and point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np

from constructions.ridge import tie
from verifier.core.errors import NetworkError
from verifier.core.exact import common_denominator, fractions
from verifier.core.network import Layer, Network

Terms = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _IntegerLayer:
    """z = (Σ weight · a_column + bias) / denominator, neuron by neuron."""

    rows: tuple[tuple[Terms, int], ...]
    denominator: int
    relu: tuple[bool, ...]

    @classmethod
    def of(cls, layer: Layer) -> _IntegerLayer:
        """The same layer, exactly."""
        dense = layer.dense
        spots = [np.flatnonzero(row) for row in dense]
        weights = [fractions(row[spot]) for row, spot in zip(dense, spots, strict=True)]
        bias = fractions(layer.bias)
        common = lcm(*(v.denominator for row in (*weights, bias) for v in row))
        rows = tuple(
            (
                tuple(
                    (int(column), _times(v, common)) for column, v in zip(spot, values, strict=True)
                ),
                _times(b, common),
            )
            for spot, values, b in zip(spots, weights, bias, strict=True)
        )
        return cls(rows, common, tuple(bool(v) for v in layer.relu))


def _times(value: Fraction, common: int) -> int:
    return value.numerator * (common // value.denominator)


@dataclass(frozen=True)
class ExactEvaluator:
    """A network's layers as integers.

    Args:
        layers: made by ``of``.
        n_inputs: of the network.
    """

    layers: tuple[_IntegerLayer, ...]
    n_inputs: int

    @classmethod
    def of(cls, network: Network) -> ExactEvaluator:
        """All layers of a network, converted once."""
        layers = tuple(_IntegerLayer.of(layer) for layer in network.layers)
        return cls(layers, network.n_inputs)

    def batch(self, numerators: np.ndarray, denominator: int) -> tuple[np.ndarray, int]:
        """The outputs at many points.

        Args:
            numerators: (n, n_inputs) integers; row i / denominator is point i.
            denominator: > 0.

        Returns:
            (n, n_outputs) Python integers and their common denominator.

        Raises:
            NetworkError: a wrong number of inputs.
        """
        if numerators.ndim != 2 or numerators.shape[1] != self.n_inputs:
            raise NetworkError(f"expected shape (n, {self.n_inputs}), got {numerators.shape}")
        values: list[Any] = list(numerators.astype(object).T)
        for layer in self.layers:
            values = [
                _positive(z) if relu else z
                for z, relu in zip(
                    self._affine(layer, values, denominator), layer.relu, strict=True
                )
            ]
            denominator *= layer.denominator
        n = len(numerators)
        return np.array([np.broadcast_to(v, (n,)) for v in values], dtype=object).T, denominator

    @staticmethod
    def _affine(layer: _IntegerLayer, values: Sequence[Any], denominator: int) -> list[Any]:
        return [
            sum((w * values[column] for column, w in terms), bias * denominator)
            for terms, bias in layer.rows
        ]

    def first_tie(
        self, x: Sequence[Fraction], direction: Sequence[int], label: int, pieces: int
    ) -> tuple[Fraction, int] | None:
        """How far along x + t·direction, t ≥ 0, the label's output is the only largest one.

        The network is affine on each piece of the ray between two changes of sign; values and
        slopes are computed exactly on one piece after another.

        Args:
            x: the start.
            direction: integers.
            label: 1..m, of m outputs.
            pieces: how many pieces to follow at most.

        Returns:
            (t, rival 1..m) where another output is first as large; None if that was not reached,
            because there is no such t or the pieces did not suffice.
        """
        start, denominator = common_denominator(x)
        done = Fraction(0)
        for _ in range(pieces):
            point = [s + done * denominator * u for s, u in zip(start, direction, strict=True)]
            value, slope, end = self._piece(
                point, [denominator * u for u in direction], denominator
            )
            step, rival = tie(value, slope, label)
            if rival and (end is None or step <= end):
                return done + step, rival
            if end is None:
                return None
            done += end
        return None

    def _piece(
        self, point: Sequence[Fraction], direction: Sequence[int], denominator: int
    ) -> tuple[list[Fraction], list[Fraction], Fraction | None]:
        """Outputs at the point / denominator, their slopes, and where the piece ends, if it does.

        ``direction`` is over the same denominator.
        """
        numbers, scale = common_denominator([Fraction(v) for v in point])
        denominator *= scale
        values, slopes = numbers, [scale * u for u in direction]
        end: Fraction | None = None
        for layer in self.layers:
            z = self._affine(layer, values, denominator)
            dz = [sum(w * slopes[column] for column, w in terms) for terms, _ in layer.rows]
            denominator *= layer.denominator
            for k, relu in enumerate(layer.relu):
                # Which of two signs z has a little further on, and where it changes.
                if relu and z[k] * dz[k] < 0:
                    change = Fraction(-z[k], dz[k])
                    end = change if end is None else min(end, change)
                if relu and (z[k] < 0 or (z[k] == 0 and dz[k] <= 0)):
                    z[k], dz[k] = 0, 0
            values, slopes = z, dz
        return (
            [Fraction(v, denominator) for v in values],
            [Fraction(v, denominator) for v in slopes],
            end,
        )


def _positive(values: Any) -> Any:
    """max(values, 0) of integers or an array of them."""
    if isinstance(values, np.ndarray):
        return np.where(values > 0, values, 0)
    return max(values, 0)


def largest_bits(network: Network) -> int:
    """The most bits that a numerator or denominator of a weight or bias has."""
    return max(
        max(abs(v.numerator).bit_length(), v.denominator.bit_length() - 1)
        for layer in network.layers
        for array in (layer.dense.ravel(), layer.bias)
        for v in fractions(array[array != 0])
    )
