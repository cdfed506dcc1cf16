"""Files are read within a limit and written whole or not at all."""

import gzip
import os
import stat

import pytest

from verifier.core.errors import DataError
from verifier.core.files import read_bytes, write_atomic


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reading_undoes_gzip_by_contents(tmp_path, pack):
    path = tmp_path / "a.bin"
    path.write_bytes(pack(b"hello"))
    assert read_bytes(path, limit=5, error=DataError) == b"hello"
    with pytest.raises(DataError, match="larger than the limit of 4 bytes"):
        read_bytes(path, limit=4, error=DataError)


def test_a_device_that_never_ends_is_cut_at_the_limit():
    with pytest.raises(DataError, match="larger than the limit"):
        read_bytes("/dev/zero", limit=1000, error=DataError)


@pytest.mark.parametrize("cut", [3, 11, 15, 24])
def test_damaged_gzip(tmp_path, cut):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"hello, world")[:cut])
    with pytest.raises(DataError, match="damaged or truncated gzip"):
        read_bytes(path, limit=100, error=DataError)


def test_a_changed_byte_of_gzip_is_noticed(tmp_path):
    packed = bytearray(gzip.compress(b"hello, world"))
    packed[-6] ^= 1  # the checksum
    path = tmp_path / "a.gz"
    path.write_bytes(packed)
    with pytest.raises(DataError, match="damaged or truncated gzip"):
        read_bytes(path, limit=100, error=DataError)


def test_unreadable_places(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_bytes(tmp_path, limit=9, error=DataError)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_bytes(tmp_path / "a", limit=9, error=DataError)


def test_writing_replaces_and_keeps_usual_permissions(tmp_path):
    path = tmp_path / "a.txt"
    mask = os.umask(0o022)
    try:
        write_atomic(path, b"one")
        write_atomic(path, b"two")
    finally:
        os.umask(mask)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, step, failure):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail(*_):
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(type(failure)):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "a.txt", b"new")
