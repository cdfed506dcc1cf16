"""One door to all engines: errors, several cases, time, replay, progress, statistics."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tests import oracle
from tests.engines import hard_problem
from tests.input_split_replay import provable
from tests.stopwatch import within
from tests.strategies import random_instance
from verifier.core.errors import NetworkError, PropertyError, SolverError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Replay, Unknown
from verifier.search import branch_and_bound, input_split
from verifier.search.portfolio import ENGINES, certify
from verifier.search.problem import Deadline


def identity(n=2):
    return Network((Layer(np.eye(n), np.zeros(n), np.ones(n, bool)),))


def case(bound, low=0, high=1, strict=False):
    """Unsafe if y_0 >= bound, on [low, high]^2."""
    constraint = LinearConstraint(((0, Fraction(1)),), Fraction(bound), strict)
    return Case(Box((low,) * 2, (high,) * 2), ((constraint,),))


def asked(*cases):
    return Property(cases, 2, 2)


def hard():
    """(network, property) that no engine decides in a moment."""
    network, prop = hard_problem(width=150, inputs=40).source
    return network, prop


def test_an_unknown_engine_is_an_error():
    with pytest.raises(ValueError, match=r"unknown engine 'magic': choose one of auto, bab, milp"):
        certify(identity(), asked(case(2)), engine="magic")


def test_an_unknown_solver_is_an_error_before_any_work():
    with pytest.raises(SolverError, match="unknown MILP solver 'simplex'"):
        certify(*hard(), engine="milp", solver="simplex")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_property_of_another_size_is_an_error(engine):
    with pytest.raises(PropertyError, match="but the network has 3 and 3"):
        certify(identity(3), asked(case(2)), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_without_float_form_is_an_error(engine):
    weight = np.array([[3**50, 0], [0, 1]], dtype=object)
    network = Network((Layer(weight, np.array([0, 0], dtype=object), np.zeros(2, bool)),))
    with pytest.raises(NetworkError, match="more bits than a float64 has"):
        certify(network, asked(case(2)), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_case_has_its_evidence(engine):
    verdict = certify(identity(), asked(case(2), case(5), case(3, high=2)), engine=engine)
    assert isinstance(verdict, Proved)
    assert len(verdict.evidence) == 3


def test_no_cases_and_no_clauses_are_proved_without_evidence():
    assert certify(identity(), asked()) == Proved(())
    assert certify(identity(), asked(Case(Box((0, 0), (1, 1)), ()))) == Proved(())


@pytest.mark.parametrize("engine", ["auto", "bab", "milp", "lp"])
def test_one_unsafe_case_refutes_and_names_itself(engine):
    verdict = certify(identity(), asked(case(2), case(1), case(3)), engine=engine)
    assert isinstance(verdict, Refuted)
    assert (verdict.witness.case, verdict.witness.clause) == (1, 0)
    assert verdict.witness.x[0] == 1


def test_an_unsafe_case_among_unknown_ones_still_refutes():
    network, prop = hard()
    box, clauses = prop.cases[0].box, prop.cases[0].clauses
    easy = (LinearConstraint(((0, Fraction(1)),), Fraction(-(10**6))),)
    both = Property((Case(box, clauses), Case(box, (easy,))), prop.n_inputs, prop.n_outputs)
    alone = certify(network, prop, engine="interval")
    assert isinstance(alone, Unknown)
    verdict = certify(network, both, engine="lp")
    assert isinstance(verdict, Refuted)
    assert verdict.witness.case == 1


def test_one_unknown_case_leaves_it_unknown_with_its_reason():
    network = Network(
        (
            Layer(np.array([[1.0], [0.5]]), np.zeros(2), np.ones(2, bool)),
            Layer(np.array([[1.0, -2.0]]), np.zeros(1), np.zeros(1, bool)),
        )
    )
    cases = []
    for bound in (2, Fraction(1, 2), 3):
        constraint = LinearConstraint(((0, Fraction(1)),), Fraction(bound))
        cases.append(Case(Box((-1,), (1,)), ((constraint,),)))
    verdict = certify(network, Property(tuple(cases), 1, 1), engine="interval")
    assert isinstance(verdict, Unknown)
    assert verdict.reason == "interval bounds do not exclude clause 0"


@pytest.mark.parametrize("engine", ENGINES)
def test_no_time_means_unknown(engine):
    verdict = certify(identity(), asked(case(2)), engine=engine, timeout=0)
    assert verdict == Unknown("time limit reached")


def test_no_time_still_reports_a_case_that_is_trivially_unsafe():
    verdict = certify(identity(), asked(case(2), Case(Box((0, 0), (1, 1)), ((),))), timeout=0)
    assert isinstance(verdict, Refuted)
    assert verdict.witness.case == 1


@pytest.mark.parametrize("engine", ["auto", "bab"])
@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_the_time_limit_is_kept(engine, seconds):
    network, prop = hard()
    with within(seconds + 1):
        verdict = certify(network, prop, engine=engine, timeout=seconds)
    assert isinstance(verdict, Unknown)


def test_the_limit_is_for_all_cases_together():
    network, prop = hard()
    many = Property(prop.cases * 20, prop.n_inputs, prop.n_outputs)
    with within(1.5):
        assert isinstance(certify(network, many, timeout=0.5, engine="bab"), Unknown)


def test_the_replay_is_stored_in_the_witness():
    seen = []

    def run(witness):
        seen.append(witness)
        return Replay((1.0, 1.0), (1.0, 1.0), True)

    verdict = certify(identity(), asked(case(1)), replay=run)
    assert verdict.witness.replay == Replay((1.0, 1.0), (1.0, 1.0), True)
    assert seen[0].replay is None
    assert seen[0].x == verdict.witness.x
    assert certify(identity(), asked(case(1)), replay=lambda _: None).witness.replay is None
    del seen[:]
    assert isinstance(certify(identity(), asked(case(2)), replay=run), Proved)
    assert seen == []


def test_progress_is_told_by_both_searches():
    for sizes in ((3, 10, 10, 2), (17, 6, 6, 2)):
        told = []
        problem = provable(1, sizes, (1,), 0.5)
        assert input_split.suits(problem) == (sizes[0] == 3)
        certify(*problem.source, engine="bab", progress=lambda *args, told=told: told.append(args))
        assert told
        assert all(
            isinstance(text, str) and (share == -1 or 0 <= share <= 1) for text, share in told
        )


def test_statistics_add_up_over_cases():
    prop = asked(case(2), case(3))
    verdict = certify(identity(), prop, engine="bab")
    assert verdict.statistics["boxes"] == 2
    assert certify(identity(), asked(case(1)), engine="auto").statistics["attack"] == 1
    network, prop = provable(1, (3, 10, 10, 3), (2, 1), 0.05).source
    assert certify(network, prop, engine="bab").statistics["boxes"] > 10
    verdict = certify(*hard(), engine="bab", timeout=0.2)
    assert verdict.statistics["subproblems"] >= 0


def test_the_same_seed_gives_the_same_verdict():
    for number in range(30):
        network, prop = random_instance(number)
        first, again = (certify(network, prop, seed=number, timeout=20) for _ in range(2))
        assert type(first) is type(again)
        if isinstance(first, Refuted):
            assert first.witness == again.witness


def test_several_cases_agree_with_the_oracle():
    count = {Proved: 0, Refuted: 0}
    for number in range(200, 224):
        network, prop = random_instance(number, max_cases=3)
        for engine in ("auto", "bab"):
            verdict = certify(network, prop, engine=engine, timeout=20)
            assert isinstance(verdict, Refuted if oracle.violated(network, prop) else Proved)
            count[type(verdict)] += 1
            if isinstance(verdict, Refuted):
                witness = verdict.witness
                assert prop.cases[witness.case].box.contains(witness.x)
                values = witness.y + (witness.x if prop.mixes_inputs else ())
                clause = prop.cases[witness.case].clauses[witness.clause]
                assert all(c.holds(values) for c in clause)
    assert min(count.values()) >= 10


def test_a_tie_goes_to_neuron_splitting_at_once(monkeypatch):
    """x_0 > 1/3 on [0, 1/3]^2, asked of a net on which boxes shrink for ever."""
    network = Network((Layer(np.array([[3.0, 0], [0, 1]]), np.zeros(2), np.ones(2, bool)),))
    prop = asked(case(1, high=Fraction(1, 3), strict=True))
    calls, run = [], branch_and_bound.run
    monkeypatch.setattr(
        branch_and_bound,
        "run",
        lambda *args, **kw: calls.append(args) or run(*args, **kw),
    )
    with within(10):
        for engine in ("auto", "bab"):
            assert isinstance(certify(network, prop, engine=engine), Proved)
    assert len(calls) == 2
    assert all(isinstance(deadline, Deadline) for _, deadline, _ in calls)


def test_a_tie_that_nobody_decides_leaves_time_for_a_witness(monkeypatch):
    """If neuron splitting gives up, the rest of the time goes to boxes again, until the limit."""
    network = Network((Layer(np.array([[3.0, 0], [0, 1]]), np.zeros(2), np.ones(2, bool)),))
    prop = asked(case(1, high=Fraction(1, 3), strict=True))
    monkeypatch.setattr(branch_and_bound, "run", lambda *args, **kw: Unknown("too many regions"))
    with within(2):
        verdict = certify(network, prop, engine="bab", timeout=1)
    assert isinstance(verdict, Unknown)


@pytest.mark.parametrize("inputs", [2, 17])
def test_the_number_of_inputs_chooses_the_search(inputs, monkeypatch):
    used = []
    monkeypatch.setattr(
        branch_and_bound, "run", lambda *_, **kw: used.append("neurons") or Proved(())
    )
    monkeypatch.setattr(
        input_split.InputSplitSearch, "run", lambda *_: used.append("inputs") or Proved(())
    )
    problem = provable(0, (inputs, 4, 2), (1,), 0.5)
    certify(*problem.source, engine="bab")
    assert used == ["inputs" if inputs == 2 else "neurons"]


def test_no_limit_is_the_default():
    assert isinstance(certify(identity(), asked(case(2)), timeout=math.inf), Proved)
