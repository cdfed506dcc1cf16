"""Which of three affine functions exceeds C at each point: a search with exact contradictions.

The system (see ``constructions.hardness_check``), in affine h_1, h_2 and C > 0, h_3 = h_1 + h_2:
all h_f < C at the points of positive balls; for every item, which is one point of a negative ball
or several that share their face, some h_f > C. The search chooses faces as a satisfiability solver
does: a linear program over the choices so far either gives functions, and with them the items that
still miss their C, or a contradiction among few of the choices, which is learned and never met
again. The linear program is solved in floating point; its contradictions are derived again in exact
arithmetic from the inequalities that it names, and its functions are rounded and tested exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np
from flint import fmpq

from constructions.hardness_balls import BallProblem
from constructions.hardness_check import FACES, Branch, Leaf, Place, Tree
from verifier.core.exact_lp import Empty, Inequalities, Point, decide

Choices = dict[int, int]
"""The face of each item that has one."""

_FACE_NUMBERS = range(len(FACES))
_MIRRORED = (1, 0, 2)
_TINY = 1e-9
_BITS = (8, 16, 28, 45)


class StoppedError(Exception):
    """The caller's limit has been reached."""


@dataclass(frozen=True)
class Functions:
    """h_1, h_2 and C, each multiplied by one positive number that makes all of them integers.

    Args:
        weights: two rows of d integers.
        biases: two integers.
        constant: C.
    """

    weights: tuple[tuple[int, ...], tuple[int, ...]]
    biases: tuple[int, int]
    constant: int

    def excess(self, point: tuple[Fraction, ...]) -> list[Fraction]:
        """h_f(p) − C for the three faces."""
        h = [
            sum((w * v for w, v in zip(row, point, strict=True) if w), Fraction(b))
            for row, b in zip(self.weights, self.biases, strict=True)
        ]
        return [p * h[0] + q * h[1] - self.constant for p, q in FACES]

    def face(self, f: int) -> tuple[int, ...]:
        """The weights of h_f."""
        p, q = FACES[f]
        return tuple(p * a + q * b for a, b in zip(*self.weights, strict=True))


@dataclass(frozen=True)
class Refuted:
    """There is no choice: the cases, whose branches name items, and the leaves."""

    tree: Tree


@dataclass(frozen=True)
class _Core:
    """A contradiction: the number of its leaf and the choices that it needs."""

    leaf: int
    needs: frozenset[tuple[int, int]]


