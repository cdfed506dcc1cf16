"""Tensors of the graph while it is lowered: exact expressions, shadowed by a rounding bound.

Beside its expression every tensor carries its value at a few sample points, in float64, and a bound
on how far a runtime's value there may be from the exact one. The bound follows the graph operator
by operator, whatever the order of summation: with unit roundoff u, an operator y = M x + d computed
from inputs that are off by at most e satisfies (Higham, Accuracy and Stability, section 3.1)

    |ŷ − y|  ≤  |M| e + γ_k (|M| (|x| + e) + |d|) + k η,        γ_k = k u / (1 − k u),

with k - 8 nonzeros in the longest row of M: the other 8 roundings leave room for the additions of
d, for constants that a runtime folds into the weights beforehand, and for a division done as a
multiplication. η is the smallest normal number, because a runtime may flush what is below it to
zero. max, min and ReLU round nothing and move no two values further apart. The constants used are
at least twice those of the formula, so the bound's own rounding in float64 cannot spoil it, and
``value``, which is computed by the same operators with a smaller u, is itself within it. Where a
sum of absolute values comes near the runtime's largest number the bound is infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.core.sparse import sp
from verifier.io.lowering.expression import Expression, Neurons, constant


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor that depends on the network's input.

    Args:
        shape: its ONNX shape.
        expression: its entries in C order, as exact expressions.
        value: (size, samples) its value at each sample point.
        error: (size, samples) bound on the distance of a runtime's value from the exact one.
    """

    shape: tuple[int, ...]
    expression: Expression
    value: np.ndarray
    error: np.ndarray

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.expression.size

    def positions(self) -> np.ndarray:
        """The numbers 0 .. size - 1 in this tensor's shape."""
        return np.arange(self.size).reshape(self.shape)


