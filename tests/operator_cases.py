"""Every operator that networks are imported with, at several opsets and attributes.

Constants are small integers, so that on small integers float32 arithmetic is exact in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx_graphs import Writer

RNG = np.random.default_rng(7)


def ints(*shape: int) -> np.ndarray:
    """Nonzero integers of absolute value up to 4, as floats."""
    return RNG.integers(1, 5, shape) * RNG.choice([-1.0, 1.0], shape)


def index(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


class Fixed:
    """A float constant that is not varied (a scale, a limit)."""

    def __init__(self, *values: float, shape: tuple[int, ...] | None = None) -> None:
        self.array = np.array(values, dtype=np.float64).reshape(
            (len(values),) if shape is None else shape
        )


X = "x"


@dataclass(frozen=True)
class Case:
    """One node: its inputs (X is the network's input), attributes, opset."""

    shape: tuple[int, ...]
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]
    opset: int
    dtype: Any
    exact: bool
    outputs: int
    take: int


def case(
    shape: tuple[int, ...],
    *inputs: Any,
    opset: int = 13,
    dtype: Any = np.float32,
    exact: bool = True,
    outputs: int = 1,
    take: int = 0,
    **attributes: Any,
) -> Case:
    return Case(shape, inputs, attributes, opset, dtype, exact, outputs, take)


