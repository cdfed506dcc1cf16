"""The question in float32 semantics: what a runtime computes, in any order of summation.

Proved then covers every order of summation at every float32 point of the boxes, with fused
multiply-add or without. Refuted shows one order and one such point with unsafe outputs: the order
of ``verifier.proof.float32``, or the deployed model's own run. The outputs are the computed
numbers; the property compares them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from verifier.bounds.float32 import in_float32, overflows
from verifier.bounds.threads import single_threaded_blas
from verifier.core.exact import fractions
from verifier.core.network import Network
from verifier.core.property import Box, Property
from verifier.core.rounding import EXACT
from verifier.core.verdict import Proved, Refuted, Replay, Unknown, Verdict, Witness
from verifier.proof.float32 import Float32Error, evaluate
from verifier.search.attack import attack
from verifier.search.problem import Deadline, Problem, Progress, problems
from verifier.search.replay import round_into
from verifier.search.split import split_search

#: The engines that know of rounding.
ENGINES = ("auto", "bab")
_OTHERWISE = "the exact counterexample that was found is none in float32"
#: Points of a box that are run before any search, and of those how many are evaluated in integers.
_POINTS, _TRIES = 40, 3
#: Share of the time for the search whose bounds cover the rounding.
_SHARE = 0.7
#: Products of a layer up to which they are computed all at once.
_PRODUCTS = 1 << 22
#: By how much of the bound, at least of 1, an attack's point should overshoot it.
_OVERSHOOTS = (0.0, 2.0**-18, 2.0**-14)


@dataclass(frozen=True)
class Computed:
    """What float32 makes of a point.

    Args:
        network: the sums that a runtime computes, with float32 numbers.
        prop: the property.
        run: float32 inputs (n_inputs,) to outputs (n_outputs,), as deployed.
    """

    network: Network
    prop: Property
    run: Callable[[np.ndarray], np.ndarray]

    def witness(self, x: np.ndarray) -> Witness | None:
        """The point with unsafe outputs in one order or in the deployed model's, or None.

        Args:
            x: (n_inputs,) float32.
        """
        point, runs = tuple(fractions(x)), np.asarray(self.run(x), dtype=np.float64).ravel()
        outputs = []
        quick = _left_to_right(self.network, x)
        if quick is None or self.prop.violation(point, quick) is not None:
            with suppress(Float32Error):  # an overflow, which is no output
                outputs.append(evaluate(self.network, point))
        violated = False
        if np.isfinite(runs).all():
            outputs.append(tuple(fractions(runs)))
            violated = self.prop.violation(point, outputs[-1]) is not None
        replay = Replay(tuple(map(float, x)), tuple(map(float, runs)), violated)
        for y in outputs:
            where = self.prop.violation(point, y)
            if where is not None:
                return Witness(point, y, *where, replay)
        return None

    def near(self, witness: Witness) -> Witness | None:
        """The same at an exact witness rounded into its box."""
        x = round_into(self.prop.cases[witness.case].box, witness.x)
        return None if x is None else self.witness(x)

    def among(self, problem: Problem, rng: np.random.Generator) -> Witness | None:
        """The first witness among the points of a box that look worst in the deployed model."""
        points = _points(problem.exact_box, rng)
        if not len(points):
            return None
        y = np.stack([np.asarray(self.run(x), dtype=np.float64).ravel() for x in points])
        if self.prop.mixes_inputs:
            y = np.concatenate([y, points.astype(np.float64)], axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            margin = np.nan_to_num(problem.margins(y).max(axis=1), nan=-math.inf)
        # The centre first: who asks about a ball wants to hear of it.
        order = [0, *(1 + np.argsort(-margin[1:]))[:_TRIES]]
        found = (self.witness(points[i]) for i in order)
        return next((w for w in found if w is not None), None)


@np.errstate(over="ignore", invalid="ignore")
def _left_to_right(network: Network, x: np.ndarray) -> tuple[Fraction, ...] | None:
    """What ``evaluate`` gives, by this machine's float32; None if that is not known in time."""
    a = x
    for layer in network.layers:
        if layer.n_in * layer.n_out > _PRODUCTS:
            return None
        total = np.zeros(layer.n_out, dtype=np.float32)
        if layer.n_in:
            total = np.cumsum(layer.dense.astype(np.float32) * a, axis=1, dtype=np.float32)[:, -1]
        z = total + layer.bias.astype(np.float32)
        a = np.where(layer.relu, np.maximum(z, np.float32(0)), z)
    return tuple(fractions(a)) if np.isfinite(a).all() else None