class Lowering:
    """Builds tensors from tensors; operators are written in terms of these methods only.

    Args:
        samples: (count, n_inputs) sample points, all representable in the runtime's type.
        single: whether the runtime computes in float32 (else in float64).
    """

    def __init__(self, samples: np.ndarray, single: bool) -> None:
        self.neurons = Neurons(samples.shape[1])
        self.notes: list[str] = []
        self._samples = np.asarray(samples, dtype=np.float64).T
        info = np.finfo(np.float32 if single else np.float64)
        self._unit = float(info.epsneg)
        self._tiny = float(info.tiny)
        self._largest = float(info.max) / 4

    # ---- leaves --------------------------------------------------------------------------------

    def input(self, shape: tuple[int, ...]) -> Tensor:
        """The network's input."""
        value = self._samples
        return Tensor(shape, self.neurons.input(), value, np.zeros_like(value))

    def constant(self, array: np.ndarray) -> Tensor:
        """A tensor that has this value whatever the input."""
        value = np.repeat(array.astype(np.float64).reshape(-1, 1), self._samples.shape[1], axis=1)
        return Tensor(array.shape, constant(array), value, np.zeros_like(value))

    # ---- entries that only move ----------------------------------------------------------------

    def select(
        self, parts: Sequence[Tensor], positions: np.ndarray, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """The entries ``positions`` of the stacked parts, in the shape of ``positions``."""
        shape = positions.shape if shape is None else shape
        flat = positions.ravel()
        if len(parts) == 1 and np.array_equal(flat, np.arange(parts[0].size)):
            return self.reshape(parts[0], shape)
        expression = self.neurons.select([p.expression for p in parts], flat)
        value = np.concatenate([p.value for p in parts])[flat]
        error = np.concatenate([p.error for p in parts])[flat]
        return Tensor(shape, expression, value, error)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The same entries in another shape."""
        return Tensor(tuple(shape), x.expression, x.value, x.error)

    def broadcast(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """x repeated along new and length-1 axes."""
        return x if x.shape == shape else self.select([x], np.broadcast_to(x.positions(), shape))

    # ---- linear --------------------------------------------------------------------------------

    def linear(
        self,
        x: Tensor,
        matrix: sp.csr_array,
        shape: tuple[int, ...],
        offset: np.ndarray | None = None,
    ) -> Tensor:
        """matrix @ x + offset."""
        offset = np.zeros(matrix.shape[0]) if offset is None else offset
        expression = self.neurons.linear(x.expression, matrix, offset)
        with np.errstate(over="ignore", invalid="ignore"):
            value = matrix @ x.value + offset[:, None]
            size = abs(matrix)
            spread = size @ x.error
            magnitude = size @ np.abs(x.value) + spread + np.abs(offset)[:, None]
        longest = int(np.diff(matrix.indptr).max(initial=0))
        return self._rounded(shape, expression, value, spread, magnitude, longest)

    def scale(
        self,
        x: Tensor,
        factor: np.ndarray,
        offset: np.ndarray | None = None,
        rounded: bool = False,
        magnitude: np.ndarray | None = None,
    ) -> Tensor:
        """factor * x + offset entry by entry; see ``Neurons.scale``.

        Args:
            x: what to scale.
            factor: (size,).
            offset: (size,), default 0.
            rounded: round products to float64 instead of keeping them exact.
            magnitude: (size,) sum of the absolute values that a runtime may add up to get
                ``offset``, if larger than |offset|.
        """
        expression = self.neurons.scale(x.expression, factor, offset, rounded)
        shift = np.zeros(x.size) if offset is None else offset
        extra = np.abs(shift) if magnitude is None else np.maximum(magnitude, np.abs(shift))
        with np.errstate(over="ignore", invalid="ignore"):
            value = factor[:, None] * x.value + shift[:, None]
            spread = np.abs(factor)[:, None] * x.error
            sizes = np.abs(factor)[:, None] * np.abs(x.value) + spread + extra[:, None]
        return self._rounded(x.shape, expression, value, spread, sizes, 2)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y, of equal shapes."""
        expression = self.neurons.add(x.expression, y.expression)
        return self._sum(x, y, expression, x.value + y.value)

    def subtract(self, x: Tensor, y: Tensor) -> Tensor:
        """x - y, of equal shapes."""
        expression = self.neurons.subtract(x.expression, y.expression)
        return self._sum(x, y, expression, x.value - y.value)

    def negate(self, x: Tensor) -> Tensor:
        """-x."""
        return Tensor(x.shape, self.neurons.negate(x.expression), -x.value, x.error)

    def rounded(self, x: Tensor) -> Tensor:
        """x after a conversion that may round it (the exact value does not change)."""
        size = np.abs(x.value) + x.error
        return self._rounded(x.shape, x.expression, x.value, x.error, size, 1)

    def _sum(self, x: Tensor, y: Tensor, expression: Expression, value: np.ndarray) -> Tensor:
        spread = x.error + y.error
        magnitude = np.abs(x.value) + np.abs(y.value) + spread
        return self._rounded(x.shape, expression, value, spread, magnitude, 2)

    def _rounded(
        self,
        shape: tuple[int, ...],
        expression: Expression,
        value: np.ndarray,
        spread: np.ndarray,
        magnitude: np.ndarray,
        terms: int,
    ) -> Tensor:
        """A tensor whose error is ``spread`` and that of a sum of ``terms`` terms."""
        steps = terms + 8
        gamma = 2.5 * steps * self._unit if steps * self._unit < 0.1 else np.inf
        with np.errstate(over="ignore", invalid="ignore"):
            error = 1.01 * spread + gamma * magnitude + 4 * steps * self._tiny
            error[~(magnitude + error < self._largest)] = np.inf
        return Tensor(tuple(shape), expression, value, error)

    # ---- piecewise linear ----------------------------------------------------------------------

    def relu(self, x: Tensor) -> Tensor:
        """max(x, 0)."""
        expression = self.neurons.relu(x.expression)
        return Tensor(x.shape, expression, np.maximum(x.value, 0.0), x.error)

    def absolute(self, x: Tensor) -> Tensor:
        """|x|."""
        expression = self.neurons.absolute(x.expression)
        return Tensor(x.shape, expression, np.abs(x.value), x.error)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        """max(x, y), of equal shapes."""
        expression = self.neurons.maximum(x.expression, y.expression)
        error = np.maximum(x.error, y.error)
        return Tensor(x.shape, expression, np.maximum(x.value, y.value), error)

    def clip(self, x: Tensor, low: np.ndarray | None, high: np.ndarray | None) -> Tensor:
        """min(max(x, low), high) with limits of x's size; None is no limit."""
        expression, value = x.expression, x.value
        if low is not None and high is not None:
            expression = self.neurons.between(expression, low, high)
        elif low is not None:
            expression = self.neurons.at_least(expression, low)
        elif high is not None:
            expression = self.neurons.at_most(expression, high)
        value = value if low is None else np.maximum(value, low[:, None])
        value = value if high is None else np.minimum(value, high[:, None])
        return Tensor(x.shape, expression, value, x.error)

    def leaky(self, x: Tensor, slope: np.ndarray) -> Tensor:
        """x where x >= 0, slope * x elsewhere; slope of x's size."""
        expression = self.neurons.leaky(x.expression, slope)
        steep = np.maximum(np.abs(slope), 1.0)[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            value = np.where(x.value >= 0, x.value, slope[:, None] * x.value)
            magnitude = steep * (np.abs(x.value) + x.error)
            return self._rounded(x.shape, expression, value, steep * x.error, magnitude, 1)