IMAGE = (1, 2, 5, 6)
F64 = np.float64
CASES: dict[str, list[Case]] = {
    "Abs": [case((2, 3), X), case((1, 4), X, opset=6, dtype=F64)],
    "Add": [
        case((1, 4), X, ints(4)),
        case((1, 4), ints(3, 1), X),
        case((2, 3), X, X, dtype=F64),
        case((1, 4), X, ints(4), opset=7),
    ],
    "AveragePool": [
        case(IMAGE, X, kernel_shape=[2, 2], strides=[2, 2]),
        case(IMAGE, X, kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        case(IMAGE, X, kernel_shape=[3, 3], pads=[1, 1, 1, 1], exact=False),
        case(IMAGE, X, kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1, exact=False),
        case(
            IMAGE,
            X,
            kernel_shape=[3, 3],
            pads=[0, 1, 2, 1],
            strides=[2, 2],
            ceil_mode=1,
            count_include_pad=1,
            exact=False,
            opset=19,
        ),
        case(IMAGE, X, kernel_shape=[2, 3], auto_pad="SAME_UPPER", exact=False, opset=7),
        case(IMAGE, X, kernel_shape=[2, 3], auto_pad="SAME_LOWER", exact=False, opset=10),
        case((1, 2, 9), X, kernel_shape=[4], strides=[3]),
        case((1, 1, 4, 4, 4), X, kernel_shape=[2, 2, 2]),
        case(IMAGE, X, kernel_shape=[2, 2], dilations=[2, 3], opset=19),
        case((1, 1, 4, 4), X, kernel_shape=[2, 2], opset=1),
    ],
    "BatchNormalization": [
        case(IMAGE, X, ints(2), ints(2), ints(2), Fixed(3.0, 8.0), epsilon=1.0, exact=False),
        case((1, 3), X, ints(3), ints(3), ints(3), Fixed(1, 2, 3), exact=False, opset=9),
        case(
            (1, 3), X, ints(3), ints(3), ints(3), Fixed(1, 2, 3), exact=False, opset=15, dtype=F64
        ),
        case(IMAGE, X, ints(2), ints(2), ints(2), Fixed(1, 2), exact=False, opset=6),
    ],
    "Cast": [case((1, 4), X, to=1), case((2, 2), X, to=1, opset=9)],
    "CastLike": [case((1, 4), X, ints(2), opset=15)],
    "Clip": [
        case((1, 5), X, Fixed(-2.0, shape=()), Fixed(3.0, shape=())),
        case((1, 5), X, Fixed(1.0, shape=()), dtype=F64),
        case((1, 5), X, None, Fixed(-1.0, shape=()), opset=11),
        case((1, 5), X, opset=12),
        case((1, 5), X, opset=6, min=-1.0, max=6.0),
        case((1, 5), X, opset=6, min=0.0),
        case((1, 5), X, Fixed(2.0, shape=()), Fixed(-3.0, shape=())),
    ],
    "Concat": [
        case((1, 3), X, X, axis=1),
        case((1, 3), ints(2, 3), X, axis=0),
        case((2, 1, 2), X, ints(2, 1, 3), X, axis=-1, opset=4),
    ],
    "Conv": [
        case(IMAGE, X, ints(3, 2, 3, 2), ints(3), opset=11, strides=[2, 1], pads=[1, 0, 2, 1]),
        case(IMAGE, X, ints(4, 1, 2, 2), ints(4), group=2, dilations=[2, 3]),
        case(IMAGE, X, ints(2, 1, 3, 3), group=2, auto_pad="SAME_UPPER", strides=[2, 2]),
        case(IMAGE, X, ints(2, 2, 2, 3), auto_pad="SAME_LOWER", kernel_shape=[2, 3]),
        case(IMAGE, X, ints(2, 2, 2, 3), auto_pad="VALID"),
        case((1, 3, 7), X, ints(2, 3, 3), ints(2), pads=[2, 1], strides=[3]),
        case((2, 1, 3, 3, 3), X, ints(2, 1, 2, 2, 2), ints(2), pads=[1, 0, 0, 0, 1, 0]),
        case(IMAGE, X, ints(2, 2, 5, 6), ints(2), opset=1),
    ],
    "ConvTranspose": [
        case(IMAGE, X, ints(2, 3, 3, 2), ints(3), strides=[2, 1]),
        case(
            IMAGE,
            X,
            ints(2, 1, 2, 3),
            group=2,
            pads=[1, 0, 0, 1],
            strides=[2, 2],
            output_padding=[1, 0],
        ),
        case(IMAGE, X, ints(2, 2, 3, 3), dilations=[2, 1], strides=[1, 2]),
        case(IMAGE, X, ints(2, 1, 3, 3), strides=[2, 2], output_shape=[10, 12], opset=11),
        case(IMAGE, X, ints(2, 1, 3, 3), strides=[2, 3], auto_pad="SAME_UPPER"),
        case(IMAGE, X, ints(2, 1, 3, 3), strides=[2, 3], auto_pad="SAME_LOWER"),
        case((1, 2, 4), X, ints(2, 2, 3), strides=[2], opset=1),
    ],
    "DepthToSpace": [
        case((1, 8, 2, 3), X, blocksize=2),
        case((1, 8, 2, 3), X, blocksize=2, mode="CRD", opset=11),
    ],
    "Div": [
        case((1, 4), X, Fixed(2.0, -4.0, 0.5, 1.0)),
        case((1, 4), X, Fixed(3.0, 7.0, -5.0, 6.0), exact=False, dtype=F64),
        case((1, 4), X, Fixed(8.0), opset=7),
    ],
    "Dropout": [
        case((1, 4), X),
        case((1, 4), X, ratio=0.3, opset=7),
        case((1, 4), X, Fixed(0.4, shape=()), np.array(False), opset=12),
    ],
    "Expand": [case((3, 1), X, index(2, 3, 4)), case((1, 3), X, index(1))],
    "Flatten": [
        case((1, 2, 3), X),
        case((2, 1, 3), X, axis=2, opset=9),
        case((2, 3), X, axis=0),
        case((2, 3, 2), X, axis=-1),
    ],
    "Gather": [
        case((2, 4), X, index(3, 0, 0, -1), axis=1),
        case((3, 2), X, np.array([[0, 2], [1, 1]]), opset=1),
    ],
    "Gemm": [
        case((1, 3), X, ints(3, 4), ints(4)),
        case((1, 3), X, ints(4, 3), ints(1, 4), transB=1, alpha=0.5, beta=2.0),
        case((3, 2), X, ints(3, 4), ints(1), transA=1, opset=9),
        case((3, 2), ints(4, 3), X, dtype=F64),
        case((3, 2), ints(2, 4), X, ints(4, 3), transA=1, transB=1),
        case((1, 3), X, ints(3, 4), opset=11),
        case((2, 2), X, ints(2, 2), X, beta=3.0),
        case((1, 3), X, ints(3, 2), ints(2), alpha=0.1, beta=0.3, exact=False),
        case((1, 3), X, ints(3, 2), ints(2), alpha=0.1, beta=0.3, exact=False, dtype=F64),
        case((1, 3), X, ints(3, 4), ints(4), opset=7),
    ],
    "GlobalAveragePool": [case((1, 3, 4, 2), X), case((1, 2, 3), X, exact=False)],
    "GlobalMaxPool": [case((1, 3, 3, 2), X), case((2, 2, 5), X)],
    "Identity": [case((1, 4), X), case((1, 4), X, opset=1)],
    "LeakyRelu": [
        case((1, 5), X, alpha=0.25),
        case((1, 5), X, exact=False),
        case((1, 5), X, alpha=-2.0, opset=6),
        case((1, 5), X, alpha=0.2, exact=False),
    ],
    "MatMul": [
        case((1, 3), X, ints(3, 4)),
        case((3, 2), ints(4, 3), X, dtype=F64),
        case((3,), X, ints(3, 2)),
        case((3,), ints(2, 3), X),
        case((3,), X, ints(3)),
        case((2, 2, 3), X, ints(3, 2)),
        case((2, 3), X, ints(4, 3, 2)),
        case((2, 1, 2, 3), X, ints(2, 3, 2), opset=9),
        case((2, 3, 2), ints(3), X),
        case((2, 3, 2), X, ints(2)),
    ],
    "Max": [
        case((1, 4), X, ints(4)),
        case((2, 3), X, X, ints(1, 3), dtype=F64),
        case((2, 3), ints(2, 1), X, opset=8),
        case((1, 3), X, opset=12),
    ],
    "MaxPool": [
        case(IMAGE, X, kernel_shape=[2, 2], strides=[2, 2]),
        case(IMAGE, X, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        case(IMAGE, X, kernel_shape=[2, 3], auto_pad="SAME_UPPER", opset=7),
        case(IMAGE, X, kernel_shape=[3, 2], auto_pad="SAME_LOWER", strides=[2, 2]),
        case(IMAGE, X, kernel_shape=[3, 2], strides=[3, 4], ceil_mode=1),
        case(IMAGE, X, kernel_shape=[2, 2], dilations=[2, 3], opset=10),
        case((1, 2, 7), X, kernel_shape=[4], strides=[2], pads=[1, 2], opset=1),
        case((1, 1, 3, 3, 3), X, kernel_shape=[2, 2, 2], dtype=F64, opset=12),
    ],
    "Min": [
        case((1, 4), X, ints(4)),
        case((2, 3), X, ints(2, 1), X, dtype=F64, opset=8),
    ],
    "Mul": [
        case((1, 4), X, ints(4)),
        case((1, 4), ints(3, 1), X, dtype=F64),
        case((1, 4), X, ints(4), opset=7),
    ],
    "Neg": [case((1, 4), X), case((1, 4), X, dtype=F64, opset=6)],
    "PRelu": [
        case((1, 2, 3), X, ints(2, 1)),
        case((1, 4), X, Fixed(0.1, 0.2, -1.5, 3.0), exact=False, opset=9),
        case((1, 4), X, Fixed(0.5), opset=7),
        case((1, 2, 3), X, Fixed(0.5), opset=6),
    ],
    "Pad": [
        case((1, 2, 3), X, index(0, 1, 0, 1, 0, 2), Fixed(3.0, shape=())),
        case((1, 2, 3), X, index(0, 0, 1, 0, 1, 2), mode="edge", opset=11),
        case((2, 4), X, index(0, 2, 1, 3), mode="reflect"),
        case((1, 4), X, index(0, -1, 0, 2)),
        case((1, 4), X, index(2, 1), None, index(-1), opset=18),
        case((1, 4), X, opset=2, pads=[0, 1, 0, 2], value=-2.0),
        case((2, 4), X, index(1, 2, 1, 2), mode="wrap", opset=19),
    ],
    "ReduceMean": [
        case((1, 4, 2), X, axes=[1]),
        case((2, 2, 3), X, axes=[-1, 0], keepdims=0, exact=False),
        case((2, 4), X, index(1), opset=18, keepdims=0),
        case((2, 4), X, opset=11),
        case((2, 4), X, None, opset=18, noop_with_empty_axes=1),
    ],
    "ReduceSum": [
        case((1, 4, 2), X, index(1)),
        case((2, 2, 3), X, axes=[-1, 0], keepdims=0, opset=11, dtype=F64),
        case((2, 4), X),
        case((2, 4), X, noop_with_empty_axes=1),
    ],
    "Relu": [case((1, 4), X), case((2, 2), X, opset=6), case((2, 2), X, dtype=F64, opset=14)],
    "Reshape": [
        case((1, 2, 6), X, index(0, 3, -1)),
        case((2, 3), X, index(6), opset=5),
        case((2, 3), X, index(3, 2), allowzero=1, opset=14),
    ],
    "Resize": [
        case(
            (1, 1, 2, 3),
            X,
            None,
            Fixed(1, 1, 2, 2),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        case((1, 1, 2, 3), X, None, None, index(1, 1, 5, 4), mode="nearest"),
        case((1, 1, 4, 6), X, np.zeros(0), Fixed(1, 1, 0.5, 0.5), mode="nearest", opset=11),
        case(
            (1, 1, 3, 3),
            X,
            None,
            None,
            index(1, 1, 7, 2),
            mode="nearest",
            nearest_mode="ceil",
            coordinate_transformation_mode="align_corners",
        ),
        case(
            (1, 1, 3, 3),
            X,
            None,
            None,
            index(5, 7),
            mode="nearest",
            axes=[2, 3],
            opset=18,
            nearest_mode="round_prefer_ceil",
            coordinate_transformation_mode="half_pixel",
        ),
        case((1, 1, 2, 3), X, Fixed(1, 1, 2, 3), mode="nearest", opset=10),
    ],
    "Slice": [
        case((2, 6), X, index(1), index(-1), index(1), index(2), opset=10),
        case((2, 6), X, index(5), index(-7), index(1), index(-2)),
        case((2, 6), X, opset=1, starts=[0, 2], ends=[1, 99], axes=[0, 1]),
    ],
    "SpaceToDepth": [case((1, 2, 4, 6), X, blocksize=2)],
    "Split": [
        case((1, 6), X, index(1, 2, 3), axis=1, outputs=3, take=1),
        case((1, 6), X, axis=1, outputs=2, take=1, opset=11, split=[4, 2]),
        case((4, 3), X, outputs=2, take=1, opset=2),
        case((1, 7), X, axis=1, outputs=3, take=2, num_outputs=3, opset=18),
    ],
    "Squeeze": [
        case((1, 3, 1), X, index(2)),
        case((1, 3, 1), X, axes=[0], opset=11),
        case((1, 3, 1), X),
    ],
    "Sub": [
        case((1, 4), X, ints(4)),
        case((1, 4), ints(2, 1), X, dtype=F64),
        case((1, 4), X, ints(4), opset=7),
        case((2, 2), X, X),
    ],
    "Sum": [case((1, 4), X, ints(4), X), case((2, 1), X, ints(3), dtype=F64, opset=8)],
    "Tile": [case((2, 2), X, index(1, 3))],
    "Transpose": [case((2, 1, 3), X), case((2, 1, 3), X, perm=[1, 2, 0], opset=1)],
    "Unsqueeze": [case((2, 3), X, index(0, -1)), case((2, 3), X, axes=[1], opset=11)],
    "Upsample": [
        case((1, 1, 2, 3), X, Fixed(1, 1, 2, 3), mode="nearest", opset=9),
        case((1, 1, 2, 3), X, opset=7, scales=[1.0, 1.0, 1.5, 2.0], mode="nearest"),
    ],
    "Where": [case((1, 3), np.array([True, False, True]), X, ints(3), opset=9)],
}


def one_node_model(c: Case, operator: str, vary: bool) -> tuple[Writer, str]:
    """The one-node model; ``vary`` makes its free constants real numbers."""
    writer = Writer(c.shape, c.dtype, c.opset)
    rng = np.random.default_rng(3)
    inputs = []
    for value in c.inputs:
        if isinstance(value, Fixed):
            value = value.array
        elif vary and isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = value * rng.uniform(0.5, 1.5, value.shape)
        if operator in ("Resize", "Upsample") and isinstance(value, np.ndarray):
            # Scales are float32 whatever the model's type.
            value = value.astype(np.float32) if value.dtype.kind == "f" else value
        inputs.append(value)
    made = writer.node(operator, *inputs, outputs=c.outputs, **c.attributes)
    return writer, made if c.outputs == 1 else made[c.take]


ALL = [
    pytest.param(operator, c, id=f"{operator}-{k}")
    for operator, cases in CASES.items()
    for k, c in enumerate(cases)
]
