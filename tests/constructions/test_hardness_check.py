"""Proofs of impossibility are accepted as found, and refused with any field changed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from constructions.graphs import load_graph
from constructions.hardness import ColouringProblem
from constructions.hardness_balls import BallProblem
from constructions.hardness_check import (
    Branch,
    Impossibility,
    Leaf,
    Place,
    Refutation,
    check_impossibility,
)
from constructions.hardness_decision import decide
from verifier.core.errors import CertificateError

PROBLEM = ColouringProblem.of(load_graph("complete-4")).problem
CLAIM = decide(PROBLEM)


def changed(**fields):
    """The first refutation with some fields replaced, and the second as it was."""
    first, second = CLAIM.refutations
    return Impossibility((replace(first, **fields), second))


FIRST = CLAIM.refutations[0]


def with_leaf(k, leaf):
    return changed(leaves=(*FIRST.leaves[:k], leaf, *FIRST.leaves[k + 1 :]))


def with_place(k, place):
    return changed(places=(*FIRST.places[:k], place, *FIRST.places[k + 1 :]))


def refused(problem, claim, words):
    with pytest.raises(CertificateError, match=words):
        check_impossibility(problem, claim)


def test_the_proof_is_accepted():
    assert isinstance(CLAIM, Impossibility)
    check_impossibility(PROBLEM, CLAIM)
    assert CLAIM.leaves == sum(len(r.leaves) for r in CLAIM.refutations)


def test_a_proof_by_hand_is_accepted():
    # Two balls of different labels with a common point.
    problem = BallProblem(np.array([[0], [2]]), np.array([1, -1]), Fraction(1))
    places = (Place(0, (Fraction(1),)), Place(1, (Fraction(1),)))
    leaves = tuple(Leaf(((0, f, 1), (1, f, 1)), 0) for f in range(3))
    tree = Branch(1, ((0, 0), (2, 2)))  # the child of h_2 is left out by symmetry
    exchanged = Refutation(True, places, leaves, Branch(0, ((0, 0), (1, 1), (2, 2))))
    claim = Impossibility((Refutation(False, places, leaves, tree), exchanged))
    check_impossibility(problem, claim)
    smaller = BallProblem(problem.points, problem.labels, Fraction(999, 1000))
    refused(smaller, claim, "place 0 is outside ball 0")


def test_both_labellings_are_needed():
    first, second = CLAIM.refutations
    refused(PROBLEM, Impossibility((first, first)), "labels exchanged")
    refused(PROBLEM, Impossibility((second, first)), "labels exchanged")
    flipped = replace(first, flipped=True)
    refused(PROBLEM, Impossibility((first, flipped)), "labels exchanged")


@pytest.mark.parametrize("k", range(len(FIRST.leaves)))
def test_every_number_of_a_leaf_matters(k):
    leaf = FIRST.leaves[k]
    refused(PROBLEM, with_leaf(k, replace(leaf, scale=leaf.scale + 1)), "not 0 > 0")
    refused(PROBLEM, with_leaf(k, replace(leaf, scale=-1)), "must be an integer")
    refused(PROBLEM, with_leaf(k, Leaf((), 0)), "positive integers")
    refused(PROBLEM, with_leaf(k, replace(leaf, scale=Fraction(0))), "must be an integer")
    for i, (place, face, weight) in enumerate(leaf.terms):

        def term(*new, i=i):
            return replace(leaf, terms=(*leaf.terms[:i], new, *leaf.terms[i + 1 :]))

        refused(PROBLEM, with_leaf(k, term(place, face, weight + 1)), "not 0 > 0")
        refused(PROBLEM, with_leaf(k, term(place, face, 0)), "positive integers")
        refused(PROBLEM, with_leaf(k, term(place, face, -weight)), "positive integers")
        refused(PROBLEM, with_leaf(k, term(place, face, float(weight))), "positive integers")
        refused(PROBLEM, with_leaf(k, term(place, face, True)), "positive integers")
        refused(PROBLEM, with_leaf(k, term(place, (face + 1) % 3, weight)), "not 0 > 0")
        refused(PROBLEM, with_leaf(k, term(place, 3, weight)), "no face 3")
        refused(PROBLEM, with_leaf(k, term(99, face, weight)), "no place 99")
        other = next(p for p in range(len(FIRST.places)) if p != place)
        refused(PROBLEM, with_leaf(k, term(other, face, weight)), "not 0 > 0")
        fewer = replace(leaf, terms=leaf.terms[:i] + leaf.terms[i + 1 :])
        refused(PROBLEM, with_leaf(k, fewer), "not 0 > 0|positive integers")


@pytest.mark.parametrize("k", range(len(FIRST.places)))
def test_every_place_matters(k):
    place = FIRST.places[k]
    far = replace(place, point=(place.point[0] + 2, *place.point[1:]))
    refused(PROBLEM, with_place(k, far), f"place {k} is outside")
    near = replace(place, point=(place.point[0] + Fraction(1, 2), *place.point[1:]))
    refused(PROBLEM, with_place(k, near), "not 0 > 0")
    refused(PROBLEM, with_place(k, replace(place, ball=99)), "ball 99 of 10")
    refused(PROBLEM, with_place(k, replace(place, ball=-1)), "ball -1 of 10")
    refused(PROBLEM, with_place(k, replace(place, point=place.point[1:])), "coordinates")
    other = (place.ball + 1) % len(PROBLEM)
    refused(PROBLEM, with_place(k, replace(place, ball=other)), "outside")


def branches(tree, path=()):
    """Every branch with the way to it."""
    if isinstance(tree, Branch):
        yield path, tree
        for i, (_, child) in enumerate(tree.children):
            yield from branches(child, (*path, i))


def rebuilt(tree, path, new):
    if not path:
        return new
    i, *rest = path
    children = list(tree.children)
    children[i] = (children[i][0], rebuilt(children[i][1], rest, new))
    return replace(tree, children=tuple(children))


def test_every_case_of_the_tree_matters():
    count = 0
    for path, branch in branches(FIRST.tree):
        for i in range(len(branch.children)):
            fewer = replace(branch, children=branch.children[:i] + branch.children[i + 1 :])
            tree = rebuilt(FIRST.tree, path, fewer)
            if [c for c, _ in fewer.children] in ([0, 2], [2, 0]):
                continue  # maybe allowed by symmetry
            refused(PROBLEM, changed(tree=tree), "leaves out a face")
            count += 1
        positive = next(k for k, place in enumerate(FIRST.places) if PROBLEM.labels[place.ball] > 0)
        tree = rebuilt(FIRST.tree, path, replace(branch, place=positive))
        refused(PROBLEM, changed(tree=tree), "in no negative ball")
        tree = rebuilt(FIRST.tree, path, replace(branch, place=99))
        refused(PROBLEM, changed(tree=tree), "in no negative ball")
    assert count >= 5


def test_symmetry_is_used_only_where_it_holds():
    # Below a choice of h_1 the child of h_2 must be there.
    found = next(
        (path, b) for path, b in branches(FIRST.tree)
        if path and {f for f, _ in b.children} == {0, 1, 2}
    )  # fmt: skip
    path, branch = found
    kept = tuple(c for c in branch.children if c[0] != 1)
    tree = rebuilt(FIRST.tree, path, replace(branch, children=kept))
    top = FIRST.tree.children[path[0]][0]
    assert top == 0
    refused(PROBLEM, changed(tree=tree), "leaves out a face")


def test_a_leaf_may_use_only_what_was_chosen():
    refused(PROBLEM, changed(tree=0), "not chosen on its path")
    refused(PROBLEM, changed(tree=len(FIRST.leaves)), "there is no leaf")
    refused(PROBLEM, changed(tree=-1), "there is no leaf")


def test_a_proof_for_another_problem_is_refused():
    labels = -PROBLEM.labels
    refused(BallProblem(PROBLEM.points, labels, PROBLEM.mu), CLAIM, "as labelled")
    fewer = BallProblem(PROBLEM.points[:-1], PROBLEM.labels[:-1], PROBLEM.mu)
    refused(fewer, CLAIM, "ball 9 of 9")
