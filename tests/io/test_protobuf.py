"""ONNX's messages without its package, and what is taken out of them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from verifier.io.protobuf import attributes, messages, raw_array

_ALONE = """
import sys
from verifier.io.protobuf import messages
first = messages()
model = first.ModelProto(ir_version=8)
assert "onnx" not in sys.modules and "onnx.checker" not in sys.modules
import onnx
from onnx import helper
assert onnx.ModelProto is first.ModelProto and messages() is first
assert onnx.ModelProto.FromString(model.SerializeToString()) == model
node = helper.make_node("Gemm", ["x"], ["y"])
graph = helper.make_graph([node], "g", [], [])
assert isinstance(helper.make_model(graph), first.ModelProto)
"""


def test_they_are_those_of_the_package() -> None:
    assert messages().ModelProto is onnx.ModelProto
    subprocess.run([sys.executable, "-c", _ALONE], check=True)


def test_attributes_are_those_that_onnx_reads() -> None:
    tensor = numpy_helper.from_array(np.ones(2), "t")
    given = {"a": 2, "b": 0.5, "c": "text", "d": [1, 2], "e": [0.5, 1.0], "f": tensor, "g": ["x"]}
    node = helper.make_node("Any", ["x"], ["y"], **given)
    expected = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert attributes(node) == expected
    assert set(expected) == set(given)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_raw_tensors(kind: type, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    tensor = numpy_helper.from_array(array)
    got = raw_array(tensor)
    assert got is not None
    assert got.dtype == array.dtype
    assert np.array_equal(got, array)


def test_other_tensors_are_left_to_onnx() -> None:
    assert raw_array(helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0])) is None
    assert raw_array(numpy_helper.from_array(np.ones(2, np.float16))) is None
    tensor = numpy_helper.from_array(np.ones(2, np.float32))
    for dims in ([3], [-2], [2, 10**12], [1]):
        del tensor.dims[:]
        tensor.dims.extend(dims)
        assert raw_array(tensor) is None
