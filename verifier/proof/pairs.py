r"""The rules "pairs" and "intervals": interval arithmetic, with maxima and minima seen as such.

**Pairs.** Let p ≠ r be two neurons of one layer, r with a ReLU, and t = ±1. With b = z_p, a = z_r
and d = z_p + t z_r,

    t = +1:   b + relu(a) = max(b, d)                  relu(b) + relu(a) = max(0, a, b, d)
    t = −1:   b − relu(a) = min(b, d)                  relu(b) − relu(a) = min(relu(b), max(d, −a))
                                                                        = max(min(b, d), −relu(a)),

and relu(b) is b where b ≥ 0. Maxima and minima grow with each of their arguments, so bounds of a, b
and d bound a_p + t a_r; bounds of a_p and of a_r do so too, and the better are taken. The row d is
one sum over what the layer reads, in which much of z_p and z_r may cancel. Wherever a later row has
the coefficients c and c t at p and r, it reads c (a_p + t a_r). All of it is true of any pair, so
the proof's choice of pairs is a hint.

**Numbers.** A value is kept as its lower bound and the lower bound of its negative, so that all
rounding is downwards: both are integers times 2^-scale. Weights are integers times a power of two
of their layer, exactly. The first attempt drops the lowest bits of a layer's values until no sum in
int64 can reach 2^62; where that would leave fewer than ``COARSE`` bits it takes Python's integers.
What it does not prove, the second attempt tries with ``FINE`` bits, which is exact for networks
with few bits. Nothing is dropped where there is room for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from verifier.core.network import Network
from verifier.core.property import Box, LinearConstraint, Property
from verifier.proof.flat import SUM, Stage, flattened
from verifier.proof.format import Columns
from verifier.proof.outcome import InvalidError

#: Bits of values that int64 must leave in the first attempt and in the second. With the latter,
#: beyond the range of float64, no int64 drops anything.
COARSE, FINE = 32, 2200
#: Bits of values that are kept at most in the first attempt.
_KEPT = 192
#: Numbers that one step handles at once: few enough for a cache.
_MOST = 1 << 18


#: The pairs and the stages of each network's last proof.
_last: WeakKeyDictionary[Network, tuple[bytes, list[Stage]]] = WeakKeyDictionary()


class Intervals:
    """Proves cases by bounds on the outputs.

    Args:
        network: with the inputs as further outputs if the property mixes them.
        prop: the property.
    """

    def __init__(self, network: Network, prop: Property) -> None:
        self.network, self.prop = network, prop
        self._stages: list[Stage] | None = None

    def pairs(self, columns: Columns, step: str) -> None:
        """The rule "pairs": from now on these pairs are used.

        Raises:
            InvalidError: two neurons that are no pair.
        """
        stride, offset, minus = (columns[n].astype(np.int64) for n in ("stride", "offset", "minus"))
        if not len(stride) == len(offset) == len(minus) or (minus > 1).any():
            raise InvalidError("pairs", step, "columns of different lengths, or an unknown sign")
        first = np.cumsum(stride)
        self._stages = self._flattened(first, first + offset, 1 - 2 * minus, step)

    def prove(self, columns: Columns, done: int, step: str) -> int:
        """The rule "intervals": all clauses of these cases are excluded by bounds on the outputs.

        Args:
            columns: the cases.
            done: how many cases came before; these are the next.
            step: for messages.

        Returns:
            the number of cases.

        Raises:
            InvalidError: other cases, or a clause that is not excluded.
        """
        cases = columns["case"].tolist()
        if cases != list(range(done, min(done + len(cases), len(self.prop.cases)))):
            raise InvalidError("intervals", step, f"case {done} and those after it were expected")
        together = max(1, _MOST // max(1, *(max(s.size, s.width) for s in self._ready(step))))
        for start in range(0, len(cases), together):
            left = self._open(cases[start : start + together], COARSE, step)
            left = left and self._open([case for case, _ in left], FINE, step)
            if left:
                case, clause = left[0]
                raise InvalidError(
                    "intervals", f"{step}, case {case}",
                    f"bounds on the outputs exclude no constraint of clause {clause}",
                )  # fmt: skip
        return len(cases)

    def _ready(self, step: str) -> list[Stage]:
        """The network's stages, without pairs if the proof named none."""
        if self._stages is None:
            none = np.zeros(0, dtype=np.int64)
            self._stages = self._flattened(none, none, none, step)
        return self._stages

    def _flattened(self, p: np.ndarray, r: np.ndarray, t: np.ndarray, step: str) -> list[Stage]:
        if not self.network.is_float:
            raise InvalidError("intervals", step, "the network's weights are no float64 numbers")
        # Proofs of many balls of one network name the same pairs.
        pairs = b"".join(v.tobytes() for v in (p, r, t))
        known, stages = _last.get(self.network, (b"", []))
        if not stages or known != pairs:
            stages = flattened(self.network.layers, p, r, t, step)
            _last[self.network] = pairs, stages
        return stages

    def _open(self, cases: Sequence[int], least: int, step: str) -> list[tuple[int, int]]:
        """(case, clause) for every case with a clause that is not excluded."""
        out = []
        bounds = self._bounds([self.prop.cases[c].box for c in cases], least, step)
        for c, (low, high) in zip(cases, bounds, strict=True):
            for k, clause in enumerate(self.prop.cases[c].clauses):
                if not any(_never(constraint, low, high) for constraint in clause):
                    out.append((c, k))
                    break
        return out

    def _bounds(
        self, boxes: Sequence[Box], least: int, step: str
    ) -> list[tuple[list[Fraction], list[Fraction]]]:
        """(low, high) of the outputs on each box."""
        value, scale = output_bounds(self._ready(step), boxes, least)
        rows, unit = value.T.tolist(), Fraction(2) ** -scale
        return [
            ([v * unit for v in low], [-v * unit for v in negative])
            for low, negative in zip(rows[: len(boxes)], rows[len(boxes) :], strict=True)
        ]


