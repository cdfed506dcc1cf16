"""Many balls through a running-maximum Scan at once: exact bounds by the rule for maxima.

The network is max(0, max_i (y_i − K s_i)) wherever p ≥ 0, because v + relu(w − v) = max(v, w). On
a box, s_i has the exact range [s_low, s_high], coordinate by coordinate, so the network's exact
maximum is max(0, max_i (y_i − K s_low)), and max_i (y_i − K s_high) is a lower bound. A box is
decided when these lie less than 1/2 from its label. All of it happens in integers over the power
of two that all thresholds share; boxes are rounded outwards to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from verifier.bounds.threads import cores, workers
from verifier.core.exact import scaled_integers
from verifier.core.property import Box, Property
from verifier.core.scan import ScanNetwork
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict, Witness
from verifier.search import scan_kernel
from verifier.search.scan_kernel import GROUP

_BATCH = 256
_HALF = Fraction(1, 2)
#: Kinds of integers with the largest magnitude whose differences, GROUP of them added, fit.
_KINDS = ((np.int16, 2**14 - 1), (np.int32, 2**30 - 1), (np.int64, 2**54))


@dataclass(frozen=True, eq=False)
class Balls:
    """Boxes of which coordinates share few different intervals.

    Args:
        which: (n, d) unsigned integers: coordinate j of box k is interval number which[k, j].
        low, high: the intervals, exactly.
        labels: (n,) the label that each box must have.
        hints: (n,) a sample of the network that lies in the box, or −1.
    """

    which: np.ndarray
    low: Sequence[Fraction]
    high: Sequence[Fraction]
    labels: np.ndarray
    hints: np.ndarray

    def box(self, k: int) -> Box:
        """Box k."""
        row = self.which[k]
        return Box(tuple(self.low[w] for w in row), tuple(self.high[w] for w in row))


@dataclass(frozen=True)
class MaximumEvidence:
    """Why the label L is right on a box.

    Args:
        hit: a sample with y − K s_high > L − 1/2; every sample has y − K s_low < L + 1/2.
    """

    hit: int


def run(
    network: ScanNetwork, balls: Balls, progress: Callable[[float], None] | None = None
) -> list[Verdict]:
    """One verdict a box for "the output lies less than 1/2 from the label".

    Args:
        network: the network.
        balls: what is asked.
        progress: called now and then with the share of the boxes that are done.

    Returns:
        Proved with ``MaximumEvidence``, Refuted with an exact witness, or Unknown: the bounds do
        not decide, the box reaches below −σ, or the numbers need more than 54 bits.
    """
    n = len(balls.labels)
    if (network.below > network.above).any():
        return [Unknown("a sample's lower threshold lies above its upper one")] * n
    try:
        grid = _Grid(network, balls)
    except OverflowError as problem:
        return [Unknown(str(problem))] * n
    near, hit = np.full(n, -1), np.full(n, -1)
    pending: list[tuple[int, Future[None]]] = []
    for start in range(0, n, _BATCH):
        stop = min(start + _BATCH, n)
        pending.append((stop, workers().submit(grid.look, start, stop, near, hit)))
        # A few batches ahead of the threads, so that an interrupt ends soon.
        while len(pending) > 2 * cores():
            _finish(pending, n, progress)
    while pending:
        _finish(pending, n, progress)
    return [grid.verdict(k, int(near[k]), int(hit[k])) for k in range(n)]


def _finish(
    pending: list[tuple[int, Future[None]]], n: int, progress: Callable[[float], None] | None
) -> None:
    """Wait for the oldest batch."""
    stop, future = pending.pop(0)
    future.result()
    if progress is not None:
        progress(stop / n)


class _Grid:
    """Thresholds and boxes as integers times 2^-bits, in groups of coordinates.

    Raises:
        OverflowError: they need more than 54 bits.
    """

    def __init__(self, network: ScanNetwork, balls: Balls) -> None:
        self.network, self.balls = network, balls
        tables, bits = scaled_integers(
            np.concatenate([network.above, network.below, [network.shift]])
        )
        unit = Fraction(2) ** bits
        low = [math.floor(v * unit) + int(tables[-1]) for v in balls.low]
        high = [math.ceil(v * unit) + int(tables[-1]) for v in balls.high]
        top = max(map(abs, [*tables, *low, *high]))
        kind = next((kind for kind, most in _KINDS if top <= most), None)
        if kind is None:
            raise OverflowError(f"the thresholds and boxes need {int(top).bit_length()} bits")
        size, order = len(network.above), _order(network)
        self.high = _grouped(network.which, tables[:size], kind, order)
        self.low = _grouped(network.which, tables[size:-1], kind, order)
        self.box_low = _grouped(balls.which, low, kind, order)
        self.box_high = _grouped(balls.which, high, kind, order)
        reaches = np.array(low) < 0
        self.outside = np.array([reaches[row].any() for row in balls.which])
        values, self.kind = np.unique(network.labels, return_inverse=True)
        self._limits([Fraction(float(v)) for v in values], unit / Fraction(network.slope))

    def _limits(self, values: list[Fraction], factor: Fraction) -> None:
        """What s must be at least or at most, in units, for each box and each label."""
        labels, rows = np.unique(self.balls.labels, return_inverse=True)
        need = np.zeros((len(labels), len(values)), dtype=np.int64)
        limit = np.full_like(need, -1)
        for a, label in enumerate(labels):
            for b, value in enumerate(values):
                above = (value - int(label) - _HALF) * factor
                need[a, b] = min(math.floor(above) + 1, 2**62) if above >= 0 else 0
                limit[a, b] = min(math.ceil(above + factor) - 1, 2**62)
        self.need, self.limit = need[rows], np.maximum(limit, -1)[rows]

    def look(self, start: int, stop: int, near: np.ndarray, hit: np.ndarray) -> None:
        """Fill in the answers for some of the boxes."""
        arrays = (self.box_low, self.box_high, self.high, self.low)
        scan_kernel.first_near(*arrays, self.need, self.kind, start, stop, near)
        hints = self.balls.hints
        scan_kernel.first_hit(*arrays, self.limit, self.kind, hints, start, stop, hit)

    def verdict(self, k: int, near: int, hit: int) -> Verdict:
        """What was found, as a verdict."""
        if not self.outside[k] and near < 0 and hit >= 0:
            return Proved((MaximumEvidence(hit),))
        box, label = self.balls.box(k), int(self.balls.labels[k])
        centre = [(a + b) / 2 for a, b in zip(box.lower, box.upper, strict=True)]
        points = [centre] if near < 0 else [self._towards(near, box), centre]
        prop = Property.near(box, label)
        for point in points:
            outputs = self.network.exact(point)
            where = prop.violation(point, outputs)
            if where is not None:
                return Refuted(Witness(tuple(point), outputs, *where))
        if self.outside[k]:
            return Unknown("the box reaches below −σ, where the rule for maxima does not apply")
        return Unknown("interval bounds with the rule for maxima do not decide")

    def _towards(self, i: int, box: Box) -> list[Fraction]:
        """The point of the box nearest to sample i."""
        network, shift = self.network, Fraction(self.network.shift)
        return [
            min(max(a, Fraction(float(network.below[w])) - shift), b)
            if a <= Fraction(float(network.above[w])) - shift
            else a
            for a, b, w in zip(box.lower, box.upper, network.which[i], strict=True)
        ]


def _order(network: ScanNetwork) -> np.ndarray:
    """The coordinates, those that tell samples apart first: a sum over few of them is enough."""
    rows = network.which[:: max(1, network.n_samples // 1000)]
    return np.argsort(-network.above[rows].var(axis=0), kind="stable")


def _grouped(which: np.ndarray, table: Iterable[int], kind: type, order: np.ndarray) -> np.ndarray:
    """(groups, rows, GROUP) values of the table; coordinates that do not exist are 0."""
    values: np.ndarray = np.array([int(v) for v in table], dtype=kind)
    rows, d = which.shape
    out = np.zeros((-(-d // GROUP), rows, GROUP), dtype=kind)
    for g in range(len(out)):
        part = which[:, order[g * GROUP : (g + 1) * GROUP]]
        out[g, :, : part.shape[1]] = values[part]
    return out
