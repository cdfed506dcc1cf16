"""The widest split that a direction sees, against all splits."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from point_sets import grid_points, scattered_points
from strategies import generators

from constructions.split_margin import SplitSpace
from constructions.split_search import SearchLimitError, SplitSearch


def random_direction(rng, data):
    """Integers with sum 0, equal at equal points only by chance; never all 0."""
    u = np.zeros(len(data), dtype=int)
    while not u.any():
        i, j = rng.choice(len(data), 2, replace=False)
        u[i] += (step := int(rng.integers(1, 4)))
        u[j] -= step
        if rng.integers(2):
            i, j = rng.choice(len(data), 2, replace=False)
            u[i] += 1
            u[j] -= 1
    return tuple(int(v) for v in u)


def widest_by_brute_force(space, u):
    n = len(u)
    best = None
    for bits in range(1, 2 ** (n - 1)):
        split = frozenset(i for i in range(n) if bits >> i & 1)
        if sum(u[i] for i in split) != 0:
            margin = space.margin(split, frozenset(range(n)) - split).value
            best = margin if best is None else max(best, margin)
    return best


@given(generators())
@settings(max_examples=40, deadline=None)
def test_it_is_the_widest_of_all(rng):
    data = grid_points(rng, max_points=7)
    space, u = SplitSpace(data), random_direction(rng, data)
    search = SplitSearch(space, u, space.scaled(space.scale))
    found = search.run(10**6)
    assert found.proof is not None
    assert sum(u[i] for i in found.members) != 0
    assert found.clear == widest_by_brute_force(space, u)
    separates(data, space, found)


@given(generators())
@settings(max_examples=40, deadline=None)
def test_what_is_wide_enough_ends_the_search(rng):
    data = grid_points(rng, max_points=7)
    space, u = SplitSpace(data), random_direction(rng, data)
    enough = space.scaled(data.separation * Fraction(int(rng.integers(1, 9)), 8))
    found = SplitSearch(space, u, enough).run(10**6)
    widest = widest_by_brute_force(space, u)
    assert (found.proof is None) == (found.clear >= enough) == (widest >= enough)
    assert sum(u[i] for i in found.members) != 0
    separates(data, space, found)


def separates(data, space, found):
    for i in range(len(data)):
        side = found.plane.sides[i]
        assert (side if i in found.members else -side) >= found.clear


def test_the_limit():
    data = scattered_points(np.random.default_rng(7), 12, 3)
    space = SplitSpace(data)
    i, j = data.closest_enemies
    u = tuple(int(k == i) - int(k == j) for k in range(len(data)))
    whole = SplitSearch(space, u, space.scaled(space.scale))
    widest = whole.run(10**6)
    for limit in range(whole.nodes):
        with pytest.raises(SearchLimitError) as stopped:
            SplitSearch(space, u, space.scaled(space.scale)).run(limit)
        assert stopped.value.bound >= widest.clear
