"""The attack's witnesses are exact, its gradients right, its time limit kept."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.engines import hard_problem
from tests.stopwatch import within
from tests.strategies import random_instance
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Witness
from verifier.search.attack import Climb, attack, exact_hit, gradient
from verifier.search.problem import Deadline, problems

seeds = st.integers(0, 2**32 - 1)


def network_of(rng, sizes, kind):
    """Random layers; ``kind`` is dense, sparse or partial (every other ReLU missing)."""
    layers = []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        weight = rng.normal(size=(m, n))
        relu = np.full(m, k < len(sizes) - 2)
        if kind == "sparse":
            weight = sp.csr_array(weight * (rng.random((m, n)) < 0.6))
        if kind == "partial":
            relu = np.arange(m) % 2 == 0
        layers.append(Layer(weight, rng.normal(size=m), relu))
    return Network(tuple(layers))


def unsafe_above(network, bound, box, clauses=1):
    """Unsafe where every output is at least the bound; no other clause can be reached."""
    high = Fraction(10**6)
    some = [
        tuple(LinearConstraint(((i, Fraction(1)),), b) for i in range(network.n_outputs))
        for b in [*[high] * (clauses - 1), Fraction(bound)]
    ]
    prop = Property((Case(box, tuple(some)),), network.n_inputs, network.n_outputs)
    (problem,) = problems(network, prop)
    return problem


@given(seeds, st.sampled_from(["dense", "sparse", "partial"]))
@settings(max_examples=60)
def test_the_gradient_is_the_numerical_one(seed, kind):
    rng = np.random.default_rng(seed)
    network = network_of(rng, rng.integers(1, 7, size=4), kind)
    x = rng.normal(size=(5, network.n_inputs))
    weights = rng.normal(size=(5, network.n_outputs))
    y, g = gradient(network, x, weights)
    np.testing.assert_allclose(y, network.float64(x), rtol=1e-12, atol=1e-12)
    assert g.shape == x.shape
    step = 1e-7
    for i in range(5):
        trace = network.exact_trace(x[i])
        nearest = min(
            (abs(float(v)) for layer, (z, _) in zip(network.layers, trace, strict=True)
             for v, r in zip(z, layer.relu, strict=True) if r),
            default=1.0,
        )  # fmt: skip
        assume(nearest > 1e-4)
        for j in range(network.n_inputs):
            moved = np.stack([x[i], x[i]])
            moved[0, j] += step
            moved[1, j] -= step
            high, low = network.float64(moved) @ weights[i]
            assert abs((high - low) / (2 * step) - g[i, j]) < 1e-4 * (1 + abs(g[i, j]))


def test_at_a_kink_nothing_flows():
    network = Network((Layer(np.array([[1.0], [1.0]]), np.zeros(2), np.array([True, False])),))
    _, g = gradient(network, np.zeros((1, 1)), np.array([[1.0, 0.0]]))
    assert g == 0
    _, g = gradient(network, np.zeros((1, 1)), np.array([[0.0, 1.0]]))
    assert g == 1


@given(seeds)
@settings(max_examples=80)
def test_every_witness_is_inside_and_unsafe_exactly(seed):
    network, prop = random_instance(seed)
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            continue
        rng = np.random.default_rng(seed)
        witness = attack(
            problem, Deadline(20), rng=rng, samples=10, climb=Climb(restarts=3, steps=10)
        )
        if witness is None:
            continue
        case = prop.cases[witness.case]
        assert case.box.contains(witness.x)
        assert network.exact(witness.x) == witness.y
        values = witness.y + (witness.x if prop.mixes_inputs else ())
        assert all(c.holds(values) for c in case.clauses[witness.clause])


def test_it_finds_most_of_what_can_be_found():
    violated = found = 0
    for seed in range(60):
        network, prop = random_instance(seed)
        if not oracle.violated(network, prop):
            continue
        violated += 1
        for problem in problems(network, prop):
            rng = np.random.default_rng(0)
            found += (
                isinstance(problem, Witness) or attack(problem, Deadline(20), rng=rng) is not None
            )
    assert violated >= 20
    assert found >= 0.85 * violated


def corner(n):
    """Unsafe only near one corner of [0, 1]^n: the sum of x_i (or 1 - x_i) is at least n - 1/8."""
    signs = np.array([1.0 if i % 3 else -1.0 for i in range(n)])
    layers = (
        Layer(np.diag(signs), (1 - signs) / 2, np.ones(n, bool)),
        Layer(np.ones((1, n)), np.zeros(1), np.zeros(1, bool)),
    )
    return unsafe_above(Network(layers), Fraction(8 * n - 1, 8), Box((0,) * n, (1,) * n), clauses=3)


def test_climbing_reaches_a_corner_that_sampling_misses():
    problem = corner(30)
    sampled = attack(
        problem,
        Deadline(20),
        rng=np.random.default_rng(1),
        samples=200,
        climb=Climb(steps=0, restarts=1),
    )
    assert sampled is None
    climbed = attack(problem, Deadline(20), rng=np.random.default_rng(1), samples=5)
    assert climbed is not None
    assert climbed.clause == 2


def narrow():
    """Unsafe where two forms of ten inputs are both within 1/1000 of their values at a point."""
    rng = np.random.default_rng(5)
    point, forms = rng.uniform(0.3, 0.7, 10), rng.normal(size=(2, 10))
    weight = np.concatenate([forms, -forms])
    first = Layer(weight, -weight @ point, np.ones(4, dtype=bool))
    last = Layer(np.full((1, 4), -1000.0), np.ones(1), np.zeros(1, dtype=bool))
    return unsafe_above(Network((first, last)), Fraction(0), Box((0,) * 10, (1,) * 10))


@pytest.mark.parametrize("adam", [False, True])
def test_short_steps_settle_where_long_ones_jump(adam):
    found = {
        rate: sum(
            attack(
                narrow(), Deadline(20), rng=np.random.default_rng(seed), samples=4,
                climb=Climb(rate, 200, 4, adam=adam),
            ) is not None
            for seed in range(10)
        )
        for rate in (0.03, 0.25)
    }  # fmt: skip
    assert found[0.03] >= 7
    assert found[0.25] <= 3


def test_given_starts_are_tried():
    problem = corner(30)
    target = np.array([1.0 if i % 3 else 0.0 for i in range(30)])[None, :]
    rng = np.random.default_rng(1)
    witness = attack(
        problem, Deadline(20), rng=rng, samples=1, climb=Climb(restarts=1, steps=0), starts=target
    )
    assert witness is not None
    # A start outside is clipped.
    witness = attack(
        problem,
        Deadline(20),
        rng=rng,
        samples=1,
        climb=Climb(steps=0, restarts=1),
        starts=100 * target - 50,
    )
    assert witness is not None


def test_a_face_that_is_no_float_is_reached_exactly():
    tenth, network = Fraction(1, 10), Network((Layer(np.eye(1), np.zeros(1), np.zeros(1, bool)),))
    problem = unsafe_above(network, tenth, Box((0,), (tenth,)))
    assert attack(problem, Deadline(20), rng=np.random.default_rng(0)).x == (tenth,)
    beyond = unsafe_above(network, tenth + Fraction(1, 10**30), Box((0,), (tenth,)))
    assert attack(beyond, Deadline(20), rng=np.random.default_rng(0)) is None


def test_a_box_of_one_point():
    network = Network((Layer(np.eye(2), np.zeros(2), np.ones(2, bool)),))
    third = Fraction(1, 3)
    problem = unsafe_above(network, third, Box((third,) * 2, (third,) * 2))
    assert attack(problem, Deadline(20), rng=np.random.default_rng(0)).x == (third, third)


def test_the_same_seed_gives_the_same_witness():
    problem = corner(5)
    first, again = (attack(problem, Deadline(20), rng=np.random.default_rng(7)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_the_deadline_ends_it(seconds):
    problem = hard_problem()
    high = Fraction(10**6)
    prop = Property(
        (Case(problem.exact_box, ((LinearConstraint(((0, Fraction(1)),), high),),)),),
        problem.network.n_inputs,
        problem.network.n_outputs,
    )
    (safe,) = problems(problem.network, prop)
    with within(seconds + 1):
        found = attack(
            safe,
            Deadline(seconds),
            rng=np.random.default_rng(0),
            samples=500,
            climb=Climb(steps=10**6, restarts=500),
        )
    assert found is None


@pytest.mark.parametrize("scale", [1e120, 1e200, 1e300])
def test_overflow_is_no_witness_and_no_crash(scale):
    rng = np.random.default_rng(0)
    sizes = (3, 4, 4, 2)
    layers = tuple(
        Layer(scale * rng.normal(size=(m, n)), scale * rng.normal(size=m), np.full(m, k < 2))
        for k, (n, m) in enumerate(itertools.pairwise(sizes))
    )
    network = Network(layers)
    big = float(np.finfo(np.float64).max)
    for radius in (1.0, big):
        problem = unsafe_above(network, big, Box((-radius,) * 3, (radius,) * 3))
        witness = attack(problem, Deadline(10), rng=np.random.default_rng(0), climb=Climb(steps=10))
        if witness is not None:
            assert network.exact(witness.x) == witness.y
            assert min(witness.y) >= Fraction(big)


class Recorder:
    """A problem whose candidates are written down and refused."""

    def __init__(self):
        self.seen = []

    def candidate(self, x):
        self.seen.append(float(x[0]))


def test_the_most_promising_points_are_tried_first_and_few_of_them():
    x = np.arange(8.0)[:, None]
    margins = np.array(
        [[-1, -2], [0, -9], [3, 1], [-1, 7], [np.nan, np.nan], [-3, -3], [5, 5], [1, 1]]
    )
    recorder = Recorder()
    assert exact_hit(recorder, x, margins) is None
    assert recorder.seen == [3.0, 6.0, 2.0]
    recorder = Recorder()
    assert exact_hit(recorder, x, margins, tries=99) is None
    assert recorder.seen == [3.0, 6.0, 2.0, 7.0, 1.0]
