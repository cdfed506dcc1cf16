"""The Stackelberg game on a trained network: what the adversary can do to each point, exactly (T9).

The classifier has chosen its parameters Θ. The adversary moves every point x_i by δ_i, within its
ℓ∞ ball, and the classifier pays φ(Θ, A), the mean over the points of a loss that falls as the
margin z_y − max_{l≠y} z_l rises (Gao, Liu and Yu 2022). The best answer attains the robust margins

    t_i = min over the ball of i of the margin,

so Γ(Θ) = max_A φ(Θ, A) is the mean loss of t_1..t_N, and the adversarial accuracy AA(Θ) the share
of t_i > 0. Projected gradient descent answers with points of the balls, whose exact margins bound
t_i from above and Γ from below. The verifier encloses t_i between a proved bound and the margin of
an exact point, and with it Γ and AA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from torchbridge.attacks.interface import Control, Task
from torchbridge.attacks.losses import Loss
from torchbridge.attacks.pgd import PGD
from torchbridge.attacks.regions import LinfBall, Point, nearest
from torchbridge.attacks.target import Target
from verifier.bounds.interval import interval_bounds
from verifier.bounds.linear import root_bounds
from verifier.core.decision import Decision, Rule
from verifier.core.errors import NetworkError, PropertyError
from verifier.core.network import Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown, Verdict
from verifier.search.portfolio import certify
from verifier.search.problem import Deadline, Problem, Progress, problems

#: The adversary that ``gradient_response`` is by default: it goes on where a point is lost.
STRONG_PGD = PGD(restarts=3, losses=(Loss.margin,), confidence=math.inf)
#: Share of the time that is left which one question about a margin may take.
_TURN = 0.4

_ZERO, _ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Payoff:
    """A loss of one point, which falls (weakly) as its margin rises.

    Args:
        name: for tables.
        of: the loss as a function of the margin.
    """

    name: str
    of: Callable[[Fraction], Fraction]

    def mean(self, margins: Sequence[Fraction]) -> Fraction:
        """φ, exactly, if the points that the adversary chose have these margins."""
        return sum((self.of(t) for t in margins), _ZERO) / len(margins)


#: −t: the loss of Carlini and Wagner; one far point pays for several lost ones.
MARGIN = Payoff("margin", lambda t: -t)
#: 1[t ≤ 0]: Γ = 1 − AA, so equilibria are the maximisers of AA (T9.1).
ZERO_ONE = Payoff("0/1", lambda t: Fraction(t <= 0))


def truncated(tau: Fraction) -> Payoff:
    """max(−t, −τ): equilibria have t ≥ τ everywhere if that can be reached (T9.2)."""
    return Payoff(f"margin truncated at {tau}", lambda t: max(-t, -tau))


def ramp(tau: Fraction) -> Payoff:
    """min(1, max(0, 1 − t/τ)): between 1[t ≤ 0] and 1[t < τ] (T9.3)."""
    return Payoff(f"ramp {tau}", lambda t: min(_ONE, max(_ZERO, 1 - t / tau)))


@dataclass(frozen=True, eq=False)
class Sample:
    """One point that the adversary may move.

    Args:
        ball: where to.
        label: the output that should be the largest.
    """

    ball: LinfBall
    label: int


@dataclass(frozen=True, eq=False)
class Answer:
    """What the best response does to one point.

    Args:
        safe: True if the margin is proved positive on the whole ball, False if it is not at
            ``point``, None if neither is known.
        low: proved: the margin is at least this on the whole ball.
        high: the exact margin at ``point``.
        point: of the ball, exactly.
    """

    safe: bool | None
    low: Fraction
    high: Fraction
    point: Point

    @property
    def exact(self) -> bool:
        """Whether t is known, not only enclosed."""
        return self.low == self.high


def exact_margin(network: Network, label: int, x: Point) -> Fraction:
    """z_label − max_{l≠label} z_l at an exact point."""
    z = network.exact(x)
    return z[label] - max(v for k, v in enumerate(z) if k != label)


def adversarial_accuracy(answers: Sequence[Answer]) -> tuple[Fraction, Fraction]:
    """(lower, upper): the shares that are proved safe, and that are not refuted."""
    safe = sum(answer.safe is True for answer in answers)
    lost = sum(answer.safe is False for answer in answers)
    return Fraction(safe, len(answers)), Fraction(len(answers) - lost, len(answers))


def value(payoff: Payoff, answers: Sequence[Answer]) -> tuple[Fraction, Fraction]:
    """(lower, upper) bounds of Γ, both exact: the loss at the points found, and at proved margins.

    A point whose margin is proved positive although no positive bound of it is known counts as
    lost in the upper bound of the 0/1 loss; ``adversarial_accuracy`` has the sharper number.
    """
    return (
        payoff.mean([answer.high for answer in answers]),
        payoff.mean([answer.low for answer in answers]),
    )


def gradient_response(
    network: Network,
    samples: Sequence[Sample],
    *,
    attack: PGD = STRONG_PGD,
    seed: int = 0,
    device: str = "cpu",
) -> list[tuple[Point, Fraction]]:
    """The adversary's answer by projected gradient descent on the margin.

    Args:
        network: a float network.
        samples: what may be moved.
        attack: how.
        seed: of its random starts.
        device: where Torch computes.

    Returns:
        a point of each ball with its exact margin: the attack's, or the centre if that is worse
        for the classifier or no float32 point lies in the ball.
    """
    target = Target.of(network, Decision(Rule.argmax), device)

    def tensor(rows: list[np.ndarray]) -> torch.Tensor:
        return torch.tensor(np.stack(rows)).to(target.device, target.dtype)

    boxes = [s.ball.search_box for s in samples]
    lower, upper = tensor([low for low, _ in boxes]), tensor([high for _, high in boxes])
    x = torch.minimum(torch.maximum(tensor([s.ball.center32 for s in samples]), lower), upper)
    labels = torch.tensor([s.label for s in samples]).to(x.device)
    size = max(nearest(s.ball.size) for s in samples)
    task = Task(target.module, x, labels, lower, upper, size, (1, 1, x.shape[1]))
    found = attack.run(task, Control.seeded(seed)).cpu().numpy().astype(np.float64)
    return [
        _worst(network, sample, [sample.ball.center, sample.ball.inward(row)])
        for sample, row in zip(samples, found, strict=True)
    ]


def _worst(
    network: Network, sample: Sample, points: Iterable[Point | None]
) -> tuple[Point, Fraction]:
    """The point with the smallest exact margin, and that margin."""
    margins = [(exact_margin(network, sample.label, x), x) for x in points if x is not None]
    t, x = min(margins, key=lambda pair: pair[0])
    return x, t


def proved_margin(
    network: Network, box: Box, label: int, *, backward: bool = True, timeout: float = math.inf
) -> Fraction:
    """A lower bound of the margin on a box from bounds alone, without a search.

    Args:
        network: a float network.
        box: where.
        label: the output that should be the largest.
        backward: by backward linear bounds; else by intervals.
        timeout: wall-clock seconds after which layers keep their interval bounds.

    Raises:
        NetworkError: bounds leave the float64 range.
        PropertyError: the box or the label does not fit.
    """
    prop = Property.robustness(box, label, network.n_outputs)
    (problem,) = (p for p in problems(network, prop) if isinstance(p, Problem))
    if backward:
        limit = Deadline(timeout)
        bounds = root_bounds(problem.slacks, *problem.box, stop=lambda: limit.passed)[1]
    else:
        bounds = interval_bounds(problem.slacks, *problem.box)
    low = float(bounds[-1][0].min())
    if not math.isfinite(low):
        raise NetworkError("bounds on the margin leave the float64 range")
    return Fraction(low)


def best_response(
    network: Network,
    sample: Sample,
    *,
    timeout: float,
    gap: Fraction | None = None,
    starts: Sequence[Point] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Answer:
    """The adversary's best answer at one point, as far as the verifier gets in its time.

    Args:
        network: a float network with an output a class.
        sample: the point.
        timeout: wall-clock seconds.
        gap: None only asks whether t > 0; else t is enclosed until its bounds are at most so far
            apart. With 0 the search ends when ``low == high``, which engines can decide for small
            networks only.
        starts: points to begin with, ``gradient_response``'s, say; those outside of the ball are
            left out.
        seed: of the engines' attacks.
        progress: told what is going on.

    Raises:
        PropertyError: the ball or the label does not fit the network, or the gap is negative.
        NetworkError: the network has no float64 form, or bounds leave that range.
    """
    if gap is not None and gap < 0:
        raise PropertyError(f"the gap must be at least 0, got {gap}")
    return _Response(network, sample, timeout, starts, seed, progress).run(gap)


class _Response:
    """One search; see ``best_response``."""

    def __init__(
        self, network: Network, sample: Sample, timeout: float, starts: Sequence[Point], seed: int,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.network, self.sample, self.seed, self.progress = network, sample, seed, progress
        self.deadline = Deadline(timeout)
        inside = [x for x in starts if sample.ball.contains(x)]
        self.low = proved_margin(network, sample.ball.box, sample.label, timeout=timeout)
        self.point, self.high = _worst(network, sample, [sample.ball.center, *inside])

    def run(self, gap: Fraction | None) -> Answer:
        """Ask for the sign, then for the margin."""
        safe = self._sign()
        if gap is not None:
            self._enclose(gap)
        return Answer(safe, self.low, self.high, self.point)

    def _sign(self) -> bool | None:
        """Whether the margin is positive on the whole ball."""
        if self.high <= 0:
            return False
        if self.low > 0:
            return True
        count = self.network.n_outputs
        prop = Property.robustness(self.sample.ball.box, self.sample.label, count)
        verdict = self._ask(prop, self.deadline.left)
        if isinstance(verdict, Proved):
            self.low = max(self.low, _ZERO)
            return True
        return False if isinstance(verdict, Refuted) else None

    def _enclose(self, gap: Fraction) -> None:
        """Ask just below the smallest margin known, and halfway down where no engine answers."""
        failed: Fraction | None = None
        while self.high - self.low > gap and not self.deadline.passed:
            level = self.high - gap
            if failed is not None and failed <= level:
                level = Fraction(nearest((self.low + failed) / 2))
                if not self.low < level < failed or failed - self.low <= gap:
                    return
            verdict = self._ask(self._at_least(level), _TURN * self.deadline.left)
            if isinstance(verdict, Proved):
                self.low = max(self.low, level)
            elif isinstance(verdict, Unknown):
                failed = level

    def _at_least(self, level: Fraction) -> Property:
        """The margin is at least this: unsafe if z_j − z_label > −level for some other j."""
        label, count = self.sample.label, self.network.n_outputs
        clauses = tuple(
            (LinearConstraint(((j, _ONE), (label, -_ONE)), -level, strict=True),)
            for j in range(count)
            if j != label
        )
        case = Case(self.sample.ball.box, clauses)
        return Property((case,), len(case.box), count, f"margin at least {float(level):.6g}")

    def _ask(self, prop: Property, seconds: float) -> Verdict:
        """Put a question to the engines and keep what a counterexample says."""
        verdict = certify(
            self.network, prop, timeout=seconds, seed=self.seed, progress=self.progress
        )
        if isinstance(verdict, Refuted):
            x = verdict.witness.x
            t = exact_margin(self.network, self.sample.label, x)
            if t < self.high:
                self.point, self.high = x, t
        return verdict
