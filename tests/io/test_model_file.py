"""Bad files: one clear line that names the file, and never anything but a ModelError."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx_graphs import Writer, mlp, string_tensor

from verifier.core.errors import ModelError, RelucidError
from verifier.io.model_file import MAX_BYTES
from verifier.io.onnx import load_model


def good(dtype: Any = np.float32) -> ModelProto:
    writer, output, _ = mlp(np.random.default_rng(0), [3, 4, 2], dtype)
    return writer.model(output)


def refuse(path: Path, message: str) -> None:
    """Loading fails with one line that names the file and says what is wrong."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert "Traceback" not in text
    assert sorted(path.parent.iterdir()) == before


# ---- the file ----------------------------------------------------------------------------------


def test_missing(tmp_path: Path) -> None:
    refuse(tmp_path / "no.onnx", "cannot be read: No such file")


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "d.onnx").mkdir()
    refuse(tmp_path / "d.onnx", "is a folder")


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    refuse(path, "Permission denied")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    refuse(tmp_path / "m.onnx", "empty")


def test_a_name_with_a_null_byte() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_model("a\0b.onnx")


def test_oversized(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    refuse(path, "less than 2 GiB")


@pytest.mark.parametrize(
    "data",
    [b"\x99" * 50, b"not a model\n", b"\x00", b"PK\x03\x04zip", b"X_0 <= 1\n", bytes(range(256))],
)
def test_other_contents(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    refuse(tmp_path / "m.onnx", "ONNX model")


def test_truncated_anywhere(tmp_path: Path) -> None:
    data, path = good().SerializeToString(), tmp_path / "m.onnx"
    for length in range(1, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            load_model(path)


def test_random_damage_gives_an_error_or_a_model(tmp_path: Path) -> None:
    data, path, rnd = good().SerializeToString(), tmp_path / "m.onnx", random.Random(0)
    outcomes = {"model": 0, "error": 0}
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rnd.randint(1, 4)):
            damaged[rnd.randrange(len(damaged))] = rnd.randrange(256)
        path.write_bytes(damaged)
        lines = "one"
        try:
            load_model(path)
            outcomes["model"] += 1
        except RelucidError as problem:
            lines = str(problem)
            outcomes["error"] += 1
        assert "\n" not in lines
    assert min(outcomes.values()) > 20


# ---- the graph ---------------------------------------------------------------------------------

Change = Callable[[ModelProto], Any]


def _weight(model: ModelProto) -> TensorProto:
    return model.graph.initializer[0]


def _set_weight(model: ModelProto, value: float) -> None:
    array = onnx.numpy_helper.to_array(_weight(model)).copy()
    array.flat[3] = value
    _weight(model).CopyFrom(onnx.numpy_helper.from_array(array, _weight(model).name))


def _input_type(model: ModelProto, kind: int) -> None:
    model.graph.input[0].type.tensor_type.elem_type = kind


def _dims(model: ModelProto) -> Any:
    return model.graph.input[0].type.tensor_type.shape.dim


def _second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, [1, 3]))


def _second_output(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("t1_0", TensorProto.FLOAT, [1, 4]))


def _bomb(model: ModelProto) -> None:
    del _weight(model).dims[:]
    _weight(model).dims.extend([10**6, 10**6, 10**6])


def _shrunk_data(model: ModelProto) -> None:
    _weight(model).raw_data = _weight(model).raw_data[:-4]


def _text_weight(model: ModelProto) -> None:
    _weight(model).CopyFrom(string_tensor(_weight(model).name))


def _byte_weight(model: ModelProto) -> None:
    array = np.ones((4, 3), dtype=np.int8)
    _weight(model).CopyFrom(onnx.numpy_helper.from_array(array, _weight(model).name))


def _half_weight(model: ModelProto) -> None:
    array = np.ones((4, 3), dtype=np.float16)
    _weight(model).CopyFrom(onnx.numpy_helper.from_array(array, _weight(model).name))


