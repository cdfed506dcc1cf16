"""Every engine against the oracle on random small instances: complete engines give the truth."""

from collections import Counter
from fractions import Fraction
from functools import cache

import pytest

from tests import oracle
from tests.engines import COMPLETE, ENGINES, TIES_UNDECIDED, decide
from tests.strategies import moved, random_instance, tight_instance
from verifier.core.verdict import Proved, Refuted, Unknown

GENERAL, TIGHT = range(300), range(10_000, 10_060)


@cache
def truths():
    """(network, property, whether it is violated) for every instance."""
    instances = [random_instance(seed) for seed in GENERAL]
    instances += [tight_instance(seed, oracle.maximum) for seed in TIGHT]
    return [(network, prop, oracle.violated(network, prop)) for network, prop in instances]


def test_there_are_enough_instances_of_each_verdict():
    count = Counter(violated for _, _, violated in truths())
    assert count.total() >= 300
    assert count[True] >= 100
    assert count[False] >= 100


def test_the_instances_have_all_kinds():
    layers = [layer for network, _, _ in truths() for layer in network.layers]
    clauses = [c for _, prop, _ in truths() for case in prop.cases for c in case.clauses]
    assert {network.n_inputs for network, _, _ in truths()} == {1, 2, 3, 4}
    assert {network.depth for network, _, _ in truths()} == {1, 2, 3}
    assert {layer.is_sparse for layer in layers} == {True, False}
    assert sum(0 < layer.n_relu < layer.n_out for layer in layers) >= 50
    assert sum(len(clause) > 1 for clause in clauses) >= 50
    assert sum(len(prop.cases[0].clauses) > 1 for _, prop, _ in truths()) >= 50
    assert sum(prop.mixes_inputs for _, prop, _ in truths()) >= 30
    assert {c.strict for clause in clauses for c in clause} == {True, False}


def test_both_oracles_agree():
    for network, prop, violated in truths()[::5]:
        assert oracle.violated_at_once(network, prop) is violated


def is_tie(network, prop, violated):
    """Whether the answer changes when all thresholds move a little."""
    by = Fraction(1 if violated else -1, 10**4)
    return oracle.violated(network, moved(prop, by)) is not violated


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_agrees_with_the_oracle(engine, record_property):
    count, ties = Counter(), 0
    for network, prop, violated in truths():
        verdict = decide(engine, network, prop, 0.05 if engine in TIES_UNDECIDED else 120)
        if engine in TIES_UNDECIDED and isinstance(verdict, Unknown):
            if is_tie(network, prop, violated):
                ties += 1
                continue
            verdict = decide(engine, network, prop)
            assert not isinstance(verdict, Unknown)
        count[type(verdict), violated] += 1
        assert not isinstance(verdict, Proved if violated else Refuted)
        if isinstance(verdict, Refuted):
            witness = verdict.witness
            assert prop.cases[witness.case].box.contains(witness.x)
            assert network.exact(witness.x) == witness.y
            assert prop.violation(witness.x, witness.y) is not None
    for (kind, violated), n in count.items():
        record_property(f"{engine}: {kind.__name__} where violated is {violated}", n)
    if engine in COMPLETE:
        assert not any(kind is Unknown for kind, _ in count)
    else:
        assert count[Proved, False] >= 20
    assert ties <= 100
