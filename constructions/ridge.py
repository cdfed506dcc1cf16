"""Ridge functions f(w·x), read from a network of depth 2, and their exact radii.

A network of depth 2 whose hidden neurons all see the same projection w·x computes f(w·x) with f
piecewise linear. On the ℓ∞ ball of radius r around x, w·x takes exactly the values of
[w·x − r|w|₁, w·x + r|w|₁]. So the largest radius on which the label is right is an exact rational:
the distance from w·x to where f first gives another label at least as much, over |w|₁.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from verifier.core.errors import NetworkError
from verifier.core.exact import Rational, fractions
from verifier.core.network import Network

Vector = tuple[Fraction, ...]


@dataclass(frozen=True)
class Breach:
    """Where a label is lost, and by how little.

    Args:
        sample: i, the sample.
        radius: at every ℓ∞ distance below it the label is right; at this distance, in one point,
            another one reaches it.
        rival: that label, 1..m.
        side: +1 or −1; the point is x + side · radius · sign(w).
    """

    sample: int
    radius: Fraction
    rival: int
    side: int


@dataclass(frozen=True, eq=False)
class Ridge:
    """x -> f(w·x) with f: R -> R^m continuous and piecewise linear.

    Args:
        direction: w.
        kinks: where the slope of f changes, ascending.
        values: f at the kinks.
        slopes: of f before the first kink, and after each.
    """

    direction: Vector
    kinks: Vector
    values: tuple[Vector, ...]
    slopes: tuple[Vector, ...]

    @classmethod
    def of(cls, network: Network) -> Ridge:
        """The function of a network c + Σ_j v_j relu(w·x + b_j), exactly.

        Raises:
            NetworkError: another depth, hidden neurons without ReLU, or different weights w.
        """
        if network.depth != 2 or not network.layers[0].relu.all() or network.layers[1].n_relu:
            raise NetworkError(f"{network.name}: not a hidden layer of ReLUs and an affine output")
        first, last = network.layers
        rows = first.dense
        if (rows != rows[:1]).any():
            raise NetworkError(f"{network.name}: the hidden neurons see different projections")
        knots = [-v for v in fractions(first.bias)]
        columns = [fractions(last.dense[:, j]) for j in range(first.n_out)]
        kinks: list[Fraction] = []
        slope, value = (Fraction(0),) * network.n_outputs, fractions(last.bias)
        slopes, values = [slope], []
        for j in sorted(range(len(knots)), key=knots.__getitem__):
            if kinks and knots[j] == kinks[-1]:
                slopes.pop()
            else:
                step = knots[j] - kinks[-1] if kinks else Fraction(0)
                value = _moved(value, slope, step)
                kinks.append(knots[j])
                values.append(value)
            slope = _moved(slope, columns[j], 1)
            slopes.append(slope)
        return cls(fractions(rows[0]), tuple(kinks), tuple(values), tuple(slopes))

    @cached_property
    def norm(self) -> Fraction:
        """|w|₁."""
        return sum((abs(v) for v in self.direction), Fraction(0))

    def at(self, z: Rational) -> Vector:
        """f(z)."""
        k = bisect_right(self.kinks, z)
        anchor = max(k - 1, 0)
        return _moved(self.values[anchor], self.slopes[k], z - self.kinks[anchor])

    def label(self, z: Rational) -> int | None:
        """The label 1..m of the largest output, None if two are largest."""
        return winner(self.at(z))

    def breach(self, sample: int, z: Rational, label: int) -> Breach | None:
        """The largest radius around a sample on which it keeps its label.

        Args:
            sample: its index, for the answer.
            z: w·x.
            label: 1..m.

        Returns:
            None if every point has this label; radius 0 if the sample itself has another one.
        """
        found = [
            Breach(sample, step / self.norm, rival, side)
            for side in (1, -1)
            if (ends := self._first_tie(Fraction(z), label, side)) is not None
            for step, rival in [ends]
        ]
        return min(found, key=lambda b: b.radius, default=None)

    def _first_tie(self, z: Fraction, label: int, side: int) -> tuple[Fraction, int] | None:
        """How far another output is at least as large as the label's, going one way, and which."""
        here, value = z, self.at(z)
        k = bisect_right(self.kinks, z) if side > 0 else bisect_left(self.kinks, z)
        while True:
            slope = self.slopes[k]
            step, rival = tie(value, [side * s for s in slope], label)
            end = k if side > 0 else k - 1
            last = not 0 <= end < len(self.kinks)
            if rival and (last or step <= side * (self.kinks[end] - here)):
                return side * (here - z) + step, rival
            if last:
                return None
            here, value = self.kinks[end], self.values[end]
            k += side


def winner(outputs: Sequence[Rational]) -> int | None:
    """The label 1..m of the largest output, None if two are largest."""
    best = max(range(len(outputs)), key=lambda k: outputs[k])
    return best + 1 if sum(v == outputs[best] for v in outputs) == 1 else None


def tie(value: Sequence[Fraction], slope: Sequence[Fraction], label: int) -> tuple[Fraction, int]:
    """The first t ≥ 0 at which value + t·slope gives a rival at least as much as the label.

    Returns:
        (t, rival 1..m), or (0, 0) if there is none.
    """
    y = label - 1
    best = (Fraction(0), 0)
    for k, (v, s) in enumerate(zip(value, slope, strict=True)):
        lead, rate = value[y] - v, s - slope[y]
        if k == y or (lead > 0 and rate <= 0):
            continue
        t = lead / rate if lead > 0 else Fraction(0)
        if not best[1] or t < best[0]:
            best = (t, k + 1)
    return best


def _moved(value: Vector, slope: Vector, step: Rational) -> Vector:
    """value + step · slope."""
    return tuple(v + step * s if s else v for v, s in zip(value, slope, strict=True))
