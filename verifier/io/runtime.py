"""onnxruntime on the CPU, one thread, with its default optimisations: what a user deploys."""

from __future__ import annotations

from typing import Any

import numpy as np

from verifier.core.errors import ModelError
from verifier.io.model_file import first_line
from verifier.io.protobuf import messages

#: Models whose operators onnxruntime no longer has are converted to this version of them.
NEWER_OPSET = 13


class Session:
    """A model that is run one point at a time, each as a batch of its own.

    A float32 result depends on the order of summation, and a runtime may sum differently in larger
    batches: a single point has one result.

    Args:
        model: bytes of an ONNX model with all tensors.
        name: of its input.
        shape: the input's shape.
        double: whether the input is float64.

    Raises:
        ModelError: onnxruntime refuses the model.
    """

    def __init__(self, model: bytes, name: str, shape: tuple[int, ...], double: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._errors = runtime_errors()
        self.shape = shape
        self.dtype = np.dtype(np.float64 if double else np.float32)
        try:
            self._session = self._start(model, options)
        except self._errors as problem:
            raise ModelError(f"onnxruntime refuses the model: {first_line(problem)}") from problem
        self._input = name

    @staticmethod
    def _start(model: bytes, options: Any) -> Any:
        """A session; a model whose operators are too old for onnxruntime is first converted."""
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Missing

        providers = ["CPUExecutionProvider"]
        try:
            return onnxruntime.InferenceSession(model, options, providers)
        except Missing:
            old = messages().ModelProto.FromString(model)
            if not any(o.version < NEWER_OPSET for o in old.opset_import if not o.domain):
                raise
        from onnx import version_converter

        newer = version_converter.convert_version(old, NEWER_OPSET)
        del newer.graph.value_info[:]  # the converter leaves types out here
        return onnxruntime.InferenceSession(newer.SerializeToString(), options, providers)

    def run(self, points: np.ndarray) -> np.ndarray:
        """The outputs at each point.

        Args:
            points: (count, n_inputs).

        Returns:
            (count, n_outputs) in the model's output type.
        """
        rows = []
        for point in np.asarray(points, dtype=self.dtype):
            try:
                (out,) = self._session.run(None, {self._input: point.reshape(self.shape)})
            except self._errors as problem:
                raise ModelError(
                    f"onnxruntime cannot run the model: {first_line(problem)}"
                ) from problem
            rows.append(np.asarray(out).ravel())
        return np.stack(rows) if rows else np.zeros((0, 0), dtype=self.dtype)


def runtime_errors() -> tuple[type[Exception], ...]:
    """Every exception that onnxruntime defines, and those it lets through."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [
        value
        for value in vars(state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*own, RuntimeError, ValueError)
