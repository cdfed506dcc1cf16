"""The question in float32 semantics: what a runtime computes, in any order of summation.

Proved then covers every order of summation, with fused multiply-add or without. Refuted asks for
more than an exact witness: the deployed model itself must be unsafe there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from verifier.bounds.float32 import in_float32, overflows
from verifier.bounds.threads import single_threaded_blas
from verifier.core.network import Network
from verifier.core.property import Property
from verifier.core.verdict import Proved, Refuted, Replay, Unknown, Verdict, Witness
from verifier.search import input_split
from verifier.search.attack import attack
from verifier.search.problem import Deadline, Problem, Progress, problems

_MANY = "float32 semantics is decided for networks with few inputs only"
_OTHERWISE = "the exact counterexample that was found is none in onnxruntime's float32"


def certify_float32(
    network: Network,
    prop: Property,
    replay: Callable[[Witness], Replay | None],
    *,
    timeout: float = math.inf,
    progress: Progress | None = None,
    seed: int = 0,
    proof: bool = False,
) -> Verdict:
    """Prove that every float32 evaluation satisfies the property, or refute it by a run.

    Args:
        network: its layers are those that the runtime computes, with float32 numbers.
        prop: boxes and unsafe outputs.
        replay: runs the deployed model near a witness.
        timeout: wall-clock seconds.
        progress: told what is going on.
        seed: for the attack's random starts.
        proof: whether the evidence is to be written as a proof.

    Returns:
        Proved with one piece of evidence a case; Refuted with a witness that is unsafe exactly and
        in the deployed model; or Unknown.

    Raises:
        PropertyError: the property does not fit the network.
        NetworkError: a number that is no float32, or a layer that is too wide.
    """
    deadline, rng = Deadline(timeout), np.random.default_rng(seed)
    single_threaded_blas()
    evidence, unknown = [], None
    for problem in problems(in_float32(network), prop):
        if isinstance(problem, Witness):
            verdict: Verdict = Refuted(problem)
        else:
            verdict = _decide(problem, deadline, progress, rng, proof)
        if isinstance(verdict, Refuted):
            run = replay(verdict.witness)
            if run is not None and run.violated:
                return replace(verdict, witness=replace(verdict.witness, replay=run))
            verdict = Unknown(_OTHERWISE, verdict.statistics)
        if isinstance(verdict, Unknown):
            unknown = unknown or verdict
        else:
            evidence.append(verdict.evidence)
    return unknown if unknown is not None else Proved(tuple(evidence))


def _decide(
    problem: Problem,
    deadline: Deadline,
    progress: Progress | None,
    rng: np.random.Generator,
    proof: bool,
) -> Verdict:
    """One problem, by a search whose every bound covers the rounding."""
    if overflows(problem.network, *problem.box):
        return Unknown("a sum may leave the float32 range")
    samples = 4000 if problem.network.n_inputs <= 16 else 20
    witness = attack(problem, deadline, rng=rng, samples=samples)
    if witness is not None:
        return Refuted(witness, {"attack": 1.0})
    if not input_split.suits(problem):
        return Unknown(_MANY)
    return input_split.InputSplitSearch(problem, proof=proof).run(deadline, progress)
