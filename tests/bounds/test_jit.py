"""Compiled kernels do what their Python text does, in this process and in later ones."""

import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from verifier.bounds import jit
from verifier.bounds.jit import Kernel


class Pair(NamedTuple):
    left: np.ndarray
    scale: float
    count: int


def half(x):
    return 0.5 * x


halved = Kernel(half)


def mixed(pair, table, flags, down, step):
    total = 0.0
    seen = 0
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            if flags[j]:
                total += halved(table[i, j]) * pair.scale + pair.left[j]
                seen += pair.count
    if down:
        total = -total
    pair.left[0] = total
    return seen - step, total, seen > 3


def arguments():
    rng = np.random.default_rng(0)
    pair = Pair(np.arange(4, dtype=np.int64) * 1.0, 2.0, 3)
    table = rng.integers(-8, 8, (3, 4)).astype(np.float32)
    return pair, table, np.array([True, False, True, True]), np.bool_(True), np.int32(7)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(jit, "directory", lambda: tmp_path / "kernels")
    return tmp_path / "kernels"


def test_compiled_is_what_python_says(folder):
    mine, theirs = arguments(), arguments()
    found, expected = Kernel(mixed)(*mine), mixed(*theirs)
    assert found == expected
    assert [type(v) for v in found] == [int, float, bool]
    assert mine[0].left[0] == expected[1]
    # The Python text calls a kernel, too.
    names = {path.name.split("-")[0] for path in folder.iterdir()}
    assert names == {"tests.bounds.test_jit.mixed", "tests.bounds.test_jit.half"}


def test_other_types_are_other_code(folder):
    kernel = Kernel(half)
    assert kernel(3) == 1.5
    assert kernel(3.0) == 1.5
    assert kernel(np.float64(-1.0)) == -0.5
    assert len(list(folder.iterdir())) == 2


def test_nothing_and_a_single_number_come_back(folder):
    def clear(a):
        for i in range(a.shape[0]):
            a[i] = 0

    a = np.ones(3, dtype=np.int8)
    assert Kernel(clear)(a) is None
    assert not a.any()
    assert Kernel(clear)(np.zeros(0)) is None


def accumulate(into, table, scale, times, negative):
    for i in range(table.shape[0]):
        into[i] += (-scale if negative else scale) * table[i] * times


def test_a_bound_call_reads_and_writes_its_arrays_each_time(folder):
    kernel, rng = Kernel(accumulate), np.random.default_rng(3)
    found, expected, table = np.zeros(5), np.zeros(5), np.zeros(5)
    call = kernel.bind(found, table, scalars=(0.0, 0, False))
    for scalars in ((0.5, 2, False), (1.25, 3, True), (0.25, -1, False)):
        table[:] = rng.integers(-9, 9, 5)
        call(*scalars)
        accumulate(expected, table, *scalars)
        np.testing.assert_array_equal(found, expected)
    # Arrays that nobody else holds live as long as the call.
    lonely = kernel.bind(found, np.ones(5), scalars=(0.0, 0, False))
    np.empty((100, 5)).fill(7.0)
    found[:] = 0.0
    lonely(1.0, 1, False)
    assert found.tolist() == [1.0] * 5
    with pytest.raises(ValueError, match="zip"):
        call(1.0)


def test_what_cannot_be_bound_is_refused(folder):
    with pytest.raises(TypeError, match="returns something"):
        Kernel(half).bind(2.0)
    with pytest.raises(TypeError, match="C-contiguous"):
        Kernel(accumulate).bind(np.zeros(10)[::2], np.zeros(5), scalars=(0.0, 0, False))


def test_code_is_kept_and_a_damaged_file_is_not_run(folder):
    assert Kernel(half)(3.0) == 1.5
    (path,) = folder.iterdir()
    kept = path.read_bytes()

    def refuse(*_):
        raise AssertionError("compiled again")

    again = Kernel(half)
    again._compiled = refuse
    assert again(5.0) == 2.5
    path.write_bytes(kept[:-100])
    damaged = Kernel(half)
    damaged._compiled = refuse
    with pytest.raises(AssertionError):
        damaged(5.0)
    assert Kernel(half)(5.0) == 2.5
    assert len(path.read_bytes()) >= len(kept)


def allocates(n):
    return np.zeros(n).sum()


def overlaps(a):
    a[1:] = a[:-1]


def returns_array(a):
    return a


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (allocates, (3,), "needs NRT_"),
        (overlaps, (np.zeros(3),), "needs"),
        (returns_array, (np.zeros(3),), "returns numbers"),
        (half, (np.zeros((4, 4))[:, 1],), "C-contiguous"),
        (returns_array, (np.zeros(3, dtype=">f8"),), "native"),
        (returns_array, (np.zeros(25, dtype=np.uint8)[1:].view(np.float64),), "aligned"),
        (half, ("text",), "cannot take a str"),
    ],
)
def test_what_a_kernel_cannot_do_is_refused(folder, function, args, message):
    with pytest.raises(TypeError, match=message):
        Kernel(function)(*args)
    assert not folder.exists()


def test_an_exception_is_not_lost(folder):
    def fails(n):
        if n > 3:
            raise ValueError
        return n

    kernel = Kernel(fails)
    assert kernel(3) == 3
    with pytest.raises(RuntimeError, match=r"fails failed \(\d+\)"):
        kernel(4)


PROGRAM = """
import sys
import numpy as np
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Property
from verifier.search.portfolio import certify

rng = np.random.default_rng(0)
layers = [Layer(rng.normal(size=(n, m)), rng.normal(size=n), np.full(n, n != 2))
          for m, n in ((3, 8), (8, 8), (8, 2))]
network, ball = Network(tuple(layers)), Box.ball([0, 0, 0], 1)
for label in range(2):
    for engine in ("bab", "auto"):
        print(type(certify(network, Property.robustness(ball, label, 2), engine=engine)).__name__)
print("numba" in sys.modules)
"""


def test_a_search_needs_no_compiler_once_its_kernels_are_kept():
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        )
    *verdicts, compiler = run.stdout.split()
    assert compiler == "False"
    assert len(verdicts) == 4
