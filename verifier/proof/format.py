r"""The proof file: a header, then blocks of integer columns. FORMAT.md says what they mean.

    "relucid proof 1\n"
    length (4 bytes, little-endian), header: one JSON object
    blocks: kind (1 byte), length (4 bytes), then so many bytes of zlib
    the block "end", whose one column is the number of blocks before it

A block's bytes are its columns one after another: count (4 bytes), then the numbers, little-endian.
Which columns a kind has, and their types, says ``BLOCKS``.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from verifier.core.errors import CertificateError

MAGIC = b"relucid proof 1\n"
#: Bytes that one block may unpack to, and that a header may have.
MAX_BLOCK, MAX_HEADER = 1 << 26, 1 << 24

Columns = dict[str, np.ndarray]

#: kind: (name of the block, its columns with their types).
BLOCKS: dict[int, tuple[str, tuple[tuple[str, str], ...]]] = {
    1: ("case", (("case", "u4"),)),
    2: (
        "visit",
        (
            ("action", "u1"), ("axis", "u4"), ("at", "i8"),
            ("close_node", "u4"), ("close_clause", "u4"), ("weight", "u2"),
            ("cut_node", "u4"), ("cut_axis", "u4"), ("cut_above", "u1"), ("cut_at", "i8"),
            ("slope_node", "u4"), ("slope_neuron", "u4"), ("slope", "u1"),
        ),
    ),
    4: (
        "lemma",
        (
            ("layer", "u2"), ("neuron", "u4"), ("side", "u1"), ("leaves", "u4"), ("splits", "u2"),
            ("unit", "u4"), ("sign", "u1"), ("multiplier", "u4"), ("units", "u1"), ("slopes", "u1"),
            ("fine_leaf", "u4"), ("fine", "u1"),
        ),
    ),
    5: (
        "neurons",
        (
            ("action", "u1"), ("neuron", "u4"), ("units", "u1"), ("slopes", "u1"),
            ("fine_leaf", "u4"), ("fine", "u1"), ("weight", "i8"), ("multiplier", "u4"),
            ("size", "u4"), ("digits", "u1"),
        ),
    ),
    6: ("pairs", (("stride", "u4"), ("offset", "i4"), ("minus", "u1"))),
    7: ("intervals", (("case", "u4"),)),
    8: ("rounding", ()),
    255: ("end", (("blocks", "u4"),)),
}  # fmt: skip
_KINDS = {name: (kind, columns) for kind, (name, columns) in BLOCKS.items()}


class Writer:
    """Writes a proof, block by block.

    Args:
        stream: open for writing bytes.
        header: what is proved of what.
    """

    def __init__(self, stream: BinaryIO, header: dict[str, Any]) -> None:
        self.stream, self.blocks = stream, 0
        text = json.dumps(header, separators=(",", ":")).encode()
        stream.write(MAGIC + struct.pack("<I", len(text)) + text)

    def block(self, name: str, **columns: Any) -> None:
        """Append a block; a column that is not given is empty."""
        kind, fields = _KINDS[name]
        parts = []
        for field, dtype in fields:
            array = np.asarray(columns.pop(field, ()))
            stored = array.astype(f"<{dtype}")
            if array.size and not np.array_equal(stored, array):
                raise ValueError(f"block {name}: column {field} does not fit {dtype}")
            parts += [struct.pack("<I", stored.size), stored.tobytes()]
        if columns:
            raise ValueError(f"block {name} has no column {', '.join(columns)}")
        if (size := sum(map(len, parts))) > MAX_BLOCK:
            raise ValueError(f"block {name}: {size} bytes, more than {MAX_BLOCK}")
        data = zlib.compress(b"".join(parts), 6)
        self.stream.write(struct.pack("<BI", kind, len(data)) + data)
        self.blocks += 1

    def close(self) -> None:
        """The last block, without which a proof is not one."""
        self.block("end", blocks=[self.blocks])


class Reader:
    """Reads a proof, block by block; used as a context manager.

    Args:
        path: the file.

    Raises:
        CertificateError: the file cannot be read, is no proof, is truncated or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            self.stream = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
        except OSError as problem:
            raise CertificateError(f"{path}: cannot be read: {problem.strerror}") from problem
        try:
            if self.stream.read(len(MAGIC)) != MAGIC:
                raise CertificateError(f"{path}: not a relucid proof of version 1")
            (length,) = struct.unpack("<I", self._bytes(4))
            if length > MAX_HEADER:
                raise CertificateError(f"{path}: a header of {length} bytes is too long")
            try:
                header = json.loads(self._bytes(length))
            except (ValueError, RecursionError) as problem:
                raise CertificateError(f"{path}: damaged header: {problem}") from problem
            if not isinstance(header, dict):
                raise CertificateError(f"{path}: the header is no JSON object")
        except BaseException:
            self.stream.close()
            raise
        self.header: dict[str, Any] = header

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def blocks(self) -> Iterator[tuple[str, Columns]]:
        """(name, columns) of each block but the end.

        Raises:
            CertificateError: as above, or something follows the end.
        """
        count = 0
        while True:
            kind, length = struct.unpack("<BI", self._bytes(5))
            if kind not in BLOCKS:
                raise CertificateError(f"{self.path}: block {count} has the unknown kind {kind}")
            name, fields = BLOCKS[kind]
            if length > MAX_BLOCK:
                raise CertificateError(f"{self.path}: block {count} is longer than {MAX_BLOCK}")
            columns = self._columns(name, fields, self._bytes(length), count)
            if name == "end":
                if columns["blocks"].tolist() != [count] or self.stream.read(1):
                    raise CertificateError(f"{self.path}: the end is not where it says it is")
                return
            yield name, columns
            count += 1

    def _columns(
        self, name: str, fields: tuple[tuple[str, str], ...], data: bytes, number: int
    ) -> Columns:
        """The columns of one block."""
        where = f"{self.path}: block {number} ({name})"
        unpack = zlib.decompressobj()
        try:
            text = unpack.decompress(data, MAX_BLOCK)
        except zlib.error as problem:
            raise CertificateError(f"{where} is damaged: {problem}") from problem
        if unpack.unconsumed_tail or unpack.unused_data or not unpack.eof:
            raise CertificateError(f"{where} is damaged or longer than {MAX_BLOCK} bytes")
        columns, position = {}, 0
        for field, dtype in fields:
            size = np.dtype(dtype).itemsize
            if position + 4 > len(text):
                raise CertificateError(f"{where} ends before its column {field}")
            (count,) = struct.unpack_from("<I", text, position)
            position += 4
            if position + count * size > len(text):
                raise CertificateError(f"{where}: column {field} ends early")
            columns[field] = np.frombuffer(text, f"<{dtype}", count, position)
            position += count * size
        if position != len(text):
            raise CertificateError(f"{where} has {len(text) - position} bytes too many")
        return columns

    def _bytes(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            CertificateError: there are fewer.
        """
        try:
            data = self.stream.read(count)
        except OSError as problem:
            raise CertificateError(f"{self.path}: cannot be read: {problem.strerror}") from problem
        if len(data) < count:
            raise CertificateError(f"{self.path}: truncated")
        return data
