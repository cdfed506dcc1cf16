"""Mutations of proof files: of their bytes, and of the numbers and the order of their blocks."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from verifier.proof.format import BLOCKS, MAGIC

Block = tuple[str, dict[str, np.ndarray]]
Proof = tuple[bytes, list[Block]]
"""The header's bytes, and the blocks before the end."""

_KINDS = {name: (kind, fields) for kind, (name, fields) in BLOCKS.items()}


def parse(data: bytes) -> Proof:
    """Take a well-formed file apart."""
    position = len(MAGIC) + 4
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    header = data[position : position + length]
    position += length
    blocks = []
    while position < len(data):
        kind, length = struct.unpack_from("<BI", data, position)
        text = zlib.decompress(data[position + 5 : position + 5 + length])
        position += 5 + length
        name, fields = BLOCKS[kind]
        columns, at = {}, 0
        for field, dtype in fields:
            (count,) = struct.unpack_from("<I", text, at)
            columns[field] = np.frombuffer(text, f"<{dtype}", count, at + 4).copy()
            at += 4 + columns[field].nbytes
        blocks.append((name, columns))
    return header, blocks[:-1]


def build(proof: Proof) -> bytes:
    """Put it together again, with the right end."""
    header, blocks = proof
    out = io.BytesIO()
    out.write(MAGIC + struct.pack("<I", len(header)) + header)
    for name, columns in [*blocks, ("end", {"blocks": np.array([len(blocks)], "<u4")})]:
        kind, fields = _KINDS[name]
        text = b"".join(
            struct.pack("<I", len(columns[field])) + columns[field].astype(f"<{dtype}").tobytes()
            for field, dtype in fields
        )
        packed = zlib.compress(text)
        out.write(struct.pack("<BI", kind, len(packed)) + packed)
    return out.getvalue()


def _flip_byte(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit anywhere in the file."""
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """The file ends early, or goes on after its end."""
    if rng.random() < 0.8:
        return data[: int(rng.integers(len(data)))]
    return data + bytes(rng.integers(0, 256, int(rng.integers(1, 20)), dtype=np.uint8))


def _number(proof: Proof, rng: np.random.Generator) -> Proof:
    """One bit of one number, or the number replaced by a neighbour or an extreme."""
    header, blocks = proof
    places = [(b, f) for b, (_, columns) in enumerate(blocks) for f in columns if len(columns[f])]
    b, field = places[int(rng.integers(len(places)))]
    column = blocks[b][1][field]
    i = int(rng.integers(len(column)))
    bits = 8 * column.dtype.itemsize
    value = int(column[i])
    choice = int(rng.integers(4))
    if choice == 0:
        # Small numbers more often: a high bit of most columns is nonsense at first sight.
        value ^= 1 << int(rng.integers(bits) if rng.random() < 0.5 else rng.integers(min(bits, 3)))
    elif choice == 1:
        value += int(rng.choice([-1, 1]))
    elif choice == 2:
        value = int(rng.choice(column))
    else:
        value = int(value * rng.random())
    raw = (value % (1 << bits)).to_bytes(bits // 8, "little")
    column[i] = np.frombuffer(raw, column.dtype)[0]
    return header, blocks


def _rows(proof: Proof, rng: np.random.Generator) -> Proof:
    """Two rows of a block swapped, a row dropped or doubled (in all columns of that length)."""
    header, blocks = proof
    _, columns = blocks[int(rng.integers(len(blocks)))]
    lengths = sorted({len(c) for c in columns.values()} - {0})
    length = lengths[int(rng.integers(len(lengths)))]
    index = np.arange(length)
    choice = int(rng.integers(3)) if length > 1 else int(rng.integers(1, 3))
    i, j = rng.integers(0, length, 2)
    if choice == 0:
        index[[i, j]] = index[[j, i]]
    else:
        index = np.delete(index, i) if choice == 1 else np.insert(index, i, i)
    some = rng.random() < 0.2
    for field in columns:
        if len(columns[field]) == length and not (some and rng.random() < 0.5):
            columns[field] = columns[field][index]
    return header, blocks


def _order(proof: Proof, rng: np.random.Generator) -> Proof:
    """A block dropped, doubled, emptied, or swapped with another."""
    header, blocks = proof
    i, j = (int(v) for v in rng.integers(0, len(blocks), 2))
    choice = int(rng.integers(4))
    if choice == 0:
        del blocks[i]
    elif choice == 1:
        blocks.insert(j, blocks[i])
    elif choice == 2:
        blocks[i], blocks[j] = blocks[j], blocks[i]
    else:
        blocks[i] = (blocks[i][0], {f: c[:0] for f, c in blocks[i][1].items()})
    return header, blocks


def _split(proof: Proof, rng: np.random.Generator) -> Proof:
    """Close a node that was split, drop its cuts, or move where it is cut or split."""
    header, blocks = proof
    visits = [columns for name, columns in blocks if name == "visit" and len(columns["action"])]
    if not visits:
        return _number(proof, rng)
    columns = visits[int(rng.integers(len(visits)))]
    i = int(rng.integers(len(columns["action"])))
    choice = int(rng.integers(4))
    if choice == 0:
        columns["action"][i] = 0
    elif choice == 1:
        columns["action"][i] = rng.integers(0, 4)
        columns["axis"][i] = rng.integers(0, 3)
        columns["at"][i] = rng.choice([columns["at"][i], 0, 1, 1 << 40])
    elif choice == 2 and len(columns["cut_at"]):
        k = int(rng.integers(len(columns["cut_at"])))
        columns["cut_at"][k] = int(columns["cut_at"][k] * (0.5 + rng.random()))
    elif len(columns["close_node"]):
        columns["weight"][:] = rng.permutation(columns["weight"])
    else:
        columns["at"][i] = int(columns["at"][i] * (0.5 + rng.random()))
    return header, blocks


_BYTES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "bit of the file": _flip_byte,
    "length of the file": _truncate,
}
_BLOCKS: dict[str, Callable[[Proof, np.random.Generator], Proof]] = {
    "number": _number,
    "rows": _rows,
    "blocks": _order,
    "tree": _split,
}
MUTATIONS = (*_BYTES, *_BLOCKS)


def mutate(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A file that differs from this one, by a mutation of ``MUTATIONS``."""
    while True:
        changed: Any = (
            _BYTES[kind](data, rng) if kind in _BYTES else build(_BLOCKS[kind](parse(data), rng))
        )
        # Packing may differ where nothing else does.
        if changed != data and (kind in _BYTES or changed != build(parse(data))):
            return bytes(changed)
