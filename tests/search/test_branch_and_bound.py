"""Neuron splitting: right verdicts on every kind of network, and trees whose leaves prove it."""

import itertools
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp

from tests import oracle
from tests.engines import hard_problem
from tests.input_split_replay import provable
from tests.search_networks import queries_of
from tests.stopwatch import within
from tests.strategies import random_network, random_property
from verifier.bounds.linear import Backward
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown, Witness
from verifier.search import branch_and_bound
from verifier.search.problem import Deadline, problems
from verifier.search.region import RegionCertificate
from verifier.search.subproblems import Batch, Goals, Units

TREES = {
    "one clause": (1, (3, 10, 10, 2), (1,), 0.05),
    "conjunctions": (3, (2, 10, 10, 3), (3, 3, 1), 0.01),
    "several clauses": (2, (3, 8, 8, 3), (2, 3), 0.02),
    "deep": (6, (2, 12, 12, 12, 2), (2,), 0.05),
    "six inputs": (1, (6, 12, 12, 3), (2, 1), 0.1),
}


@cache
def tree_of(name):
    """A problem with the tree that proves it."""
    problem = provable(*TREES[name])
    return problem, proved(problem)


def proved(problem):
    verdict = branch_and_bound.run(problem, Deadline(30), keep_multipliers=True)
    assert isinstance(verdict, Proved)
    return verdict.evidence


def records(tree):
    """(nodes, slopes, multipliers, weights) of the leaves, batch by batch."""
    for record in tree.leaves:
        _, slopes, multipliers = record.dense(record.slopes.shape[1])
        yield record.node, slopes, multipliers, record.weights


def paths(tree):
    """For each node its signs {(layer, neuron): sign}; checks that children come in pairs."""
    signs = []
    children = {}
    for node, parent in enumerate(tree.parent):
        if parent < 0:
            signs.append({})
            assert tree.clause[node] == node
            continue
        assert parent < node
        assert tree.clause[node] == tree.clause[parent]
        unit = (int(tree.layer[node]), int(tree.neuron[node]))
        assert unit not in signs[parent]
        signs.append({**signs[parent], unit: int(tree.sign[node])})
        children.setdefault(int(parent), []).append((*unit, int(tree.sign[node])))
    for pair in children.values():
        assert len(pair) == 2
        assert pair[0][:2] == pair[1][:2]
        assert {pair[0][2], pair[1][2]} == {1, -1}
    return signs, set(range(len(signs))) - set(children)


def minimum(network, box, weights, bounds, signs, slopes, multipliers):
    """weights . N over the box from the slopes and multipliers of one leaf, in plain NumPy.

    The pre-activations have these bounds and signs; a multiplier m stands for - m z <= 0.
    """
    row, const = weights.astype(float), 0.0
    for k in range(network.depth - 1, -1, -1):
        layer, (low, high) = network.layers[k], (b.copy() for b in bounds[k])
        for (where, i), sign in signs.items():
            if where == k and sign > 0:
                low[i] = 0.0
            if where == k and sign < 0:
                high[i] = 0.0
        out = row.copy()
        for i in np.flatnonzero(layer.relu & (low < 0)):
            if high[i] <= 0:
                out[i] = 0.0
            elif row[i] >= 0:
                out[i] = row[i] * slopes[k, i]
            else:
                out[i] = row[i] * high[i] / (high[i] - low[i])
                const -= out[i] * low[i]
        for (where, i), sign in signs.items():
            if where == k:
                assert multipliers[k, i] * sign >= 0
                out[i] -= multipliers[k, i]
        const += out @ layer.bias
        row = out @ layer.dense
    lower, upper = box
    return const + np.minimum(row * lower, row * upper).sum()


@pytest.mark.parametrize("name", TREES)
def test_every_leaf_of_the_tree_proves_its_part(name):
    problem, tree = tree_of(name)
    signs, leaves = paths(tree)
    network, box = problem.slacks, problem.box
    units = Units(Backward(network, *box, list(tree.bounds)), list(tree.bounds))
    order = list(zip(units.layer.tolist(), units.neuron.tolist(), strict=True))
    owner = np.repeat(np.arange(len(problem.clauses)), [len(c.bound) for c in problem.clauses])
    closed = {}
    for nodes, slopes, multipliers, weights in records(tree):
        for i, node in enumerate(nodes):
            assert node not in closed
            row = weights[i] if weights.shape[1] else (owner == tree.clause[node]).astype(float)
            assert (row >= 0).all()
            assert (row[owner != tree.clause[node]] == 0).all()
            assert ((slopes[i] >= 0) & (slopes[i] <= 1)).all()
            closed[int(node)] = minimum(
                network, box, row, tree.bounds, signs[node],
                dict(zip(order, slopes[i].tolist(), strict=True)),
                dict(zip(order, multipliers[i].tolist(), strict=True)),
            )  # fmt: skip
    assert set(closed) | set(tree.regions) == leaves
    assert not set(closed) & set(tree.regions)
    assert all(value > 0 for value in closed.values())
    for node, certificate in tree.regions.items():
        assert isinstance(certificate, RegionCertificate)
        assert {u: 1 if p else -1 for u, p in zip(order, certificate.phases, strict=True)} == signs[
            node
        ]


