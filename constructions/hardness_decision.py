"""Whether a network of width 2 solves a two-class problem: the network, or a proof of the contrary.

With radius 0 the answer is complete: one of the two, always. With a positive radius, points of the
balls are added where a network fails, until a network is right on all balls, or none is right even
on the points:

1. The centres alone: if no network is right on them, none is on the balls.
2. All points of a negative ball share one face. This finds a network if there is one in which one
   face exceeds C on each whole ball; the yes-instances of the hardness theorems have such networks.
3. Every point of a negative ball chooses its own face; the worst point of each ball is found by an
   exact linear program. This excludes each wrong network but need not end, so that rounds are
   counted and the answer can be ``Undecided``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from flint import fmpq

from constructions.exact_layer import exact_layer
from constructions.hardness_balls import BallProblem, Margin, margin, require_solves
from constructions.hardness_check import (
    FACES,
    Branch,
    Impossibility,
    Leaf,
    Place,
    Refutation,
    Tree,
    check_impossibility,
)
from constructions.hardness_search import FaceSearch, Functions, StoppedError
from verifier.core.errors import DataError
from verifier.core.exact_lp import Inequalities, Widest, widest
from verifier.core.network import Network

MAX_POINTS = 400
MAX_ROUNDS = 200


@dataclass(frozen=True)
class Solved:
    """A network that is right on every ball, with its exact margin."""

    network: Network
    margin: Margin


@dataclass(frozen=True)
class Undecided:
    """Neither was shown, and why."""

    reason: str


Decision = Solved | Impossibility | Undecided


def decide(
    problem: BallProblem,
    *,
    stop: Callable[[], bool] = lambda: False,
    rounds: int = MAX_ROUNDS,
) -> Decision:
    """Whether F = c + a_1 relu(h_1) + a_2 relu(h_2) can have the right sign on all balls.

    Args:
        problem: the balls.
        stop: asked often; when it says True the answer is ``Undecided``.
        rounds: how often points are added, at most, for each of the two labellings.

    Raises:
        DataError: more points than ``MAX_POINTS``.
    """
    if len(problem) > MAX_POINTS:
        raise DataError(
            f"{problem.name}: {len(problem)} points; the exact decision takes at most {MAX_POINTS}"
        )
    refutations: list[Refutation] = []
    open_reason: Undecided | None = None
    for flipped in (False, True):
        outcome = _decide_labelling(FaceSearch(problem, flipped), stop, rounds)
        if isinstance(outcome, Network):
            return Solved(outcome, require_solves(problem, outcome))
        if isinstance(outcome, Undecided):
            open_reason = outcome
        else:
            refutations.append(outcome)
    if open_reason is not None:
        return open_reason
    claim = Impossibility((refutations[0], refutations[1]))
    check_impossibility(problem, claim)
    return claim


def _decide_labelling(
    search: FaceSearch, stop: Callable[[], bool], rounds: int
) -> Network | Refutation | Undecided:
    """A network C − relu(h_1) − relu(h_2) (negated if flipped), or a refutation of this form."""
    shared = True
    for _ in range(rounds):
        try:
            found = search.run(stop)
        except StoppedError:
            return Undecided("the time limit was reached")
        if isinstance(found, Functions):
            network = _network(found, search.flipped)
            if margin(search.problem, network).value > 0:
                return network
            if not _add_failures(search, found, shared):
                return Undecided("a network fails on a ball, and no new point shows where")
        elif search.single:
            return _refutation(search, found.tree)
        else:
            search, shared = _with_own_faces(search), False
    return Undecided(f"not decided after {rounds} rounds of adding points of the balls")


def _network(found: Functions, flipped: bool) -> Network:
    """C − relu(h_1) − relu(h_2), negated if the labels are exchanged."""
    sign = -1 if flipped else 1
    layers = (
        exact_layer(found.weights, found.biases, relu=True),
        exact_layer([[-sign, -sign]], [sign * found.constant], relu=False),
    )
    return Network(layers, name="decision")


def _add_failures(search: FaceSearch, found: Functions, shared: bool) -> bool:
    """Add the points of balls where the functions fail; whether there was a new one."""
    problem, new = search.problem, False
    centres = [Place(i, tuple(map(Fraction, problem.point(i)))) for i in range(len(problem))]
    items = {search.places[item[0]].ball: k for k, item in enumerate(search.items)}
    for centre in centres:
        excess = found.excess(centre.point)
        reach = [problem.mu * sum(map(abs, found.face(f))) for f in range(len(FACES))]
        if search.is_positive(centre.ball):
            for f in range(len(FACES)):
                if excess[f] + reach[f] >= 0:
                    new |= search.add(_corner(centre, found.face(f), problem.mu))
        elif max(e - r for e, r in zip(excess, reach, strict=True)) > 0:
            continue
        elif shared:
            for f in range(len(FACES)):
                corner = _corner(centre, found.face(f), -problem.mu)
                new |= search.add(corner, items[centre.ball])
        else:
            place = _lowest(found, centre, problem.mu)
            if max(found.excess(place.point)) <= 0:
                new |= search.add(place)
    return new


def _corner(centre: Place, weights: tuple[int, ...], step: Fraction) -> Place:
    """The point x + step · sign(w) of a ball."""
    signs = ((w > 0) - (w < 0) for w in weights)
    return Place(centre.ball, tuple(v + step * s for v, s in zip(centre.point, signs, strict=True)))


def _lowest(found: Functions, centre: Place, mu: Fraction) -> Place:
    """The point of a ball where max(0, h_1, h_2, h_1 + h_2) is smallest, by an exact LP.

    It maximises the smallest of C and the C − h_f, scaled to stay below 1.
    """
    scale = 2 * found.constant
    rows, bounds = [[fmpq(0)] * len(centre.point)], [fmpq(-found.constant, scale)]
    zero = (Fraction(0),) * len(centre.point)
    for f, at_zero in enumerate(found.excess(zero)):
        rows.append([fmpq(-w, scale) for w in found.face(f)])
        bounds.append(fmpq(int(at_zero), scale))
    low, high = (
        [fmpq((v + step).numerator, (v + step).denominator) for v in centre.point]
        for step in (-mu, mu)
    )
    answer = widest(Inequalities(rows, bounds, [True] * len(rows), low, high), lambda: False)
    if not isinstance(answer, Widest):
        raise ArithmeticError("a linear program over a box has a solution")
    return Place(centre.ball, tuple(Fraction(int(v.p), int(v.q)) for v in answer.x))


def _with_own_faces(search: FaceSearch) -> FaceSearch:
    """The same points, but each one of a negative ball is an item by itself."""
    fresh = FaceSearch(search.problem, search.flipped)
    for place in search.places:
        fresh.add(place)
    return fresh


def _refutation(search: FaceSearch, tree: Tree) -> Refutation:
    """The certificate: only the leaves and places that the tree needs, and branches at places."""
    leaves: dict[int, int] = {}
    places: dict[int, int] = {}

    def numbered(place: int) -> int:
        return places.setdefault(place, len(places))

    def converted(node: Tree) -> Tree:
        if isinstance(node, Branch):
            (place,) = search.items[node.place]
            children = tuple((face, converted(child)) for face, child in node.children)
            return Branch(numbered(place), children)
        return leaves.setdefault(node, len(leaves))

    whole = converted(tree)
    kept = tuple(
        Leaf(tuple((numbered(place), face, weight) for place, face, weight in old.terms), old.scale)
        for old in (search.leaves[k] for k in leaves)
    )
    return Refutation(search.flipped, tuple(search.places[p] for p in places), kept, whole)
