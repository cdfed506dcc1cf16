"""Readers of data set files: IDX, CIFAR-10 binary, NPZ, CSV. Nothing is unpickled.

IDX (MNIST and its relatives): a magic number 0 0 type rank, big-endian sizes, then the values;
images and labels in two files. Unsigned bytes mean p/255.

CIFAR-10 binary: records of 1 label byte and 3072 bytes (red, green, blue planes of 32×32); p/255. A
file may hold any number of whole records.

NPZ: arrays ``x`` (n, ...) and ``y`` (n,), or ``x_train``, ``y_train``, ``x_test``, ``y_test``.
Unsigned bytes mean p/255 unless an array ``scale`` of two integers (numerator, denominator) says
otherwise; other integers mean themselves, floats too.

CSV: a point a line. With a header line, the column called label, class, target or y (any case) is
the label; without one, the last column. Labels are integers from 0; words, and other integers, are
numbered in sorted order. Decimals with up to 12 places are kept exactly.
"""

from __future__ import annotations

import csv
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from constructions.dataset import MAX_CLASSES, DataSet
from verifier.core.errors import DataError
from verifier.core.files import read_bytes

MAX_BYTES = 4 * 2**30

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_CIFAR_RECORD = 3073
_CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_LABEL_COLUMNS = ("label", "class", "target", "y")
_MAX_PLACES = 12


def _read(path: Path) -> bytes:
    """The file's contents, unpacked."""
    return read_bytes(path, limit=MAX_BYTES, error=DataError)


def read_folder(path: Path, split: str) -> DataSet:
    """A folder of IDX or CIFAR-10 binary files.

    Args:
        path: the folder.
        split: train, test or all. Where the folder has only one part, that part.

    Raises:
        DataError: neither kind of file is there, or one is damaged.
    """
    try:
        files = sorted(p for p in path.iterdir() if p.is_file())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    parts = _idx_parts(files) or _cifar_parts(files)
    if not parts:
        raise DataError(
            f"{path}: no data set here; expected IDX files (train-images-idx3-ubyte, ...) or "
            "CIFAR-10 files (data_batch_1.bin, ..., test_batch.bin), gzip or not"
        )
    chosen = (
        [parts[split]] if split in parts else [parts[k] for k in ("train", "test") if k in parts]
    )
    return _joined(f"{path}:{split}" if split in parts else str(path), chosen)


def _joined(name: str, parts: list[list[tuple[Path, Path]]]) -> DataSet:
    """All pieces of the chosen parts, one after another."""
    sets = [_read_piece(*piece) for part in parts for piece in part]
    for piece in sets[1:]:
        if piece.shape != sets[0].shape:
            raise DataError(f"{piece.name}: shape {piece.shape}, but others have {sets[0].shape}")
    return DataSet(
        np.concatenate([s.points for s in sets]),
        np.concatenate([s.labels for s in sets]),
        sets[0].shape,
        max(s.n_classes for s in sets),
        name,
        sets[0].scale,
        sets[0].label_names,
    )


def _read_piece(images: Path, labels: Path) -> DataSet:
    """One pair of IDX files, or one CIFAR file (then both paths are the same)."""
    return read_cifar(images) if images == labels else read_idx_pair(images, labels)


def _idx_parts(files: Sequence[Path]) -> dict[str, list[tuple[Path, Path]]]:
    """The IDX pairs by split, recognised by the usual names."""
    parts = {}
    for split, words in (("train", "train"), ("test", "t10k|test")):
        found = [
            next((p for p in files if re.match(rf"({words}).*{kind}.*idx", p.name)), None)
            for kind in ("images", "labels")
        ]
        images, labels = found
        if images is not None and labels is None:
            raise DataError(f"{images}: the file with its labels is missing")
        if images is not None and labels is not None:
            parts[split] = [(images, labels)]
    return parts


def _cifar_parts(files: Sequence[Path]) -> dict[str, list[tuple[Path, Path]]]:
    """The CIFAR-10 files by split."""
    parts = {}
    for split, pattern in (("train", r"data_batch_\d+"), ("test", "test_batch")):
        found = [p for p in files if re.fullmatch(rf"{pattern}\.bin(\.gz)?", p.name)]
        if found:
            parts[split] = [(p, p) for p in found]
    return parts


