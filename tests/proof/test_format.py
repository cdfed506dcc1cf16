"""The proof file: what is written is read, and what is damaged is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from verifier.core.errors import CertificateError
from verifier.proof import format as proof_format
from verifier.proof.format import MAGIC, Reader, Writer


def write(path: Path, header: dict | None = None, blocks: int = 2) -> bytes:
    """A file of visits and its bytes."""
    with path.open("wb") as stream:
        writer = Writer(stream, header or {"model": "x"})
        for k in range(blocks):
            writer.block("visit", action=[1, 0], axis=[k, 0], at=[-(2**62), 2**62])
        writer.close()
    return path.read_bytes()


def read(path: Path) -> list:
    """Header and blocks."""
    with Reader(path) as reader:
        return [reader.header, *reader.blocks()]


def test_round_trip(tmp_path: Path) -> None:
    """Random columns of every type and length, largest and smallest numbers among them."""
    rng = np.random.default_rng(0)
    for kind, (name, fields) in proof_format.BLOCKS.items():
        if name == "end":
            continue
        sent = []
        path = tmp_path / str(kind)
        with path.open("wb") as stream:
            writer = Writer(stream, {"name": "ä", "list": [1, {"a": None}]})
            for _ in range(3):
                columns = {}
                for field, dtype in fields:
                    info = np.iinfo(dtype)
                    count = int(rng.integers(0, 50))
                    numbers = rng.integers(info.min, info.max, count, dtype=dtype, endpoint=True)
                    columns[field] = np.append(numbers, [info.min, info.max]).astype(dtype)
                writer.block(name, **columns)
                sent.append(columns)
            writer.close()
        header, *got = read(path)
        assert header == {"name": "ä", "list": [1, {"a": None}]}
        assert [n for n, _ in got] == [name] * 3
        for (_, have), want in zip(got, sent, strict=True):
            assert all((have[f] == want[f]).all() for f, _ in fields)


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    """The writer refuses what it cannot store."""
    with (tmp_path / "p").open("wb") as stream:
        writer = Writer(stream, {})
        with pytest.raises(ValueError, match="does not fit"):
            writer.block("visit", action=[256])
        with pytest.raises(ValueError, match="no column"):
            writer.block("visit", actions=[1])


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    """Wherever the file ends early, and whatever follows its end."""
    data = write(tmp_path / "p")
    for end in range(len(data)):
        (tmp_path / "q").write_bytes(data[:end])
        with pytest.raises(CertificateError):
            read(tmp_path / "q")
    (tmp_path / "q").write_bytes(data + b"x")
    with pytest.raises(CertificateError, match="the end"):
        read(tmp_path / "q")


def test_a_disk_that_fails_while_reading_is_no_proof(tmp_path: Path) -> None:
    """One line that names the file, as for one that cannot be opened."""
    write(tmp_path / "p")
    with Reader(tmp_path / "p") as reader:

        class Failing(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise OSError(5, "Input/output error")

        reader.stream.close()
        reader.stream = Failing()  # type: ignore[assignment]
        with pytest.raises(CertificateError, match="p: cannot be read: Input/output error"):
            next(reader.blocks())


def file_of(path: Path, blocks: list[tuple[int, bytes]], header: bytes = b"{}") -> Path:
    """A file of raw blocks that unpack to the given bytes."""
    data = MAGIC + struct.pack("<I", len(header)) + header
    for kind, text in blocks:
        packed = zlib.compress(text)
        data += struct.pack("<BI", kind, len(packed)) + packed
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"[1]", "no JSON object"), (b"{", "damaged header"), (b"\xff{}", "damaged header"),
        (b"[" * 200_000, "damaged header"), (b'{"a":' + b"9" * 10_000 + b"}", "damaged header"),
    ],
)  # fmt: skip
def test_headers(header: bytes, match: str, tmp_path: Path) -> None:
    """What is no object, no JSON, too deep or too long."""
    with pytest.raises(CertificateError, match=match):
        read(file_of(tmp_path / "p", [], header))


def test_sizes_that_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths beyond the file or the limits cost no memory."""
    path = tmp_path / "p"
    for raw, match in (
        (MAGIC + struct.pack("<I", 2**32 - 1), "too long"),
        (MAGIC + struct.pack("<I", 2) + b"{}" + struct.pack("<BI", 2, 2**32 - 1), "longer"),
        (MAGIC + struct.pack("<I", 2) + b"{}" + struct.pack("<BI", 77, 0), "unknown kind 77"),
        (MAGIC + struct.pack("<I", 2) + b"{}" + struct.pack("<BI", 1, 0), "damaged"),
        (b"relucid proof 0\n", "not a relucid proof"),
    ):
        path.write_bytes(raw)
        with pytest.raises(CertificateError, match=match):
            read(path)
    for text, match in (
        (b"", "ends before"), (struct.pack("<I", 3) + b"1234", "ends early"),
        (struct.pack("<I", 2**32 - 1), "ends early"), (struct.pack("<II", 1, 5) + b"x", "too many"),
    ):  # fmt: skip
        with pytest.raises(CertificateError, match=match):
            read(file_of(path, [(1, text)]))
    monkeypatch.setattr(proof_format, "MAX_BLOCK", 100)
    with pytest.raises(CertificateError, match="longer than 100"):
        read(file_of(path, [(1, struct.pack("<I", 1000) + bytes(4000))]))
    with path.open("wb") as stream, pytest.raises(ValueError, match="more than 100"):
        Writer(stream, {}).block("case", case=[1] * 100)


def test_the_end_counts_the_blocks(tmp_path: Path) -> None:
    """A block left out is noticed."""
    case, end = struct.pack("<II", 1, 0), struct.pack("<II", 1, 2)
    assert len(read(file_of(tmp_path / "p", [(1, case), (1, case), (255, end)]))) == 3
    with pytest.raises(CertificateError, match="the end"):
        read(file_of(tmp_path / "p", [(1, case), (255, end)]))


def test_no_file(tmp_path: Path) -> None:
    """A path that cannot be read."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(CertificateError, match="cannot be read"):
            Reader(path)