def _never(c: LinearConstraint, low: list[Fraction], high: list[Fraction]) -> bool:
    """Whether no outputs within the bounds satisfy the constraint."""
    most = sum((v * (high[i] if v > 0 else low[i]) for i, v in c.terms), start=Fraction(0))
    return most < c.bound or (c.strict and most == c.bound)


def output_bounds(
    stages: Sequence[Stage], boxes: Sequence[Box], least: int
) -> tuple[np.ndarray, int]:
    """Bounds on the outputs over boxes.

    Args:
        stages: of the network.
        boxes: B of them.
        least: bits of the values that int64 must leave; else Python's integers are taken.

    Returns:
        (value, scale): (n_outputs, 2 B) integers; output i on box j is at least
        value[i, j] 2^-scale and at most −value[i, B + j] 2^-scale.
    """
    value, scale = _inputs(boxes, max(least, _KEPT))
    for stage in stages:
        value, scale = _fitted(value, scale, stage, least)
        z = _product(stage, np.concatenate([value, np.roll(value, len(boxes), axis=1)]))
        scale -= stage.exponent
        z += _biases(stage, scale, len(boxes), z.dtype)
        value = _activated(stage, z, len(boxes))
    return value[: len(stages[-1].relu)], scale


def _inputs(boxes: Sequence[Box], most: int) -> tuple[np.ndarray, int]:
    """The boxes, rounded outwards to so many bits at most."""
    faces = [(*box.lower, *(-v for v in box.upper)) for box in boxes]
    top = max((abs(v) for row in faces for v in row), default=Fraction(0))
    if not top:
        return np.zeros((len(boxes[0]), 2 * len(boxes)), dtype=object), 0
    scale = most - 1 - (top.numerator.bit_length() - top.denominator.bit_length() + 1)
    up, down = 1 << max(scale, 0), 1 << max(-scale, 0)
    rows = np.empty((len(boxes), 2, len(boxes[0])), dtype=object)
    known: dict[Fraction, int] = {}
    for row, face in zip(rows, faces, strict=True):
        for v in face:
            if v not in known:
                known[v] = v.numerator * up // (v.denominator * down)
        row[:] = np.array([known[v] for v in face], dtype=object).reshape(row.shape)
    value = rows.transpose(2, 1, 0).reshape(len(boxes[0]), -1)
    bits = int(np.bitwise_or.reduce(value, axis=None, initial=0))
    zeros = max(0, (bits & -bits).bit_length() - 1)
    return value >> zeros, scale - zeros


def _fitted(value: np.ndarray, scale: int, stage: Stage, least: int) -> tuple[np.ndarray, int]:
    """The same values, rounded down if need be, in integers that the stage can be computed in."""
    size = max(int(value.max(initial=0)), -int(value.min(initial=0))).bit_length()
    # Zero bits that the biases need to be exact, and those that there is room for.
    wanted = max(0, stage.bias_last - (scale - stage.exponent))
    room = SUM - max(size + stage.bits, stage.bias_top + scale - stage.exponent)
    shift = min(wanted, room)
    fits = stage.bits <= SUM and (shift == wanted or size + shift >= least)
    if not fits:
        shift, value = min(wanted, max(least, _KEPT) - size), value.astype(object)
    moved = value << shift if shift >= 0 else value >> -shift
    return moved.astype(np.int64 if fits else object), scale + shift


