"""The question that a radius answers, and its answer: two ends with their evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from verifier.core.network import Network
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted

#: Without a clip range balls grow to this multiple of the point's largest coordinate (or of 1).
_FARTHEST = 2**20


@dataclass(frozen=True, eq=False)
class Question:
    """A property of the balls around one point.

    Args:
        network: a float network.
        center: the point, exactly.
        clip: lowest and highest value of a coordinate, which cut the balls, or None.
        ask: the property for a box.
    """

    network: Network
    center: tuple[Fraction, ...]
    clip: tuple[Fraction, Fraction] | None
    ask: Callable[[Box], Property]

    def at(self, eps: Fraction) -> Property:
        """The property of the ball with this radius."""
        return self.ask(Box.ball(self.center, eps, self.clip))

    @property
    def reach(self) -> Fraction:
        """From here on no ball grows (with a clip range), or is asked about (without)."""
        if self.clip is None:
            return _FARTHEST * max([Fraction(1), *map(abs, self.center)])
        low, high = self.clip
        return max((max(v - low, high - v) for v in self.center), default=Fraction(0))

    def distance(self, x: tuple[Fraction, ...]) -> Fraction:
        """The exact l-infinity distance of a point to the centre."""
        return max((abs(a - b) for a, b in zip(x, self.center, strict=True)), default=Fraction(0))


@dataclass(frozen=True, eq=False)
class ProvedEnd:
    """No counterexample at distance eps or less.

    Args:
        eps: the radius.
        prop: the property of that ball.
        verdict: with its evidence.
    """

    eps: Fraction
    prop: Property
    verdict: Proved


@dataclass(frozen=True, eq=False)
class RefutedEnd:
    """A counterexample at distance eps, exactly.

    Args:
        eps: the witness's distance to the centre.
        prop: the property of the ball with that radius.
        verdict: with the witness.
    """

    eps: Fraction
    prop: Property
    verdict: Refuted


@dataclass(frozen=True, eq=False)
class Radius:
    """What is known of a point: its robustness radius lies in (proved eps, refuted eps].

    Args:
        proved: None if only the centre itself was shown to be safe, or not even that.
        refuted: None if no counterexample is known.
        reach: largest eps that was asked about, see ``Question.reach``.
        clipped: whether a ball of radius ``reach`` is all that the clip range allows.
        reason: why the ends are farther apart than asked for; None if they are not.
        questions: how often an engine was asked.
    """

    proved: ProvedEnd | None
    refuted: RefutedEnd | None
    reach: Fraction
    clipped: bool
    reason: str | None
    questions: int

    @property
    def lower(self) -> Fraction:
        """The proved eps; 0 where only the centre itself is known to be safe."""
        return Fraction(0) if self.proved is None else self.proved.eps

    @property
    def everywhere(self) -> bool:
        """Whether there is no counterexample in the whole clip range."""
        return self.clipped and self.proved is not None and self.proved.eps >= self.reach

    @property
    def gap(self) -> Fraction | None:
        """(refuted - proved) / refuted; 0 if the centre is unsafe, None if nothing is refuted."""
        if self.refuted is None:
            return Fraction(0) if self.everywhere else None
        upper = self.refuted.eps
        return (upper - self.lower) / upper if upper else Fraction(0)
