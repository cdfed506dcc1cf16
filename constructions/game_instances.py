"""Games small enough to be solved exactly (T9).

Each game has labelled points on the line, a radius ε, a box of parameters Θ, the robust margins as
functions of Θ in closed form, and the network of every Θ; ``checked_margins`` compares the two.
Outputs are z = (z_1, z_2), labels 1 and 2; only g = z_2 − z_1 matters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

from constructions.arrangement import Plane
from constructions.exact_layer import exact_layer
from constructions.rational_points import Vector
from constructions.segment import smallest_margin
from verifier.core.errors import CertificateError, DataError
from verifier.core.network import Network
from verifier.core.property import Box

ZERO, ONE, HALF = Fraction(0), Fraction(1), Fraction(1, 2)


@dataclass(frozen=True)
class Game(ABC):
    """What all games have.

    Args:
        points: x_i.
        labels: 1 or 2 each.
        eps: how far the adversary may move a point.
    """

    points: tuple[Fraction, ...]
    labels: tuple[int, ...]
    eps: Fraction

    def __post_init__(self) -> None:
        if len(self.points) != len(self.labels) or not set(self.labels) <= {1, 2}:
            raise DataError(
                f"expected a label 1 or 2 for each of {len(self.points)} points, got {self.labels}"
            )

    @abstractmethod
    def margins(self, theta: Vector, eps: Fraction | None = None) -> Vector:
        """t_i for these parameters; for ``eps`` = 0 the margins without an adversary."""

    @abstractmethod
    def network(self, theta: Vector) -> Network:
        """The network with these parameters."""

    def radius(self, eps: Fraction | None) -> Fraction:
        """The game's own radius unless another is given."""
        return self.eps if eps is None else eps

    def checked_margins(self, theta: Vector) -> Vector:
        """The margins, after computing them again from the network alone, kink by kink.

        Raises:
            CertificateError: they differ.
        """
        claimed, network = self.margins(theta), self.network(theta)
        found = tuple(
            smallest_margin(network, y - 1, (x - self.eps,), (x + self.eps,))[0]
            for x, y in zip(self.points, self.labels, strict=True)
        )
        if found != claimed:
            raise CertificateError(f"the network has the margins {found}, not {claimed}")
        return found


@dataclass(frozen=True)
class AffineGame(Game):
    """z = W x + b with all four parameters in [−E, E]: g = w x + c, |w|, |c| ≤ 2E.

    t_i = s_i (w x_i + c) − ε|w|, with s_i = 1 for label 2 and −1 for label 1.

    Args:
        reach: E.
    """

    reach: Fraction = ONE

    @property
    def box(self) -> Box:
        """Of (w, c)."""
        return Box((-2 * self.reach,) * 2, (2 * self.reach,) * 2)

    def margins(self, theta: Vector, eps: Fraction | None = None) -> Vector:
        """See the class."""
        w, c = theta
        return tuple(
            (2 * y - 3) * (w * x + c) - self.radius(eps) * abs(w)
            for x, y in zip(self.points, self.labels, strict=True)
        )

    def planes(self, levels: tuple[Fraction, ...]) -> list[Plane]:
        """w = 0, and t_i = level on both of its sides."""
        found: list[Plane] = [((ONE, ZERO), ZERO)]
        for x, y in zip(self.points, self.labels, strict=True):
            s = 2 * y - 3
            found += [
                ((s * x + side * self.eps, Fraction(s)), level)
                for side in (1, -1)
                for level in levels
            ]
        return found

    def network(self, theta: Vector) -> Network:
        """Depth 1: z = ∓(w x + c)/2."""
        w, c = theta
        layer = exact_layer([[-w / 2], [w / 2]], [-c / 2, c / 2], relu=False)
        return Network((layer,), name="affine")


@dataclass(frozen=True)
class HingeGame(Game):
    """z = a relu(w x + b) + c with all six parameters in [−1, 1]: g = α relu(w x + b) + γ.

    |α|, |γ| ≤ 2. g is monotone in x, so t_i is attained at an end of the interval.
    """

    def margins(self, theta: Vector, eps: Fraction | None = None) -> Vector:
        """At Θ = (α, w, b, γ)."""
        alpha, w, b, gamma = theta
        out = []
        for x, y in zip(self.points, self.labels, strict=True):
            ends = (x - self.radius(eps), x + self.radius(eps))
            out.append(min((2 * y - 3) * (alpha * max(w * e + b, ZERO) + gamma) for e in ends))
        return tuple(out)

    @property
    def box(self) -> Box:
        """Of (w, b)."""
        return Box((-ONE,) * 2, (ONE,) * 2)

    def planes(self) -> list[Plane]:
        """w = 0, and where a relu switches at an end of an interval."""
        ends = [x + side * self.eps for x in self.points for side in (1, -1)]
        return [((ONE, ZERO), ZERO), *(((e, ONE), ZERO) for e in ends)]

    def network(self, theta: Vector) -> Network:
        """Depth 2, width 1."""
        alpha, w, b, gamma = theta
        layers = (
            exact_layer([[w]], [b], relu=True),
            exact_layer([[-alpha / 2], [alpha / 2]], [-gamma / 2, gamma / 2], relu=False),
        )
        return Network(layers, name="hinge")


