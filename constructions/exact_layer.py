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
    weight, offset = exact_array(rows), exact_array([bias])[0]
    if weight.dtype != offset.dtype:
        weight, offset = weight.astype(object), offset.astype(object)
    return Layer(weight, offset, np.full(len(bias), relu))


def exact_array(rows: Sequence[Sequence[Rational]]) -> np.ndarray:
    """The numbers as float64 if every one is a float64 number, else as they are, in an array.

    Args:
        rows: (n_out, n_in).
    """
    exact_floats = all(_is_float(v) for row in rows for v in row)
    dtype: type = float if exact_floats else object
    out: np.ndarray = np.empty((len(rows), len(rows[0])), dtype=dtype)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            out[i, j] = float(value) if exact_floats else value
    return out


def _is_float(value: Rational) -> bool:
    nearest = round_down(value)
    return bool(np.isfinite(nearest)) and Fraction(nearest) == value
