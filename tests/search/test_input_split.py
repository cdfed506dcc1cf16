"""Input splitting: right verdicts whatever happens to stacks and threads, and trees that hold."""

import itertools
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests import oracle
from tests.engines import hard_problem
from tests.input_split_replay import Replay, network_of, provable
from tests.stopwatch import within
from tests.strategies import random_network, random_property
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown, Witness
from verifier.search import cut_kernel, input_split
from verifier.search import input_split_kernel as kernel
from verifier.search.input_split import InputSplitSearch, suits
from verifier.search.problem import Deadline, problems

#: (seed, layer sizes, constraints of each clause, distance): what each tree is for.
TREES = {
    "halves": (0, (2, 6, 6, 2), (1,), 0.05),
    "one input": (1, (1, 8, 8, 2), (2, 2), 0.002),
    "several clauses": (2, (3, 8, 8, 3), (2, 3), 0.05),
    "conjunctions": (3, (2, 10, 10, 3), (3, 3, 1), 0.05),
    "four inputs": (4, (4, 6, 6, 2), (2,), 0.05),
    "deep": (6, (2, 12, 12, 12, 2), (2,), 0.05),
    "neurons": (5, (4, 1, 3, 2), (2,), 0.01),
    "neurons, boxes and clauses": (1, (3, 10, 10, 3), (2, 1), 0.05),
}


def searched(problem, threads=2, seconds=30.0):
    search = InputSplitSearch(problem, threads)
    return search, search.run(Deadline(seconds))


