"""One door to all engines: which of them looks at a property, in which order, for how long."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from verifier.bounds.interval import Bounds
from verifier.bounds.threads import single_threaded_blas
from verifier.core.errors import NetworkError
from verifier.core.network import Network
from verifier.core.property import Property
from verifier.core.verdict import Proved, Refuted, Replay, Unknown, Verdict, Witness
from verifier.search.attack import attack
from verifier.search.problem import Deadline, Problem, Progress, problems

ENGINES = ("auto", "bab", "milp", "lp", "interval")


def certify(
    network: Network,
    prop: Property,
    *,
    timeout: float = math.inf,
    engine: str = "auto",
    solver: str = "highs",
    progress: Progress | None = None,
    seed: int = 0,
    replay: Callable[[Witness], Replay | None] | None = None,
    proof: bool = False,
) -> Verdict:
    """Prove that the network satisfies the property, or refute it, or say why neither was possible.

    Args:
        network: a float network.
        prop: boxes and unsafe outputs; sizes must fit the network.
        timeout: wall-clock seconds.
        engine: ``auto`` (interval pass, attack, then the branch and bound that suits the
            network), ``bab`` (branch and bound alone, complete), ``milp`` (a MILP solver whose
            answer is proved again), ``lp`` and ``interval`` (incomplete: Proved or Unknown; ``lp``
            may meet a counterexample).
        solver: the MILP solver: highs, cbc, scip or gurobi.
        progress: told what is going on.
        seed: for the attack's random starts.
        replay: runs a witness in the deployed arithmetic; its answer is stored in the witness.
        proof: search so that the evidence of a Proved can be written by ``verifier.search.proofs``:
            bounds leave room for the checker's coarser numbers, multipliers are kept.

    Returns:
        Proved with one piece of evidence a case, Refuted with an exact witness, or Unknown.

    Raises:
        PropertyError: the property does not fit the network.
        NetworkError: the network has no float64 form, or is meant with its rounding, which
            ``verifier.search.float32`` is for.
        SolverError: the MILP solver is not installed.
        ValueError: no such engine.
    """
    _require(network, engine, solver)
    deadline = Deadline(timeout)
    single_threaded_blas()
    rng = np.random.default_rng(seed)
    evidence: list[Any] = []
    totals: dict[str, float] = {}
    unknown: Unknown | None = None
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            verdict: Verdict = Refuted(problem)
        elif deadline.passed:
            verdict = Unknown("time limit reached")
        else:
            verdict = _decide(problem, deadline, engine, solver, progress, rng, proof)
        for key, value in verdict.statistics.items():
            totals[key] = totals.get(key, 0.0) + value
        if isinstance(verdict, Refuted):
            witness = verdict.witness
            if replay is not None:
                witness = replace(witness, replay=replay(witness))
            return Refuted(witness, totals)
        if isinstance(verdict, Unknown):
            # Another case may still be refuted, which is the stronger answer.
            unknown = unknown or verdict
        else:
            evidence.append(verdict.evidence)
    if unknown is not None:
        return Unknown(unknown.reason, totals)
    return Proved(tuple(evidence), totals)


def _require(network: Network, engine: str, solver: str) -> None:
    """The errors of ``certify`` that no case is needed for."""
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    if network.is_rounded:
        raise NetworkError("these engines decide exact arithmetic; see verifier.search.float32")
    if engine == "milp":
        from verifier.search.milp import check_installed

        check_installed(solver)


def _decide(
    problem: Problem,
    deadline: Deadline,
    engine: str,
    solver: str,
    progress: Progress | None,
    rng: np.random.Generator,
    proof: bool,
) -> Verdict:
    """One problem with one engine."""
    if engine in ("auto", "interval"):
        from verifier.search import interval

        verdict = interval.run(problem, deadline)
        # One pass is cheaper than an attack, and all that very deep constructions need.
        if engine == "interval" or isinstance(verdict, Proved):
            return verdict
    if engine in ("lp", "milp"):
        from verifier.bounds.linear import root_bounds
        from verifier.search import lp, milp, proof_lp

        def program(bounds: list[Bounds]) -> Verdict:
            if engine == "lp":
                return lp.run(problem, deadline, bounds=bounds)
            return milp.run(problem, deadline, solver=solver, bounds=bounds)

        if proof:
            return proof_lp.run(problem, deadline, program)
        return program(root_bounds(problem.network, *problem.box, stop=lambda: deadline.passed)[1])
    if engine == "auto":
        # Points are nearly free where there are few inputs; many properties fall to enough.
        samples = 4000 if problem.network.n_inputs <= 16 else 20
        witness = attack(problem, deadline, rng=rng, samples=samples)
        if witness is not None:
            return Refuted(witness, {"attack": 1.0})
    # Much is decided before this, and a process starts sooner without it.
    from verifier.search.split import split_search

    return split_search(problem, deadline, progress, rng if engine == "auto" else None, proof)
