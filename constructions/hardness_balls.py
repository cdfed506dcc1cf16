"""Two-class problems on balls, and the exact test whether a depth-2 network solves one.

The problem: y_i F(x) > 0 for all x with ‖x − x_i‖∞ ≤ μ, where F = c + Σ_t s_t relu(w_t·x + b_t),
s_t = ±1 (a coefficient of absolute value 1 is no restriction: it goes into w_t and b_t).

The largest F on a ball. With P the units of sign +1 and M those of sign −1,

    max_x F = max_{S ⊆ P} max_x min_{β ∈ [0,1]^M} c + Σ_{t∈S} h_t(x) − Σ_{t∈M} β_t h_t(x),

and the inner two change places, as both sets are convex and compact and the function is bilinear:

    = max_S min_β c + Σ_S h_t(x_i) − Σ_M β_t h_t(x_i) + μ ‖Σ_S w_t − Σ_M β_t w_t‖₁.

For width 2 this is linear in β on the cells into which the zeros of the coordinates of the last sum
cut [0,1]^M, and its minimum is at a corner of a cell: at most d + 4 candidates, the same for every
ball. For wider networks the candidates β ∈ {0,1}^M give an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np

from constructions.depth_two_check import depth_two_form
from verifier.core.errors import CertificateError, DataError
from verifier.core.network import Network

Rational = int | Fraction
MAX_WIDTH = 10
"""The test goes through the subsets of the units."""


@dataclass(frozen=True, eq=False)
class BallProblem:
    """D and μ: which sign F must have on which balls. Integer points are no restriction: scale.

    Args:
        points: (N, d) int64, the centres.
        labels: (N,) of −1 and +1, both of which occur.
        mu: radius of all the closed ℓ∞ balls, ≥ 0.
        name: shown in messages.

    Raises:
        DataError: sizes that do not fit, other labels, one class only, a negative radius.
    """

    points: np.ndarray
    labels: np.ndarray
    mu: Fraction
    name: str = "problem"

    def __post_init__(self) -> None:
        points, labels = np.asarray(self.points), np.asarray(self.labels)
        if points.ndim != 2 or points.size == 0 or points.dtype.kind not in "iu":
            raise DataError(f"{self.name}: expected an (N, d) array of integers, N, d ≥ 1")
        if labels.shape != points.shape[:1] or not np.isin(labels, (-1, 1)).all():
            raise DataError(f"{self.name}: expected {len(points)} labels, each −1 or +1")
        if len(np.unique(labels)) < 2:
            raise DataError(f"{self.name}: all {len(labels)} points have the label {labels[0]}")
        if self.mu < 0:
            raise DataError(f"{self.name}: a radius must be at least 0, got {self.mu}")
        for field, array in (("points", points), ("labels", labels)):
            copy = array.astype(np.int64)
            copy.setflags(write=False)
            object.__setattr__(self, field, copy)
        object.__setattr__(self, "mu", Fraction(self.mu))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dimension(self) -> int:
        """Coordinates of a point."""
        return int(self.points.shape[1])

    def point(self, i: int) -> tuple[int, ...]:
        """The centre of ball i."""
        return tuple(self.points[i].tolist())


@dataclass(frozen=True)
class Unit:
    """s · relu(w·x + b), s = ±1."""

    sign: int
    weight: tuple[Rational, ...]
    bias: Rational

    def before(self, x: Iterable[Rational]) -> Rational:
        """w·x + b."""
        return self.bias + sum(w * v for w, v in zip(self.weight, x, strict=True))


@dataclass(frozen=True)
class NormalForm:
    """F = c + Σ_t s_t relu(h_t)."""

    constant: Rational
    units: tuple[Unit, ...]

    @classmethod
    def of(cls, network: Network) -> NormalForm:
        """The normal form of a depth-2 network with one output: |a| goes into w and b.

        A unit with a = 0 becomes −relu(0).

        Raises:
            CertificateError: another depth, several outputs, or a hidden neuron without ReLU.
        """
        weight, bias, out, constant = depth_two_form(network)
        if not network.layers[0].relu.all():
            raise CertificateError(f"{network.name}: a hidden neuron has no ReLU")
        units = tuple(
            Unit(1 if a > 0 else -1, tuple(_plain(abs(a) * v) for v in w), _plain(abs(a) * b))
            for w, b, a in zip(weight, bias, out, strict=True)
        )
        return cls(_plain(constant), units)

    @property
    def negated(self) -> NormalForm:
        """−F."""
        units = (Unit(-u.sign, u.weight, u.bias) for u in self.units)
        return NormalForm(-self.constant, tuple(units))

    def value(self, x: Sequence[Rational]) -> Rational:
        """F(x)."""
        return self.constant + sum(u.sign * max(0, u.before(x)) for u in self.units)


def _plain(value: Rational) -> Rational:
    """An integer where it is one: integers are much faster than Fractions."""
    return value.numerator if value.denominator == 1 else value


@dataclass(frozen=True)
class Margin:
    """The smallest y F over all balls.

    Args:
        value: the number; a lower bound of it where ``exact`` is False.
        ball: one of the balls where it occurs.
        exact: whether it is attained; always so for width ≤ 2.
    """

    value: Fraction
    ball: int
    exact: bool


def margin(problem: BallProblem, network: Network) -> Margin:
    """The smallest y_i F(x) over all balls; F solves the problem if this is positive.

    Exact for width ≤ 2, O(d²) once and O(d) a ball; else a lower bound.

    Raises:
        CertificateError: not a depth-2 network with one output and the problem's dimension, or
            wider than ``MAX_WIDTH``.
    """
    form = NormalForm.of(network)
    if network.n_inputs != problem.dimension or len(form.units) > MAX_WIDTH:
        raise CertificateError(
            f"{network.name}: expected {problem.dimension} inputs and at most {MAX_WIDTH} hidden "
            f"neurons, got {network.n_inputs} and {len(form.units)}"
        )
    above = {y: _Greatest(f, problem.mu) for y, f in ((-1, form), (1, form.negated))}
    best: tuple[Rational, int] | None = None
    for i, y in enumerate(problem.labels.tolist()):
        value = -above[y](problem.point(i))
        if best is None or value < best[0]:
            best = (value, i)
    if best is None:
        raise CertificateError("a problem without balls")
    return Margin(Fraction(best[0]), best[1], len(form.units) <= 2)


class _Greatest:
    """The largest F on a ball around any point, with what does not depend on the point ready."""

    def __init__(self, form: NormalForm, mu: Fraction) -> None:
        self.form = form
        places = {sign: [t for t, u in enumerate(form.units) if u.sign == sign] for sign in (1, -1)}
        self.choices = [
            [
                (coefficients, mu * _norm(form, coefficients))
                for coefficients in _candidates(form, places[-1], chosen)
            ]
            for bits in product((0, 1), repeat=len(places[1]))
            for chosen in [dict(zip(places[1], bits, strict=True))]
        ]

    def __call__(self, x: Sequence[int]) -> Rational:
        """max F on the ball around x."""
        heights = [unit.before(x) for unit in self.form.units]
        return self.form.constant + max(
            min(
                reach + sum(a * h for a, h in zip(coefficients, heights, strict=True) if a)
                for coefficients, reach in candidates
            )
            for candidates in self.choices
        )


def _candidates(
    form: NormalForm, minus: list[int], chosen: dict[int, int]
) -> Iterator[tuple[Rational, ...]]:
    """Coefficients of the h_t: 0 or 1 on S, −β on M, for every β where the minimum may be."""

    def joined(beta: Sequence[Rational]) -> tuple[Rational, ...]:
        parts = chosen | {t: -b for t, b in zip(minus, beta, strict=True)}
        return tuple(parts[t] for t in range(len(form.units)))

    for corner in product((0, 1), repeat=len(minus)):
        yield joined(corner)
    if len(form.units) != 2 or not minus:
        return
    first, second = (unit.weight for unit in form.units)
    ratios: set[Fraction]
    if len(minus) == 2:
        # The zeros of β₁ w_1k + β₂ w_2k are lines through 0; they meet the edges β₁ = 1, β₂ = 1.
        ratios = {Fraction(-p, 1) / q for p, q in zip(first, second, strict=True) if p * q < 0}
        for t in ratios:
            yield joined((1, t) if t <= 1 else (1 / t, 1))
    elif any(chosen.values()):
        if minus == [0]:
            first, second = second, first
        ratios = {Fraction(p, 1) / q for p, q in zip(first, second, strict=True) if p * q > 0}
        for t in ratios:
            if t < 1:
                yield joined((t,))


def _norm(form: NormalForm, coefficients: Sequence[Rational]) -> Rational:
    """‖Σ_t a_t w_t‖₁."""
    columns = zip(*(unit.weight for unit in form.units), strict=True)
    return sum(abs(sum(a * w for a, w in zip(coefficients, c, strict=True))) for c in columns)


def require_solves(problem: BallProblem, network: Network) -> Margin:
    """The margin of a network that has the right sign on every ball.

    Raises:
        CertificateError: it has not (or, for width > 2, this could not be shown), or see
            ``margin``.
    """
    found = margin(problem, network)
    if found.value <= 0:
        word = "is" if found.exact else "may be"
        raise CertificateError(
            f"{network.name}: the sign {word} wrong on the ball around point {found.ball} of "
            f"{problem.name}: the smallest y F there {word} {found.value}"
        )
    return found


def wrong_centre(problem: BallProblem, form: NormalForm) -> int | None:
    """The first point whose sign the function does not have, or None."""
    for i, y in enumerate(problem.labels.tolist()):
        if y * form.value(problem.point(i)) <= 0:
            return i
    return None
