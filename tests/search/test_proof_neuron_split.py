"""What a neuron-splitting search proves is a proof to the checker, whatever the network is like."""

from fractions import Fraction

import numpy as np
import pytest

from constructions.dataset import load_dataset
from relucid.bundled import open_model
from tests.input_split_replay import provable
from tests.search.test_branch_and_bound import TREES, kinds, tied
from tests.strategies import random_network, random_property
from verifier.core.network import Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Witness
from verifier.proof.case import Case as Checked
from verifier.proof.case import InvalidError
from verifier.proof.check import check
from verifier.proof.format import Reader, Writer
from verifier.search import branch_and_bound, proof_neuron_split
from verifier.search.problem import Deadline, problems


def proof(path, network, prop):
    """The evidence of every case, and their proof at ``path``; None if nothing is proved."""
    found = {}
    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            return None
        verdict = branch_and_bound.run(problem, Deadline(20), keep_multipliers=True)
        if not isinstance(verdict, Proved):
            return None
        found[problem.case] = verdict.evidence
    write(path, network, prop, found)
    return list(found.values())


def write(path, network, prop, found):
    """The proof of trees, a case each."""
    extended = network.with_inputs_as_outputs() if prop.mixes_inputs else network
    with path.open("wb") as stream:
        writer = Writer(stream, {})
        for index in range(len(prop.cases)):
            writer.block("case", case=[index])
            case = Checked(extended, prop, index)
            if case.stack:
                proof_neuron_split.write(found[index], case, writer)
        writer.close()


def short(name, scales=(Fraction(1), Fraction(1), Fraction(1))):
    """The network and property of a tree, with coefficients of few bits, each times its scale."""
    network, prop = provable(*TREES[name]).source
    (case,) = prop.cases
    clauses = tuple(
        tuple(
            LinearConstraint(
                tuple((i, round(100 * v) * f / 128) for i, v in c.terms),
                100 * c.bound * f / 128,
                c.strict,
            )
            for c, f in zip(clause, scales, strict=False)
        )
        for clause in case.clauses
    )
    return network, Property((Case(case.box, clauses),), prop.n_inputs, prop.n_outputs)


def checked(path, network, prop):
    with Reader(path) as reader:
        return check(network, prop, reader)


def test_random_instances(tmp_path):
    """Trees, lemmas and exact leaves: all of them occur, and all proofs are valid."""
    valid = exact = lemmas = split = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        network = random_network(rng, max_inputs=5, max_layers=3, max_width=6)
        prop = random_property(rng, network, max_cases=2)
        trees = proof(path := tmp_path / "p.proof", network, prop)
        if trees is None:
            continue
        checked(path, network, prop)
        valid += 1
        exact += sum(len(tree.regions) for tree in trees)
        lemmas += sum(len(tree.lemmas) for tree in trees)
        split += sum(int((tree.parent >= 0).any()) for tree in trees)
    assert min(valid, exact, lemmas, split) >= 10, (valid, exact, lemmas, split)


@pytest.mark.parametrize("name", TREES)
def test_trees_of_every_kind(name, tmp_path):
    network, prop = short(name)
    trees = proof(path := tmp_path / "p.proof", network, prop)
    assert trees
    # Every node but those that the checker makes for the clauses of the root.
    clauses = len(prop.cases[0].clauses)
    assert checked(path, network, prop) == len(trees[0].parent) + (clauses > 1)


@pytest.mark.parametrize("kind", kinds())
def test_networks_of_every_kind(kind, tmp_path):
    network = Network(kinds()[kind])
    box = Box((-1, Fraction(-1, 3), 0), (1, Fraction(1, 3), 1))
    for bound in (50, 1000):
        constraint = LinearConstraint(((0, Fraction(1)), (1, Fraction(-1, 3))), Fraction(bound))
        prop = Property((Case(box, ((constraint,),)),), 3, 2)
        path = tmp_path / "p.proof"
        assert proof(path, network, prop)
        assert checked(path, network, prop) >= 1


def test_exact_ties(tmp_path):
    network, prop = tied().source
    (tree,) = proof(path := tmp_path / "p.proof", network, prop)
    assert tree.regions
    assert checked(path, network, prop) > len(tree.regions)


def test_coefficients_on_other_scales(tmp_path):
    """The checker multiplies a constraint by its denominator, the search may not have."""
    network, changed = short("conjunctions", (Fraction(1, 7), Fraction(2), Fraction(3, 8)))
    path = tmp_path / "p.proof"
    assert proof(path, network, changed)
    checked(path, network, changed)


def test_a_proof_for_another_property_or_network_is_refused(tmp_path):
    network, prop = short("several clauses")
    proof(path := tmp_path / "p.proof", network, prop)
    harder = tuple(
        tuple(LinearConstraint(c.terms, c.bound - 5, c.strict) for c in clause)
        for clause in prop.cases[0].clauses
    )
    changed = Property((Case(prop.cases[0].box, harder),), prop.n_inputs, prop.n_outputs)
    with pytest.raises(InvalidError):
        checked(path, network, changed)
    other, _ = provable(5, TREES["several clauses"][1], (2, 3)).source
    with pytest.raises(InvalidError):
        checked(path, other, prop)


def test_slopes_of_neurons_that_only_the_search_takes_for_unstable(tmp_path):
    """A convolution hands values ≥ 0 through ReLUs; floats see a lower end of -1e-17 there."""
    network = open_model("digits-conv-robust").network
    data = load_dataset("digits:test")
    center = [int(v) * data.scale for v in data.points[30]]
    box = Box.ball(center, Fraction(1, 10), (Fraction(0), Fraction(1)))
    prop = Property.robustness(box, int(data.labels[30]), 10)
    (tree,) = proof(path := tmp_path / "p.proof", network, prop)
    assert tree.lemmas
    assert checked(path, network, prop) == 10
