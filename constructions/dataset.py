"""Labelled points with exact values: the structure, and where to find a set by its name."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from verifier.core.errors import DataError
from verifier.core.exact import round_down32, round_up32

SPLITS = ("train", "test", "all")

DIGITS_TRAINING = 1437
"""``digits:train`` is scikit-learn's first 1437 digits, ``digits:test`` the other 360."""

MAX_CLASSES = 1_000_000

_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True, eq=False)
class DataSet:
    """n labelled points of d coordinates: coordinate value = points[i, j] · scale, exactly.

    Pixels are kept as the integers that the file holds. The exact value of a pixel p of an 8-bit
    image is then the rational p/255, which no float is; ``sample`` gives that rational and
    ``float32`` the nearest float32, which is what a deployed pipeline feeds to a network.

    Args:
        points: (n, d), an integer dtype, or float64 (then scale is 1).
        labels: (n,) integers in 0..n_classes-1.
        shape: shape of one point as an image or array (row-major); its product is d.
        n_classes: number of classes.
        name: shown in messages.
        scale: value of one integer step.
        label_names: n_classes words, or empty.

    Raises:
        DataError: no points, sizes that do not match, labels out of range, NaN or infinity.
    """

    points: np.ndarray
    labels: np.ndarray
    shape: tuple[int, ...]
    n_classes: int
    name: str = "data"
    scale: Fraction = Fraction(1)
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        points, labels = np.asarray(self.points), np.asarray(self.labels)
        _check_arrays(self.name, points, labels)
        if points.dtype.kind == "f":
            points = np.ascontiguousarray(points, dtype=np.float64)
        labels = labels.astype(np.int64)
        if math.prod(self.shape) != points.shape[1]:
            raise DataError(
                f"{self.name}: shape {self.shape} does not hold {points.shape[1]} numbers a point"
            )
        if not 1 <= self.n_classes <= MAX_CLASSES:
            raise DataError(f"{self.name}: {self.n_classes} classes; expected 1 to {MAX_CLASSES}")
        wrong = np.flatnonzero((labels < 0) | (labels >= self.n_classes))
        if len(wrong):
            raise DataError(
                f"{self.name}: label {labels[wrong[0]]} of point {wrong[0]} is not one of the "
                f"{self.n_classes} classes 0..{self.n_classes - 1}"
            )
        if self.scale <= 0 or (points.dtype.kind == "f" and self.scale != 1):
            raise DataError(f"{self.name}: scale {self.scale} must be positive, and 1 for floats")
        if self.label_names and len(self.label_names) != self.n_classes:
            raise DataError(
                f"{self.name}: {len(self.label_names)} label names for {self.n_classes} classes"
            )
        points, labels = points.view(), labels.view()
        points.setflags(write=False)
        labels.setflags(write=False)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dimension(self) -> int:
        """Coordinates of a point."""
        return int(self.points.shape[1])

    @property
    def is_image(self) -> bool:
        """Whether points have rows and columns and all values lie in [0, 1]."""
        low, high = math.floor(self.points.min()), math.ceil(self.points.max())
        return len(self.shape) >= 2 and low >= 0 and high * self.scale <= 1

    def label_name(self, label: int) -> str:
        """What a class is called."""
        return self.label_names[label] if self.label_names else str(label)

    def sample(self, i: int) -> tuple[Fraction, ...]:
        """Point i exactly.

        Raises:
            DataError: there is no such point.
        """
        row = self._row(i)
        if row.dtype.kind == "f":
            return tuple(Fraction(float(v)) for v in row)
        return tuple(int(v) * self.scale for v in row)

    def float32(self, i: int) -> np.ndarray:
        """Point i, each coordinate rounded to the nearest float32 (ties to even): (d,).

        Raises:
            DataError: there is no such point, or a value beyond the float32 range.
        """
        row = self._row(i)
        if row.dtype.kind == "f":
            with np.errstate(over="ignore"):
                out = row.astype(np.float32)
        else:
            p, q = self.scale.numerator, self.scale.denominator
            top = max(abs(int(row.min())), abs(int(row.max()))) * p
            if top <= _EXACT_FLOAT32 and q <= _EXACT_FLOAT32:
                # Both operands are exact float32, and IEEE division rounds correctly.
                out = (row.astype(np.int64) * p).astype(np.float32) / np.float32(q)
            else:
                out = np.array([_nearest32(v) for v in self.sample(i)], dtype=np.float32)
        if not np.isfinite(out).all():
            raise DataError(f"{self.name}: point {i} has a value beyond the float32 range")
        return out

    def subset(self, rows: slice) -> DataSet:
        """The points of a slice, with the same classes."""
        return DataSet(
            self.points[rows],
            self.labels[rows],
            self.shape,
            self.n_classes,
            self.name,
            self.scale,
            self.label_names,
        )

    def _row(self, i: int) -> np.ndarray:
        if not 0 <= i < len(self):
            raise DataError(
                f"{self.name}: no point {i}, the set has {len(self)} (0..{len(self) - 1})"
            )
        return np.asarray(self.points[i])


