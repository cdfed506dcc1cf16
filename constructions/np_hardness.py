"""The hardness theorem on concrete graphs: both directions, both answers (THEORY-hardness)."""

from __future__ import annotations

from fractions import Fraction

from constructions.claims import ClaimError
from constructions.demonstration import Demonstration, Question, Shown
from constructions.graphs import Hypergraph, fano, load_graph, moser, weak_colouring
from constructions.hardness import ColouringProblem, Reduction, SplittingProblem
from constructions.hardness_balls import require_solves
from constructions.hardness_check import Impossibility
from constructions.hardness_decision import Solved, decide
from verifier.core.network import Network
from verifier.core.property import Box, Property

RHO = Fraction(49, 100)


def demonstrate() -> Demonstration:
    """Petersen and Fano coloured by networks; Moser not; Fano not split, at 0.98 of λ/2."""
    petersen, spindle = ColouringProblem.of(load_graph("petersen")), ColouringProblem.of(moser())
    plane, lines = ColouringProblem.of(fano()), SplittingProblem.of(fano(), RHO)
    shown: list[Shown] = []
    questions: list[Question] = []
    for problem in (petersen, plane):
        network, claim = _from_colouring(problem)
        shown += [claim, _from_balls(problem)]
        questions.append(question(problem, network))
    count, text = _none(spindle)
    shown.append(
        Shown(
            "the Moser spindle has no 3-colouring, and no network of width 2 is right on its "
            f"{len(spindle.problem)} points, whatever the radius and the output signs",
            text,
        )
    )
    fano_count, text = _none(lines)
    shown.append(
        Shown(
            "the Fano plane cannot be split, and no network of width 2 is right on the "
            f"{len(lines.problem)} balls of radius {RHO} λ of its splitting instance, although 3 "
            "colours suffice for it",
            text,
        )
    )
    return Demonstration(
        "Whether a network with one hidden layer of width 2 has the right sign on given balls is "
        "NP-hard, at radius 0, at small positive radii (graph 3-colouring), and at radius ρλ for "
        "every fixed 0 < ρ < 1/2 (set splitting). Networks that solve the instance and colourings "
        "are turned into each other.",
        "3-colouring of the Petersen graph (10 vertices, 15 edges), of the Moser spindle (7, 11) "
        "and of the Fano plane (7 points, 7 lines of three); splitting of the Fano plane",
        tuple(shown),
        {
            "petersen": "yes", "moser": "no", "fano_3_colouring": "yes", "fano_splitting": "no",
            "moser_contradictions": count, "fano_contradictions": fano_count, "rho": str(RHO),
        },
        tuple(questions),
    )  # fmt: skip


def question(reduction: Reduction, network: Network) -> Question:
    """The sign on each of the balls, put to the verifier."""
    balls = reduction.problem
    properties = tuple(
        Property.sign(Box.ball(balls.point(i), balls.mu), y > 0, f"ball {i} of {balls.name}")
        for i, y in enumerate(balls.labels.tolist())
    )
    return Question(
        f"the network from the colouring of {reduction.graph.name} has the right sign on all "
        f"{len(balls)} balls",
        network,
        properties,
    )


def _from_colouring(reduction: ColouringProblem) -> tuple[Network, Shown]:
    """Colouring, network, all balls, and back to a colouring."""
    graph = reduction.graph
    colours = _required(graph, reduction.colours)
    network = reduction.network(colours)
    margin = require_solves(reduction.problem, network)
    if margin.value < reduction.promise:
        raise ClaimError(f"{graph.name}: margin {margin.value} below {reduction.promise}")
    back = reduction.colouring(network)
    return network, Shown(
        f"{graph.name} has the weak 3-colouring {_word(colours)}; the network made of it is right "
        f"on all {len(reduction.problem)} balls of radius 1, and gives back the colouring "
        f"{_word(back)}",
        f"the smallest y F on the balls is {margin.value}, the theorem promises "
        f"{reduction.promise}, both exact; no edge has one colour",
    )


def _from_balls(reduction: ColouringProblem) -> Shown:
    """The decision, which sees only the balls, and the colouring in the network that it finds."""
    found = decide(reduction.problem)
    if not isinstance(found, Solved):
        raise ClaimError(f"{reduction.problem.name}: no network was found")
    colours = reduction.colouring(found.network)
    return Shown(
        f"the exact decision, which sees only the balls of {reduction.graph.name}, finds a network "
        f"of its own; in it is the weak 3-colouring {_word(colours)}",
        f"the smallest y F on the balls is {found.margin.value}, exact; no edge has one colour",
    )


def _none(reduction: Reduction) -> tuple[int, str]:
    """The proof that no network solves the instance: number of contradictions, and words for it."""
    found = decide(reduction.problem)
    if not isinstance(found, Impossibility):
        raise ClaimError(f"{reduction.problem.name}: no proof was found")
    if weak_colouring(reduction.graph, reduction.colours) is not None:
        raise ClaimError(f"{reduction.graph.name}: has a colouring, but no network")
    return found.leaves, (
        "a tree of cases, which of three affine functions is large at which point; each of "
        f"{found.leaves} contradictions is a positive integer combination of inequalities that is "
        "0 > 0. Backtracking over all colourings agrees"
    )


def _required(graph: Hypergraph, colours: int) -> tuple[int, ...]:
    found = weak_colouring(graph, colours)
    if found is None:
        raise ClaimError(f"{graph.name}: no weak {colours}-colouring")
    return found


def _word(colours: tuple[int, ...]) -> str:
    """Colours from 1, one digit a vertex."""
    return "".join(str(c + 1) for c in colours)
