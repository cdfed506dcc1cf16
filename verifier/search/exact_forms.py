"""Layers and numbers as FLINT rationals, for engines that follow affine forms exactly."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from flint import fmpq, fmpq_mat

from verifier.core.network import Layer


def exact_layer(layer: Layer) -> tuple[fmpq_mat, list[fmpq]]:
    """Weight (n_out, n_in) and bias of a layer as exact rationals."""
    entries = [_number(v) for v in layer.dense.ravel()]
    return fmpq_mat(layer.n_out, layer.n_in, entries), [_number(v) for v in layer.bias]


def rational(value: Fraction) -> fmpq:
    """The Fraction as a FLINT rational."""
    return fmpq(value.numerator, value.denominator)


def fraction(value: fmpq) -> Fraction:
    """The FLINT rational as a Fraction."""
    return Fraction(int(value.p), int(value.q))


def nearest(value: fmpq) -> float:
    """The nearest float64, infinite beyond its range."""
    try:
        return int(value.p) / int(value.q)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _number(value: Any) -> fmpq:
    """A float, an integer or a Fraction, exactly."""
    return fmpq(*value.as_integer_ratio())