class FaceSearch:
    """The points so far, and what has been learned about them.

    Args:
        problem: where the points come from; initially the centres, a point an item.
        flipped: whether the labels are exchanged.
    """

    def __init__(self, problem: BallProblem, flipped: bool) -> None:
        self.problem, self.flipped = problem, flipped
        largest = int(np.abs(problem.points).max()) + 1
        #: A power of two, so that rounded solutions stay finite binary fractions.
        self.unit = 1 << largest.bit_length()
        self.places: list[Place] = []
        self.known: set[tuple[Place, int | None]] = set()
        self.positive: list[int] = []
        self.items: list[list[int]] = []
        self.item_of: dict[int, int] = {}
        self.scaled: list[np.ndarray] = []
        self.leaves: list[Leaf] = []
        self.cores: list[_Core] = []
        self.habit: dict[int, int] = {}
        self.conflicts: Counter[int] = Counter()
        for ball in range(len(problem)):
            self.add(Place(ball, tuple(map(Fraction, problem.point(ball)))))

    def is_positive(self, ball: int) -> bool:
        """Whether all faces must stay below C on the ball."""
        return (int(self.problem.labels[ball]) > 0) != self.flipped

    @property
    def single(self) -> bool:
        """Whether every item is one point, so that ``Refuted`` refutes the problem."""
        return all(len(item) == 1 for item in self.items)

    def add(self, place: Place, item: int | None = None) -> bool:
        """One more point; at a negative ball a new item, or one more point of an item.

        Returns:
            Whether it is new.
        """
        if (place, item) in self.known:
            return False
        self.known.add((place, item))
        number = len(self.places)
        self.places.append(place)
        row = [float(v / self.unit) for v in place.point]
        self.scaled.append(np.array([*row, 1.0]))
        if self.is_positive(place.ball):
            self.positive.append(number)
            return True
        if item is None:
            item = len(self.items)
            self.items.append([])
        self.items[item].append(number)
        self.item_of[number] = item
        return True

    def run(self, stop: Callable[[], bool]) -> Functions | Refuted:
        """Functions that satisfy everything exactly, or a refutation.

        Raises:
            StoppedError: ``stop`` said so.
        """
        found = self._explore({}, stop)
        return found if isinstance(found, Functions) else Refuted(found[0])

    def _explore(
        self, chosen: Choices, stop: Callable[[], bool]
    ) -> Functions | tuple[Tree, frozenset[tuple[int, int]]]:
        """Functions for these choices, or a tree of cases and the choices that it needs."""
        if stop():
            raise StoppedError
        closed, blocked = self._consequences(chosen)
        if closed is not None:
            return closed.leaf, closed.needs
        item = self._forced(chosen, blocked)
        if item is None:
            found = self._relaxed(chosen, stop)
            if isinstance(found, _Core):
                return found.leaf, found.needs
            if isinstance(found, Functions):
                return found
            item = found
        symmetric = all(face == 2 for face in chosen.values())
        faces = [f for f in _FACE_NUMBERS if not (symmetric and f == 1)]
        faces.sort(key=lambda f: f != self.habit.get(item))
        needs: frozenset[tuple[int, int]] = frozenset()
        children = []
        for face in faces:
            core = blocked.get((item, face))
            if core is not None:
                tree: Tree = core.leaf
                needed = core.needs
            else:
                below = self._explore({**chosen, item: face}, stop)
                if isinstance(below, Functions):
                    return below
                tree, needed = below
            if (item, face) not in needed:
                return tree, needed  # it refutes this node, too
            children.append((face, tree))
            needs |= needed - {(item, face)}
        return Branch(item, tuple(children)), needs

    def _consequences(self, chosen: Choices) -> tuple[_Core | None, dict[tuple[int, int], _Core]]:
        """A learned contradiction that applies, and those that forbid one more choice."""
        blocked: dict[tuple[int, int], _Core] = {}
        for core in self.cores:
            missing = [n for n in core.needs if chosen.get(n[0]) != n[1]]
            if not missing:
                return core, blocked
            if len(missing) == 1:
                blocked.setdefault(missing[0], core)
        return None, blocked

    def _forced(self, chosen: Choices, blocked: dict[tuple[int, int], _Core]) -> int | None:
        """An item with at most one face left, if any."""
        counts: dict[int, int] = {}
        for item, _ in blocked:
            if item not in chosen:
                counts[item] = counts.get(item, 0) + 1
        best = max(counts, key=lambda item: counts[item], default=None)
        return best if best is not None and counts[best] >= 2 else None

    def _relaxed(self, chosen: Choices, stop: Callable[[], bool]) -> _Core | Functions | int:
        """A contradiction among the choices, or functions for all items, or an item to branch on.

        The item is one that the functions found for the choices leave at or below C.
        """
        terms = self._terms(chosen)
        vector, weights = self._linear_program(terms)
        if vector is None:
            exact = self._exact(terms, weights, stop)
            if isinstance(exact, _Core):
                return exact
            vector = exact
        excess = self._excess(vector)
        for item in range(len(self.items)):
            if item not in chosen:
                self.habit[item] = int(excess[item].argmax())
        missed = [i for i in range(len(self.items)) if i not in chosen and excess[i].max() <= _TINY]
        if missed:
            _, blocked = self._consequences(chosen)
            # Fewest faces left, then most contradictions so far: where the search ends soonest.
            return max(
                missed,
                key=lambda i: (sum((i, f) in blocked for f in _FACE_NUMBERS), self.conflicts[i]),
            )
        functions = self._rounded(vector)
        if functions is not None:
            return functions
        unchosen = next((i for i in range(len(self.items)) if i not in chosen), None)
        if unchosen is not None:
            return unchosen
        # Everything is chosen and the float solution is not exact: exact arithmetic has the answer.
        exact = self._exact(terms, np.ones(len(terms) + 1), stop)
        answer = exact if isinstance(exact, _Core) else self._rounded(exact)
        if answer is None:
            raise ArithmeticError("an exact solution of the linear program is none")
        return answer

    def _terms(self, chosen: Choices) -> list[tuple[int, int]]:
        """(place, face) of every inequality under these choices, but C > 0."""
        terms = [(place, face) for place in self.positive for face in _FACE_NUMBERS]
        terms += [(place, face) for item, face in chosen.items() for place in self.items[item]]
        return terms

    def _linear_program(
        self, terms: list[tuple[int, int]]
    ) -> tuple[list[Fraction] | None, np.ndarray]:
        """Functions (scaled, as one vector) if a float solver finds any, and its dual weights.

        max ε with row·x ≥ ε for every inequality (C > 0 is the last), |x| ≤ 1, ε ≤ 1.
        """
        from scipy.optimize import linprog

        d = self.problem.dimension + 1
        points = np.array([self.scaled[place] for place, _ in terms]).reshape(-1, d)
        faces = np.array([FACES[face] for _, face in terms], dtype=float).reshape(-1, 2)
        signs = np.array(
            [-1.0 if self.is_positive(self.places[p].ball) else 1.0 for p, _ in terms]
        )[:, None]
        rows = np.hstack(
            [faces[:, :1] * points, faces[:, 1:] * points, np.full((len(terms), 1), -1.0)]
        )
        rows = np.vstack([signs * rows, np.eye(2 * d + 1)[-1:]])
        matrix = np.hstack([-rows, np.ones((len(rows), 1))])
        cost = np.zeros(2 * d + 2)
        cost[-1] = -1.0
        result = linprog(
            cost, matrix, np.zeros(len(rows)), bounds=[(-1, 1)] * (2 * d + 2), method="highs"
        )
        if result.status != 0:
            return None, np.ones(len(rows))
        if result.x[-1] > _TINY:
            return [Fraction(float(v)) for v in result.x[:-1]], np.zeros(len(rows))
        return None, -np.asarray(result.ineqlin.marginals)

    def _exact(
        self, terms: list[tuple[int, int]], weights: np.ndarray, stop: Callable[[], bool]
    ) -> _Core | list[Fraction]:
        """What exact arithmetic says: first of the inequalities with a weight, then of all."""
        everything = list(range(len(weights)))
        support = [i for i in everything if weights[i] > _TINY]
        for used in (support, everything):
            rows = [self._row(terms, i) for i in used]
            n = 2 * self.problem.dimension + 3
            system = Inequalities(
                rows, [fmpq(0)] * len(rows), [True] * len(rows), [fmpq(-1)] * n, [fmpq(1)] * n
            )
            answer = decide(system, stop)
            if answer is None:
                raise StoppedError
            if isinstance(answer, Empty):
                return self._learn(terms, used, answer)
            solution = answer
        return _as_fractions(solution)

    def _row(self, terms: list[tuple[int, int]], i: int) -> list[fmpq]:
        """The inequality row·x > 0 in the scaled variables, exactly."""
        width = 2 * self.problem.dimension + 2
        if i == len(terms):
            return [fmpq(0)] * width + [fmpq(1)]
        place, face = terms[i]
        sign = -1 if self.is_positive(self.places[place].ball) else 1
        point = [sign * v / self.unit for v in self.places[place].point] + [Fraction(sign)]
        exact = [fmpq(v.numerator, v.denominator) for v in point]
        row = [v if used else fmpq(0) for used in FACES[face] for v in exact]
        return [*row, fmpq(-sign)]

    def _learn(self, terms: list[tuple[int, int]], used: list[int], answer: Empty) -> _Core:
        """Remember a contradiction and its images.

        One that speaks of a single face holds for each face; every one holds with h_1 and h_2
        exchanged.
        """
        denominator = lcm(*(int(w.q) for w in answer.weights))
        integers = [int(w.p) * (denominator // int(w.q)) for w in answer.weights]
        divisor = gcd(*integers)
        scale = 0
        found: list[tuple[int, int, int]] = []
        for i, weight in zip(used, integers, strict=True):
            if weight and i == len(terms):
                scale = weight // divisor
            elif weight:
                found.append((*terms[i], weight // divisor))
        faces = {face for _, face, _ in found}
        core = self._remember(Leaf(tuple(found), scale))
        if len(faces) == 1 and scale == 0:
            for other in set(_FACE_NUMBERS) - faces:
                self._remember(Leaf(tuple((p, other, w) for p, _, w in found), 0))
        else:
            self._remember(Leaf(tuple((p, _MIRRORED[f], w) for p, f, w in found), scale))
        return core

    def _remember(self, leaf: Leaf) -> _Core:
        needs = frozenset(
            (self.item_of[place], face) for place, face, _ in leaf.terms if place in self.item_of
        )
        core = _Core(len(self.leaves), needs)
        self.conflicts.update({item for item, _ in needs})
        self.leaves.append(leaf)
        self.cores.append(core)
        return core

    def _excess(self, vector: list[Fraction]) -> np.ndarray:
        """(items, 3): by how much each face exceeds C at an item's worst point, in floats."""
        d = self.problem.dimension + 1
        x = np.array([float(v) for v in vector])
        out = np.empty((len(self.items), len(FACES)))
        for i, item in enumerate(self.items):
            points = np.array([self.scaled[place] for place in item])
            h = points @ x[:d], points @ x[d : 2 * d]
            out[i] = [(p * h[0] + q * h[1]).min() - x[-1] for p, q in FACES]
        return out

    def _rounded(self, vector: list[Fraction]) -> Functions | None:
        """The functions with few bits, if they satisfy everything exactly."""
        for bits in (*_BITS, None):
            values = (
                vector if bits is None else [Fraction(round(v * 2**bits), 2**bits) for v in vector]
            )
            functions = self._functions(values)
            if functions.constant > 0 and self._satisfied(functions):
                return functions
        return None

    def _functions(self, vector: list[Fraction]) -> Functions:
        """The scaled vector as integers in the problem's own coordinates."""
        d = self.problem.dimension
        plain = [
            v if j % (d + 1) == d or j == 2 * d + 2 else v / self.unit for j, v in enumerate(vector)
        ]
        denominator = lcm(*(v.denominator for v in plain))
        integers = [int(v * denominator) for v in plain]
        divisor = gcd(*integers) or 1
        w = [v // divisor for v in integers]
        return Functions(
            (tuple(w[:d]), tuple(w[d + 1 : 2 * d + 1])), (w[d], w[2 * d + 1]), w[2 * d + 2]
        )

    def _satisfied(self, functions: Functions) -> bool:
        """Whether every point has what it needs, exactly."""
        excess = [functions.excess(place.point) for place in self.places]
        low = all(max(excess[place]) < 0 for place in self.positive)
        return low and all(
            any(all(excess[place][f] > 0 for place in item) for f in _FACE_NUMBERS)
            for item in self.items
        )


def _as_fractions(point: Point) -> list[Fraction]:
    return [Fraction(int(v.p), int(v.q)) for v in point.x]