def read_idx(path: Path) -> np.ndarray:
    """The array in one IDX file.

    Raises:
        DataError: wrong magic number, or contents shorter or longer than the sizes announce.
    """
    data = _read(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES or data[3] == 0:
        raise DataError(f"{path}: byte 0: not an IDX file, its magic number is {data[:4].hex()!r}")
    rank = data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise DataError(f"{path}: byte {len(data)}: truncated inside the {rank} sizes")
    sizes = struct.unpack(f">{rank}I", data[4:start])
    kind = np.dtype(_IDX_TYPES[data[2]])
    expected = start + math.prod(sizes) * kind.itemsize
    if len(data) != expected:
        raise DataError(
            f"{path}: byte {min(len(data), expected)}: sizes {sizes} need {expected} bytes, "
            f"the file has {len(data)}"
        )
    return np.frombuffer(data, kind, offset=start).reshape(sizes)


def read_idx_pair(images: Path, labels: Path) -> DataSet:
    """The points of one IDX file with the labels of another.

    Raises:
        DataError: see ``read_idx``; or different numbers of both, or labels that are not integers.
    """
    x, y = read_idx(images), read_idx(labels)
    if x.ndim < 2 or y.ndim != 1 or y.dtype.kind == "f":
        raise DataError(
            f"{images}: expected an array of points and a list of labels, got shapes {x.shape} of "
            f"{images.name} and {y.shape} of {labels.name}"
        )
    if len(x) != len(y):
        raise DataError(f"{images}: {len(x)} points, but {labels.name} has {len(y)} labels")
    return _dataset(str(images), x, y)


def _dataset(name: str, x: np.ndarray, y: np.ndarray, scale: Fraction | None = None) -> DataSet:
    """A DataSet from arrays; unsigned bytes mean p/255 unless a scale is given."""
    if x.ndim == 1:
        raise DataError(f"{name}: points must have at least 2 dimensions, got shape {x.shape}")
    if scale is None:
        scale = Fraction(1, 255) if x.dtype.newbyteorder("=") == np.uint8 else Fraction(1)
    x = x.astype(np.float64 if x.dtype.kind == "f" else x.dtype.newbyteorder("="))
    if y.size and y.dtype.kind in "ui" and int(y.min()) < 0:
        raise DataError(f"{name}: label {y.min()} of point {y.argmin()} is negative")
    n_classes = int(y.max()) + 1 if y.size and y.dtype.kind in "ui" else 1
    points = x.reshape(len(x), math.prod(x.shape[1:]))
    return DataSet(points, y, x.shape[1:], n_classes, name, scale)


def read_cifar(path: Path) -> DataSet:
    """One CIFAR-10 binary file.

    Raises:
        DataError: not a whole number of records, or a label above 9.
    """
    data = _read(path)
    if not data or len(data) % _CIFAR_RECORD:
        whole = len(data) // _CIFAR_RECORD
        raise DataError(
            f"{path}: byte {whole * _CIFAR_RECORD}: {len(data)} bytes are not a whole number of "
            f"records of {_CIFAR_RECORD} bytes"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
    labels = records[:, 0]
    wrong = np.flatnonzero(labels > 9)
    if len(wrong):
        raise DataError(
            f"{path}: byte {wrong[0] * _CIFAR_RECORD}: label {labels[wrong[0]]} of record "
            f"{wrong[0]} is not one of the 10 classes 0..9"
        )
    return DataSet(
        records[:, 1:], labels, (3, 32, 32), 10, str(path), Fraction(1, 255), _CIFAR_CLASSES
    )


def read_npz(path: Path, split: str) -> DataSet:
    """An NPZ file.

    Raises:
        DataError: damaged, arrays of objects, the arrays named in the module's description missing,
            or of wrong sizes.
    """
    data = _read(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {
                info.filename.removesuffix(".npy"): (archive, info) for info in archive.infolist()
            }
            suffixes = _npz_suffixes(path, set(arrays), split)
            xs = [_npz_array(path, *arrays[f"x{s}"]) for s in suffixes]
            ys = [_npz_array(path, *arrays[f"y{s}"]) for s in suffixes]
            scale = _npz_array(path, *arrays["scale"]) if "scale" in arrays else None
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        EOFError,
        zlib.error,
    ) as error:
        raise DataError(f"{path}: not an NPZ file ({error})") from error
    for x, y in zip(xs, ys, strict=True):
        if x.ndim < 2 or y.ndim != 1 or x.shape[1:] != xs[0].shape[1:] or len(x) != len(y):
            raise DataError(
                f"{path}: points of shape {x.shape} do not fit labels of shape {y.shape}"
            )
    factor = None if scale is None else _npz_scale(path, scale)
    return _dataset(str(path), np.concatenate(xs), np.concatenate(ys), factor)


def _npz_suffixes(path: Path, names: set[str], split: str) -> list[str]:
    """The endings of the arrays to read: "" for x and y, "_train", "_test"."""
    if {"x", "y"} <= names:
        return [""]
    present = [s for s in ("_train", "_test") if {f"x{s}", f"y{s}"} <= names]
    if not present:
        raise DataError(
            f"{path}: expected arrays x and y, or x_train, y_train, x_test, y_test; "
            f"found {', '.join(sorted(names)) or 'none'}"
        )
    return [f"_{split}"] if f"_{split}" in present else present


def _npz_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, checked against its announced size before memory is taken for it."""
    if info.file_size > MAX_BYTES:
        raise DataError(f"{path}: {info.filename} is larger than the limit of {MAX_BYTES} bytes")
    if info.flag_bits & 1:
        raise DataError(f"{path}: {info.filename} is encrypted")
    stream = io.BytesIO(archive.read(info))
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, fortran, kind = read_header(stream)
    except ValueError as error:
        message = " ".join(str(error).split())[:80]
        raise DataError(f"{path}: {info.filename} is not a NumPy array ({message})") from error
    if kind.hasobject or kind.kind not in "uif":
        raise DataError(f"{path}: {info.filename} holds {kind}, not numbers")
    body = stream.read()
    if min(shape, default=0) < 0 or len(body) != math.prod(shape) * kind.itemsize:
        raise DataError(
            f"{path}: {info.filename} has {len(body)} bytes of values, which do not fit {shape}"
        )
    flat = np.frombuffer(body, kind)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _npz_scale(path: Path, scale: np.ndarray) -> Fraction:
    """The scale from its two integers."""
    if scale.shape != (2,) or scale.dtype.kind not in "ui" or int(scale.min()) <= 0:
        raise DataError(f"{path}: scale must be two positive integers, got {scale.tolist()!r:.60}")
    return Fraction(int(scale[0]), int(scale[1]))


def read_csv(path: Path) -> DataSet:
    """A CSV file.

    Raises:
        DataError: a line of another length, a cell that is no number, with its line and column.
    """
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from error
    if not lines:
        raise DataError(f"{path}: the file is empty")
    column, lines = _label_column(path, lines)
    width = len(lines[0][1])
    words, cells = [], []
    for number, row in lines:
        if len(row) != width:
            raise DataError(f"{path}:{number}: {len(row)} columns, expected {width}")
        words.append(row[column].strip())
        cells.append([_number(path, number, j, c) for j, c in enumerate(row) if j != column])
    labels, names = _labels(path, [number for number, _ in lines], words)
    points, scale = _exact_array(cells)
    count = len(names) or max(labels) + 1
    return DataSet(points, np.array(labels), (width - 1,), count, str(path), scale, names)


def _label_column(path: Path, lines: list[tuple[int, list[str]]]) -> tuple[int, Any]:
    """Which column holds the label, and the lines without the header."""
    first = [cell.strip().lower() for cell in lines[0][1]]
    if len(first) < 2:
        raise DataError(f"{path}:{lines[0][0]}: a line needs a coordinate and a label")
    if all(_is_number(cell) for cell in first[:-1]):
        return len(first) - 1, lines
    found = [j for j, cell in enumerate(first) if cell in _LABEL_COLUMNS]
    if len(found) != 1:
        raise DataError(
            f"{path}:{lines[0][0]}: the header must name exactly one of its columns "
            f"{', '.join(_LABEL_COLUMNS)}"
        )
    if len(lines) == 1:
        raise DataError(f"{path}: the file has a header but no points")
    return found[0], lines[1:]


def _is_number(cell: str) -> bool:
    """Whether a cell holds a number (NaN and infinity count: they are reported as such later)."""
    try:
        Decimal(cell)
    except InvalidOperation:
        return False
    return True


def _number(path: Path, line: int, column: int, cell: str) -> Decimal:
    """A cell as a finite decimal."""
    try:
        value = Decimal(cell.strip())
    except InvalidOperation:
        raise DataError(
            f"{path}:{line}: column {column + 1}: {cell[:30]!r} is not a number"
        ) from None
    if not value.is_finite():
        raise DataError(
            f"{path}:{line}: column {column + 1}: {cell.strip()} is not a finite number"
        )
    if value and abs(value.adjusted()) > 300:
        raise DataError(
            f"{path}:{line}: column {column + 1}: {cell[:30]!r} is beyond the float64 range"
        )
    return value


def _labels(path: Path, lines: list[int], words: list[str]) -> tuple[list[int], tuple[str, ...]]:
    """Labels as integers from 0, with their names if they are something else."""
    integers = [re.fullmatch(r"[+-]?\d{1,18}", word, re.ASCII) is not None for word in words]
    if all(integers):
        return _classes([int(word) for word in words])
    numeric = [_is_number(word) or not word for word in words]
    if any(numeric):
        k = integers.index(False) if any(integers) else numeric.index(True)
        raise DataError(
            f"{path}:{lines[k]}: label {words[k][:30]!r}: expected integers, or words, everywhere"
        )
    numbers = {name: k for k, name in enumerate(sorted(set(words)))}
    return [numbers[word] for word in words], tuple(numbers)


def _classes(labels: list[int]) -> tuple[list[int], tuple[str, ...]]:
    """Integers as they are; if some are negative or very large, numbered in ascending order."""
    if min(labels) >= 0 and max(labels) < MAX_CLASSES:
        return labels, ()
    present, numbers = np.unique(labels, return_inverse=True)
    return numbers.tolist(), tuple(map(str, present.tolist()))


def _exact_array(cells: list[list[Decimal]]) -> tuple[np.ndarray, Fraction]:
    """Integers and a power of ten where they fit, else the nearest float64."""
    places = max(max(0, -int(value.as_tuple().exponent)) for row in cells for value in row)
    if places <= _MAX_PLACES:
        factor = 10**places
        integers = [[int(value.scaleb(places)) for value in row] for row in cells]
        if max(abs(n) for row in integers for n in row) < 2**62:
            return np.array(integers, dtype=np.int64), Fraction(1, factor)
    return np.array([[float(value) for value in row] for row in cells]), Fraction(1)
