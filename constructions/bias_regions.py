"""The bias classifier on a box, decided exactly: all activation patterns, one exact LP a doubt.

On the region of a pattern prefix the next pre-activation is an affine form, so whether a bit can be
0 or 1 somewhere in the box is a question of linear inequalities, which
``verifier.core.exact_lp`` decides in rationals. This equals the optimum of T8's mixed-integer
program, without its tolerances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

import numpy as np
from flint import fmpq

from constructions.bias_check import BiasProof, BiasWitness
from constructions.bias_part import Forms, Pattern
from constructions.rational_points import Vector, dot
from verifier.core.errors import NetworkError, PropertyError
from verifier.core.exact_lp import Inequalities, Point, decide
from verifier.core.network import Network
from verifier.core.property import Box

MAX_NODES = 20_000


@dataclass(frozen=True, eq=False)
class Region:
    """A pattern that occurs in the box.

    Args:
        pattern: one bit a ReLU.
        outputs: the network there.
        x: a point of the box with this pattern; off the kinks if so asked.
    """

    pattern: Pattern
    outputs: Forms
    x: Vector


@dataclass
class Regions:
    """Iterates over the patterns that occur in a box, and keeps the reasons against the others.

    Args:
        network: small; the number of patterns can be exponential.
        box: where.
        strong: patterns that are consistent with some point, or only those that have a point off
            the kinks.
        max_nodes: prefixes that may be visited.
        cuts: filled while iterating; see ``BiasProof``.
    """

    network: Network
    box: Box
    strong: bool = True
    max_nodes: int = MAX_NODES
    cuts: dict[Pattern, Vector] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Region]:
        if len(self.box) != self.network.n_inputs:
            raise PropertyError(
                f"the box has {len(self.box)} inputs, the network {self.network.n_inputs}"
            )
        self.cuts.clear()
        self._visited = 0
        middle = tuple((a + b) / 2 for a, b in zip(self.box.lower, self.box.upper, strict=True))
        start = Forms.identity(self.network.n_inputs)
        yield from self._layer(0, start, (), [], middle)

    def _layer(
        self,
        k: int,
        before: Forms,
        pattern: Pattern,
        rows: list[tuple[Vector, Fraction]],
        x: Vector,
    ) -> Iterator[Region]:
        """All regions of a pattern of the first k layers."""
        if k == self.network.depth:
            yield Region(pattern, before, x)
            return
        layer = self.network.layers[k]
        after = before.through(layer)
        units = [after.row(int(i)) for i in np.flatnonzero(layer.relu)]
        for bits, extended, point in self._bits(units, pattern, rows, x):
            yield from self._layer(
                k + 1, after.masked(layer, bits), pattern + bits, extended, point
            )

    def _bits(
        self,
        units: list[tuple[Vector, Fraction]],
        pattern: Pattern,
        rows: list[tuple[Vector, Fraction]],
        x: Vector,
    ) -> Iterator[tuple[Pattern, list[tuple[Vector, Fraction]], Vector]]:
        """The bits that these units can have together with the pattern before."""
        if not units:
            yield (), rows, x
            return
        self._visited += 1
        if self._visited > self.max_nodes:
            raise NetworkError(
                f"{self.network.name}: more than {self.max_nodes} prefixes of activation patterns "
                "on the box; expected a smaller network or box"
            )
        (slope, constant), *rest = units
        zero = not any(slope) and constant == 0
        for bit in (False,) if zero else (False, True):
            sign = 1 if bit else -1
            row = (tuple(sign * c for c in slope), sign * constant)
            prefix = (*pattern, bit)
            point = self._point([*rows, row], prefix, x)
            if point is not None:
                for bits, extended, y in self._bits(rest, prefix, [*rows, row], point):
                    yield (bit, *bits), extended, y

    def _point(
        self, rows: list[tuple[Vector, Fraction]], prefix: Pattern, x: Vector
    ) -> Vector | None:
        """A point at which all rows are ≥ 0 (or > 0 where they vary), or None and a cut."""
        strict = [not self.strong and any(slope) for slope, _ in rows]
        values = [dot(slope, x) + constant for slope, constant in rows]
        if all(v > 0 or (v == 0 and not s) for v, s in zip(values, strict, strict=True)):
            return x
        slope, constant = rows[-1]
        faces = zip(slope, self.box.lower, self.box.upper, strict=True)
        most = constant + sum((c * (high if c > 0 else low) for c, low, high in faces), Fraction(0))
        if most < 0 or (most == 0 and strict[-1]):
            self.cuts[prefix] = (*[Fraction(0)] * (len(rows) - 1), Fraction(1))
            return None
        found = decide(
            Inequalities(
                [[_fmpq(c) for c in slope] for slope, _ in rows],
                [_fmpq(-constant) for _, constant in rows],
                strict,
                [_fmpq(v) for v in self.box.lower],
                [_fmpq(v) for v in self.box.upper],
            ),
            lambda: False,
        )
        if isinstance(found, Point):
            return tuple(_fraction(v) for v in found.x)
        if found is None:
            raise ArithmeticError("an exact linear program stopped without an answer")
        self.cuts[prefix] = tuple(_fraction(w) for w in found.weights)
        return None


def decide_bias(
    network: Network, box: Box, label: int, *, strong: bool = True, max_nodes: int = MAX_NODES
) -> BiasProof | BiasWitness:
    """Whether the bias classifier has this label on all of the box, with evidence.

    Args:
        network: at least two outputs.
        box: where.
        label: y.
        strong: for every relu'(0) in [0, 1] also on kinks, or only off the kinks.
        max_nodes: prefixes of patterns that may be visited.

    Returns:
        What ``bias_check`` accepts.

    Raises:
        PropertyError: a label or box that does not fit.
        NetworkError: more prefixes than allowed.
    """
    if not 0 <= label < network.n_outputs or network.n_outputs < 2:
        raise PropertyError(
            f"label {label} is not one of the classes 0..{network.n_outputs - 1}, of which two are "
            "needed"
        )
    regions, count, margin = Regions(network, box, strong, max_nodes), 0, None
    for region in regions:
        beta = region.outputs.constant
        other = max((k for k in range(len(beta)) if k != label), key=lambda k: beta[k])
        lead = beta[label] - beta[other]
        if lead <= 0:
            return BiasWitness(strong, region.x, region.pattern, other)
        count, margin = count + 1, lead if margin is None else min(margin, lead)
    return BiasProof(strong, dict(regions.cuts), count, margin)


def constant_on(network: Network, box: Box) -> Vector | None:
    """The outputs, if the box has only one activation pattern and they are constant there."""
    found = Regions(network, box)
    regions = list(islice(found, 2))
    if len(regions) > 1 or regions[0].outputs.slope.any():
        return None
    return tuple(regions[0].outputs.constant)


def _fmpq(value: Fraction) -> fmpq:
    return fmpq(value.numerator, value.denominator)


def _fraction(value: fmpq) -> Fraction:
    return Fraction(int(value.p), int(value.q))