@dataclass(frozen=True)
class ThresholdGame(Game):
    """g = x − θ: t_i = s_i (x_i − θ) − ε."""

    def margins(self, theta: Vector, eps: Fraction | None = None) -> Vector:
        """See the class."""
        return tuple(
            (2 * y - 3) * (x - theta[0]) - self.radius(eps)
            for x, y in zip(self.points, self.labels, strict=True)
        )

    def network(self, theta: Vector) -> Network:
        """Depth 1: z = (0, x − θ)."""
        layer = exact_layer([[ZERO], [ONE]], [ZERO, -theta[0]], relu=False)
        return Network((layer,), name="threshold")


@dataclass(frozen=True)
class DistanceGame(Game):
    """g = relu(x − θ) + relu(θ − x) − 1 = |x − θ| − 1 for θ in [low, high].

    t_i = 1 − |x_i − θ| − ε for label 1, relu(|x_i − θ| − ε) − 1 for label 2.

    Args:
        low, high: the range of θ.
    """

    low: Fraction = Fraction(-2)
    high: Fraction = Fraction(4)

    def margins(self, theta: Vector, eps: Fraction | None = None) -> Vector:
        """See the class."""
        out = []
        for x, y in zip(self.points, self.labels, strict=True):
            r = abs(x - theta[0])
            near, far = max(r - self.radius(eps), ZERO), r + self.radius(eps)
            out.append(near - 1 if y == 2 else 1 - far)
        return tuple(out)

    def kinks(self, levels: tuple[Fraction, ...] = ()) -> list[Fraction]:
        """Every θ at which a margin, with or without ε, has a kink, the value 0, or a level."""
        steps = [ZERO, self.eps]
        for level in (ZERO, *levels):
            for e in (ZERO, self.eps):
                steps += [1 + e + level, 1 - e - level]
        return sorted({x + sign * step for x in self.points for step in steps for sign in (1, -1)})

    def network(self, theta: Vector) -> Network:
        """Depth 2, width 2."""
        return interval_network(theta[0], theta[0], ONE)


def interval_network(p: Fraction, q: Fraction, level: Fraction) -> Network:
    """z = (0, g) with g = relu(x − q) + relu(p − x) − level."""
    layers = (
        exact_layer([[ONE], [-ONE]], [-q, p], relu=True),
        exact_layer([[ZERO, ZERO], [ONE, ONE]], [ZERO, -level], relu=False),
    )
    return Network(layers, name="interval")


def _rationals(*values: int | Fraction) -> Vector:
    return tuple(map(Fraction, values))


def instance_a(reach: Fraction = ONE) -> AffineGame:
    """A: 1 and 2 with label 2, 10 with label 1, ε = 1/2."""
    return AffineGame(_rationals(1, 2, 10), (2, 2, 1), HALF, reach)


def instance_a_prime() -> HingeGame:
    """A': the same points for a ReLU network."""
    return HingeGame(_rationals(1, 2, 10), (2, 2, 1), HALF)


def balanced() -> ThresholdGame:
    """0, 1, 2, 3 with labels in turn, ε = 1/4."""
    return ThresholdGame(_rationals(0, 1, 2, 3), (1, 2, 1, 2), Fraction(1, 4))


def instance_b() -> DistanceGame:
    """B: −1, 0, 9/5, 14/5 with labels 2, 1, 1, 2, ε = 1/4."""
    points = _rationals(-1, 0, Fraction(9, 5), Fraction(14, 5))
    return DistanceGame(points, (2, 1, 1, 2), Fraction(1, 4))


def one_point() -> DistanceGame:
    """Whose turn comes first: 0 with label 1, ε = 1/4; θ is −9/10 or 9/10."""
    return DistanceGame(_rationals(0), (1,), Fraction(1, 4))
