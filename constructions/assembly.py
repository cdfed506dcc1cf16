"""Sparse layers put together from rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.core.network import Layer
from verifier.core.sparse import sp


@dataclass(frozen=True, eq=False)
class Rows:
    """Some neurons of a layer, in sparse form.

    Args:
        counts: (n,) number of weights of each neuron.
        columns: (sum of counts,) what each weight multiplies.
        values: the weights.
        bias: (n,).
    """

    counts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    bias: np.ndarray


def singles(columns: np.ndarray, weight: float, bias: np.ndarray | float = 0.0) -> Rows:
    """One neuron a column: weight · a_column + bias."""
    n = len(columns)
    return Rows(
        np.ones(n, dtype=np.int64), columns, np.full(n, weight), np.broadcast_to(bias, (n,))
    )


def neuron(terms: Sequence[tuple[int, float]], bias: float = 0.0) -> Rows:
    """One neuron: Σ weight · a_column + bias."""
    return Rows(
        np.array([len(terms)]),
        np.array([column for column, _ in terms], dtype=np.int64),
        np.array([weight for _, weight in terms], dtype=np.float64),
        np.array([bias]),
    )


def sums(columns: np.ndarray, weight: float, bias: np.ndarray | float) -> Rows:
    """One neuron a row of ``columns`` (n, k): weight · Σ a_column + bias."""
    n, k = columns.shape
    return Rows(np.full(n, k), columns.ravel(), np.full(n * k, weight), np.broadcast_to(bias, (n,)))


def layer(parts: Sequence[Rows], n_in: int, *, relu: bool = True) -> Layer:
    """The neurons of all parts, one after another, as one layer with a ReLU on all or none."""
    counts = np.concatenate([part.counts for part in parts])
    starts = np.concatenate([[0], np.cumsum(counts)])
    weight = sp.csr_array(
        (
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.columns for part in parts]),
            starts,
        ),
        shape=(len(counts), n_in),
    )
    bias = np.concatenate([part.bias for part in parts])
    return Layer(weight, bias, np.full(len(counts), relu))
