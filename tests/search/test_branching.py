"""Which neuron is split: never a split one, the costliest first, the trial has the last word."""

import numpy as np
import pytest

from tests.search_networks import cube, network_of, queries_of
from verifier.bounds.linear import root_bounds
from verifier.core.network import Layer, Network
from verifier.search.branching import choose, scores
from verifier.search.subproblems import Batch, Goals, Units


def batch_of(network, rows, const=0.0):
    """One subproblem a row: minimise row . N."""
    lower, upper = cube(network.n_inputs)
    engine, bounds = root_bounds(network, lower, upper)
    rows = np.atleast_2d(np.asarray(rows, float))
    goals = Goals(network.depth, rows, np.full(len(rows), const))
    return Batch.root(engine, Units(engine, bounds), goals)


def scored(batch):
    asked = batch.asked()
    return scores(batch.units, asked, batch.units.passes.coefficients(asked))


def test_the_score_is_the_gap_of_the_line_in_use():
    """Goals y, -2y, 0 for y = relu(z), z in [-1/2, 3/2], beside a stable neuron."""
    first = Layer(np.array([[1.0], [1.0]]), np.array([0.5, 7.0]), np.ones(2, bool))
    network = Network((first, Layer(np.eye(2), np.zeros(2), np.zeros(2, bool))))
    batch = batch_of(network, [[1, 1], [-2, 1], [0, 1]])
    assert len(batch.units) == 1
    # Above lies the chord, off by -l u / (u - l) = 3/8; below z / 4, off by 1/8 on its nearer arm.
    batch.alpha[:] = 0.25
    np.testing.assert_allclose(scored(batch)[:, 0], [0.125, 2 * 0.375, 0.0])
    batch.alpha[:] = 0.75
    np.testing.assert_allclose(scored(batch)[:, 0], [0.375, 2 * 0.375, 0.0])


def test_split_neurons_score_minus_one():
    batch = batch_of(network_of(np.random.default_rng(0), (4, 8, 8, 2)), [[1, 1], [-1, 1]])
    batch.sign[0, ::2] = 1
    score = scored(batch)
    assert (score[0, ::2] == -1).all()
    assert (score[0, 1::2] >= 0).all()
    assert (score[1] >= 0).all()


@pytest.mark.parametrize("candidates", [1, 3, 10, 1000])
def test_a_split_neuron_is_never_chosen_again(candidates):
    rng = np.random.default_rng(1)
    batch = batch_of(network_of(rng, (4, 8, 8, 2)), rng.normal(size=(30, 2)))
    n = len(batch.units)
    for i in range(30):
        taken = rng.permutation(n)[: int(rng.integers(0, n))]
        batch.sign[i, taken] = rng.choice([-1, 1], size=len(taken))
    batch.sign[0] = 1
    batch.sign[0, 3] = 0  # the only one left
    chosen = choose(batch, min(candidates, n))
    assert chosen[0] == 3
    assert (batch.sign[np.arange(30), chosen] == 0).all()


def test_with_one_candidate_the_largest_score_wins():
    batch = batch_of(network_of(np.random.default_rng(2), (4, 8, 8, 2)), [[1, 0.5], [-1, 1]])
    np.testing.assert_array_equal(choose(batch, 1), scored(batch).argmax(axis=1))


def test_the_trial_prefers_the_neuron_whose_weaker_child_is_best():
    rng = np.random.default_rng(3)
    batch = batch_of(network_of(rng, (3, 10, 10, 2)), rng.normal(size=(5, 2)))
    n = len(batch.units)
    chosen = choose(batch, n)
    for i in range(5):
        one = batch.take(np.full(n, i))
        values = batch.engine.run(queries_of(one.split(np.arange(n)))).value.reshape(2, n)
        weaker = values.min(axis=0)
        best = weaker.max()
        assert weaker[chosen[i]] >= best - 1e-3 * np.abs(values).max() - 1e-12


def test_the_batch_is_left_alone():
    batch = batch_of(network_of(np.random.default_rng(4), (4, 8, 8, 2)), [[1, 0.5], [-1, 1]])
    before = [getattr(batch, name).copy() for name in Batch.ARRAYS]
    choose(batch, 4)
    for name, array in zip(Batch.ARRAYS, before, strict=True):
        np.testing.assert_array_equal(getattr(batch, name), array)


def test_coefficients_that_overflow_choose_without_a_warning():
    """2^600 in two layers: coefficients are infinite or unknown, and any unit will do."""
    first = Layer(np.array([[1.0], [1.0]]), np.array([0.5, -0.5]), np.ones(2, bool))
    second = Layer(2.0**600 * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.zeros(2), np.ones(2, bool))
    network = Network((first, second, Layer(np.eye(2), np.zeros(2), np.zeros(2, bool))))
    batch = batch_of(network, [[2.0**600, -(2.0**600)]])
    score = scored(batch)
    assert not np.isnan(score).any()
    assert (score >= 0).all()
    assert 0 <= choose(batch, 2)[0] < len(batch.units)
