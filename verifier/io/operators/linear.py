"""Matrix products and elementwise linear operators."""

from __future__ import annotations

import math

import numpy as np

from verifier.io.lowering.exact_affine import csr_from_rows, exact_product
from verifier.io.lowering.node import MAX_NONZEROS, Node
from verifier.io.lowering.tensor import Lowering, Tensor
from verifier.io.operators.arguments import Value, as_tensor, broadcast_shape, input_tensor


def matmul(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Y = A B with NumPy's rules for stacks of matrices and vectors; one factor is constant."""
    left, right = inputs
    if isinstance(left, Tensor):
        weight = node.numbers(right, "second factor")
        return [_product(build, node, left, left.positions(), weight, tensor_left=True)]
    tensor = input_tensor(node, right)
    weight = node.numbers(left, "first factor")
    return [_product(build, node, tensor, tensor.positions(), weight, tensor_left=False)]


def gemm(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Y = alpha A' B' + beta C, A' and B' transposed where asked; A or B is constant."""
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    flips = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]
    tensor_left = isinstance(inputs[0], Tensor)
    tensor = input_tensor(node, inputs[0] if tensor_left else inputs[1])
    weight = node.numbers(inputs[1] if tensor_left else inputs[0], "factor")
    if len(tensor.shape) != 2 or weight.ndim != 2:
        raise node.error(f"needs two matrices, got shapes {tensor.shape} and {weight.shape}")
    positions = tensor.positions()
    positions = positions.T if flips[0 if tensor_left else 1] else positions
    weight = weight.T if flips[1 if tensor_left else 0] else weight
    scaled = exact_product(weight, np.array(alpha))
    base = weight if scaled is None else scaled
    result = _product(build, node, tensor, positions, base, tensor_left)
    if scaled is None:
        result = build.scale(result, np.full(result.size, alpha))
    third = inputs[2] if len(inputs) > 2 else None
    if third is None or beta == 0.0:
        return [result]
    addend = as_tensor(build, node, third)
    if broadcast_shape(node, addend.shape, result.shape) != result.shape:
        raise node.error(f"C {addend.shape} cannot be broadcast to {result.shape}")
    addend = build.broadcast(addend, result.shape)
    if beta != 1.0:
        addend = build.scale(addend, np.full(addend.size, beta))
    return [build.add(result, addend)]


def _product(
    build: Lowering,
    node: Node,
    x: Tensor,
    positions: np.ndarray,
    weight: np.ndarray,
    tensor_left: bool,
) -> Tensor:
    """x W or W x, where ``positions`` says which entry of x stands where."""
    if not positions.ndim or not weight.ndim:
        raise node.error("a factor is a scalar")
    tensor_vector, weight_vector = positions.ndim == 1, weight.ndim == 1
    if tensor_vector:
        positions = positions[None, :] if tensor_left else positions[:, None]
    if weight_vector:
        weight = weight[:, None] if tensor_left else weight[None, :]
    left, right = (positions, weight) if tensor_left else (weight, positions)
    if left.shape[-1] != right.shape[-2]:
        raise node.error(f"shapes {left.shape} and {right.shape} cannot be multiplied")
    batch = broadcast_shape(node, left.shape[:-2], right.shape[:-2])
    full = (*batch, left.shape[-2], right.shape[-1], left.shape[-1])
    node.check_size(full, MAX_NONZEROS)
    rows, columns = left[..., :, None, :], np.swapaxes(right, -1, -2)[..., None, :, :]
    columns, values = (rows, columns) if tensor_left else (columns, rows)
    flat = (math.prod(full[:-1]), full[-1])
    matrix = csr_from_rows(
        np.broadcast_to(columns, full).reshape(flat),
        np.broadcast_to(values, full).reshape(flat),
        x.size,
    )
    shape = list(full[:-1])
    if (tensor_left and weight_vector) or (not tensor_left and tensor_vector):
        del shape[-1]
    if (tensor_left and tensor_vector) or (not tensor_left and weight_vector):
        del shape[len(batch)]
    return build.linear(x, matrix, tuple(shape))


def add(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """A + B + ... with broadcasting (Add, Sum)."""
    total, *rest = _aligned(build, node, inputs)
    for tensor in rest:
        total = build.add(total, tensor)
    return [total]


def subtract(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """A - B with broadcasting."""
    left, right = _aligned(build, node, inputs)
    return [build.subtract(left, right)]


def negate(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """-X."""
    return [build.negate(input_tensor(node, inputs[0]))]


def multiply(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """A * B with broadcasting; one of them is constant."""
    left, right = _old_broadcast(node, inputs)
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        raise node.unsupported(
            "a product of two tensors that both depend on the input is not piecewise linear"
        )
    x, other = (left, right) if isinstance(left, Tensor) else (right, left)
    factor = node.numbers(other, "factor")
    tensor, factor = _spread(build, node, input_tensor(node, x), factor)
    return [build.scale(tensor, factor)]


def divide(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """A / B with broadcasting, B constant: A times 1 / B, rounded where B is no power of two."""
    left, right = _old_broadcast(node, inputs)
    if not isinstance(left, Tensor):
        raise node.unsupported("a quotient by a tensor that depends on the input is not linear")
    divisor = node.numbers(right, "divisor")
    if (divisor == 0).any():
        raise node.error("divides by zero")
    tensor, divisor = _spread(build, node, left, divisor)
    with np.errstate(over="ignore"):
        factor = 1.0 / divisor
    if not np.isfinite(factor).all():
        raise node.error("divides by a number whose inverse no float64 holds")
    rounded = bool((np.abs(np.frexp(divisor)[0]) != 0.5).any())
    if rounded:
        build.notes.append(f"node {node.name!r} (Div): 1/divisor was rounded to float64")
    return [build.scale(tensor, factor, rounded=rounded)]


def batch_normalization(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """Y = scale (X - mean) / sqrt(var + epsilon) + bias by channel; constants are rounded."""
    if node.attributes.get("training_mode", 0):
        raise node.unsupported("training mode depends on the whole batch; export in eval mode")
    if node.opset < 9 and not node.attributes.get("spatial", 1):
        raise node.unsupported("only spatial=1 is supported")
    x = input_tensor(node, inputs[0])
    names = ("scale", "bias", "mean", "variance")
    scale, bias, mean, var = (
        node.numbers(v, what).astype(np.longdouble)
        for v, what in zip(inputs[1:5], names, strict=True)
    )
    channels = x.shape[1] if len(x.shape) > 1 else 1
    if any(v.shape != (channels,) for v in (scale, bias, mean, var)):
        raise node.error(f"needs constants of shape ({channels},), got {scale.shape}")
    spread = var + np.longdouble(node.number("epsilon", 1e-5))
    if (spread <= 0).any():
        raise node.error("variance + epsilon is not positive")
    factor = scale / np.sqrt(spread)
    index = np.broadcast_to(
        np.arange(channels).reshape(1, -1, *([1] * (len(x.shape) - 2))), x.shape
    ).ravel()
    build.notes.append(
        f"node {node.name!r} (BatchNormalization): scale / sqrt(variance + epsilon), and its "
        "products with the weights before it, were rounded to float64"
    )
    offset = (bias - mean * factor).astype(np.float64)
    magnitude = (np.abs(bias) + np.abs(mean * factor)).astype(np.float64)
    return [
        build.scale(
            x,
            factor.astype(np.float64)[index],
            offset[index],
            rounded=True,
            magnitude=magnitude[index],
        )
    ]


def _spread(
    build: Lowering, node: Node, x: Tensor, factor: np.ndarray
) -> tuple[Tensor, np.ndarray]:
    """Tensor and factor broadcast to their common shape, the factor flat."""
    shape = broadcast_shape(node, x.shape, factor.shape)
    return build.broadcast(x, shape), np.broadcast_to(factor, shape).ravel()


def _aligned(build: Lowering, node: Node, inputs: list[Value]) -> list[Tensor]:
    """All inputs as tensors of their common shape."""
    tensors = [as_tensor(build, node, v) for v in _old_broadcast(node, inputs)]
    shape = broadcast_shape(node, *(t.shape for t in tensors))
    return [build.broadcast(t, shape) for t in tensors]


def _old_broadcast(node: Node, inputs: list[Value]) -> list[Value]:
    """Before opset 7 a constant second operand is aligned at the attribute ``axis``."""
    if node.opset >= 7 or "axis" not in node.attributes or len(inputs) != 2:
        return inputs
    left, right = inputs
    if left is None or not isinstance(right, np.ndarray):
        raise node.unsupported("the old axis attribute needs a constant second operand")
    axis = node.axis(len(left.shape), 0)
    missing = len(left.shape) - axis - right.ndim
    if missing < 0:
        raise node.error(f"axis {axis} does not fit shapes {left.shape} and {right.shape}")
    return [left, right.reshape(*right.shape, *([1] * missing))]
