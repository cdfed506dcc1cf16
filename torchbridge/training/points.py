"""Labelled points as batches of float32 tensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from verifier.core.errors import DataError


@dataclass(frozen=True, eq=False)
class Points:
    """n labelled points as a model is fed them.

    Args:
        codes: (n, d) integers, the places of the coordinates in ``values``; batches are looked up
            as they are needed, so that byte pictures stay bytes.
        values: (k,) float32.
        labels: (n,) int64 in 0..n_classes-1.
        shape: of one point: (d,), or channels, rows and columns; its product is d.
        n_classes: number of classes.
        span: lowest and highest value that a coordinate can have, where balls are cut.
        name: shown in messages.

    Raises:
        DataError: no points, sizes that do not fit, or a value that is not finite.
    """

    codes: np.ndarray
    values: np.ndarray
    labels: np.ndarray
    shape: tuple[int, ...]
    n_classes: int
    span: tuple[float, float] = (-np.inf, np.inf)
    name: str = "data"

    def __post_init__(self) -> None:
        n, d = self.codes.shape
        if not n or len(self.labels) != n or int(np.prod(self.shape)) != d:
            raise DataError(
                f"{self.name}: {n} points of {d} numbers do not go with {len(self.labels)} labels "
                f"and shape {self.shape}"
            )
        if not np.isfinite(self.values).all():
            raise DataError(f"{self.name}: a value is beyond the float32 range")

    @classmethod
    def of_floats(
        cls, points: np.ndarray, labels: np.ndarray, shape: tuple[int, ...], n_classes: int,
        span: tuple[float, float] = (-np.inf, np.inf), name: str = "data",
    ) -> Points:  # fmt: skip
        """Points (n, d) of any float32 values."""
        flat = np.ascontiguousarray(points, dtype=np.float32)
        places = np.arange(flat.size).reshape(flat.shape)
        return cls(places, flat.ravel(), labels, shape, n_classes, span, name)

    def __len__(self) -> int:
        return len(self.codes)

    def inputs(self, rows: Tensor, device: torch.device) -> Tensor:
        """(n, *shape) inputs of some of the points."""
        picked = torch.from_numpy(self.values[self.codes[rows.numpy()]])
        return picked.reshape(len(rows), *self.shape).to(device)

    def classes(self, rows: Tensor, device: torch.device) -> Tensor:
        """(n,) labels of some of the points."""
        return torch.from_numpy(self.labels[rows.numpy()]).to(device)

    def described(self) -> str:
        """Name, number and digest."""
        digest = hashlib.sha256()
        for array in (self.codes, self.values, self.labels):
            digest.update(np.ascontiguousarray(array).data)
        return f"{self.name}, {len(self)} points, {digest.hexdigest()[:16]}"


def moved(x: Tensor, noise: Generator, by: int = 4) -> Tensor:
    """Pictures shifted by up to ``by`` pixels (zeros come in) and mirrored, each at random.

    Args:
        x: (n, channels, rows, columns).
        noise: decides.
        by: pixels in each direction.
    """
    n, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, (by, by, by, by))
    down, right = torch.randint(0, 2 * by + 1, (2, n, 1), generator=noise, device=x.device)
    rows = down + torch.arange(height, device=x.device)
    columns = right + torch.arange(width, device=x.device)
    mirrored = torch.rand(n, 1, generator=noise, device=x.device) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    picture = torch.arange(n, device=x.device)[:, None, None]
    # Advanced indices around a slice put their axes first.
    return padded[picture, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