def shrunk(monkeypatch, capacity=4, budget=16):
    """Stacks of a few boxes and short calls, so that searches spill and share.

    Returns:
        a list that will hold what was spilt.
    """
    spilt, make, spill = [], InputSplitSearch.__init__, InputSplitSearch._spill

    def small(self, *args):
        make(self, *args)
        self.budget = budget
        for worker in self.workers:
            worker.stack = kernel.Stack(*(column[:capacity].copy() for column in worker.stack))

    def counted(self, worker):
        spilt.append(worker.top // 2)
        spill(self, worker)

    monkeypatch.setattr(InputSplitSearch, "__init__", small)
    monkeypatch.setattr(InputSplitSearch, "_spill", counted)
    monkeypatch.setattr(input_split, "_CALL_SECONDS", 0.0)  # calls never get longer
    return spilt


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_tree_is_a_partition_whose_leaves_and_cuts_hold(name, threads, monkeypatch):
    spilt = shrunk(monkeypatch, budget=2) if threads > 1 else []
    problem = provable(*TREES[name])
    search, verdict = searched(problem, threads)
    assert isinstance(verdict, Proved)
    assert verdict.evidence.clauses == tuple(range(len(problem.clauses)))
    assert search.boxes == verdict.statistics["boxes"]
    assert verdict.statistics["open"] == 0
    replay = Replay(problem, verdict.evidence)
    assert replay.neurons >= (name.startswith("neurons"))
    assert replay.visited <= search.boxes
    if threads > 1 and search.boxes > 20:
        assert spilt
    rng = np.random.default_rng(0)
    for x in rng.uniform(-1, 1, size=(40, problem.network.n_inputs)):
        assert replay.places(x) == 1


def tampered(tree, field, row, value):
    """The tree with one entry changed."""
    column = getattr(tree, field).copy()
    column[row] = value
    return type(tree)(**{**vars(tree), field: column})


def test_the_replay_rejects_damaged_trees():
    """So that the test above can fail: each kind of damage is noticed."""
    problem = provable(*TREES["neurons, boxes and clauses"])
    _, verdict = searched(problem, 1)
    tree = verdict.evidence
    splits = np.flatnonzero(tree.kind == cut_kernel.SPLIT)
    below = np.flatnonzero(tree.kind == cut_kernel.CUT_BELOW)
    by_neuron = np.flatnonzero(tree.kind == cut_kernel.SPLIT_NEURON)
    damages = [
        ("child", splits[1], tree.child[splits[0]]),
        ("node", splits[1], tree.node[splits[0]]),
        ("node", splits[-1], 10**6),
        ("at", splits[0], 5.0),
        ("at", below[0], 0.999),
        ("kind", splits[0], cut_kernel.CUT_BELOW),
        ("kind", below[0], cut_kernel.CUT_ABOVE),
        ("axis", by_neuron[0], 3 * tree.stride - 1),
    ]
    for damage in damages:
        with pytest.raises((AssertionError, IndexError)):
            Replay(problem, tampered(tree, *damage))
    whole = vars(tree)
    columns = {
        name: np.delete(whole[name], splits[0]) for name in ("node", "kind", "axis", "at", "child")
    }
    with pytest.raises(AssertionError):
        Replay(problem, type(tree)(**{**whole, **columns}))


def general(seed):
    """A network with up to 5 inputs and a property with clauses, conjunctions, strictness."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, max_inputs=5, max_layers=3, max_width=6)
    return network, random_property(rng, network)


@pytest.mark.parametrize("small", [False, True])
def test_verdicts_are_the_oracles(small, monkeypatch):
    spilt = shrunk(monkeypatch, capacity=3, budget=3) if small else []
    decided = {True: 0, False: 0}
    for seed in range(500, 560):
        network, prop = general(seed)
        violated = oracle.violated(network, prop)
        for problem in problems(network, prop):
            if isinstance(problem, Witness):
                assert violated
                continue
            for threads in (1, 3):
                _, verdict = searched(problem, threads, seconds=0.1)
                if isinstance(verdict, Proved):
                    assert not violated
                    decided[False] += 1
                if isinstance(verdict, Refuted):
                    assert violated
                    decided[True] += 1
                    witness = verdict.witness
                    assert problem.exact_box.contains(witness.x)
                    assert prop.violation(witness.x, network.exact(witness.x)) is not None
    assert min(decided.values()) >= 25
    assert bool(spilt) == small


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_stacks_of_three_boxes_lose_nothing(threads, monkeypatch):
    problem = provable(5, (5, 6, 4, 3), (2, 1), 0.05)
    search, verdict = searched(problem, threads)
    assert isinstance(verdict, Proved)
    assert search.boxes > 500
    boxes, rows = search.boxes, len(verdict.evidence.node)
    spilt = shrunk(monkeypatch, capacity=3, budget=64)
    search, verdict = searched(problem, threads)
    assert isinstance(verdict, Proved)
    assert len(spilt) > 50
    # The same boxes are visited, in another order.
    assert (search.boxes, len(verdict.evidence.node)) == (boxes, rows)


def test_idle_workers_get_boxes(monkeypatch):
    used = set()
    call = InputSplitSearch._call

    def watched(self, worker, *args):
        used.add(id(worker))
        return call(self, worker, *args)

    monkeypatch.setattr(InputSplitSearch, "_call", watched)
    _, verdict = searched(provable(5, (5, 6, 4, 3), (2, 1), 0.05), threads=4)
    assert isinstance(verdict, Proved)
    assert len(used) == 4


def test_candidates_are_judged_exactly():
    """relu(x) - 1/3 touches zero at x = 1/3 only from below in floats: 0.333.. is no witness."""
    network = Network((Layer(np.array([[3.0]]), np.zeros(1), np.zeros(1, bool)),))
    third = Fraction(1, 3)

    def asked(bound, strict):
        constraint = LinearConstraint(((0, Fraction(1)),), bound, strict)
        prop = Property((Case(Box((0,), (third,)), ((constraint,),)),), 1, 1)
        (problem,) = problems(network, prop)
        return searched(problem, 1, seconds=5)[1]

    verdict = asked(Fraction(1), strict=False)
    assert isinstance(verdict, Refuted)
    assert verdict.witness.x == (third,)
    # The float box reaches beyond 1/3 by half an ulp: nothing can be decided in floats.
    verdict = asked(Fraction(1), strict=True)
    assert isinstance(verdict, Unknown)
    assert "float64 resolution" in verdict.reason
    assert isinstance(asked(1 + Fraction(1, 2**40), strict=True), Proved)


def test_a_deep_witness_is_found_by_several_threads(monkeypatch):
    shrunk(monkeypatch, budget=5)
    for seed in range(3):
        problem = provable(seed, (3, 10, 10, 3), (2, 1), 0.0)
        for threads in (1, 3):
            _, verdict = searched(problem, threads)
            assert isinstance(verdict, Refuted)
            x = verdict.witness.x
            assert problem.source[1].violation(x, problem.network.exact(x)) is not None


def test_a_search_goes_on_where_it_stopped():
    problem = provable(5, (5, 6, 4, 3), (2, 1), 0.05)
    whole, _ = searched(problem, 1)
    search, rounds = InputSplitSearch(problem, 1), 0

    class Round(Deadline):
        """Passes when looked at for the second time."""

        looks = 0

        @property
        def passed(self):
            self.looks += 1
            return self.looks > 1

    while isinstance(verdict := search.run(Round(1)), Unknown):
        assert verdict.reason == "time limit reached"
        rounds += 1
    assert rounds >= 5
    assert isinstance(verdict, Proved)
    assert search.boxes == whole.boxes


def nearly_too_large():
    """A question just small enough for this search, in which each box takes long."""
    rng = np.random.default_rng(0)
    network = network_of(rng, (5, 420, 420, 420, 5))
    box = Box((-1,) * 5, (1,) * 5)
    prop = Property.robustness(box, 0, 5)
    (problem,) = problems(network, prop)
    return problem


def never_decided():
    """Unsafe somewhere, but no candidate will count."""
    return replace(hard_problem(), exact_box=Box((-3,) * 12, (3,) * 12))


@pytest.mark.parametrize("make", [never_decided, nearly_too_large])
@pytest.mark.parametrize("seconds", [0, 0.5])
def test_the_time_limit_is_kept(make, seconds, monkeypatch):
    problem = make()
    assert suits(problem)
    # Only the clock may end it.
    monkeypatch.setattr(type(problem), "candidate", lambda self, x: None)
    search = InputSplitSearch(problem)
    with within(seconds + 1):
        verdict = search.run(Deadline(seconds))
    assert isinstance(verdict, Unknown)
    assert verdict.reason == "time limit reached"
    assert verdict.statistics["open"] >= 1


def test_stacks_are_bounded():
    search = InputSplitSearch(nearly_too_large(), 2)
    for worker in search.workers:
        assert sum(column.nbytes for column in worker.stack) < 3 * input_split._STACK_BYTES


def test_suits_few_inputs_and_small_networks():
    def of(sizes):
        network = network_of(np.random.default_rng(0), sizes)
        box = Box((-1,) * sizes[0], (1,) * sizes[0])
        return suits(next(problems(network, Property.robustness(box, 0, sizes[-1]))))

    assert of((16, 10, 2))
    assert not of((17, 10, 2))
    assert of((5, 50, 50, 50, 50, 50, 50, 5))
    assert not of((5, 800, 800, 800, 2))


def test_progress_is_told_and_threads_end():
    told, before = [], threading.active_count()
    search = InputSplitSearch(provable(*TREES["several clauses"]), 3)
    search.run(Deadline(30), lambda text, share: told.append((text, share)))
    assert told
    assert all("boxes" in text and "open" in text and share == -1 for text, share in told)
    assert threading.active_count() <= before


@pytest.mark.parametrize("scale", [1e120, 1e200, 1e300])
def test_overflow_proves_nothing_that_is_not_true(scale):
    rng = np.random.default_rng(1)
    for sizes in itertools.product((1, 2), (3,), (3,), (1,)):
        base = network_of(rng, sizes)
        layers = tuple(
            Layer(scale * layer.weight, scale * layer.bias, layer.relu) for layer in base.layers
        )
        network = Network(layers)
        for bound in (-1e305, 0.0, 1e305):
            constraint = LinearConstraint(((0, Fraction(1)),), Fraction(bound))
            box = Box((-1,) * sizes[0], (1,) * sizes[0])
            prop = Property((Case(box, ((constraint,),)),), sizes[0], 1)
            (problem,) = problems(network, prop)
            _, verdict = searched(problem, 1, seconds=0.2)
            truth = oracle.violated(network, prop)
            assert not isinstance(verdict, Proved if truth else Refuted)
