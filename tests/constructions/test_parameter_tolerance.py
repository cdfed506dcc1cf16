"""The bound on what a change of parameters does, against random changes."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import generators, random_point

from constructions.exact_layer import exact_layer
from constructions.parameter_attack import shaken
from constructions.parameter_tolerance import sensitivity
from verifier.core.errors import DataError, NetworkError
from verifier.core.network import Network
from verifier.core.property import Box


def random_depth_two(rng):
    d, n, m = (int(v) for v in rng.integers(1, 5, 3))

    def draw(*shape):
        return [[Fraction(int(v), 4) for v in row] for row in rng.integers(-6, 7, shape)]

    layers = (
        exact_layer(draw(n, d), draw(1, n)[0], relu=True),
        exact_layer(draw(m, n), draw(1, m)[0], relu=False),
    )
    box = Box.ball([Fraction(int(v), 2) for v in rng.integers(-4, 5, d)], Fraction(1, 2))
    return Network(layers), box


@settings(max_examples=60, deadline=None)
@given(generators(), st.sampled_from([Fraction(1, 100), Fraction(1, 3), Fraction(2)]))
def test_no_change_of_the_parameters_exceeds_the_bound(rng, delta):
    network, box = random_depth_two(rng)
    bound = sensitivity(network, [box]).change(delta)
    for seed in range(4):
        moved = shaken(network, delta, seed=seed)
        for _ in range(3):
            x = random_point(rng, box)
            pairs = zip(network.exact(x), moved.exact(x), strict=True)
            assert max(abs(a - b) for a, b in pairs) <= bound


@settings(max_examples=40, deadline=None)
@given(generators(), st.fractions(Fraction(1, 50), 5))
def test_the_tolerance_keeps_the_margin_and_is_not_halved_for_nothing(rng, margin):
    network, box = random_depth_two(rng)
    found = sensitivity(network, [box])
    delta = found.tolerance(margin)
    assert 2 * found.change(delta) < margin
    assert delta == 1 or 2 * found.change(2 * delta) >= margin
    assert found.idle_units_needed(delta, margin) > 0
    assert found.idle_units_needed(Fraction(100), margin) == 0


def test_the_numbers_of_one_network():
    network = Network(
        (exact_layer([[2, -1]], [3], relu=True), exact_layer([[4], [-5]], [0, 0], relu=False))
    )
    found = sensitivity(network, [Box.ball((1, 0), 1), Box.ball((0, 3), 1)])
    # X = 4, d = 2, ‖V‖₁ = 5, H = 2·2 + 1 + 3 = 8 at (2, −1).
    assert (found.hidden, found.reach, found.linear) == (1, 9, 9 * 5 + 8 + 1)
    assert found.change(Fraction(1, 2)) == Fraction(54, 2) + Fraction(9, 4)


def test_what_is_refused():
    affine = exact_layer([[1]], [0], relu=False)
    with pytest.raises(NetworkError):
        sensitivity(Network((affine,)), [Box.ball((0,), 1)])
    with pytest.raises(NetworkError):
        sensitivity(Network((affine, affine)), [Box.ball((0,), 1)])
    good = Network((exact_layer([[1]], [0], relu=True), affine))
    with pytest.raises(DataError):
        sensitivity(good, [])
    with pytest.raises(DataError):
        sensitivity(good, [Box.ball((0,), 1)]).tolerance(Fraction(0))