def _product(stage: Stage, both: np.ndarray) -> np.ndarray:
    """The stage's matrix times the values above the values with their halves exchanged."""
    matrix = stage.matrix
    if both.dtype != object:
        return np.asarray(matrix @ both)
    out = np.zeros((matrix.shape[0], both.shape[1]), dtype=object)
    step = max(1, _MOST // both.shape[1])
    indptr = matrix.indptr.astype(np.int64)
    start = 0
    while start < len(out):
        stop = max(start + 1, int(np.searchsorted(indptr, indptr[start] + step, "right")) - 1)
        here = slice(int(indptr[start]), int(indptr[stop]))
        terms = matrix.data[here].astype(object)[:, None] * both[matrix.indices[here]]
        filled = start + np.flatnonzero(indptr[start + 1 : stop + 1] > indptr[start:stop])
        if len(filled):
            out[filled] = np.add.reduceat(terms, indptr[filled] - here.start, axis=0)
        start = stop
    return out


def _biases(stage: Stage, scale: int, boxes: int, dtype: Any) -> np.ndarray:
    """b and −b rounded down, for every neuron and then every pair, (rows, 2 B)."""
    mantissa, power = stage.bias
    shift = np.where(mantissa == 0, 0, power + scale)
    both = np.stack([mantissa, -mantissa], axis=1).astype(dtype)
    up, down = np.maximum(shift, 0), np.minimum(np.maximum(-shift, 0), 63)
    both = (both << up.astype(dtype)[:, None]) >> down.astype(dtype)[:, None]
    second = np.where(stage.sign[:, None] > 0, both[stage.second], both[stage.second][:, ::-1])
    return np.repeat(np.concatenate([both, both[stage.first] + second]), boxes, axis=1)


def _activated(stage: Stage, z: np.ndarray, boxes: int) -> np.ndarray:
    """Bounds of the activations and of the pairs from those of z_p and z_p + t z_r."""
    n = len(stage.relu)
    relu = stage.relu[:, None]
    low, high = z[:n, :boxes], -z[:n, boxes:]
    a_low = np.where(relu, np.maximum(low, 0), low)
    a_high = np.where(relu, np.maximum(high, 0), high)
    if not len(stage.first):
        return np.concatenate([a_low, -a_high], axis=1)
    p, r = stage.first, stage.second
    d = (z[n:, :boxes], -z[n:, boxes:])
    identity = ~relu[p] | (low[p] >= 0)
    sums = _sum(identity, (low[p], high[p]), (low[r], high[r]), d)
    gaps = _difference(identity, (low[p], high[p]), (low[r], high[r]), d)
    plus = stage.sign[:, None] > 0
    separate_low = a_low[p] + np.where(plus, a_low[r], -a_high[r])
    separate_high = a_high[p] + np.where(plus, a_high[r], -a_low[r])
    pair_low = np.maximum(np.where(plus, sums[0], gaps[0]), separate_low)
    pair_high = np.minimum(np.where(plus, sums[1], gaps[1]), separate_high)
    return np.concatenate(
        [np.concatenate([a_low, -a_high], axis=1), np.concatenate([pair_low, -pair_high], axis=1)]
    )


Bounds = tuple[np.ndarray, np.ndarray]


def _sum(identity: np.ndarray, b: Bounds, a: Bounds, d: Bounds) -> Bounds:
    """Bounds of a_p + a_r; where ``identity``, a_p is b."""

    def least(b: np.ndarray, a: np.ndarray, d: np.ndarray) -> np.ndarray:
        larger = np.maximum(b, d)
        return np.where(identity, larger, np.maximum(np.maximum(larger, a), 0))

    return least(b[0], a[0], d[0]), least(b[1], a[1], d[1])


def _difference(identity: np.ndarray, b: Bounds, a: Bounds, d: Bounds) -> Bounds:
    """Bounds of a_p − a_r; where ``identity``, a_p is b."""

    def both(b: np.ndarray, a: np.ndarray, d: np.ndarray) -> Bounds:
        smaller = np.minimum(b, d)
        one = np.minimum(np.maximum(b, 0), np.maximum(d, -a))
        other = np.maximum(smaller, -np.maximum(a, 0))
        return np.where(identity, smaller, one), np.where(identity, smaller, other)

    return np.maximum(*both(b[0], a[1], d[0])), np.minimum(*both(b[1], a[0], d[1]))
