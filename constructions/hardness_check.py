"""Proofs that no network of width 2 solves a two-class problem, checked in rational arithmetic.

Only networks with two negative signs matter (lemma 2): the problem is solvable iff one of these two
systems is, in affine h_1, h_2 and C > 0, with h_3 = h_1 + h_2:

    h_1, h_2, h_3 < C on every ball of label +1,   max(h_1, h_2, h_3) > C on every ball of label −1,

and the same with the labels exchanged. A proof of impossibility is a tree for each of the two. An
inner node names a point of a negative ball: one of the three faces h_1, h_2, h_3 exceeds C there, a
child for each. A leaf has weights λ > 0 on some of the inequalities

    C − h_f(p) > 0 (p in a positive ball, any f),   h_f(p) − C > 0 (chosen on the path),   C > 0

whose weighted sum is 0 > 0, identically in (w_1, b_1, w_2, b_2, C). While no other face than h_3
has been chosen on the path, h_1 and h_2 can be exchanged, and the child of h_2 may be left out.

Nothing here knows how a proof was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from constructions.hardness_balls import BallProblem
from verifier.core.errors import CertificateError

FACES = ((1, 0), (0, 1), (1, 1))
"""Coefficients of h_1 and h_2 in each face; faces are numbered 0, 1, 2."""


@dataclass(frozen=True)
class Place:
    """A point of a ball.

    Args:
        ball: which ball.
        point: d rationals.
    """

    ball: int
    point: tuple[Fraction, ...]


@dataclass(frozen=True)
class Leaf:
    """Inequalities that cannot hold together.

    Args:
        terms: (place, face, weight): the inequality of this face at this place.
        scale: weight of C > 0.
    """

    terms: tuple[tuple[int, int, int], ...]
    scale: int


@dataclass(frozen=True)
class Branch:
    """Which face exceeds C at a place.

    Args:
        place: a place in a negative ball.
        children: (face, tree).
    """

    place: int
    children: tuple[tuple[int, Tree], ...]


Tree = int | Branch
"""A branch, or the number of a leaf."""


@dataclass(frozen=True)
class Refutation:
    """Why one of the two systems has no solution.

    Args:
        flipped: whether the labels are exchanged.
        places: what leaves and branches refer to.
        leaves: contradictions.
        tree: the cases.
    """

    flipped: bool
    places: tuple[Place, ...]
    leaves: tuple[Leaf, ...]
    tree: Tree


@dataclass(frozen=True)
class Impossibility:
    """No network of width 2 solves the problem: a refutation of each of the two systems."""

    refutations: tuple[Refutation, Refutation]

    @property
    def leaves(self) -> int:
        """Number of contradictions."""
        return sum(len(r.leaves) for r in self.refutations)


def check_impossibility(problem: BallProblem, claim: Impossibility) -> None:
    """No F = c + a_1 relu(h_1) + a_2 relu(h_2) has the right sign on all balls of the problem.

    Raises:
        CertificateError: the claim does not prove it.
    """
    if [r.flipped for r in claim.refutations] != [False, True]:
        raise CertificateError("expected one refutation as labelled and one with labels exchanged")
    for refutation in claim.refutations:
        _Checker(problem, refutation).check()


class _Checker:
    """The checks of one refutation."""

    def __init__(self, problem: BallProblem, refutation: Refutation) -> None:
        self.problem, self.claim = problem, refutation
        self.word = "labels exchanged" if refutation.flipped else "as labelled"

    def check(self) -> None:
        """Every place, every leaf, and the tree."""
        for k, place in enumerate(self.claim.places):
            self._place(k, place)
        needed = [self._leaf(k, leaf) for k, leaf in enumerate(self.claim.leaves)]
        pending: list[tuple[Tree, frozenset[tuple[int, int]]]] = [(self.claim.tree, frozenset())]
        while pending:
            tree, path = pending.pop()
            if isinstance(tree, Branch):
                for face, child in self._children(tree, path):
                    pending.append((child, path | {(tree.place, face)}))
            elif not 0 <= tree < len(needed):
                self._refuse(f"there is no leaf {tree}")
            elif not needed[tree] <= path:
                self._refuse(f"leaf {tree} uses a face that was not chosen on its path")

    def _refuse(self, reason: str) -> None:
        raise CertificateError(f"{self.problem.name}, {self.word}: {reason}")

    def _positive(self, place: int) -> bool:
        label = int(self.problem.labels[self.claim.places[place].ball])
        return (label > 0) != self.claim.flipped

    def _place(self, k: int, place: Place) -> None:
        if not 0 <= place.ball < len(self.problem):
            self._refuse(f"place {k} is in ball {place.ball} of {len(self.problem)}")
        centre = self.problem.point(place.ball)
        if len(place.point) != len(centre):
            self._refuse(f"place {k} has {len(place.point)} coordinates, not {len(centre)}")
        if any(abs(v - c) > self.problem.mu for v, c in zip(place.point, centre, strict=True)):
            self._refuse(f"place {k} is outside ball {place.ball}")

    def _leaf(self, k: int, leaf: Leaf) -> frozenset[tuple[int, int]]:
        """The chosen faces that a leaf needs, after checking that it is a contradiction."""
        weights = [weight for _, _, weight in leaf.terms]
        if not weights or any(type(w) is not int or w <= 0 for w in weights):
            self._refuse(f"leaf {k}: expected positive integers as weights")
        if type(leaf.scale) is not int or leaf.scale < 0:
            self._refuse(f"leaf {k}: the weight of C > 0 must be an integer ≥ 0")
        d = self.problem.dimension
        total = [Fraction(0)] * (2 * d + 2)
        constant = Fraction(leaf.scale)
        chosen = set()
        for place, face, weight in leaf.terms:
            if not 0 <= place < len(self.claim.places) or not 0 <= face < len(FACES):
                self._refuse(f"leaf {k}: there is no place {place} or no face {face}")
            positive = self._positive(place)
            signed = -weight if positive else weight
            if not positive:
                chosen.add((place, face))
            row = (*self.claim.places[place].point, Fraction(1))
            for unit, used in enumerate(FACES[face]):
                if used:
                    for j, v in enumerate(row):
                        total[unit * (d + 1) + j] += signed * v
            constant -= signed
        if any(total) or constant != 0:
            self._refuse(f"leaf {k}: the weighted sum of its inequalities is not 0 > 0")
        return frozenset(chosen)

    def _children(
        self, branch: Branch, path: frozenset[tuple[int, int]]
    ) -> tuple[tuple[int, Tree], ...]:
        """The children, after checking that no case is missing."""
        if not 0 <= branch.place < len(self.claim.places) or self._positive(branch.place):
            self._refuse(f"a branch at place {branch.place}, which is in no negative ball")
        faces = {face for face, _ in branch.children}
        symmetric = all(face == 2 for _, face in path)
        if not faces >= ({0, 2} if symmetric else {0, 1, 2}):
            self._refuse(f"a branch at place {branch.place} leaves out a face")
        return branch.children
