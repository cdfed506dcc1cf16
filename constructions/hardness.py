"""Robust memorization with two hidden neurons is NP-hard (THEORY-hardness): the reductions.

A hypergraph becomes a two-class problem on balls (``hardness_balls.BallProblem``); the networks of
small width that solve it and weak colourings of the hypergraph are the same thing, in both
directions, for the radius 0 as well as for the one given:

* ``ColouringProblem``, width k ≥ 2, 2^k − 1 colours (theorems A and C): vertex j is the unit vector
  e_j, label −1; an edge is the centroid of its vertices, label +1.
* ``SplittingProblem``, width 2, 2 colours of a 3-uniform hypergraph (theorem B, after Blum and
  Rivest): the origin, +1; ±τ e_z along one more coordinate, −1; e_j, −1; sums of an edge, +1.

Network to colouring needs only that the network is right on the centres. For every F of width k the
set F < 0 is a union of at most 2^k − 1 convex sets (lemma 1), whatever the signs of its units.

All coordinates are multiplied by a scale K that makes the points, the radius and all weights
integers; F is multiplied by a positive number, which changes no sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import lcm

import numpy as np

from constructions.construction import require_memory
from constructions.exact_layer import exact_layer
from constructions.graphs import Hypergraph
from constructions.hardness_balls import BallProblem, NormalForm, Rational, wrong_centre
from verifier.core.errors import CertificateError, DataError
from verifier.core.exact import fractions
from verifier.core.network import Network

Colouring = tuple[int, ...]
SIGNS = ("--", "+-")
"""Signs of the two units that ``SplittingProblem.network`` offers."""

_MAX_COORDINATE = 2**53


@dataclass(frozen=True, eq=False)
class ColouringProblem:
    """Weak (2^k − 1)-colouring of a hypergraph as a problem for networks of width k.

    It has a solution iff the hypergraph has such a colouring, for every radius from 0 to below
    K/(2skn), of which ``problem.mu`` = 1 is at most one half (s: size of the largest edge).

    Args:
        graph: the hypergraph.
        width: k.
        scale: K = 4 k n lcm(1..s).
        problem: the balls.
    """

    graph: Hypergraph
    width: int
    scale: int
    problem: BallProblem

    @classmethod
    def of(cls, graph: Hypergraph, width: int = 2) -> ColouringProblem:
        """The problem of a hypergraph.

        Raises:
            DataError: no edges, width not from 2 to 6, edges so large that coordinates need more
                than 53 bits, or more memory than allowed.
        """
        if not 2 <= width <= 6:
            raise DataError(f"{graph.name}: expected a width from 2 to 6, got {width}")
        _require_edges(graph)
        scale = 4 * width * graph.n * lcm(*range(1, graph.largest_edge + 1))
        if scale > _MAX_COORDINATE:
            raise DataError(
                f"{graph.name}: edges of up to {graph.largest_edge} vertices need coordinates "
                "above 2^53"
            )
        points = _points(graph, len(graph.edges), graph.n, scale)
        for i, edge in enumerate(graph.edges, graph.n):
            points[i, list(edge)] = scale // len(edge)
        labels = np.repeat([-1, 1], [graph.n, len(graph.edges)])
        name = f"{graph.name}, {2**width - 1} colours"
        return cls(graph, width, scale, BallProblem(points, labels, Fraction(1), name))

    @property
    def colours(self) -> int:
        """2^k − 1."""
        return 2**self.width - 1

    @property
    def promise(self) -> Fraction:
        """The margin y F that ``network`` has at least on every ball: L (K/(2s) − k n μ)."""
        gap = Fraction(self.scale, 2 * self.graph.largest_edge)
        return self._factor * (gap - self.width * self.graph.n * self.problem.mu)

    @property
    def _factor(self) -> int:
        """L = lcm(1..k)."""
        return lcm(*range(1, self.width + 1))

    def network(self, colours: Sequence[int]) -> Network:
        """F = L (K (k − 1/(2s)) − Σ_t relu(w_t·x)), from a weak colouring.

        Colours stand for nonempty sets S of units; a vertex of colour S has w_t = k/|S| for t ∈ S
        and −1 for the others (times L). With k = 2: (2, −1), (−1, 2), (1, 1).

        Raises:
            DataError: not a weak colouring with so many colours.
        """
        _require_colouring(self.graph, colours, self.colours)
        sets, factor, k = _sets(self.width), self._factor, self.width
        rows = [
            [factor * k // len(sets[c]) if t in sets[c] else -factor for c in colours]
            for t in range(k)
        ]
        constant = factor * (self.scale * k - self.scale // (2 * self.graph.largest_edge))
        return _network(rows, [0] * k, [-1] * k, constant, "colouring")

    def colouring(self, network: Network) -> Colouring:
        """The weak colouring in any network of depth 2 and width ≤ k that is right on the centres.

        With M the units of sign −1, F(x) < 0 iff c + Σ_plus relu(h_t) − Σ_{t∈S} h_t < 0 at x for
        some S ⊆ M, which is a convex set for each S; a vertex gets the largest such sum's S. If all
        vertices of an edge had one S, their centroid would lie in the set as well.

        Raises:
            CertificateError: another depth or number of outputs, a larger width, or a network that
                is wrong at a centre.
        """
        form = _right_form(self.problem, network, self.width)
        minus = [t for t, unit in enumerate(form.units) if unit.sign < 0]
        numbers: dict[frozenset[int], int] = {}
        found = []
        for j in range(self.graph.n):
            x = self.problem.point(j)
            key = frozenset(t for t in minus if form.units[t].before(x) > 0)
            found.append(numbers.setdefault(key, len(numbers)))
        return _checked(self.graph, tuple(found), self.colours)


@dataclass(frozen=True, eq=False)
class SplittingProblem:
    """Set splitting of a 3-uniform hypergraph as a problem for networks of width 2.

    Args:
        graph: the hypergraph.
        scale: K.
        height: K τ.
        problem: the balls.
    """

    graph: Hypergraph
    scale: int
    height: int
    problem: BallProblem

    @classmethod
    def of(cls, graph: Hypergraph, rho: Fraction | None = None) -> SplittingProblem:
        """The problem of a hypergraph.

        Args:
            graph: with edges of three vertices.
            rho: the radius as a share of the separation λ, between 0 and 1/2: then
                τ = min(1, (1 − 2ρ)/(8nρ)). None: τ = 1 and radius λ/(8n).

        Raises:
            DataError: no edges, an edge of another size, a ``rho`` out of range, coordinates of
                more than 53 bits, or more memory than allowed.
        """
        _require_edges(graph)
        odd = next((e for e in graph.edges if len(e) != 3), None)
        if odd is not None:
            raise DataError(f"{graph.name}: expected edges of 3 vertices, got {odd}")
        n = graph.n
        share = Fraction(1, 8 * n) if rho is None else Fraction(rho)
        if not 0 < share < Fraction(1, 2):
            raise DataError(f"{graph.name}: the radius must be between 0 and λ/2, got {share} λ")
        tau = Fraction(1) if rho is None else min(Fraction(1), (1 - 2 * share) / (8 * n * share))
        scale = lcm(tau.denominator, (share * tau).denominator)
        if scale > _MAX_COORDINATE:
            raise DataError(f"{graph.name}: the radius {share} λ needs coordinates above 2^53")
        height = int(tau * scale)
        points = _points(graph, len(graph.edges) + 3, n + 1, scale)
        points[n : n + 3, n] = (0, height, -height)
        for i, edge in enumerate(graph.edges, n + 3):
            points[i, list(edge)] = scale
        labels = np.repeat([-1, 1, -1, 1], [n, 1, 2, len(graph.edges)])
        name = f"{graph.name}, splitting"
        return cls(graph, scale, height, BallProblem(points, labels, share * tau * scale, name))

    @property
    def colours(self) -> int:
        """Always 2."""
        return 2

    @property
    def width(self) -> int:
        """Always 2."""
        return 2

    @property
    def promise(self) -> Fraction:
        """The margin that ``network`` has at least on every ball: p (K − μ (4n + 2/τ)), τ = p/q."""
        tau = Fraction(self.height, self.scale)
        return tau.numerator * (self.scale - self.problem.mu * (4 * self.graph.n + 2 / tau))

    def network(self, colours: Sequence[int], signs: str = "--") -> Network:
        """The network of a splitting, with one of the sign patterns ``SIGNS``.

        With f_1 = 2 on colour 0, −4 on colour 1, 2/τ on z and f_2 the same with the colours and the
        sign of z exchanged: "--" is 1 − relu(f_1) − relu(f_2), "+-" is
        relu(2 − f_1) − relu(f_2 − f_1) − 1 (both scaled).

        Raises:
            DataError: not a splitting, or other signs.
        """
        _require_colouring(self.graph, colours, 2)
        tau = Fraction(self.height, self.scale)
        p, q, one = tau.numerator, tau.denominator, tau.numerator * self.scale
        first = [*(2 * p if c == 0 else -4 * p for c in colours), 2 * q]
        second = [*(-4 * p if c == 0 else 2 * p for c in colours), -2 * q]
        if signs == "--":
            return _network([first, second], [0, 0], [-1, -1], one, "splitting")
        if signs != "+-":
            raise DataError(f"expected signs {' or '.join(SIGNS)}, got {signs!r}")
        rows = [[-a for a in first], [b - a for a, b in zip(first, second, strict=True)]]
        return _network(rows, [2 * one, 0], [1, -1], -one, "splitting")

    def colouring(self, network: Network) -> Colouring:
        """The splitting in any network of depth 2 and width ≤ 2 that is right on the centres.

        The origin is the middle of ±τ e_z, so that F < 0 is not convex, and only signs (−,−) with
        c > 0 and (+,−) with c < 0 are left. The third face h_1 + h_2 of the first is harmless: a
        vertex where only it exceeds c takes colour 0 or 1 by the sign of w_1j.

        Raises:
            CertificateError: another depth or number of outputs, a larger width, or a network that
                is wrong at a centre.
        """
        form = _right_form(self.problem, network, 2)
        units = form.units
        if len(units) == 2 and form.constant > 0 and all(u.sign < 0 for u in units):
            rule = self._two_minus
        elif len(units) == 2 and form.constant < 0 and units[0].sign != units[1].sign:
            rule = self._mixed
        else:
            raise CertificateError(f"{network.name}: F < 0 would be convex, against its centres")
        found = tuple(rule(form, j) for j in range(self.graph.n))
        return _checked(self.graph, found, 2)

    def _two_minus(self, form: NormalForm, j: int) -> int:
        """The colour of a vertex under c − relu(h_1) − relu(h_2)."""
        x = self.problem.point(j)
        first, second = (unit.before(x) > form.constant for unit in form.units)
        if first or second:
            return 0 if first else 1
        return 0 if form.units[0].weight[j] >= 0 else 1

    def _mixed(self, form: NormalForm, j: int) -> int:
        """The colour of a vertex under −k + relu(h_1) − relu(h_2): 0 if k − h_1 > 0."""
        plus = next(unit for unit in form.units if unit.sign > 0)
        return 0 if -form.constant - plus.before(self.problem.point(j)) > 0 else 1


Reduction = ColouringProblem | SplittingProblem


def scores(network: Network) -> Network:
    """The network x ↦ (−F(x), F(x)): a classifier of the labels −1 and +1 as 0 and 1."""
    *hidden, last = network.layers
    weight, (bias,) = fractions(last.dense[0]), fractions(last.bias)
    final = exact_layer([[-v for v in weight], weight], [-bias, bias], relu=False)
    return Network((*hidden, final), name=network.name)


def one_output(network: Network) -> Network:
    """F of a network with the output F, or with the scores of −1 and +1 (F is their difference).

    Raises:
        CertificateError: another number of outputs, or a ReLU on one.
    """
    *hidden, last = network.layers
    if network.n_outputs not in (1, 2) or last.relu.any():
        raise CertificateError(
            f"{network.name}: expected one output, or the scores of −1 and +1, without ReLU; got "
            f"{network.n_outputs} outputs"
        )
    if network.n_outputs == 1:
        return network
    low, high = (fractions(row) for row in last.dense)
    first, second = fractions(last.bias)
    row = [b - a for a, b in zip(low, high, strict=True)]
    final = exact_layer([row], [second - first], relu=False)
    return Network((*hidden, final), name=network.name)


def _require_edges(graph: Hypergraph) -> None:
    if not graph.edges:
        raise DataError(f"{graph.name}: no edges, so that all points would have one label")


def _points(graph: Hypergraph, more: int, d: int, scale: int) -> np.ndarray:
    """Zeros for n + ``more`` points, with scale · e_j in the first n rows."""
    rows = graph.n + more
    require_memory(f"{graph.name}: {rows} points of {d} coordinates", rows * d)
    points = np.zeros((rows, d), dtype=np.int64)
    points[np.arange(graph.n), np.arange(graph.n)] = scale
    return points


def _sets(width: int) -> list[tuple[int, ...]]:
    """The nonempty sets of units, small ones first."""
    return [s for size in range(1, width + 1) for s in combinations(range(width), size)]


def _network(
    rows: Sequence[Sequence[Rational]],
    biases: Sequence[Rational],
    signs: Sequence[int],
    constant: Rational,
    name: str,
) -> Network:
    """c + Σ s_t relu(w_t·x + b_t)."""
    layers = (exact_layer(rows, biases, relu=True), exact_layer([signs], [constant], relu=False))
    return Network(layers, name=name)


def _require_colouring(graph: Hypergraph, colours: Sequence[int], most: int) -> None:
    if len(colours) != graph.n or not all(0 <= c < most for c in colours):
        raise DataError(
            f"{graph.name}: expected a colour from 0 to {most - 1} for each of {graph.n} vertices"
        )
    bad = graph.monochromatic(colours)
    if bad is not None:
        raise DataError(f"{graph.name}: all vertices of the edge {bad} have one colour")


def _right_form(problem: BallProblem, network: Network, width: int) -> NormalForm:
    """The normal form of a network of at most this width that is right on all centres."""
    if network.width > width or network.n_inputs != problem.dimension:
        raise CertificateError(
            f"{network.name}: expected {problem.dimension} inputs and width ≤ {width}, got "
            f"{network.n_inputs} and {network.width}"
        )
    form = NormalForm.of(network)
    wrong = wrong_centre(problem, form)
    if wrong is not None:
        raise CertificateError(
            f"{network.name}: wrong at point {wrong} of {problem.name}: label "
            f"{problem.labels[wrong]}, F = {form.value(problem.point(wrong))}"
        )
    return form


def _checked(graph: Hypergraph, colours: Colouring, most: int) -> Colouring:
    """The colouring, after checking what lemma 1 says of it."""
    if graph.monochromatic(colours) is not None or max(colours) >= most:
        raise ArithmeticError(f"{graph.name}: the network gives no weak {most}-colouring")
    return colours
