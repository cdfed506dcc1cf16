"""The kernels are compiled once, for every type of numbers, and it is known whether they are."""

import os
import subprocess

import pytest
from command_line import command

from constructions import separation_kernel
from constructions.warm_up import compile_kernels, is_compiled


def test_every_type_of_numbers():
    compile_kernels()
    assert is_compiled()
    assert {s[0].dtype.name for s in separation_kernel.search_integers.signatures} >= {
        "uint8", "uint16", "uint32", "uint64",
    }  # fmt: skip
    assert {s[0].dtype.name for s in separation_kernel.search_floats.signatures} == {"float64"}


@pytest.mark.slow
def test_the_first_user_is_told_the_second_is_not(tmp_path):
    (tmp_path / "d.csv").write_text("0,0,a\n3,4,b\n")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    data, out = tmp_path / "d.csv", tmp_path / "n.onnx"
    for arguments, told in (
        (("separation", data), True),
        (("separation", data), False),
        (("build", "shallow", data, "--out", out), False),
    ):
        done = subprocess.run(
            command(*arguments), env=environment, capture_output=True, text=True, check=True
        )
        assert ("compiling" in done.stderr) == told
