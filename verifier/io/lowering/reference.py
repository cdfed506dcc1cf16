"""Single nodes evaluated by ONNX's own reference implementation.

Used for constants (shape arithmetic), and for operators that only move entries, which are applied
to an array of positions: what comes out says which entry goes where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from verifier.io.lowering.node import Node

#: What the reference implementation raises when a node's inputs do not fit.
REFERENCE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

_FOLDED = """
    Add And ArgMax ArgMin Cast Ceil Clip Concat Constant ConstantOfShape CumSum Div Equal Exp
    Expand Flatten Floor Gather Gemm Greater GreaterOrEqual Identity Less LessOrEqual Log MatMul
    Max Min Mod Mul Neg NonZero Not OneHot Or Pad Pow Range Reciprocal ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum Relu Reshape Round ScatterND Shape Sigmoid Sign Size Slice
    Softmax Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
_ROUNDED = """
    Add CumSum Div Exp Gemm Log MatMul Mul Pow Reciprocal ReduceMean ReduceProd ReduceSum Sigmoid
    Softmax Sqrt Sub Sum Tanh
"""

#: Operators whose result is computed when all inputs are constants.
FOLDABLE = frozenset(_FOLDED.split())

#: Of these, those that compute with floats, and so round as the runtime does.
ROUNDING = frozenset(_ROUNDED.split())


def evaluate(node: Node, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The outputs of one node on constant inputs.

    Raises:
        ModelError: the inputs do not fit, or the result would be too large.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    _check_growth(node, inputs)
    feeds = {
        name: value
        for name, value in zip(node.inputs, inputs, strict=True)
        if name and value is not None
    }
    graph = helper.make_graph(
        [node.proto],
        "node",
        [helper.make_empty_tensor_value_info(name) for name in feeds],
        [helper.make_empty_tensor_value_info(name) for name in node.outputs if name],
    )
    try:
        evaluator = ReferenceEvaluator(graph, opsets={"": node.opset})
        with np.errstate(all="ignore"):
            outputs = evaluator.run(None, feeds)
    except REFERENCE_ERRORS as problem:
        lines = str(problem).strip().splitlines()
        raise node.error(f"cannot be evaluated: {lines[0] if lines else problem!r}") from problem
    if not all(isinstance(value, np.ndarray | np.generic) for value in outputs):
        raise node.error("does not give tensors")
    found = iter(outputs)
    return [np.asarray(next(found)) if name else np.zeros(0) for name in node.outputs]


def _check_growth(node: Node, inputs: Sequence[np.ndarray | None]) -> None:
    """Refuse a node whose output would be much larger than its inputs, before it is computed."""
    measure = _GROWTH.get(node.operator)
    arrays = [value for value in inputs if value is not None]
    if measure is None or not arrays:
        return
    try:
        shape = measure(node, arrays)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        raise node.error(f"its inputs do not fit: {problem}") from problem
    node.check_size(shape)


def _broadcast(_: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    return np.broadcast_shapes(*(a.shape for a in arrays))


def _expand(_: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    wanted = tuple(int(v) for v in arrays[1].ravel())
    if math.prod(max(v, 1) for v in wanted) > 1 << 62:
        return wanted
    return np.broadcast_shapes(arrays[0].shape, wanted)


def _tile(_: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    repeats = [int(v) for v in arrays[1].ravel()]
    return (*arrays[0].shape, *repeats)


def _range(_: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    start, limit, delta = (a.ravel()[0].item() for a in arrays)
    return (math.ceil((limit - start) / delta),)


def _pad(node: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    pads = node.attributes.get("pads", arrays[1] if len(arrays) > 1 else ())
    return (*(n + 1 for n in arrays[0].shape), max(1, sum(abs(int(p)) for p in pads)))


def _matmul(_: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    return (arrays[0].size, arrays[1].shape[-1] if arrays[1].ndim > 1 else 1)


def _onehot(_: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    return (arrays[0].size, int(arrays[1].ravel()[0]))


def _gather(_: Node, arrays: list[np.ndarray]) -> tuple[int, ...]:
    return (max(1, arrays[0].size // max(1, min(arrays[0].shape, default=1))), arrays[1].size)


_GROWTH: dict[str, Callable[[Node, list[np.ndarray]], tuple[int, ...]]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum"), _broadcast),
    **dict.fromkeys(("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"), _broadcast),
    **dict.fromkeys(("And", "Or", "Xor", "Where"), _broadcast),
    **dict.fromkeys(("MatMul", "Gemm"), _matmul),
    "ConstantOfShape": lambda _, arrays: tuple(int(v) for v in arrays[0].ravel()),
    "Expand": _expand,
    "Gather": _gather,
    "OneHot": _onehot,
    "Pad": _pad,
    "Range": _range,
    "Tile": _tile,
}


def foldable(node: Node) -> bool:
    """Whether the node's result can be computed when all its inputs are constants."""
    return node.operator in FOLDABLE


def constant_value(node: Node, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The outputs of a node that does not depend on the network's input.

    Raises:
        ModelError: an operator that is not folded here.
    """
    if not foldable(node):
        raise node.unsupported("on constants it is not among the operators that are folded")
    return evaluate(node, inputs)
