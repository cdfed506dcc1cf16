"""Every operator of the table, at several opsets and attributes, against onnxruntime.

On small integers float32 arithmetic is exact in any order, and the imported network must give the
same numbers, not nearly the same. Then the constants are made real
numbers and the comparison is repeated inside the importer's own rounding bound.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_graphs import Writer
from operator_cases import ALL, CASES, Case, X, ints, one_node_model

from verifier.core.errors import ModelError
from verifier.io.onnx import load_model
from verifier.io.operators import OPERATORS


def test_every_operator_has_a_case() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize(("operator", "c"), ALL)
def test_operator_equals_onnxruntime(operator: str, c: Case, tmp_path: Path) -> None:
    writer, output = one_node_model(c, operator, vary=False)
    model = load_model(writer.save(tmp_path / "model.onnx", output))
    rng = np.random.default_rng(11)
    points = rng.integers(-6, 7, (4, model.network.n_inputs)).astype(np.float64)
    for point, got in zip(points, model.run(points), strict=True):
        expected = np.array([float(v) for v in model.network.exact(point)])
        if c.exact:
            assert got.tolist() == expected.tolist()
        else:
            tolerance = 1e-5 if c.dtype == np.float32 else 1e-13
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=20 * tolerance)
    assert bool(model.network.notes) != c.exact or operator in ("LeakyRelu", "PRelu", "Gemm")


@pytest.mark.parametrize(("operator", "c"), ALL)
def test_operator_with_real_constants(operator: str, c: Case, tmp_path: Path) -> None:
    writer, output = one_node_model(c, operator, vary=True)
    model = load_model(writer.save(tmp_path / "model.onnx", output))
    points = np.random.default_rng(12).standard_normal((4, model.network.n_inputs))
    points = points.astype(c.dtype).astype(np.float64)
    got = model.run(points)
    tolerance = 1e-5 if c.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(
        got, model.network.float64(points), rtol=tolerance, atol=10 * tolerance
    )


@pytest.mark.parametrize(("operator", "combine"), [("Add", np.add), ("Mul", np.multiply)])
def test_the_old_axis_attribute(operator: str, combine: Any, tmp_path: Path) -> None:
    # onnxruntime has no kernels of this opset, and ONNX's converter misplaces the axis: the
    # import is refused, and only without validation is it what the old standard says.
    writer, other = Writer((1, 3, 2), opset=6), ints(3)
    path = writer.save(tmp_path / "m.onnx", writer.node(operator, X, other, broadcast=1, axis=1))
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load_model(path)
    x = np.arange(6.0)
    got = load_model(path, validate=False).network.float64(x)
    assert got.tolist() == combine(x.reshape(1, 3, 2), other[None, :, None]).ravel().tolist()
