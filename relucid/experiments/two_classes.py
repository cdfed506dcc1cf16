"""Smaller questions made of a data set, exactly: two classes, few coordinates."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from constructions.dataset import DataSet
from relucid.experiments.workshop import Data
from relucid.training import points_of
from verifier.core.errors import DataError


def of_parity(data: Data) -> Data:
    """Even labels against odd ones."""
    return _made(data.name, *(_parity(part) for part in (data.learnt, data.held_out)))


def pooled(data: Data, rows: int, columns: int) -> Data:
    """Pictures with the mean of every block of pixels as one coordinate, exactly.

    Args:
        data: pictures of integers.
        rows, columns: of blocks; both must divide the picture's.

    Raises:
        DataError: the points are no such pictures.
    """
    return _made(
        data.name, *(_pooled(part, rows, columns) for part in (data.learnt, data.held_out))
    )


def _made(name: str, learnt: DataSet, held_out: DataSet) -> Data:
    return Data(name, learnt, held_out, points_of(learnt), points_of(held_out))


def _parity(data: DataSet) -> DataSet:
    return replace(
        data, labels=data.labels % 2, n_classes=2, name=f"{data.name}, even or odd",
        label_names=("even", "odd"),
    )  # fmt: skip


def _pooled(data: DataSet, rows: int, columns: int) -> DataSet:
    height, width = data.shape[-2:] if len(data.shape) > 1 else (0, 0)
    if data.points.dtype.kind == "f" or not height or height % rows or width % columns:
        raise DataError(
            f"{data.name}: expected pictures of integers that {rows} × {columns} blocks cover, got "
            f"shape {data.shape}"
        )
    tall, wide = height // rows, width // columns
    blocks = data.points.astype(np.int64).reshape(len(data), -1, rows, tall, columns, wide)
    sums = blocks.sum(axis=(1, 3, 5))
    return replace(
        data, points=sums.reshape(len(data), -1), shape=(rows, columns),
        scale=data.scale * Fraction(1, tall * wide * blocks.shape[1]),
        name=f"{data.name} in {rows} × {columns} blocks",
    )  # fmt: skip