def _points(box: Box, rng: np.random.Generator) -> np.ndarray:
    """(k, n_inputs) float32 points of a box, its centre first; none if it has none."""
    middle = round_into(box, [(a + b) / 2 for a, b in zip(box.lower, box.upper, strict=True)])
    if middle is None:
        return np.zeros((0, len(box)), dtype=np.float32)
    lower, upper = box.inward32()
    share = rng.random((_POINTS, len(box)))
    share[: _POINTS // 2] = share[: _POINTS // 2] < 0.5
    inside = lower + share * (upper.astype(np.float64) - lower)
    inside = np.clip(inside.astype(np.float32), lower, upper)
    return np.concatenate([middle[None], lower[None], upper[None], inside])


def certify_float32(
    network: Network,
    prop: Property,
    run: Callable[[np.ndarray], np.ndarray],
    *,
    timeout: float = math.inf,
    engine: str = "auto",
    progress: Progress | None = None,
    seed: int = 0,
    proof: bool = False,
) -> Verdict:
    """Prove that every float32 evaluation satisfies the property, or show one that does not.

    Args:
        network: its layers are those that the runtime computes, with float32 numbers; see
            ``verifier.io.float32_chain``.
        prop: boxes and unsafe outputs.
        run: the deployed model, float32 inputs (n_inputs,) to outputs (n_outputs,).
        timeout: wall-clock seconds.
        engine: one of ``ENGINES``.
        progress: told what is going on.
        seed: for the attack's random starts.
        proof: whether the evidence is to be written as a proof.

    Returns:
        Proved with one piece of evidence a case; Refuted with a float32 point, the outputs of an
        unsafe evaluation and the deployed model's; or Unknown.

    Raises:
        PropertyError: the property does not fit the network.
        NetworkError: a number that is no float32, or a layer that is too wide.
        ValueError: no such engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    deadline, rng = Deadline(timeout), np.random.default_rng(seed)
    single_threaded_blas()
    computed = Computed(network, prop, run)
    evidence, unknown, totals = [], None, dict[str, float]()
    for problem in problems(in_float32(network), prop):
        if isinstance(problem, Witness):
            found = computed.near(problem)
            verdict: Verdict = Unknown(_OTHERWISE) if found is None else Refuted(found)
        else:
            rival = rng if engine == "auto" else None
            verdict = _decide(problem, computed, deadline, progress, rival, proof)
        for key, value in verdict.statistics.items():
            totals[key] = totals.get(key, 0.0) + value
        if isinstance(verdict, Refuted):
            return replace(verdict, statistics=totals)
        if isinstance(verdict, Unknown):
            unknown = unknown or verdict
        else:
            evidence.append(verdict.evidence)
    if unknown is not None:
        return Unknown(unknown.reason, totals)
    return Proved(tuple(evidence), totals)


def _decide(
    problem: Problem,
    computed: Computed,
    deadline: Deadline,
    progress: Progress | None,
    rng: np.random.Generator | None,
    proof: bool,
) -> Verdict:
    """One problem: points, an attack, then a search whose every bound covers the rounding."""
    if rng is not None:
        witness = computed.among(problem, rng) or _attacked(problem, computed, deadline, rng)
        if witness is not None:
            return Refuted(witness, {"attack": 1.0})
    if overflows(problem.network, *problem.box):
        return Unknown("a sum may leave the float32 range")
    part = deadline if rng is None else Deadline(_SHARE * deadline.left)
    verdict = split_search(problem, part, progress, rng, proof)
    if isinstance(verdict, Unknown) and rng is not None:
        # Where rounding hides the answer of all boxes, a search without it still finds witnesses.
        plain = replace(problem, network=_exact(problem.network))
        other = split_search(plain, deadline, progress, rng, False)
        verdict = other if isinstance(other, Refuted) else verdict
    if not isinstance(verdict, Refuted):
        return verdict
    found = computed.near(verdict.witness)
    if found is None and rng is not None:
        start = np.array([[float(v) for v in verdict.witness.x]])
        found = _attacked(problem, computed, deadline, rng, start)
    if found is None:
        return Unknown(_OTHERWISE, verdict.statistics)
    return replace(verdict, witness=found)


def _exact(network: Network) -> Network:
    """The same layers in exact arithmetic."""
    return replace(network, layers=tuple(replace(y, rounding=EXACT) for y in network.layers))


def _attacked(
    problem: Problem,
    computed: Computed,
    deadline: Deadline,
    rng: np.random.Generator,
    starts: np.ndarray | None = None,
) -> Witness | None:
    """What an attack finds and float32 confirms."""
    samples = 4000 if problem.network.n_inputs <= 16 else 20
    for harder in _harder(problem):
        exact = attack(harder, deadline, rng=rng, samples=samples, starts=starts)
        if exact is None:
            return None
        witness = computed.near(exact)
        if witness is not None:
            return witness
    return None


def _harder(problem: Problem) -> Iterator[Problem]:
    """The problem, then problems whose witnesses overshoot its bounds: rounding may take some."""
    for share in _OVERSHOOTS:
        clauses = tuple(
            replace(c, bound=c.bound + share * np.maximum(np.abs(c.bound), 1.0))
            for c in problem.clauses
        )
        yield replace(problem, clauses=clauses)