@pytest.mark.parametrize("name", TREES)
def test_the_stored_numbers_reproduce_a_rigorous_bound(name):
    problem, tree = tree_of(name)
    signs, _ = paths(tree)
    bounds = list(tree.bounds)
    engine = Backward(problem.slacks, *problem.box, bounds)
    units = Units(engine, bounds)
    owner = np.repeat(np.arange(len(problem.clauses)), [len(c.bound) for c in problem.clauses])
    rows = (owner == np.arange(len(problem.clauses))[:, None]).astype(float)
    for nodes, slopes, multipliers, weights in records(tree):
        goals = Goals(problem.slacks.depth, rows, np.zeros(len(rows)), weights.shape[1] > 0)
        sign = np.zeros((len(nodes), len(units)), dtype=np.int8)
        for i, node in enumerate(nodes):
            for u, unit in enumerate(zip(units.layer, units.neuron, strict=True)):
                sign[i, u] = signs[node].get((int(unit[0]), int(unit[1])), 0)
        goal = tree.clause[nodes]
        value = np.full(len(nodes), -np.inf)
        batch = Batch(engine, units, goals, goal, sign, slopes, multipliers, weights, nodes, value)
        assert (engine.run(queries_of(batch)).value > 0).all()


@pytest.mark.parametrize("name", TREES)
def test_recorded_bounds_hold_at_sampled_points(name):
    (problem, tree), rng = tree_of(name), np.random.default_rng(0)
    for x in rng.uniform(-1, 1, size=(20, problem.network.n_inputs)):
        for (low, high), (z, _) in zip(tree.bounds, problem.slacks.exact_trace(x), strict=True):
            assert all(a <= v <= b for a, v, b in zip(low, z, high, strict=True))


def test_some_trees_split_and_some_end_in_regions():
    """So that the tests above look at something."""
    trees = [tree_of(name)[1] for name in TREES]
    assert sum(len(tree.parent) for tree in trees) > 60
    tie = tied()
    tree = proved(tie)
    paths(tree)
    assert tree.regions


def tied():
    """|x| + |y| <= 2 on the square, strictly below is asked: the corners touch."""
    first = Layer(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.zeros(4), np.ones(4, bool))
    network = Network((first, Layer(np.ones((1, 4)), np.zeros(1), np.zeros(1, bool))))
    constraint = LinearConstraint(((0, Fraction(1)),), Fraction(2), strict=True)
    prop = Property((Case(Box((-1, -1), (1, 1)), ((constraint,),)),), 2, 1)
    (problem,) = problems(network, prop)
    return problem


