"""Passes of a search on a device of Torch: many subproblems at once, in float32.

The steps are those of ``verifier.bounds.reduced``, with its analytic gradients: coefficients go
back through the relaxed ReLUs to the input, the minimising corner goes forward through the lines
that were chosen, and Adam moves slopes and split multipliers on the way. Everything here is a
proposal (see ``verifier.bounds.passes``): the order of sums, TF32, denormals, or whatever else a
device does to a float, decide how good it is, never whether a verdict is right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from torchbridge.hardware import device_of, use_threads
from verifier.bounds.interval import Bounds
from verifier.bounds.linear import Backward
from verifier.bounds.passes import Lent, Proposal
from verifier.bounds.reduced import Asked, Climb, Reduced
from verifier.core.sparse import is_sparse

#: How many times larger the batches of a search are on a GPU, which is idle with smaller ones.
_LARGER = 16
#: Sparse matrices of up to so many numbers are multiplied as dense ones.
_DENSE_NUMBERS = 1 << 24
#: Bytes that a batch may take on the processor, and the share of free memory on a GPU.
_BYTES, _SHARE = 1 << 28, 0.5
#: Larger gradients are not followed: their squares would overflow.
_STEEP = 1e18

T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A device of Torch.

    Args:
        name: as Torch calls it: cpu, cuda, cuda:1.
        kind: type of the numbers.
    """

    name: str
    kind: torch.dtype = torch.float32

    @property
    def title(self) -> str:
        """For messages."""
        if not self.name.startswith("cuda"):
            return "Torch on the processor"
        return f"{self.name}, {torch.cuda.get_device_name(torch.device(self.name))}"

    @property
    def is_gpu(self) -> bool:
        """Whether batches must be large to keep it busy."""
        return not self.name.startswith("cpu")

    @property
    def larger(self) -> int:
        """How many times larger than the processor's its batches are."""
        return _LARGER if self.is_gpu else 1

    @property
    def room(self) -> float:
        """Bytes that a batch may take."""
        if not self.name.startswith("cuda"):
            return _BYTES
        return _SHARE * torch.cuda.mem_get_info(torch.device(self.name))[0]

    def __call__(self, engine: Backward, bounds: list[Bounds]) -> Reduced:
        """Passes on this device (a ``Maker``)."""
        return DevicePasses(engine, bounds, self)

    def tensor(self, array: np.ndarray) -> Tensor:
        """A copy of an array of floats on the device."""
        return torch.tensor(array, dtype=self.kind, device=self.name)

    def matrix(self, weight: Any) -> Tensor:
        """A copy of a dense or CSR matrix on the device."""
        if is_sparse(weight) and weight.shape[0] * weight.shape[1] < _DENSE_NUMBERS:
            weight = weight.toarray()
        if not is_sparse(weight):
            return self.tensor(weight)
        weight = weight.sorted_indices()  # a copy, as Torch wants them
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Torch calls its CSR form a beta
            made = torch.sparse_csr_tensor(
                torch.from_numpy(weight.indptr.astype(np.int64)),
                torch.from_numpy(weight.indices.astype(np.int64)),
                torch.from_numpy(weight.data).to(self.kind),
                weight.shape,
                check_invariants=True,
            )
            return made.to(self.name)


def find(name: str) -> Device | None:
    """The device that proposes, or None if the search's own code on the processor does.

    Args:
        name: as ``torchbridge.hardware.device_of`` takes it. None is the answer to ``cpu``, and to
            ``auto`` without a GPU; ``torch`` is Torch on the processor, to compare with.

    Raises:
        SolverError: no such device.
    """
    where = device_of(name)
    if where.type != "cpu":
        return Device(str(where))
    if name != "torch":
        return None
    # As the engine's own BLAS: threads that wait for each other cost a factor of ten.
    use_threads(1)
    return Device("cpu")


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer of ``Reduced`` on the device: weight and its transpose, bias, and its lines."""

    first: int
    count: int
    weight: Tensor
    transposed: Tensor
    bias: Tensor
    low: Tensor
    slope: Tensor
    chord: Tensor

    @classmethod
    def of(cls, part: Any, first: int, device: Device) -> _Layer:
        """The float64 numbers of a part, rounded to the device's."""
        lines = part.lines
        weight = device.matrix(lines.weight)
        sparse = weight.layout != torch.strided
        other = device.matrix(lines.weight.T.tocsr()) if sparse else weight.T
        rest = (device.tensor(a) for a in (lines.bias, lines.low, lines.slope, lines.chord))
        return cls(first, part.unstable, weight, other, *rest)

    def back(self, lam: Tensor) -> Tensor:
        """Lam W."""
        sparse = self.weight.layout != torch.strided
        return (self.transposed @ lam.T).T.contiguous() if sparse else lam @ self.weight

    def forth(self, a: Tensor) -> Tensor:
        """A Wᵀ + b."""
        sparse = self.weight.layout != torch.strided
        product = (self.weight @ a.T).T.contiguous() if sparse else a @ self.transposed
        return product + self.bias

    @property
    def columns(self) -> slice:
        """Of its units among all."""
        return slice(self.first, self.first + self.count)


