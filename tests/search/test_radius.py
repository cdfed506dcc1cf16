"""Both ends of a radius against the exact one, which pattern enumeration with z3 finds."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import oracle
import pytest

from verifier.core.errors import NetworkError, PropertyError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Property
from verifier.core.verdict import Proved, Refuted, Witness
from verifier.search.nearest import descend, shorten
from verifier.search.portfolio import certify
from verifier.search.problem import Deadline, problems
from verifier.search.radius import RadiusSearch
from verifier.search.radius_ends import Question

CLIP = (Fraction(0), Fraction(1))


def random_classifier(rng: np.random.Generator, *, bits: bool) -> Network:
    """Two or three inputs, one or two hidden layers, two or three classes."""
    sizes = [int(rng.integers(1, 4)), *rng.integers(2, 5, int(rng.integers(1, 3))).tolist()]
    sizes.append(int(rng.integers(2, 4)))
    layers = []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        weight, bias = rng.normal(size=(m, n)), 0.3 * rng.normal(size=m)
        if bits:
            weight, bias = np.round(4 * weight) / 4, np.round(4 * bias) / 4
        layers.append(Layer(weight, bias, np.full(m, k < len(sizes) - 2)))
    return Network(tuple(layers))


def question(network: Network, center, label: int, clip=CLIP) -> Question:
    n = network.n_outputs
    return Question(network, center, clip, lambda box: Property.robustness(box, label, n))


def random_question(seed: int) -> Question:
    """Around a point with 3 bits, whose label is the largest output (it may tie)."""
    rng = np.random.default_rng(seed)
    network = random_classifier(rng, bits=seed % 2 == 0)
    center = tuple(Fraction(int(v), 8) for v in rng.integers(0, 9, network.n_inputs))
    outputs = network.exact(center)
    return question(network, center, max(range(len(outputs)), key=lambda k: outputs[k]))


def exact_radius(asked: Question) -> Fraction | None:
    (case,) = asked.at(asked.reach).cases
    return oracle.nearest(asked.network, case, asked.center)


@functools.cache
def radius_of_random(seed: int) -> Fraction | None:
    return exact_radius(random_question(seed))


def check_ends(asked: Question, found) -> None:
    """The evidence of both ends, from scratch."""
    if found.refuted is not None:
        end = found.refuted
        x = end.verdict.witness.x
        assert max(abs(a - b) for a, b in zip(x, asked.center, strict=True)) == end.eps
        assert all(CLIP[0] <= v <= CLIP[1] for v in x) or asked.clip is None
        y = asked.network.exact(x)
        assert end.verdict.witness.y == y
        assert end.prop == asked.at(end.eps)
        assert end.prop.violation(x, y) is not None
    if found.proved is not None:
        assert isinstance(found.proved.verdict, Proved)
        assert found.proved.prop == asked.at(found.proved.eps)


@pytest.mark.parametrize("seed", range(80))
def test_both_ends_enclose_the_exact_radius(seed):
    asked = random_question(seed)
    found = RadiusSearch(asked, timeout=20).run()
    check_ends(asked, found)
    exact = radius_of_random(seed)
    if exact is None:
        assert found.refuted is None
        assert found.lower <= found.reach
    else:
        assert found.refuted is not None
        assert found.lower < exact <= found.refuted.eps or exact == found.refuted.eps == 0
    if found.reason is None and exact is not None:
        assert found.refuted.eps - found.lower <= Fraction(1, 1000) * found.refuted.eps
    # Small networks are decided: a search that gives up on many of them has a defect.
    assert found.reason is None


def test_these_questions_are_of_all_kinds():
    exact = [radius_of_random(seed) for seed in range(80)]
    assert exact.count(None) >= 10
    assert exact.count(Fraction(0)) >= 1
    assert sum(r is not None and r > 0 for r in exact) >= 20


def line() -> Network:
    """Outputs (relu(x_0) + relu(x_1), 1)."""
    return Network(
        (
            Layer(np.eye(2), np.zeros(2), np.ones(2, dtype=bool)),
            Layer(np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([0.0, 1.0]), np.zeros(2, bool)),
        )
    )


@pytest.mark.parametrize("gap", [Fraction(1, 10), Fraction(1, 1000), Fraction(1, 10**8)])
def test_the_gap_is_reached(gap):
    """From (1, 1) the sum falls to 1 at distance 1/2."""
    asked = question(line(), (Fraction(1), Fraction(1)), 0)
    found = RadiusSearch(asked, timeout=20, gap=gap).run()
    check_ends(asked, found)
    assert found.lower < Fraction(1, 2) <= found.refuted.eps
    assert found.gap <= gap
    assert found.reason is None


def test_the_clip_range_bounds_the_search():
    """From (0, 0) the sum rises to 1 at distance 1/2, which the range [0, 1/4] does not hold."""
    asked = question(line(), (Fraction(0), Fraction(0)), 1, (Fraction(0), Fraction(1, 4)))
    found = RadiusSearch(asked, timeout=20).run()
    assert found.everywhere
    assert (found.refuted, found.lower, found.reason) == (None, Fraction(1, 4), None)


def test_without_a_clip_range_the_ball_grows():
    asked = question(line(), (Fraction(-1000), Fraction(-1000)), 1, None)
    found = RadiusSearch(asked, timeout=20).run()
    check_ends(asked, found)
    assert found.lower < Fraction(2001, 2) <= found.refuted.eps
    assert found.gap <= Fraction(1, 1000)


def test_a_constant_answer_is_proved_as_far_as_is_asked_and_says_no_more():
    network = Network((Layer(np.zeros((2, 1)), np.array([1.0, 0.0]), np.zeros(2, bool)),))
    found = RadiusSearch(question(network, (Fraction(0),), 0, None), timeout=600).run()
    assert found.refuted is None
    assert found.lower == found.reach
    assert not found.everywhere
    assert found.gap is None


def test_an_unsafe_centre_is_its_own_counterexample():
    asked = question(line(), (Fraction(1, 2), Fraction(1, 2)), 0)
    found = RadiusSearch(asked, timeout=5).run()
    assert found.proved is None
    assert found.refuted.eps == 0
    assert found.refuted.verdict.witness.x == asked.center
    assert (found.gap, found.reason, found.questions) == (0, None, 0)


def test_no_time_leaves_the_ends_where_they_are():
    asked = random_question(3)
    found = RadiusSearch(asked, timeout=0).run()
    assert found.proved is None
    assert found.refuted is None
    assert found.reason == "time limit reached"


def test_an_interrupted_search_says_what_it_knows():
    """Whatever was told before the interrupt is in the result, and it holds."""
    asked = question(line(), (Fraction(1), Fraction(1)), 0)
    told = []

    def interrupt(what: str, _: float) -> None:
        told.append(what)
        if "refuted" in what:
            raise KeyboardInterrupt

    search = RadiusSearch(asked, timeout=20, gap=Fraction(1, 10**9), progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    found = search.result("interrupted")
    check_ends(asked, found)
    assert found.refuted is not None
    assert found.reason == "interrupted"


def test_unknown_moves_no_end(monkeypatch):
    """An engine that never knows leaves the proved end at the point itself, and is asked no more
    than a few times.
    """
    from verifier.core.verdict import Unknown
    from verifier.search import radius

    monkeypatch.setattr(radius, "certify", lambda *a, **k: Unknown("the engine is blind"))
    asked = question(line(), (Fraction(1), Fraction(1)), 0)
    found = RadiusSearch(asked, timeout=20).run()
    assert found.proved is None
    assert found.reason == "the engine is blind"
    assert found.questions < 100


def test_small_networks_are_put_to_a_second_engine_where_the_first_fails(monkeypatch):
    from verifier.core.verdict import Unknown
    from verifier.search import radius

    def certify_without_auto(*arguments, engine, **more):
        if engine == "milp":
            return certify(*arguments, engine=engine, **more)
        return Unknown("the engine is blind")

    monkeypatch.setattr(radius, "certify", certify_without_auto)
    asked = question(line(), (Fraction(1), Fraction(1)), 0)
    found = RadiusSearch(asked, timeout=20).run()
    check_ends(asked, found)
    assert found.lower < Fraction(1, 2) <= found.refuted.eps
    assert found.reason is None


@pytest.mark.parametrize("gap", [Fraction(0), Fraction(1), Fraction(-1, 2)])
def test_a_gap_outside_of_0_to_1_is_refused(gap):
    with pytest.raises(ValueError, match="gap"):
        RadiusSearch(random_question(0), timeout=1, gap=gap)


def test_what_cannot_be_asked_is_refused():
    outside = question(line(), (Fraction(2), Fraction(1)), 0)
    with pytest.raises(PropertyError):
        RadiusSearch(outside, timeout=1).run()
    exact = Network((Layer(np.array([[3], [1]], dtype=object), np.zeros(2, object), [False] * 2),))
    with pytest.raises(NetworkError):
        RadiusSearch(question(exact, (Fraction(1),), 0), timeout=1).run()


# Nearer counterexamples ---------------------------------------------------------------------------


def witnesses(count: int):
    """Counterexamples of random questions in their whole range, as the engines find them."""
    for seed in itertools.count():
        if not count:
            return
        asked = random_question(seed)
        prop = asked.at(asked.reach)
        verdict = certify(asked.network, prop, timeout=10)
        centre_is_safe = prop.violation(asked.center, asked.network.exact(asked.center)) is None
        if isinstance(verdict, Refuted) and centre_is_safe:
            count -= 1
            yield asked, verdict.witness


def clause_of(problem, witness: Witness) -> int:
    return next(k for k, c in enumerate(problem.clauses) if c.index == witness.clause)


def test_steps_never_lead_away_and_mostly_to_the_nearest_counterexample():
    reached = []
    for asked, witness in witnesses(15):
        (problem,) = problems(asked.network, asked.at(asked.reach))
        center = np.array([float(v) for v in asked.center])
        x = np.array([float(v) for v in witness.x])
        short = shorten(problem, center, x)
        near = descend(problem, center, short, clause_of(problem, witness), Deadline(10))
        sizes = [float(np.abs(p - center).max()) for p in (x, short, near)]
        assert sizes[1] <= sizes[0] * (1 + 1e-12)
        assert sizes[2] <= sizes[1] * (1 + 1e-6)
        exact = float(exact_radius(asked))
        assert sizes[2] >= exact * (1 - 1e-6)
        reached.append(math.isclose(sizes[2], exact, rel_tol=1e-5))
    assert sum(reached) >= 8


def test_a_walk_finds_the_nearest_point_of_a_slope():
    """From (1, 1) towards (0, 0): the nearest unsafe point is (1/2, 1/2)."""
    asked = question(line(), (Fraction(1), Fraction(1)), 0)
    (problem,) = problems(asked.network, asked.at(Fraction(1)))
    near = descend(problem, np.ones(2), np.array([1.0, 0.0]), 0, Deadline(5))
    assert near == pytest.approx([0.5, 0.5])
    assert shorten(problem, np.ones(2), np.zeros(2)) == pytest.approx([0.5, 0.5], abs=1e-6)


def test_no_time_and_no_answer_leave_the_point():
    asked = question(line(), (Fraction(1), Fraction(1)), 0)
    (problem,) = problems(asked.network, asked.at(Fraction(1)))
    x = np.array([0.25, 0.25])
    assert descend(problem, np.ones(2), x, 0, Deadline(0)).tolist() == x.tolist()


def test_the_reach_and_the_distance_are_exact():
    asked = question(line(), (Fraction(1, 3), Fraction(0)), 1)
    assert asked.reach == 1
    assert asked.distance((Fraction(1, 2), Fraction(1, 7))) == Fraction(1, 6)
    assert asked.at(Fraction(1, 6)).cases[0].box == Box.ball(asked.center, Fraction(1, 6), CLIP)
