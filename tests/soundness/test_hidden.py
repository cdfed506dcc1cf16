"""Counterexamples that attacks miss are found, or the answer is Unknown; never Proved."""

import numpy as np
import pytest

from tests.soundness import hidden
from tests.soundness.random_instances import is_wrong
from verifier.core.verdict import Proved, Refuted
from verifier.search.attack import attack
from verifier.search.portfolio import ENGINES, certify
from verifier.search.problem import Deadline, problems

SPIKES = [hidden.spike(seed, inputs) for seed, inputs in ((0, 1), (1, 2), (2, 4))]


@pytest.mark.parametrize("instance", SPIKES)
def test_the_place_is_unsafe_and_the_attack_misses_it(instance):
    assert instance.prop.violation(instance.place, instance.network.exact(instance.place))
    (problem,) = problems(instance.network, instance.prop)
    found = attack(problem, Deadline(10), rng=np.random.default_rng(0), samples=4000)
    assert found is None


@pytest.mark.parametrize("engine", ENGINES)
def test_no_engine_proves_what_is_false(engine):
    for instance in SPIKES:
        verdict = certify(instance.network, instance.prop, timeout=20, engine=engine)
        assert not isinstance(verdict, Proved)
        assert not is_wrong(instance.network, instance.prop, verdict, violated=True)
        if engine in ("auto", "bab", "milp"):
            assert isinstance(verdict, Refuted)


def test_a_spike_that_stays_below_is_no_counterexample():
    low = hidden.spike(3, 2, height=-0.25)
    assert low.prop.violation(low.place, low.network.exact(low.place)) is None
    assert isinstance(certify(low.network, low.prop, timeout=20), Proved)


@pytest.mark.slow
def test_trained_networks():
    for seed in range(3):
        instance = hidden.trained(seed, 2)
        verdict = certify(instance.network, instance.prop, timeout=30)
        assert not isinstance(verdict, Proved)
        assert not is_wrong(instance.network, instance.prop, verdict, violated=True)
