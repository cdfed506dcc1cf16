"""What is said to OpenBLAS: AVX-512 only where all of it is there, and never over the user."""

import os

import pytest

from relucid.blas import tell

FLAGS = "fpu avx512f avx512dq avx512cd avx512bw avx512vl sse"


def told(monkeypatch, path, given=None):
    for name in ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if given is not None:
        monkeypatch.setenv("OPENBLAS_CORETYPE", given)
    tell(path)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    return os.environ.get("OPENBLAS_CORETYPE")


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", FLAGS, "SkylakeX"),
        ("AuthenticAMD", FLAGS.replace(" avx512vl", ""), None),
        ("AuthenticAMD", "", None),
        ("GenuineIntel", FLAGS, None),
    ],
)
def test_the_processor_decides(monkeypatch, tmp_path, vendor, flags, expected):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\n")
    assert told(monkeypatch, file) == expected
    assert told(monkeypatch, file, "Haswell") == "Haswell"


def test_no_description_of_the_processor(monkeypatch, tmp_path):
    assert told(monkeypatch, tmp_path / "none") is None
    (tmp_path / "bytes").write_bytes(b"\xff\xfe: \x80")
    assert told(monkeypatch, tmp_path / "bytes") is None
