"""The table of operators: one function each.

A function takes the builder, the node, and the node's inputs (a ``Tensor`` where an input depends
on the network's input, an array where it is constant, None where it is left out), and returns the
node's outputs. It is called only if at least one input is a ``Tensor``.

To add an operator: write its function in the file of its family, enter it below, and give it a case
in tests/io/operators/test_operators.py, which fails while an operator of this table has none.
"""

from __future__ import annotations

from collections.abc import Callable

from verifier.io.lowering.node import Node
from verifier.io.lowering.tensor import Lowering, Tensor
from verifier.io.operators import convolution, linear, moving, piecewise, pooling
from verifier.io.operators.arguments import Value

Operator = Callable[[Lowering, Node, list[Value]], list[Tensor]]

OPERATORS: dict[str, Operator] = {
    "Abs": piecewise.absolute,
    "Add": linear.add,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": linear.batch_normalization,
    "Cast": moving.cast,
    "CastLike": moving.cast,
    "Clip": piecewise.clip,
    "Concat": moving.concat,
    "Conv": convolution.convolution,
    "ConvTranspose": convolution.transposed_convolution,
    "DepthToSpace": moving.move,
    "Div": linear.divide,
    "Dropout": moving.identity,
    "Expand": moving.move,
    "Flatten": moving.move,
    "Gather": moving.move,
    "Gemm": linear.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "Identity": moving.identity,
    "LeakyRelu": piecewise.leaky_relu,
    "MatMul": linear.matmul,
    "Max": piecewise.maximum,
    "MaxPool": pooling.max_pool,
    "Min": piecewise.minimum,
    "Mul": linear.multiply,
    "Neg": linear.negate,
    "PRelu": piecewise.prelu,
    "Pad": moving.pad,
    "ReduceMean": pooling.reduce_mean,
    "ReduceSum": pooling.reduce_sum,
    "Relu": piecewise.relu,
    "Reshape": moving.move,
    "Resize": moving.resize,
    "Slice": moving.move,
    "SpaceToDepth": moving.move,
    "Split": moving.move,
    "Squeeze": moving.move,
    "Sub": linear.subtract,
    "Sum": linear.add,
    "Tile": moving.move,
    "Transpose": moving.move,
    "Unsqueeze": moving.move,
    "Upsample": moving.resize,
    "Where": moving.where,
}
