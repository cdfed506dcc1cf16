"""A pass in float32 and a step by its gradient: proposals for ``Reduced``, which decides.

Nothing here gives an account of its rounding, and nothing here is believed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verifier.bounds import reduced_kernels
from verifier.bounds.jit import Bound
from verifier.core.sparse import is_sparse

if TYPE_CHECKING:
    from verifier.bounds.reduced import Asked, Reduced


@dataclass(eq=False)
class _Calls:
    """Kernels bound to the buffers of a pass: for each layer, and at the input.

    Args:
        back, corner: of a backward pass.
        step: of a step forward; empty until there is one.
    """

    back: list[Bound]
    corner: Bound
    step: list[Bound]


class Pass:
    """Passes of some subproblems in float32, with the buffers that they need.

    Attributes:
        q: the subproblems; their numbers are what moves.
        lam: coefficients at each layer's activations, as the last pass left them.
        value, point: its bounds and minimising corners.
    """

    def __init__(self, net: Reduced, q: Asked) -> None:
        self.net, self.q = net, q
        n, parts = len(q), net.parts
        self.lam = [np.empty((n, len(part.live)), np.float32) for part in parts]
        self._at = [np.empty((n, len(part.live)), np.float32) for part in parts]
        self._input = np.empty((n, len(net.corners[0])), np.float32)
        self.point = np.empty_like(self._input)
        self.value = np.empty(n, np.float32)
        self._const = q.const.astype(np.float32)
        self._running = np.empty(n, np.float32)
        self._mean: np.ndarray | None = None
        self._square: np.ndarray | None = None
        self._calls: _Calls | None = None

    def take(self, index: np.ndarray) -> Pass:
        """Some of them, between a backward pass and a step."""
        out = copy.copy(self)
        out.q = self.q.take(index)
        out.lam = [lam[index] for lam in self.lam]
        out._at = [at[: len(index)] for at in self._at]
        out._input, out.point = self._input[: len(index)], self.point[index]
        out.value, out._const = self.value[index], self._const[index]
        out._running = self._running[index]
        if self._mean is not None and self._square is not None:
            out._mean, out._square = self._mean[index], self._square[index]
        out._calls = None
        return out

    @property
    def scale(self) -> np.ndarray:
        """(N,) sizes of the last pass's bounds, about."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.abs(self._running) + np.abs(self.value)

    @property
    def calls(self) -> _Calls:
        """The kernels, bound to the present arrays."""
        if self._calls is None:
            q, net = self.q, self.net
            self._top = np.ascontiguousarray(q.rows[:, net.parts[-1].live], dtype=np.float32)
            back = []
            for k, part in enumerate(net.parts):
                lines = part.single
                back.append(
                    reduced_kernels.proposed_backward.bind(
                        self.lam[k], net.first[k], q.param, q.sign, lines.slope, lines.chord,
                        lines.bias, self._at[k], self._running,
                    )
                )  # fmt: skip
            corner = reduced_kernels.proposed_corner.bind(
                self._input, *net.corners, self._running, self.value, self.point
            )
            self._calls = _Calls(back, corner, [])
        return self._calls

    def _steps(self) -> list[Bound]:
        """The kernels of a step, layer by layer."""
        calls, q, net = self.calls, self.q, self.net
        if not calls.step:
            if self._mean is None or self._square is None:
                self._mean, self._square = np.zeros_like(q.param), np.zeros_like(q.param)
            for k, part in enumerate(net.parts):
                lines, first = part.single, net.first[k]
                calls.step.append(
                    reduced_kernels.proposed_step.bind(
                        self._at[k], self.lam[k], first, q.param, q.sign, lines.slope, lines.low,
                        lines.bias, self._mean, self._square, scalars=(0.0, 1, False),
                    )
                )  # fmt: skip
        return calls.step

    @np.errstate(over="ignore", invalid="ignore")
    def backward(self) -> Pass:
        """Coefficients, bounds and corners for the present numbers."""
        calls, parts = self.calls, self.net.parts
        self._running[...] = self._const
        self.lam[-1][...] = self.q.rows[:, parts[-1].live] if self.q.free else self._top
        for k in range(len(parts) - 1, -1, -1):
            calls.back[k]()
            into = self.lam[k - 1] if k else self._input
            _product(self._at[k], parts[k].single.weight, into)
        calls.corner()
        return self

    @np.errstate(over="ignore", invalid="ignore")
    def ascend(self, rate: float, step: int) -> None:
        """One gradient step: forward through the chosen lines from the minimiser."""
        q, before, step_of = self.q, self.point, self._steps()
        for k, part in enumerate(self.net.parts):
            _transposed_product(before, part.single.weight, self._at[k])
            step_of[k](rate, step, k + 1 < len(self.net.parts) or q.free)
            before = self._at[k]
        if q.free:
            a = np.zeros(q.rows.shape)
            a[:, self.net.parts[-1].live] = before
            _shift_weights(q.rows, a, rate)


def _product(lam: np.ndarray, weight: Any, out: np.ndarray) -> None:
    """out = lam W."""
    if is_sparse(weight):
        out[...] = (weight.T @ lam.T).T
    else:
        np.matmul(lam, weight, out=out)


def _transposed_product(a: np.ndarray, weight: Any, out: np.ndarray) -> None:
    """out = a Wᵀ."""
    if is_sparse(weight):
        out[...] = (weight @ a.T).T
    else:
        np.matmul(a, weight.T, out=out)


def _shift_weights(weights: np.ndarray, a: np.ndarray, rate: float) -> None:
    """Multiply each positive weight by exp(step), the more the larger its form is at the minimiser.

    The bound is sum of weight_i a_i there, so a_i is its gradient. The weights of a row add up to
    about 1, and stay float32 numbers above a small floor.

    Args:
        weights: (N, n), updated.
        a: (N, n) activations at the minimiser.
        rate: step size.
    """
    used = weights > 0
    size = np.max(np.abs(a), axis=1, keepdims=True, where=used, initial=1e-300)
    moved = np.where(used, weights * np.exp(8.0 * rate * np.clip(a / size, -1.0, 1.0)), 0.0)
    moved /= moved.sum(axis=1, keepdims=True)
    weights[...] = np.where(used, np.maximum(moved, 1e-4), 0.0).astype(np.float32)