def _check_arrays(name: str, points: np.ndarray, labels: np.ndarray) -> None:
    """Raise DataError unless the arrays are numbers of fitting sizes."""
    if points.ndim != 2 or points.dtype.kind not in "uif":
        raise DataError(
            f"{name}: points must be an (n, d) array of numbers, got {points.dtype} {points.shape}"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise DataError(f"{name}: labels must be n integers, got {labels.dtype} {labels.shape}")
    if len(points) != len(labels):
        raise DataError(f"{name}: {len(points)} points but {len(labels)} labels")
    if points.size == 0:
        raise DataError(f"{name}: the set is empty, points have shape {points.shape}")
    if points.dtype.kind == "f":
        bad = np.argwhere(~np.isfinite(points))
        if len(bad):
            i, j = bad[0]
            raise DataError(f"{name}: coordinate {j} of point {i} is {points[i, j]}")


def _nearest32(value: Fraction) -> np.float32:
    """The float32 nearest to the value; a tie goes to the even mantissa."""
    low, high = round_down32(value), round_up32(value)
    if not (np.isfinite(low) and np.isfinite(high)):
        return low if np.isinf(low) else high
    below, above = value - Fraction(float(low)), Fraction(float(high)) - value
    if below == above:
        return low if int(low.view(np.uint32)) % 2 == 0 else high
    return low if below < above else high


def load_dataset(spec: str, *, default_split: str = "all") -> DataSet:
    """A data set by name or path.

    ``digits`` is scikit-learn's 1797 handwritten digits (8×8, pixel = integer/16). A folder holds
    IDX files (as MNIST's, ``train-*`` and ``t10k-*``) or CIFAR-10 binary files
    (``data_batch_*.bin``, ``test_batch.bin``), gzip or not; a file is an NPZ or a CSV. The formats
    are described in ``constructions.dataset_files``.

    Args:
        spec: a name or path, with ``:train``, ``:test`` or ``:all`` behind it to choose a part.
        default_split: the part if the spec names none and the set has parts.

    Raises:
        DataError: nothing there, a damaged file, or contents that are not labelled points.
    """
    from constructions import dataset_files  # which needs this module

    place, _, split = spec.rpartition(":")
    if split not in SPLITS or not place:
        place, split = spec, default_split
    if place == "digits":
        return _digits(split)
    path = Path(place)
    if path.is_dir():
        return dataset_files.read_folder(path, split)
    name = path.name.removesuffix(".gz")
    if name.endswith(".npz"):
        return dataset_files.read_npz(path, split)
    if name.endswith(".csv"):
        return dataset_files.read_csv(path)
    if path.exists():
        raise DataError(f"{path}: not a data set; expected a folder, an .npz or a .csv file")
    raise DataError(f"no data set {place!r}: neither a bundled name (digits) nor a file or folder")


def _digits(split: str) -> DataSet:
    """Scikit-learn's digits, from the file that comes with it: importing it takes a second."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits: scikit-learn, whose data they are, is not installed")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split()
        table = np.array([line.split(",") for line in lines]).astype(np.uint8)
    except (OSError, EOFError, ValueError, zlib.error) as problem:
        raise DataError(f"{path}: not the file of scikit-learn's digits: {problem}") from problem
    if table.ndim != 2 or table.shape[1] != 65:
        raise DataError(f"{path}: expected lines of 65 numbers")
    name = "digits" if split == "all" else f"digits:{split}"
    everything = DataSet(table[:, :64], table[:, 64], (8, 8), 10, name, Fraction(1, 16))
    if split == "all":
        return everything
    middle = DIGITS_TRAINING
    return everything.subset(slice(None, middle) if split == "train" else slice(middle, None))
