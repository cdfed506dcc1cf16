"""How far a property of balls around one point holds: the largest proved and smallest refuted eps.

Both ends are monotone: what is proved for a ball holds for all smaller ones, and a counterexample
at distance r refutes every eps >= r. So r itself, the exact l-infinity distance of the nearest
counterexample found, is the refuted end, and one proof just below it is all that is missing. The
search brings the counterexample nearer (``verifier.search.nearest``) before it asks for that proof,
asks in ever longer turns, and in between for smaller balls, so that it has something to say
whenever it is stopped. Unknown moves no end.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from verifier.core.verdict import Proved, Refuted, Unknown, Witness
from verifier.search.attack import attack, gradient
from verifier.search.nearest import descend, shorten
from verifier.search.portfolio import certify
from verifier.search.problem import Deadline, Problem, Progress, problems
from verifier.search.radius_ends import ProvedEnd, Question, Radius, RefutedEnd

#: Seconds that one question may take in the first turn, and how much longer in each later one.
_FIRST_TURN, _LONGER = 0.5, 3.0
#: Networks with at most so many ReLUs are put to a MILP solver, too, where the other engines fail.
_MILP_RELUS = 256
#: Questions in one turn.
_QUESTIONS = 5
#: Largest shares of the time that interval bounds alone and attacks alone may take.
_INTERVAL_SHARE, _ATTACK_SHARE = 0.15, 0.15
#: Interval passes: halvings until one proves anything, then halvings of what is between.
_HALVINGS, _BISECTIONS = 40, 12
#: A point that misses the unsafe set by rounding is moved outward by these shares.
_OUTWARD = (0.0, 2.0**-44, 2.0**-36, 2.0**-28, 2.0**-20)
#: An attack is made at these multiples of the refuted eps, as long as one of them succeeds.
_NEARER = (Fraction(3, 4), Fraction(9, 10), Fraction(97, 100))


class RadiusSearch:
    """Bisection with attacks above and proofs below.

    ``result`` may be called at any time, also after an interrupt.

    Args:
        question: what holds how far.
        timeout: wall-clock seconds.
        gap: relative distance of the two ends at which the search ends, in (0, 1).
        seed: of the attacks.
        progress: told what is going on.

    Raises:
        ValueError: the gap is not between 0 and 1.
    """

    def __init__(
        self,
        question: Question,
        *,
        timeout: float,
        gap: Fraction = Fraction(1, 1000),
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        if not 0 < gap < 1:
            raise ValueError(f"the gap must lie between 0 and 1, got {gap}")
        self.question, self.gap, self.seed = question, gap, seed
        self.reach = question.reach
        self._progress = progress
        self._deadline = Deadline(timeout)
        self._rng = np.random.default_rng(seed)
        self._center = np.array([float(v) for v in question.center])
        self._proved: ProvedEnd | None = None
        self._refuted: RefutedEnd | None = None
        self._questions = 0

    def result(self, reason: str | None) -> Radius:
        """What is known now.

        Args:
            reason: why the search ended; left out if nothing is missing.
        """
        return Radius(
            self._proved, self._refuted, self.reach, self.question.clip is not None,
            None if self._closed else reason, self._questions,
        )  # fmt: skip

    def run(self) -> Radius:
        """Search until the ends are near enough, or the time is up, or no engine gets further.

        Raises:
            PropertyError: the centre lies outside of the clip range, or numbers leave float64.
            NetworkError: the network has no float64 form.
        """
        if self._center_unsafe():
            return self.result(None)
        self._prove_by_intervals(Deadline(_INTERVAL_SHARE * self._deadline.left))
        if not self._closed:
            self._attack(Deadline(_ATTACK_SHARE * self._deadline.left))
        reason, turn = "time limit reached", _FIRST_TURN
        while not self._closed and not self._deadline.passed:
            given_up = self._turn(turn)
            if given_up is not None:
                reason = given_up
                break
            turn *= _LONGER
        return self.result(reason)

    # The two ends ------------------------------------------------------------------------------

    @property
    def _lower(self) -> Fraction:
        return Fraction(0) if self._proved is None else self._proved.eps

    @property
    def _closed(self) -> bool:
        """Whether the ends are near enough, or there is nothing left to ask about."""
        if self._refuted is None:
            return self._lower >= self.reach
        return self._refuted.eps - self._lower <= self.gap * self._refuted.eps

    def _center_unsafe(self) -> bool:
        """Ask about the centre itself."""
        question = self.question
        prop = question.at(Fraction(0))
        outputs = question.network.exact(question.center)
        where = prop.violation(question.center, outputs)
        if where is not None:
            witness = Witness(question.center, outputs, *where)
            self._refuted = RefutedEnd(Fraction(0), prop, Refuted(witness))
        return where is not None

    def _ask(self, eps: Fraction, seconds: float, engine: str = "auto") -> str | None:
        """Put one ball to the engines, move an end, or return why neither moved."""
        self._questions += 1
        self._tell(f"asking about {float(eps):.6g}")
        prop = self.question.at(eps)
        verdict = certify(
            self.question.network, prop, timeout=min(seconds, self._deadline.left), engine=engine,
            progress=lambda what, _: self._tell(f"eps {float(eps):.6g}: {what}"), seed=self.seed,
        )  # fmt: skip
        if isinstance(verdict, Proved):
            if eps > self._lower:
                self._proved = ProvedEnd(eps, prop, verdict)
            return None
        if isinstance(verdict, Unknown):
            return verdict.reason
        self._refute(verdict, walk=True)
        return None

    def _refute(self, verdict: Refuted, *, walk: bool) -> None:
        """Move the upper end to the witness, and to nearer ones in its region (or from there)."""
        self._note(verdict.witness, verdict.statistics)
        problem = self._problem(self.question.distance(verdict.witness.x))
        if problem is None:
            return
        found = verdict.witness.clause
        clause = next(k for k, c in enumerate(problem.clauses) if c.index == found)
        x = np.array([float(v) for v in verdict.witness.x])
        x = shorten(problem, self._center, x)
        near = descend(problem, self._center, x, clause, self._deadline, walk=walk)
        for proposal in (x, near):
            for outward in _OUTWARD:
                witness = problem.candidate(proposal + outward * (proposal - self._center))
                if witness is not None:
                    self._note(witness, verdict.statistics)
                    break

    def _note(self, witness: Witness, statistics: dict[str, float]) -> None:
        """Keep an exact witness if it is the nearest one so far."""
        eps = self.question.distance(witness.x)
        if self._refuted is None or eps < self._refuted.eps:
            prop = self.question.at(eps)
            self._refuted = RefutedEnd(eps, prop, Refuted(witness, statistics))

    def _problem(self, eps: Fraction) -> Problem | None:
        """The question about one ball for the float searches; None if nothing can be unsafe."""
        found = next(problems(self.question.network, self.question.at(eps)), None)
        return found if isinstance(found, Problem) else None

    # The search --------------------------------------------------------------------------------

    def _prove_by_intervals(self, limit: Deadline) -> None:
        """The largest ball that one interval pass proves, about; all that constructions need."""
        high = self.reach
        for _ in range(_HALVINGS):
            if limit.passed or self._closed:
                return
            if self._ask(high, limit.left, "interval") is None:
                break
            high /= 2
        else:
            return
        high = min(2 * self._lower, self.reach)
        for _ in range(_BISECTIONS):
            if limit.passed or self._closed or self._lower >= high:
                return
            middle = _between(self._lower, high, Fraction(9, 20), Fraction(11, 20))
            if self._ask(middle, limit.left, "interval") is not None:
                high = middle

    def _attack(self, limit: Deadline) -> None:
        """Balls grow until an attack succeeds, then shrink as long as one does or a walk helps."""
        for eps in self._growing():
            if limit.passed or self._attack_once(eps, limit, None):
                break
        while self._refuted is not None and not limit.passed and not self._closed:
            before = self._refuted
            if not self._attack_nearer(before, limit):
                self._refute(before.verdict, walk=True)
                if self._refuted.eps > before.eps * (1 - self.gap):
                    return

    def _attack_nearer(self, end: RefutedEnd, limit: Deadline) -> bool:
        """Whether an attack succeeds in a smaller ball; one of its starts is the last witness."""
        starts = np.array([[float(v) for v in end.verdict.witness.x]])
        for share in _NEARER:
            eps = _between(Fraction(0), end.eps, share, share + Fraction(1, 50))
            if eps > self._lower and self._attack_once(eps, limit, starts):
                return True
        return False

    def _growing(self) -> Iterator[Fraction]:
        """Radii at which to look for a first counterexample, up to the whole reach."""
        problem = self._problem(self.reach)
        if problem is None:
            return
        eps = max(self._lower, _simplest(*(self._guess(problem) * f for f in (1, 2))))
        while eps < self.reach:
            yield eps
            eps *= 2 if self.question.clip is not None else 4
        yield self.reach

    @np.errstate(all="ignore")
    def _guess(self, problem: Problem) -> Fraction:
        """Where the linear function at the centre becomes unsafe, or the reach; positive."""
        best = float(self.reach)
        for clause in problem.clauses:
            for row, bound in zip(clause.rows, clause.bound, strict=True):
                y, g = gradient(problem.network, self._center[None, :], row[None, :])
                size = float((bound - row @ y[0]) / np.abs(g).sum())
                if 0 < size < best:
                    best = size
        return Fraction(max(best, float(self.reach) * 2.0**-60))

    def _attack_once(self, eps: Fraction, limit: Deadline, starts: np.ndarray | None) -> bool:
        """Whether an attack found a counterexample in a ball; it is kept, and made nearer."""
        self._tell(f"attacking at {float(eps):.6g}")
        problem = self._problem(min(eps, self.reach))
        if problem is None:
            return False
        witness = attack(problem, limit, rng=self._rng, starts=starts)
        if witness is None:
            return False
        self._refute(Refuted(witness, {"attack": 1.0}), walk=False)
        return True

    def _turn(self, seconds: float) -> str | None:
        """Ask for the proof that closes the gap, then for smaller ones; the reason to give up.

        There is one if nothing moved and no engine wanted more time.
        """
        failed: Fraction | None = None
        reason, hurried = None, False
        before = (self._proved, self._refuted)
        for _ in range(_QUESTIONS):
            eps = self._next(failed)
            if eps is None or self._closed or self._deadline.passed:
                break
            effort = Deadline(seconds)
            said = self._ask(eps, seconds)
            if said is not None and failed is None and self._suits_milp:
                said = self._ask(eps, seconds, "milp")
            if said is not None:
                failed, reason = eps, said
                hurried |= effort.passed
            elif failed is not None and self._refuted is not None and self._refuted.eps <= failed:
                failed = None
        moved = before != (self._proved, self._refuted)
        return None if moved or hurried or self._deadline.passed else reason

    @property
    def _suits_milp(self) -> bool:
        return self.question.network.n_relu <= _MILP_RELUS

    def _next(self, failed: Fraction | None) -> Fraction | None:
        """The next eps to ask about, given one that was not decided; None if none is worth it."""
        upper = self.reach if self._refuted is None else self._refuted.eps
        if failed is None:
            if self._refuted is None:
                return upper
            return _between(Fraction(0), upper, 1 - self.gap, 1 - self.gap * Fraction(9, 10))
        if failed - self._lower <= max(self.gap * upper, (upper - self._lower) / 16):
            return None
        return _between(self._lower, failed, Fraction(9, 20), Fraction(11, 20))

    def _tell(self, what: str) -> None:
        """Progress with what is known."""
        if self._progress is not None:
            known = f"proved {float(self._lower):.6g}"
            if self._refuted is not None:
                known += f", refuted {float(self._refuted.eps):.6g}"
            self._progress(f"{known}; {what}", -1.0)


def _between(low: Fraction, high: Fraction, first: Fraction, last: Fraction) -> Fraction:
    """The simplest binary fraction between two shares of the way from low to high."""
    return _simplest(low + (high - low) * first, low + (high - low) * last)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """The binary fraction with the fewest bits behind the point in [low, high], low < high.

    Its ball has faces of few bits, which engines need not round.
    """
    scale = 1
    while -(-low.numerator * scale // low.denominator) > high * scale:
        scale *= 2
    return Fraction(-(-low.numerator * scale // low.denominator), scale)
