"""The exact Lipschitz constant against enumeration of all regions, and its evidence."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from strategies import generators, random_box, random_network, random_point, wild_network

from verifier.core.errors import CertificateError, NetworkError, PropertyError
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.search.lipschitz import lipschitz
from verifier.search.lipschitz_check import check_lipschitz
from verifier.search.lipschitz_evidence import Capped, Lipschitz, Split, Void
from verifier.search.problem import Deadline


def affine(weight, bias=None, relu=True) -> Layer:
    weight = np.array(weight, dtype=object)
    bias = [0] * len(weight) if bias is None else bias
    return Layer(weight, np.array(bias, dtype=object), np.full(len(weight), relu))


def floats(weight, bias=None, relu=True) -> Layer:
    weight = np.array(weight, dtype=float)
    bias = np.zeros(len(weight)) if bias is None else np.array(bias, dtype=float)
    return Layer(weight, bias, np.full(len(weight), relu))


def degenerate_network(rng: np.random.Generator, max_depth: int = 4) -> Network:
    """Small integers; zero rows, copies, opposites and multiples of neurons, partial ReLUs."""
    sizes = [int(rng.integers(1, 4))]
    sizes += [int(rng.integers(1, 5)) for _ in range(int(rng.integers(1, max_depth)))]
    sizes += [int(rng.integers(1, 3))]
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        rows = rng.integers(-2, 3, (n_out, n_in + 1))
        for i in range(1, n_out):
            factor = int(rng.choice([0, 1, -1, 2, -2, 9, 9, 9]))
            if factor != 9:
                rows[i] = factor * rows[int(rng.integers(0, i))]
        if rng.random() < 0.3:
            rows[:, -1] = 0
        relu = rng.random(n_out) < 0.8
        layers.append(Layer(rows[:, :-1].astype(float), rows[:, -1].astype(float), relu))
    return Network(tuple(layers))


def open_box(rng: np.random.Generator, n: int) -> Box:
    """A box of positive widths."""
    box = random_box(rng, n)
    upper = tuple(b if a < b else a + 1 for a, b in zip(box.lower, box.upper, strict=True))
    return Box(box.lower, upper)


def all_rows(rng: np.random.Generator, network: Network) -> list[list[int]]:
    """Every output, or a difference of two."""
    eye = np.eye(network.n_outputs, dtype=int)
    if network.n_outputs > 1 and rng.random() < 0.4:
        return [(eye[0] - eye[1]).tolist()]
    return eye.tolist()


def agrees(network: Network, box: Box | None, rows: list[list[int]]) -> Lipschitz:
    found = lipschitz(network, box, rows)
    assert found.exact
    assert found.lower == oracle.lipschitz(network, box, rows)
    check_lipschitz(network, box, rows, found)
    return found


@settings(max_examples=60)
@given(rng=generators())
def test_agrees_with_enumeration_on_a_box(rng):
    network = random_network(rng, max_inputs=3, max_width=4)
    agrees(network, open_box(rng, network.n_inputs), all_rows(rng, network))


@settings(max_examples=60)
@given(rng=generators())
def test_agrees_with_enumeration_everywhere(rng):
    network = random_network(rng, max_inputs=3, max_width=4)
    agrees(network, None, all_rows(rng, network))


@settings(max_examples=120)
@given(rng=generators())
def test_degenerate_networks(rng):
    network = degenerate_network(rng)
    box = open_box(rng, network.n_inputs) if rng.random() < 0.5 else None
    agrees(network, box, all_rows(rng, network))


@settings(max_examples=40)
@given(rng=generators())
def test_no_two_points_of_the_box_are_steeper(rng):
    network = degenerate_network(rng)
    box = open_box(rng, network.n_inputs)
    found = lipschitz(network, box)
    points = [random_point(rng, box) for _ in range(6)]
    for x, y in itertools.combinations(points, 2):
        rise = max(abs(a - b) for a, b in zip(network.exact(x), network.exact(y), strict=True))
        assert rise <= found.upper * max(abs(a - b) for a, b in zip(x, y, strict=True))


@settings(max_examples=30)
@given(rng=generators())
def test_a_short_deadline_gives_two_proved_bounds(rng):
    network = degenerate_network(rng)
    found = lipschitz(network, None, deadline=Deadline(0.0))
    check_lipschitz(network, None, None, found)
    truth = oracle.lipschitz(network, None, np.eye(network.n_outputs, dtype=int).tolist())
    assert found.lower <= truth <= found.upper
    assert found.exact == (found.reason is None)


def test_the_point_has_the_pattern_and_gradient_that_are_claimed():
    rng = np.random.default_rng(3)
    for _ in range(20):
        network = degenerate_network(rng)
        found = lipschitz(network, None).attained
        trace = network.exact_trace(found.x)
        for layer, (z, _), active in zip(network.layers, trace, found.pattern, strict=True):
            assert active == tuple(not r or v > 0 for r, v in zip(layer.relu, z, strict=True))
        assert sum(map(abs, found.gradient)) == found.slope
        # Along a short enough step the function is linear.
        step = [Fraction(1 if g > 0 else -1, 2**40) for g in found.gradient]
        moved = network.exact([a + b for a, b in zip(found.x, step, strict=True)])
        rise = moved[found.row] - network.exact(found.x)[found.row]
        assert rise == found.slope * Fraction(1, 2**40)


def test_a_pattern_that_only_a_kink_has_does_not_count():
    """relu(x) + relu(−x) has slope 1; both neurons active, slope 0 or 2, happens at 0 only."""
    crossing = Network((floats([[1], [-1]]), floats([[1, -1]], relu=False)))
    assert lipschitz(crossing).lower == 1
    # relu(relu(x) − relu(x)): a pre-activation that is 0 everywhere.
    nothing = Network((floats([[1], [1]]), floats([[5, -5]]), floats([[100]], relu=False)))
    assert lipschitz(nothing).lower == 0
    # Steep only where x ≥ 0 and −x ≥ 0 at once.
    peak = Network((floats([[1], [-1]]), floats([[-8, -8]], [0]), floats([[100]], relu=False)))
    assert lipschitz(peak).lower == 0


def test_ties_are_exact():
    """max of |x_j|: every region has slope exactly 1, whatever the float weights 1/3 sum to."""
    network = Network(
        (
            floats([[1, 0], [-1, 0], [0, 1], [0, -1]]),
            floats([[1, 1, -1, -1], [0, 0, 1, 1]]),
            floats([[1, 1]], relu=False),
        )
    )
    found = lipschitz(network)
    assert found.exact
    assert found.lower == 1


def test_the_absolute_values_of_the_plane_exception():
    plane = Network(
        (floats([[1, 1], [-1, -1], [1, -1], [-1, 1]]), floats([[1, 1, 1, 1]], [-1], relu=False))
    )
    assert lipschitz(plane).lower == 2


def test_coordinates_of_width_zero_are_constants():
    network = Network((floats([[1, 7]]), floats([[3]], relu=False)))
    box = Box((-1, 2), (1, 2))
    found = lipschitz(network, box)
    assert found.lower == 3
    assert found.attained.x[1] == 2
    assert found.attained.gradient == (3, 0)
    check_lipschitz(network, box, None, found)


def test_weights_that_no_float_holds():
    third = Fraction(1, 3)
    network = Network((affine([[third, 2**70]]), affine([[1]], relu=False)))
    found = lipschitz(network)
    assert found.lower == third + 2**70
    check_lipschitz(network, None, None, found)


def test_a_network_without_relu():
    network = Network((floats([[1, -2], [3, 4]], relu=False),))
    assert lipschitz(network).lower == 7
    assert lipschitz(network, rows=[[1, 0]]).lower == 3
    assert lipschitz(network, rows=[[1, -1]]).lower == 8
    assert lipschitz(network, rows=[[0.5, Fraction(1, 3)]]).lower == Fraction(11, 6)


def test_huge_weights_stay_exact():
    network = Network((floats([[1e300], [1e300]], [1, -1]), floats([[1e300, -1e300]], relu=False)))
    found = lipschitz(network)
    assert found.exact
    assert found.lower == Fraction(1e300) ** 2


def test_what_does_not_fit_is_refused():
    network = Network((floats([[1, 1]]),))
    with pytest.raises(PropertyError, match="3 coordinates"):
        lipschitz(network, Box((0, 0, 0), (1, 1, 1)))
    with pytest.raises(PropertyError, match="single point"):
        lipschitz(network, Box((0, 0), (0, 0)))
    with pytest.raises(NetworkError, match="rows"):
        lipschitz(network, rows=[[1, 1]])


@pytest.fixture(scope="module")
def proved() -> tuple[Network, Box, Lipschitz]:
    rng = np.random.default_rng(5)
    layers = (
        floats(rng.integers(-4, 5, (6, 2)), rng.integers(-2, 3, 6)),
        floats(rng.integers(-4, 5, (4, 6)), rng.integers(-2, 3, 4)),
        floats(rng.integers(-4, 5, (1, 4)), relu=False),
    )
    network, box = Network(layers), Box((-1, -1), (1, 1))
    found = lipschitz(network, box)
    assert {type(step) for step in found.evidence.steps} == {Split, Void, Capped}
    return network, box, found


def with_step(found: Lipschitz, place: int, step) -> Lipschitz:
    steps = (*found.evidence.steps[:place], step, *found.evidence.steps[place + 1 :])
    return replace(found, evidence=replace(found.evidence, steps=steps))


def rejected(network: Network, box: Box | None, claim: Lipschitz) -> None:
    with pytest.raises(CertificateError):
        check_lipschitz(network, box, None, claim)


def test_wrong_bounds_are_rejected(proved):
    network, box, found = proved
    rejected(network, box, replace(found, upper=found.upper - Fraction(1, 2**60)))
    rejected(network, box, replace(found, lower=found.lower + 1))
    rejected(network, box, replace(found, attained=None))
    attained = replace(found.attained, slope=found.lower + 1)
    rejected(network, box, replace(found, lower=found.lower + 1, attained=attained))


def test_points_on_a_kink_or_outside_are_rejected(proved):
    network, box, found = proved
    outside = replace(found.attained, x=tuple(v + 4 for v in found.attained.x))
    rejected(network, box, replace(found, attained=outside))
    form, bias = network.layers[0].dense[0], network.layers[0].bias[0]
    j = int(np.flatnonzero(form)[0])
    x = [Fraction(0), Fraction(0)]
    x[j] = Fraction(-float(bias)) / Fraction(float(form[j]))
    rejected(network, None, replace(found, attained=replace(found.attained, x=tuple(x))))


def test_every_changed_step_is_rejected(proved):
    network, box, found = proved
    for place, step in enumerate(found.evidence.steps):
        if isinstance(step, Void):
            zero, flipped = tuple(0 * w for w in step.weights), tuple(-w for w in step.weights)
            for weights in (zero, flipped, step.weights[1:], (*step.weights, Fraction(1))):
                rejected(network, box, with_step(found, place, Void(weights)))
        elif isinstance(step, Capped):
            rejected(network, box, with_step(found, place, Capped(Fraction(-1))))
            steeper = Capped(found.upper + 1)
            rejected(network, box, with_step(found, place, steeper))
        else:
            for changed in (
                replace(step, layer=step.layer + 1),
                replace(step, index=99),
                replace(step, negative=0),
                replace(step, positive=len(found.evidence.steps)),
            ):
                rejected(network, box, with_step(found, place, changed))


def test_a_cell_declared_void_is_rejected(proved):
    network, box, found = proved
    full = [p for p, step in enumerate(found.evidence.steps) if isinstance(step, Capped)]
    for place in full:
        rejected(network, box, with_step(found, place, Void((Fraction(1),))))


@settings(max_examples=40)
@given(rng=generators())
def test_bounds_survive_weights_that_floats_find_hard(rng):
    """Sizes far apart, cancellation, subnormals, products beyond the float range."""
    network = wild_network(rng, int(rng.choice([20, 200, 400])))
    found = lipschitz(network, None, deadline=Deadline(0.2))
    check_lipschitz(network, None, None, found)
