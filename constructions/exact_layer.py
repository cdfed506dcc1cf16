"""Layers with exact rational weights, stored as float64 where that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from verifier.core.exact import Rational, round_down
from verifier.core.network import Layer


def exact_layer(
    rows: Sequence[Sequence[Rational]], bias: Sequence[Rational], *, relu: bool
) -> Layer:
    """z = W a + b with exactly these numbers, with a ReLU on every coordinate or on none.

    If all of them are float64 numbers the layer is a float layer, and can be exported; else it
    holds Python integers and Fractions.

    Args:
        rows: (n_out, n_in).
        bias: (n_out,).
        relu: whether the outputs pass a ReLU.
    """
    exact_floats = all(_is_float(v) for row in [*rows, bias] for v in row)
    dtype = float if exact_floats else object
    flags = np.full(len(bias), relu)
    return Layer(_array(rows, dtype), _array([bias], dtype)[0], flags)


def _array(rows: Sequence[Sequence[Rational]], dtype: type) -> np.ndarray:
    out: np.ndarray = np.empty((len(rows), len(rows[0])), dtype=dtype)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            out[i, j] = float(value) if dtype is float else value
    return out


def _is_float(value: Rational) -> bool:
    nearest = round_down(value)
    return bool(np.isfinite(nearest)) and Fraction(nearest) == value