def _loop(model: ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[2].output[0]


def _sparse(model: ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    model.graph.node[-1].output[0] = "before"  # a chain may have them
    model.graph.node.append(helper.make_node("Identity", ["before"], [model.graph.output[0].name]))


def _external_operator(model: ModelProto) -> None:
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def _constant_output(model: ModelProto) -> None:
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("c0", TensorProto.FLOAT, [4, 3]))


CHANGES: dict[str, tuple[Change, str]] = {
    "nan": (lambda m: _set_weight(m, np.nan), "NaN or infinite"),
    "inf": (lambda m: _set_weight(m, np.inf), "NaN or infinite"),
    "integer input": (lambda m: _input_type(m, TensorProto.INT64), "INT64, expected FLOAT"),
    "half input": (lambda m: _input_type(m, TensorProto.FLOAT16), "FLOAT16, expected FLOAT"),
    "text input": (lambda m: _input_type(m, TensorProto.STRING), "STRING, expected FLOAT"),
    "unknown type": (lambda m: _input_type(m, 113), "expected FLOAT|not a valid ONNX"),
    "no shape": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "shape"),
    "two inputs": (_second_input, "one input, found 2: x, u"),
    "two outputs": (_second_output, "one output, found 2"),
    "no output": (lambda m: m.graph.ClearField("output"), "one output, found 0|not a valid"),
    "empty axis": (lambda m: setattr(_dims(m)[1], "dim_value", 0), "expected 1 to"),
    "huge axis": (lambda m: setattr(_dims(m)[1], "dim_value", 2**50), "expected 1 to"),
    "negative axis": (lambda m: setattr(_dims(m)[1], "dim_value", -3), "expected 1 to"),
    "open axis": (lambda m: setattr(_dims(m)[1], "dim_param", "n"), "dimension 1 is n"),
    "wrong input size": (lambda m: setattr(_dims(m)[1], "dim_value", 5), "n0"),
    "bomb": (_bomb, "declares dimensions|not a valid ONNX"),
    "data too short": (_shrunk_data, "cannot be read|not a valid ONNX"),
    "text weights": (_text_weight, "has type|text|STRING|not a valid"),
    "int8 weights": (_byte_weight, "int8, expected float32"),
    "float16 weights": (_half_weight, "float16, expected float32"),
    "loop": (_loop, "not a valid ONNX model"),
    "no opset": (lambda m: m.ClearField("opset_import"), "not a valid ONNX model"),
    "opset from the future": (lambda m: setattr(m.opset_import[0], "version", 999), "ONNX"),
    "sparse weights": (_sparse, "sparse"),
    "foreign operator": (_external_operator, "com.example"),
    "constant output": (_constant_output, "constant|nothing computes"),
    "missing weight": (lambda m: m.graph.initializer.pop(0), "not a valid ONNX model"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_that_cannot_be_trusted(change: str, tmp_path: Path) -> None:
    apply, message = CHANGES[change]
    model = good()
    apply(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    refuse(tmp_path / "m.onnx", message)


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    writer = Writer((1, 3))
    data = writer.model(writer.node("Flatten", "x")).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"t0_0", b"\xff\xfe_0"))
    refuse(tmp_path / "m.onnx", "UTF-8")


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("ConstantOfShape", [np.array([2**20, 2**20])]),
        ("Range", [np.array(0), np.array(2**40), np.array(1)]),
        ("Expand", [np.ones(1), np.array([2**40])]),
        ("Tile", [np.ones(4), np.array([2**40])]),
        ("Tile", [np.ones(4), np.array([2**62])]),
        ("ConstantOfShape", [np.array([2**40] * 40)]),
    ],
)
def test_constants_that_would_not_fit_into_memory(
    operator: str, inputs: list[np.ndarray], tmp_path: Path
) -> None:
    writer = Writer((1, 3))
    huge = writer.node(operator, *(writer.constant(v) for v in inputs))
    value = writer.node("Add", "x", huge)
    refuse(writer.save(tmp_path / "m.onnx", value), f"{operator}.*(entries|dimensions|fit)")


def test_random_constants_are_refused(tmp_path: Path) -> None:
    writer = Writer((1, 3))
    value = writer.node("Add", "x", writer.node("RandomNormal", shape=[3]))
    refuse(writer.save(tmp_path / "m.onnx", value), "RandomNormal is not supported")


# ---- tensors in other files --------------------------------------------------------------------


def _external(folder: Path, location: str = "w.bin") -> Path:
    """A model whose first weight is said to lie in another file."""
    model, path = good(), folder / "m.onnx"
    tensor = _weight(model)
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    (folder / "w.bin").write_bytes(data)
    return path


def test_weights_beside_the_model_are_read_and_hashed(tmp_path: Path) -> None:
    path = _external(tmp_path)
    model = load_model(path)
    x = [0.5, -0.25, 1.0]
    (tmp_path / "plain.onnx").write_bytes(good().SerializeToString())
    assert model.network.exact(x) == load_model(tmp_path / "plain.onnx").network.exact(x)
    both = path.read_bytes() + (tmp_path / "w.bin").read_bytes()
    assert model.sha256 == hashlib.sha256(both).hexdigest()
    assert model.run(np.array(x)).shape == (2,)


def test_weights_in_a_folder_below(tmp_path: Path) -> None:
    path = _external(tmp_path, "data/w.bin")
    (tmp_path / "data").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "data" / "w.bin")
    assert load_model(path).network.depth == 2


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "", ".", ".."])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(b"\0" * 48)
    refuse(_external(folder, location), "outside the model's folder")


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 48)
    path = _external(folder, "link.bin")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refuse(path, "outside the model's folder")


def test_weights_that_are_missing_or_short(tmp_path: Path) -> None:
    path = _external(tmp_path)
    (tmp_path / "w.bin").write_bytes(b"\0" * 10)
    refuse(path, "w.bin")
    (tmp_path / "w.bin").unlink()
    refuse(path, "which is no file")