def kinds():
    """Networks of every kind that is special somewhere, by name."""
    rng = np.random.default_rng(7)

    def layer(m, n, relu, sparse=False, bias=0.3):
        weight = rng.normal(size=(m, n)) * ((rng.random((m, n)) < 0.5) if sparse else 1)
        return Layer(
            sp.csr_array(weight) if sparse else weight,
            bias * rng.normal(size=m),
            np.broadcast_to(np.asarray(relu), (m,)),
        )

    band = sp.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(6, 8)).tocsr()
    return {
        "partial": (
            layer(6, 3, [1, 0, 1, 0, 1, 1]), layer(6, 6, [0, 1, 1, 1, 0, 1]), layer(2, 6, 0),
        ),
        "convolution": (
            layer(8, 3, 1), Layer(band, np.zeros(6), np.ones(6, bool)), layer(2, 6, 0, sparse=True),
        ),
        "sparse": (layer(7, 3, 1, True), layer(7, 7, 1, True), layer(2, 7, 0, True)),
        "relu on outputs": (layer(5, 3, 1), layer(2, 5, 1)),
        "no relu": (layer(5, 3, 0), layer(4, 5, 0), layer(2, 4, 0)),
        "one layer": (layer(2, 3, 0),),
        "one layer with relu": (layer(2, 3, 1),),
        "stable": (
            Layer(rng.normal(size=(5, 3)), np.array([9.0, -9, 9, -9, 9]), np.ones(5, bool)),
            layer(2, 5, 0),
        ),
        "single neuron": (layer(1, 3, 1), layer(2, 1, 0)),
        "zero weights": (Layer(np.zeros((3, 3)), np.zeros(3), np.ones(3, bool)), layer(2, 3, 0)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", kinds())
def test_verdicts_on_every_kind_of_network(kind):
    network, seen = Network(kinds()[kind]), set()
    box = Box((-1, Fraction(-1, 3), 0), (1, Fraction(1, 3), 1))
    top = oracle.maximum(network, box, [Fraction(1), Fraction(-1)])
    for bound, strict, violated in (
        (top - Fraction(1, 100), False, True),
        (top, False, True),
        (top, True, False),
        (top + Fraction(1, 2**70), False, False),
        (top + Fraction(1, 100), False, False),
    ):
        constraint = LinearConstraint(((0, Fraction(1)), (1, Fraction(-1))), bound, strict)
        prop = Property((Case(box, ((constraint,),)),), 3, 2)
        (problem,) = problems(network, prop)
        verdict = branch_and_bound.run(problem, Deadline(20))
        assert isinstance(verdict, Refuted if violated else Proved)
        seen.add(type(verdict))
        if isinstance(verdict, Refuted):
            x = verdict.witness.x
            assert prop.violation(x, network.exact(x)) == (0, 0)
        else:
            paths(verdict.evidence)
    assert seen == {Proved, Refuted}


def general(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, max_inputs=5, max_layers=3, max_width=6)
    return network, random_property(rng, network)


@pytest.mark.parametrize("pool", [branch_and_bound._POOL_BYTES, 0])
def test_verdicts_are_the_oracles_with_and_without_memory(pool, monkeypatch):
    monkeypatch.setattr(branch_and_bound, "_POOL_BYTES", pool)
    monkeypatch.setattr(branch_and_bound, "_BATCH_NUMBERS", 1)  # two at a time
    count = {True: 0, False: 0}
    for seed in range(500, 560):
        network, prop = general(seed)
        violated = oracle.violated(network, prop)
        verdicts = [
            Refuted(p) if isinstance(p, Witness) else branch_and_bound.run(p, Deadline(20))
            for p in problems(network, prop)
        ]
        assert any(isinstance(v, Refuted) for v in verdicts) == violated
        assert not any(isinstance(v, Unknown) for v in verdicts)
        count[violated] += 1
    assert min(count.values()) >= 20


def test_depth_first_keeps_few_subproblems_waiting(monkeypatch):
    """With no memory allowed, what waits grows with the depth, not with the size of the tree."""

    def most(pool):
        monkeypatch.setattr(branch_and_bound, "_POOL_BYTES", pool)
        monkeypatch.setattr(branch_and_bound, "_BATCH_NUMBERS", 1)
        monkeypatch.setattr(branch_and_bound, "_ROUNDS", (0,))
        waiting = [0]
        verdict = branch_and_bound.run(
            provable(2, (5, 16, 12, 2), (1,), 0.1), Deadline(60),
            lambda text, _: waiting.append(int(text.split()[2]) if "open" in text else 0),
        )  # fmt: skip
        assert isinstance(verdict, Proved)
        return max(waiting), verdict.statistics["subproblems"]

    few, nodes = most(0)
    many, _ = most(1e9)
    assert nodes > 300
    assert few <= 30 < many


@pytest.mark.parametrize("seconds", [0, 0.3, 1])
def test_the_time_limit_is_kept(seconds):
    problem = hard_problem(width=150, inputs=40)
    with within(seconds + 1):
        verdict = branch_and_bound.run(problem, Deadline(seconds))
    assert isinstance(verdict, Unknown)
    assert verdict.reason == "time limit reached"


@pytest.mark.parametrize("scale", [1e100, 1e200, 1e300])
def test_overflow_proves_nothing_that_is_not_true(scale):
    rng = np.random.default_rng(1)
    for sizes in itertools.product((1, 2), (3,), (3,), (1,)):
        layers = tuple(
            Layer(scale * rng.normal(size=(m, n)), scale * rng.normal(size=m), np.full(m, m > 1))
            for n, m in itertools.pairwise(sizes)
        )
        network = Network(layers)
        for bound in (-1e305, 0.0, 1e305):
            constraint = LinearConstraint(((0, Fraction(1)),), Fraction(bound))
            box = Box((-1,) * sizes[0], (1,) * sizes[0])
            (problem,) = problems(
                network, prop := Property((Case(box, ((constraint,),)),), sizes[0], 1)
            )
            verdict = branch_and_bound.run(problem, Deadline(5))
            truth = oracle.violated(network, prop)
            assert not isinstance(verdict, Proved if truth else Refuted)


def test_the_same_seed_gives_the_same_tree():
    first, again = (proved(provable(*TREES["conjunctions"])) for _ in range(2))
    for name in ("clause", "parent", "layer", "neuron", "sign"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    for one, other in zip(first.leaves, again.leaves, strict=True):
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_progress_is_told():
    told = []
    branch_and_bound.run(tied(), Deadline(20), lambda text, share: told.append(text))
    assert any("bounds of layer" in text for text in told) or any("open" in text for text in told)
    assert any("subproblems" in text for text in told)


def test_a_witness_is_found_where_bounds_are_minimal():
    problem = provable(0, (3, 10, 10, 2), (1,), -0.02)
    verdict = branch_and_bound.run(problem, Deadline(20))
    assert isinstance(verdict, Refuted)
    assert problem.source[1].violation(verdict.witness.x, verdict.witness.y) == (0, 0)
