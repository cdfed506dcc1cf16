"""An ONNX file from disk: read, checked, and with its external tensors in memory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifier.core.errors import ModelError
from verifier.io.protobuf import messages

#: Protocol buffers hold less than 2 GiB.
MAX_BYTES = (1 << 31) - 1
#: How ONNX counts tensors in other files, and the attributes that hold tensors or graphs.
_EXTERNAL, _HOLDERS = 1, {4, 5, 9, 10, 11, 12}


@dataclass(frozen=True, eq=False)
class ModelFile:
    """An ONNX model from disk.

    Args:
        path: the file.
        proto: the ONNX model with all tensors in memory.
        data: the same as bytes: the file's, unless its tensors lie in other files.
        sha256: of the file's bytes, followed by those of external tensor files in order of name.
    """

    path: Path
    proto: Any
    data: bytes
    sha256: str

    def checked(self) -> ModelFile:
        """The model by ONNX's own rules, its functions inlined.

        Raises:
            ModelError: not a valid ONNX model.
        """
        from onnx import checker, inliner

        model, data = self.proto, self.data
        try:
            if model.functions:
                model = inliner.inline_local_functions(model)
                data = model.SerializeToString()
            checker.check_model(_with_output_shapes(model))
        except (checker.ValidationError, RuntimeError, ValueError) as problem:
            message = f"{self.path}: not a valid ONNX model: {first_line(problem)}"
            raise ModelError(message) from problem
        return ModelFile(self.path, model, data, self.sha256)


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """The ONNX model in a file, whatever it means; see ``ModelFile.checked``.

    Raises:
        ModelError: no such file, no message of ONNX's, or tensors outside the model's folder.
    """
    from google.protobuf.message import DecodeError

    path = Path(path)
    data = _bytes(path)
    model = messages().ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as problem:
        raise ModelError(f"{path}: not an ONNX model, or a damaged one ({problem})") from problem
    digest = hashlib.sha256(data)
    if _may_be_external(model) and _load_external(model, path, digest):
        data = model.SerializeToString()
    return ModelFile(path, model, data, digest.hexdigest())


def _with_output_shapes(model: Any) -> Any:
    """The model, or a copy in which every output has a shape.

    The checker insists on one where runtimes do not, and does not compare it with anything.
    """
    if all(value.type.tensor_type.HasField("shape") for value in model.graph.output):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    for value in copy.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return copy


def first_line(problem: BaseException) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0] if lines else type(problem).__name__


def _bytes(path: Path) -> bytes:
    """The file's contents."""
    if path.is_dir():
        raise ModelError(f"{path}: is a folder, expected an ONNX file")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{path}: has {size} bytes, an ONNX file has less than 2 GiB")
        data = path.read_bytes()
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise ModelError(f"{path}: cannot be read: {reason}") from problem
    if not data:
        raise ModelError(f"{path}: the file is empty, expected an ONNX model")
    return data


def _may_be_external(model: Any) -> bool:
    """Whether a tensor may lie in another file: one of the graph's, or one of an attribute's."""
    return (
        any(tensor.data_location == _EXTERNAL for tensor in model.graph.initializer)
        or any(given.type in _HOLDERS for node in model.graph.node for given in node.attribute)
        or bool(model.functions)
    )


def _load_external(model: Any, path: Path, digest: Any) -> bool:
    """Read tensors that lie in other files, which must be inside the model's folder.

    Returns:
        whether there were any.
    """
    from onnx import external_data_helper as external
    from onnx.checker import ValidationError

    folder = path.resolve().parent
    locations = set()
    for tensor in external._get_all_tensors(model):
        if not external.uses_external_data(tensor):
            continue
        info = {entry.key: entry.value for entry in tensor.external_data}
        where = info.get("location", "")
        target = (folder / where).resolve()
        if not where or not target.is_relative_to(folder) or target == folder:
            raise ModelError(
                f"{path}: tensor {tensor.name!r} lies in {where!r}, outside the model's folder"
            )
        if not target.is_file():
            raise ModelError(f"{path}: tensor {tensor.name!r} lies in {where!r}, which is no file")
        if target.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: tensor file {where!r} has 2 GiB or more")
        locations.add(target)
        try:
            external.load_external_data_for_tensor(tensor, str(folder))
        except (OSError, RuntimeError, ValueError, ValidationError) as problem:
            raise ModelError(
                f"{path}: tensor {tensor.name!r} cannot be read from {where!r}: "
                f"{first_line(problem)}"
            ) from problem
    for target in sorted(locations):
        digest.update(target.read_bytes())
    return bool(locations)
