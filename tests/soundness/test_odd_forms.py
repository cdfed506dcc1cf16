"""Odd forms of networks and properties: no wrong verdict of any engine, no wrong VALID."""

from collections import Counter
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from tests import oracle
from tests.soundness import odd_forms
from tests.soundness.proofs import nodes_checked, prove
from tests.soundness.random_instances import is_wrong
from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Unknown, Verdict, Witness, word
from verifier.proof.claim import check_file
from verifier.proof.plain import check_plainly
from verifier.search import branch_and_bound, interval, lp, tighten
from verifier.search.input_split import InputSplitSearch
from verifier.search.portfolio import ENGINES, certify
from verifier.search.problem import Deadline, problems

SEEDS = range(600_000, 600_040)


@lru_cache
def instance(seed: int) -> tuple[Network, Property]:
    return odd_forms.instance(seed)


@lru_cache
def violated(seed: int) -> bool:
    return oracle.violated(*instance(seed))


def split_neurons(seed: int, seconds: float) -> Verdict:
    """Neuron splitting alone, which the portfolio leaves to networks with more inputs."""
    verdicts = []
    for problem in problems(*instance(seed)):
        if isinstance(problem, Witness):
            continue
        verdicts.append(branch_and_bound.run(problem, Deadline(seconds)))
        if not isinstance(verdicts[-1], Proved):
            return verdicts[-1]
    return Proved(tuple(verdicts))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_verdict_is_wrong(engine: str) -> None:
    count: Counter[str] = Counter()
    for seed in SEEDS:
        verdict = certify(*instance(seed), timeout=5, engine=engine)
        assert not is_wrong(*instance(seed), verdict, violated(seed)), seed
        count[word(verdict)] += 1
    assert count["proved"] + count["refuted"] > count["unknown"] / 4


def test_neuron_splitting_short_of_memory_loses_no_subproblem(monkeypatch) -> None:
    """The newest subproblems first, and a few goals at a time."""
    monkeypatch.setattr(branch_and_bound, "_POOL_BYTES", 0.0)
    monkeypatch.setattr(branch_and_bound, "_BATCH_NUMBERS", 1)
    monkeypatch.setattr(tighten, "_CHUNK_BYTES", 1.0)
    decided = 0
    for seed in SEEDS:
        if any(isinstance(problem, Witness) for problem in problems(*instance(seed))):
            continue
        verdict = split_neurons(seed, 5)
        assert not is_wrong(*instance(seed), verdict, violated(seed)), seed
        decided += not isinstance(verdict, Unknown)
    assert decided >= 12


def test_no_proof_is_valid_of_an_unsafe_network(tmp_path: Path) -> None:
    written = 0
    for seed in SEEDS:
        engine = ("auto", "bab", "lp")[seed % 3]
        if not prove(*instance(seed), tmp_path / "p", engine=engine):
            continue
        written += 1
        for checker in (check_file, check_plainly):
            try:
                nodes_checked(*instance(seed), tmp_path / "p", checker=checker)
            except CertificateError:
                continue  # numbers too far apart for a checker are no wrong answer
            assert not violated(seed), seed
    assert written >= 4


@pytest.mark.parametrize("bias", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("relu", [False, True])
def test_coefficients_that_overflow_prove_nothing(bias: float, relu: bool) -> None:
    """2e308 - 2.7e308: backwards the sum is +infinity, though the network's values are moderate."""
    one, none = np.ones(1, dtype=bool), np.zeros(1, dtype=bool)
    network = Network(
        (
            Layer(np.array([[1e-290]]), np.array([bias * 1e-290]), one),
            Layer(1e108 * np.array([[1, 1, 0.9, 0.9, 0.9]]).T, np.zeros(5), np.full(5, relu)),
            Layer(1e200 * np.array([[1, 1, -1, -1, -1]]), np.zeros(1), none),
        )
    )
    (most,) = network.exact((Fraction(1),))
    assert most < -(10**17)
    constraint = LinearConstraint(((0, Fraction(-1)),), -most / 2)
    box = Box((Fraction(-1),), (Fraction(1),))
    prop = Property((Case(box, ((constraint,),)),), 1, 1)
    (problem,) = problems(network, prop)
    assert not isinstance(branch_and_bound.run(problem, Deadline(5)), Proved)
    assert not isinstance(InputSplitSearch(problem, threads=1).run(Deadline(5)), Proved)
    assert not isinstance(interval.run(problem, Deadline(5)), Proved)
    assert not isinstance(lp.run(problem, Deadline(5)), Proved)


def test_the_odd_forms_come() -> None:
    several = [instance(seed) for seed in range(600_000, 600_040)]
    layers = [layer for network, _ in several for layer in network.layers]
    cases = [case for _, prop in several for case in prop.cases]
    constraints = [c for case in cases for clause in case.clauses for c in clause]
    assert any(network.depth == 1 for network, _ in several)
    assert any(network.layers[-1].n_relu for network, _ in several)
    assert any(network.n_relu == 0 for network, _ in several)
    assert any(0 < layer.n_relu < layer.n_out for layer in layers)
    assert max(np.abs(layer.dense).max() for layer in layers) > 1e9
    assert any(case.box.lower == case.box.upper for case in cases)
    assert any(not case.clauses for case in cases)
    assert any(() in case.clauses for case in cases)
    assert any(not c.terms for c in constraints)
    assert any(prop.mixes_inputs for _, prop in several)