class DevicePasses(Lent):
    """``Reduced`` with its proposals made on a device.

    Args:
        engine, bounds: as for ``Reduced``.
        device: where.
    """

    def __init__(self, engine: Backward, bounds: list[Bounds], device: Device) -> None:
        super().__init__(engine, bounds)
        self.device = device
        with np.errstate(over="ignore"):
            pairs = zip(self.parts, self.first, strict=True)
            self.layers = [_Layer.of(part, first, device) for part, first in pairs]
        self.lower, self.upper = device.tensor(engine.lower), device.tensor(engine.upper)
        live = sum(len(part.live) for part in self.parts) + len(self.lower)
        units = sum(layer.count for layer in self.layers)
        # Coefficients, activations and temporaries; numbers, moments and the best so far.
        self._bytes = (6 * live + 8 * units) * torch.finfo(device.kind).bits // 8

    def estimates(self, q: Asked) -> np.ndarray:
        """As ``Reduced.estimates``."""
        found = self._pieces(q, lambda piece: _Batch(self, piece).backward().value)
        return _fetched(found, (0,)).astype(np.float64)

    def coefficients(self, q: Asked) -> np.ndarray:
        """As ``Reduced.coefficients``."""

        def one(piece: Asked) -> Tensor:
            run = _Batch(self, piece).backward()
            lam = [a[:, : layer.count] for a, layer in zip(run.lam, self.layers, strict=True)]
            return torch.cat(lam, dim=1)

        return _fetched(self._pieces(q, one), q.param.shape)

    def propose(self, q: Asked, how: Climb, stop: Callable[[], bool]) -> Proposal:
        """The best numbers that projected Adam steps find, by the device's own estimate."""
        found = self._pieces(q, lambda piece: _climbed(self, piece, how, stop))
        param, rows, upper = zip(*found, strict=True) if found else ((), (), ())
        return Proposal(
            _fetched(param, q.param.shape),
            _fetched(rows, q.rows.shape) if q.free else None,
            _fetched(upper, (0, len(self.lower))) > 0.5,
        )

    def _pieces(self, q: Asked, work: Callable[[Asked], T]) -> list[T]:
        """The work done on pieces that fit into the device's memory.

        Raises:
            MemoryError: a single subproblem does not.
        """
        size = max(1, min(len(q), int(self.device.room / max(1, self._bytes))))
        out: list[T] = []
        done = 0
        while done < len(q):
            try:
                out.append(work(q.take(slice(done, done + size))))
            except torch.OutOfMemoryError as problem:  # others use the device as well
                if size == 1:
                    raise MemoryError("a subproblem does not fit on the device") from problem
                size //= 2
            else:
                done += size
        return out


def _fetched(parts: Any, empty: tuple[int, ...]) -> np.ndarray:
    """Tensors, one below the other, as one array."""
    if not parts:
        return np.zeros(empty, dtype=np.float32)
    return torch.cat(list(parts)).to("cpu", torch.float32).numpy()


