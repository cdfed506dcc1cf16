"""ONNX's own test cases: the expected outputs come from the standard, not from us.

Two sources that the onnx package ships: the node tests (one operator each, all opsets up to date)
and models that PyTorch's first exporters wrote (opset 6, initializers among the inputs).
"""

from __future__ import annotations

import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from verifier.core.errors import ModelError, UnsupportedOperatorError
from verifier.io.onnx import load_model
from verifier.io.operators import OPERATORS

#: Node tests of operators in the table that are refused, and why (part of the message).
REFUSED = {
    "training": "",  # random, or statistics of the batch
    "_linear": "only mode nearest",
    "_cubic": "only mode nearest",
    "tf_crop": "only mode nearest",
    "not_larger": "keep_aspect_ratio_policy",
    "not_smaller": "keep_aspect_ratio_policy",
    "with_argmax": "Indices",
    "empty_set": "expected 1 to",
    "allowzero_reordered": "reshape",
    "start_out_of_bounds": "no entries",
    "zero_size_splits": "no entries",
    "depthtospace": "onnxruntime refuses the model",  # written for a later opset than it knows
    "spacetodepth": "onnxruntime refuses the model",
}
#: Its expected output is given with four decimals.
ROUGH = "test_averagepool_2d_ceil_last_window_starts_on_pad"


@cache
def node_cases() -> list[tuple[str, ModelProto, int, Any, Any]]:
    """(name, model with one input, its slot, all inputs, expected first output) by operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        collected = collect_testcases(None)
    cases = []
    for case in collected:
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in OPERATORS or nodes[0].domain:
            continue
        given, expected = case.data_sets[0]
        slot = 1 if nodes[0].op_type == "Where" else 0
        if not isinstance(given[slot], np.ndarray) or given[slot].dtype not in (
            np.float32,
            np.float64,
        ):
            continue
        if expected[0].dtype not in (np.float32, np.float64):
            continue
        cases.append((case.name, case.model, slot, given, np.asarray(expected[0])))
    return cases


def _single_input(model: ModelProto, slot: int, given: Any) -> ModelProto:
    """The model with all inputs but one fixed to the test's values, and its first output only."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    inputs = list(fixed.graph.input)
    for k, (value, array) in enumerate(zip(inputs, given, strict=True)):
        if k != slot:
            fixed.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    del fixed.graph.input[:]
    fixed.graph.input.append(inputs[slot])
    del fixed.graph.output[1:]
    return fixed


def test_node_tests_of_the_standard(tmp_path: Path) -> None:
    passed: Counter[str] = Counter()
    path = tmp_path / "m.onnx"
    for name, model, slot, given, expected in node_cases():
        path.write_bytes(_single_input(model, slot, given).SerializeToString())
        reason = next((r for key, r in REFUSED.items() if key in name), None)
        if reason is not None:
            with pytest.raises(ModelError, match=reason or None):
                load_model(path)
            continue
        network = load_model(path).network
        got = network.float64(np.asarray(given[slot], dtype=np.float64).ravel())
        tolerance = 1e-3 if name == ROUGH else 1e-5
        np.testing.assert_allclose(
            got, expected.ravel(), rtol=tolerance, atol=tolerance, err_msg=name
        )
        passed[model.graph.node[0].op_type] += 1
    assert sum(passed.values()) > 180
    assert len(passed) >= len(OPERATORS) - 4, sorted(set(OPERATORS) - set(passed))


FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data"
PYTORCH = sorted(
    p for k in ("pytorch-converted", "pytorch-operator") for p in FOLDER.glob(f"{k}/*")
)
#: These take seconds each: a million inputs, or 70 million weights.
LARGE = ("stride_padding_dilation", "test_operator_conv")
#: onnxruntime has no kernel of that opset, and ONNX's converter does not reshape the slopes.
UNCONVERTED = ("PReLU_1d_multiparam", "PReLU_2d_multiparam", "PReLU_3d_multiparam")


def _tensor(path: Path) -> np.ndarray:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return np.asarray(numpy_helper.to_array(tensor))


def test_models_of_pytorchs_first_exporter() -> None:
    outcome: Counter[str] = Counter()
    for folder in PYTORCH:
        if any(name in folder.name for name in LARGE):
            continue
        x, expected = (
            _tensor(folder / "test_data_set_0" / f"{v}_0.pb") for v in ("input", "output")
        )
        try:
            model = load_model(folder / "model.onnx", validate=folder.name[5:] not in UNCONVERTED)
        except UnsupportedOperatorError:
            outcome["operator"] += 1
            continue
        except ModelError as problem:
            known = ("one input", "one output", "INT64, expected FLOAT")
            outcome["shape" if any(k in str(problem) for k in known) else str(problem)] += 1
            continue
        if model.tail is None:
            got = model.network.float64(x.astype(np.float64).ravel())
            np.testing.assert_allclose(
                got, expected.ravel(), rtol=1e-5, atol=1e-4, err_msg=folder.name
            )
        outcome["equal"] += 1
    assert outcome["equal"] >= 70
    assert set(outcome) == {"equal", "operator", "shape"}
