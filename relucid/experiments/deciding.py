"""Held-out points under attack, by bounds and by the verifier: what experiments count.

The attack and the verifier know nothing of each other. A point that one of them loses and another
one proves is a defect of relucid, and stops the command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from relucid.ball_pass import Ball
from relucid.experiments.workshop import Trained, Workshop
from relucid.pictures import planes
from torchbridge.attacks.campaign import Run, attack_points
from torchbridge.attacks.methods import Effort, chosen
from torchbridge.attacks.regions import LinfBall
from torchbridge.attacks.target import Target, threads_for
from torchbridge.stackelberg import Sample, exact_margin, proved_margin
from verifier.core.decision import Decision, Rule
from verifier.core.network import Network
from verifier.core.property import Property
from verifier.core.verdict import Refuted, word
from verifier.search.portfolio import certify

#: Points of a step that is remembered.
_BLOCK = 10


@dataclass(frozen=True)
class Attacked:
    """What the ensemble of attacks did to a point.

    Args:
        index: of the held-out point.
        right: whether the point itself is classified as labelled, exactly.
        broken: whether there is a wrong point in its ball, exactly (itself counts).
        outside: whether that point lies outside of the ball, which none may.
        claims: points that were wrong in floats, and are not exactly.
    """

    index: int
    right: bool
    broken: bool
    outside: bool
    claims: int


@dataclass(frozen=True)
class Decided:
    """What the verifier says of a point's ball.

    Args:
        index: of the held-out point.
        verdict: proved, refuted or unknown, from the search.
        seconds: of that search.
        intervals, backward: whether bounds alone prove it.
    """

    index: int
    verdict: str
    seconds: float
    intervals: bool
    backward: bool

    @property
    def certified(self) -> bool:
        """Whether bounds without a search prove it."""
        return self.intervals or self.backward


def samples(shop: Workshop, eps: Fraction, count: int) -> list[Sample]:
    """The balls of the first held-out points, around their float32 values, as ``certify`` asks."""
    data = shop.data.held_out
    clip = (Fraction(0), Fraction(1)) if data.is_image else None
    ball = Ball(eps, clip)
    return [
        Sample(LinfBall(ball.center(data, i), eps, clip), int(data.labels[i]))
        for i in range(min(count, len(data)))
    ]


def attacked(shop: Workshop, trained: Trained, eps: Fraction, count: int) -> list[Attacked]:
    """The first points under the strongest attack, ``relucid attack --method auto``.

    Raises:
        DataError: a remembered step is damaged.
        OSError: the folder cannot be written to.
    """
    count = min(count, len(shop.data.held_out))

    def compute() -> dict[str, Any]:
        return {"points": [asdict(row) for row in _attack(shop, trained, eps, count)]}

    name = f"attack-{trained.recipe.name}-{eps.numerator}-{eps.denominator}"
    found = shop.remembered(name, [trained.path.name, str(eps), count, "auto"], compute)
    return [Attacked(**row) for row in found["points"]]


def _attack(shop: Workshop, trained: Trained, eps: Fraction, count: int) -> list[Attacked]:
    network, balls = trained.model.network, samples(shop, eps, count)
    # The module as it was trained: convolutions are faster than the matrices they are.
    module, form = trained.module.requires_grad_(False), shop.data.held_out_points.shape
    target = Target.of_module(module, form, Decision(Rule.argmax))
    run = Run(shop.seed, progress=shop.reporter.update)
    with threads_for(network, min(run.batch, count)):
        results = list(
            attack_points(
                target, chosen("auto", Effort()), [s.ball for s in balls],
                [s.label for s in balls], run, shape=planes(shop.data.held_out.shape),
            )
        )  # fmt: skip
    rows = []
    for result in results:
        sample, witness = balls[result.row], result.witness
        outside = False
        if witness is not None:
            # Not by the code that moved the point there.
            pairs = zip(witness.x, sample.ball.center, strict=True)
            outside = max(abs(a - b) for a, b in pairs) > eps or not _within(sample, witness.x)
            if exact_margin(network, sample.label, witness.x) > 0:
                raise RuntimeError(f"point {result.row}: the attack's witness is classified right")
        right = witness is None or bool(result.by)
        rows.append(Attacked(result.row, right, witness is not None, outside, result.claims))
    return rows


def _within(sample: Sample, x: Sequence[Fraction]) -> bool:
    """Whether a point lies in the clip range."""
    clip = sample.ball.clip
    return clip is None or all(clip[0] <= v <= clip[1] for v in x)


def decided(shop: Workshop, trained: Trained, eps: Fraction, count: int) -> list[Decided]:
    """The first points, each by bounds alone and by a search of ``shop.timeout`` seconds.

    Raises:
        DataError: a remembered step is damaged.
        OSError: the folder cannot be written to.
    """
    count = min(count, len(shop.data.held_out))
    balls = samples(shop, eps, count)
    rows: list[Decided] = []
    for first in range(0, count, _BLOCK):
        part = balls[first : first + _BLOCK]
        name = f"decide-{trained.recipe.name}-{eps.numerator}-{eps.denominator}-{first}"
        settings = [trained.path.name, str(eps), first, len(part), shop.timeout]
        found = shop.remembered(name, settings, _block(shop, trained, part, first, count))
        rows += [Decided(**row) for row in found["points"]]
    return rows


def _block(
    shop: Workshop, trained: Trained, part: list[Sample], first: int, count: int
) -> Callable[[], dict[str, Any]]:
    """The step that decides some points."""

    def compute() -> dict[str, Any]:
        network = trained.model.network
        rows = []
        for k, sample in enumerate(part, first):
            shop.reporter.begin(f"{trained.path.stem} at {sample.ball.size}, point {k} of {count}")
            rows.append(asdict(_decide(shop, network, sample, k)))
        return {"points": rows}

    return compute


def _decide(shop: Workshop, network: Network, sample: Sample, index: int) -> Decided:
    box, label = sample.ball.box, sample.label
    intervals = proved_margin(network, box, label, backward=False) > 0
    backward = proved_margin(network, box, label, timeout=shop.timeout) > 0
    prop = Property.robustness(box, label, network.n_outputs)
    started = time.monotonic()
    verdict = certify(
        network, prop, timeout=shop.timeout, seed=shop.seed, progress=shop.reporter.update
    )
    seconds = round(time.monotonic() - started, 3)
    if (
        isinstance(verdict, Refuted)
        and prop.violation(verdict.witness.x, verdict.witness.y) is None
    ):
        raise RuntimeError(f"point {index}: the verifier's witness is none")
    return Decided(index, word(verdict), seconds, intervals, backward)


def standing(attacks: Sequence[Attacked]) -> Fraction:
    """The share of points that no attack broke.

    Raises:
        RuntimeError: a witness lies outside of its ball.
    """
    for attack in attacks:
        if attack.outside:
            raise RuntimeError(f"point {attack.index}: a witness lies outside of its ball")
    return Fraction(sum(not a.broken for a in attacks), len(attacks))


@dataclass(frozen=True)
class Count:
    """Three numbers of the same points: under attack ≥ exact ≥ certified.

    Args:
        points: how many.
        right: classified as labelled, exactly.
        standing: that no attack broke.
        not_refuted: that neither an attack nor the verifier refuted: at most so many are safe.
        proved: at least so many are safe.
        backward, intervals: proved by one kind of bounds alone.
        certified: by either kind.
        outside: witnesses outside of their balls.
        claims: points wrong in floats only.
        missed: points that the verifier refuted and no attack broke.
    """

    points: int
    right: int
    standing: int
    not_refuted: int
    proved: int
    backward: int
    intervals: int
    certified: int
    outside: int
    claims: int
    missed: int

    def share(self, count: int) -> Fraction:
        """Of all points."""
        return Fraction(count, self.points)

    @property
    def undecided(self) -> int:
        """Points that are neither proved nor refuted."""
        return self.not_refuted - self.proved


def counted(attacks: Sequence[Attacked], verdicts: Sequence[Decided]) -> Count:
    """Set attacks beside proofs, point by point.

    Args:
        attacks, verdicts: of the same points in the same order.

    Raises:
        RuntimeError: a point is proved and refuted, or a witness lies outside of its ball.
    """
    missed = not_refuted = proved = 0
    left = standing(attacks)
    for attack, verdict in zip(attacks, verdicts, strict=True):
        if attack.index != verdict.index:
            raise ValueError(f"point {attack.index} beside point {verdict.index}")
        refuted = attack.broken or verdict.verdict == "refuted"
        safe = verdict.verdict == "proved"
        if refuted and (safe or verdict.certified):
            who = "the search" if safe else "bounds"
            raise RuntimeError(f"point {attack.index} is refuted by a witness, proved by {who}")
        # What bounds prove is proved, also where the search ran out of time.
        proved += safe or verdict.certified
        not_refuted += not refuted
        missed += refuted and not attack.broken
    return Count(
        len(attacks), sum(a.right for a in attacks), int(left * len(attacks)), not_refuted, proved,
        sum(v.backward for v in verdicts), sum(v.intervals for v in verdicts),
        sum(v.certified for v in verdicts), sum(a.outside for a in attacks),
        sum(a.claims for a in attacks), missed,
    )  # fmt: skip