class _Batch:
    """Passes of some subproblems that lie in the device's memory.

    Attributes:
        param, rows: what moves.
        lam: coefficients at each layer's activations, as the last pass left them.
        value, point: its bounds and minimising corners.
    """

    def __init__(self, net: DevicePasses, q: Asked) -> None:
        device = net.device
        self.net, self.free = net, q.free
        self.live = torch.from_numpy(net.parts[-1].live).to(device.name) if net.parts else None
        self.rows, self.const = device.tensor(q.rows), device.tensor(q.const)
        self.param = device.tensor(q.param)
        sign = torch.tensor(q.sign, device=device.name)
        #: Where no sign is assumed, and 1 where z >= 0 is.
        self.open, self.positive = sign == 0, (sign > 0).to(device.kind)
        self.sign = sign.to(device.kind)
        self.mean, self.square = torch.zeros_like(self.param), torch.zeros_like(self.param)
        self.lam: list[Tensor] = []

    def take(self, index: Tensor) -> None:
        """Go on with some of the subproblems."""
        for name in (
            "rows", "const", "param", "open", "positive", "sign", "mean", "square", "value",
            "point", "at_upper",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[index])
        self.lam = [lam[index] for lam in self.lam]

    @torch.no_grad()
    def backward(self) -> _Batch:
        """Coefficients, bounds and corners for the present numbers."""
        lam = self.rows if self.live is None else self.rows[:, self.live]
        total, kept = self.const.clone(), []
        for layer in reversed(self.net.layers):
            kept.append(lam)
            head, p = lam[:, : layer.count], self.param[:, layer.columns]
            free, fixed = self.open[:, layer.columns], self.positive[:, layer.columns]
            relaxed = head * torch.where(head < 0, layer.slope, p)
            total += (head.clamp(max=0) * free) @ layer.chord
            head = torch.where(free, relaxed, head * fixed - p)
            lam = torch.cat([head, lam[:, layer.count :]], dim=1)
            total += lam @ layer.bias
            lam = layer.back(lam)
        self.lam = kept[::-1]
        net = self.net
        self.at_upper = lam < 0
        self.point = torch.where(self.at_upper, net.upper, net.lower)
        self.value = (lam * self.point).sum(dim=1) + total
        return self

    @torch.no_grad()
    def ascend(self, rate: float, step: int) -> None:
        """One gradient step: forward through the chosen lines from the minimiser.

        The bound's derivative by a slope is max(lam, 0) z, by a signed multiplier −z.
        """
        a = self.point
        for lam, layer in zip(self.lam, self.net.layers, strict=True):
            z, head = layer.forth(a), lam[:, : layer.count]
            at, columns = z[:, : layer.count], layer.columns
            free, p = self.open[:, columns], self.param[:, columns]
            below = p * at  # with the slope that the pass used
            gradient = torch.where(free, head.clamp(min=0) * at, -at)
            if layer.count:
                self.param[:, columns] = self._moved(columns, gradient, head, rate, step)
            relaxed = torch.where(head >= 0, below, (at - layer.low) * layer.slope)
            at = torch.where(free, relaxed, at * self.positive[:, columns])
            a = torch.cat([at, z[:, layer.count :]], dim=1)
        if self.free and self.live is not None:
            self._shift(a, rate)

    def _moved(
        self, columns: slice, gradient: Tensor, head: Tensor, rate: float, step: int
    ) -> Tensor:
        """Slopes and multipliers of one layer after a step, slopes in [0, 1], signs kept.

        Multipliers are of the size of the layer's coefficients, and so are their steps.
        """
        gradient = torch.where(gradient.abs() < _STEEP, gradient, 0.0)
        mean, square = self.mean[:, columns], self.square[:, columns]
        mean.lerp_(gradient, 0.1)
        square.lerp_(gradient * gradient, 0.001)
        root = (square / (1.0 - 0.999**step)).sqrt_() + 1e-12
        before, sign = self.param[:, columns], self.sign[:, columns]
        stride = (rate / (1.0 - 0.9**step)) * mean / root
        slope = (before + stride).clamp(0.0, 1.0)
        moved = before + stride * head.abs().amax(dim=1, keepdim=True)
        beta = torch.where(moved * sign > 0, moved, 0.0)
        return torch.where(self.open[:, columns], slope, beta)

    def _shift(self, a: Tensor, rate: float) -> None:
        """``verifier.bounds.linear``'s step on weights of forms; a holds the live activations."""
        full = torch.zeros_like(self.rows)
        full[:, self.live] = a
        used = self.rows > 0
        size = torch.where(used, full.abs(), 0.0).amax(dim=1, keepdim=True).clamp(min=1e-30)
        moved = self.rows * torch.exp(8.0 * rate * (full / size).clamp(-1.0, 1.0))
        moved = torch.where(used, moved, 0.0)
        moved = moved / moved.sum(dim=1, keepdim=True)
        self.rows = torch.where(used, moved.clamp(min=1e-4), 0.0)


def _climbed(
    net: DevicePasses, q: Asked, how: Climb, stop: Callable[[], bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """(best numbers, best weights, corners of the last pass) of subproblems that fit in memory."""
    run = _Batch(net, q)
    best = torch.full_like(run.const, -torch.inf)
    param, rows = run.param.clone(), run.rows.clone()
    upper = torch.zeros((len(q), len(net.lower)), dtype=torch.bool, device=net.device.name)
    alive = torch.arange(len(q), device=net.device.name)
    rate = how.rate
    for step in range(1, how.steps + 2):
        run.backward()
        upper[alive] = run.at_upper
        better = run.value > best[alive]
        chosen = alive[better]
        best[chosen], param[chosen] = run.value[better], run.param[better]
        if q.free:
            rows[chosen] = run.rows[better]
        margin = 1e-5 * (run.const.abs() + run.value.abs())  # for what float32 does not see
        keep = ~(best[alive] > how.enough + margin)
        left = int(keep.sum())
        if step > how.steps or not left or stop():
            break
        if left < 0.75 * len(alive):
            alive = alive[keep]
            run.take(keep)
        run.ascend(rate, step)
        rate *= how.shrink
    return param, rows, upper
