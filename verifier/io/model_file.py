"""An ONNX file from disk: read, checked, and with its external tensors in memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from verifier.core.errors import ModelError

#: Protocol buffers hold less than 2 GiB.
MAX_BYTES = (1 << 31) - 1


def read_model(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The ONNX model in a file, with all tensors in memory, and its SHA-256.

    The hash is that of the file's bytes; if tensors lie in other files, their bytes follow in the
    order of the files' names.

    Raises:
        ModelError: no such file, not an ONNX model, or tensors outside the model's folder.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto, checker, inliner

    path = Path(path)
    data = _bytes(path)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as problem:
        raise ModelError(f"{path}: not an ONNX model, or a damaged one ({problem})") from problem
    digest = hashlib.sha256(data)
    _load_external(model, path, digest)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        checker.check_model(_with_output_shapes(model))
    except (checker.ValidationError, RuntimeError, ValueError) as problem:
        raise ModelError(f"{path}: not a valid ONNX model: {first_line(problem)}") from problem
    return model, digest.hexdigest()


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


def _load_external(model: Any, path: Path, digest: Any) -> None:
    """Read tensors that lie in other files, which must be inside the model's folder."""
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
