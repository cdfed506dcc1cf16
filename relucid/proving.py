"""The verifier's word on what ``relucid build`` has built: the ball around every sample."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.claims import Claim, Claims
from constructions.construction import Construction
from constructions.dataset import DataSet
from relucid.ball_pass import Ball, prove_points
from relucid.numbers import approximate
from relucid.progress import Reporter
from verifier.search.problem import Deadline

#: More weights times balls than this take more than about half a minute, and are proved on demand.
CHEAP = 3 * 10**10
#: Share of a radius that is not attained at which the balls are proved.
NEARLY = Fraction(999, 1000)


@dataclass(frozen=True)
class BallProof:
    """What the interval pass says of all balls.

    Args:
        radius: of the balls.
        proved: how many of them.
        points: how many there are.
        rules: how often the pass used the rule for maxima and minima.
    """

    radius: Fraction
    proved: int
    points: int
    rules: int

    def claims(self, name: str) -> Claims:
        """A promise that was kept, or nothing: what the pass does not prove, it leaves open."""
        if self.proved < self.points:
            return Claims(name, ())
        rules = f", {self.rules} max rules" if self.rules else ""
        source = f"the verifier, radius {approximate(self.radius)}: one interval pass{rules}"
        return Claims(name, (Claim.equal("balls proved", self.points, self.proved, source),))

    def record(self) -> dict[str, int | str]:
        """For JSON."""
        return {
            "radius": str(self.radius),
            "proved": self.proved,
            "points": self.points,
            "method": "interval pass",
            "max_rules": self.rules,
        }


def is_cheap(built: Construction, data: DataSet) -> bool:
    """Whether the proof takes seconds."""
    return built.network.nonzeros * len(data) <= CHEAP


def prove(built: Construction, data: DataSet, reporter: Reporter) -> BallProof | None:
    """Put the ball around every sample to the verifier's interval pass.

    Args:
        built: a construction.
        data: the set that it was built from.
        reporter: told how far it has come.

    Returns:
        how many balls were proved; None if the verifier cannot read the network or its outputs.
    """
    decision = built.decision(data)
    if decision is None or not built.network.is_float:
        return None
    radius = built.radius * (NEARLY if built.open_radius else 1)
    positions = np.array([built.labels.index(int(label)) for label in data.labels])
    proved = rules = 0
    indices = range(len(data))
    ball = Ball(radius, exact_center=True)
    deadline = Deadline(float("inf"))
    found = prove_points(built.network, decision, data, indices, positions, ball, deadline)
    for done, (_, verdict) in enumerate(found, 1):
        if verdict is not None:
            proved += 1
            rules = int(verdict.statistics["max rules"])
        reporter.update("balls", done / len(data))
    return BallProof(radius, proved, len(data), rules)
