"""What linear programs prove is a proof to the checker, leaf by leaf, whatever the solver said."""

import io
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from tests.engines import hard_problem
from tests.proof.test_leaves import changes, recorded, stored
from tests.search.test_branch_and_bound import tied
from tests.search.test_proof_neuron_split import checked, short, write
from tests.strategies import random_network, random_property
from verifier.bounds.lp import relax
from verifier.core.errors import CertificateError, ExportError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Unknown, Witness
from verifier.proof.case import InvalidError
from verifier.search import lp, lp_tree, milp, proof_lp, proofs
from verifier.search.branch_and_bound import NeuronSplitTree
from verifier.search.lp_tree import ClauseTree, DualLeaf, LpEvidence, RegionLeaf, Split
from verifier.search.portfolio import certify
from verifier.search.problem import Deadline, problems

SHA = {"model_sha256": "a", "property_sha256": "b"}


def decide(engine, problem, bounds):
    if engine == "lp":
        return lp.run(problem, Deadline(30), bounds=bounds)
    if engine == "lp_tree":
        return lp_tree.run(problem, Deadline(30), bounds=bounds)
    return milp.run(problem, Deadline(30), solver=engine, bounds=bounds)


def nodes_of(evidence):
    """How many nodes of each kind the linear programs had."""
    count, stack = Counter(), [tree.root for tree in evidence.trees]
    while stack:
        node = stack.pop()
        count[type(node)] += 1
        stack += [node.inactive, node.active] if isinstance(node, Split) else []
    return count


def proof(path, network, prop, engine="lp_tree", spoil=None):
    """What linear programs proved and its trees, a proof at ``path``; None if nothing is proved."""
    count, trees = Counter(), {}

    def run(problem, bounds):
        verdict = decide(engine, problem, bounds)
        if isinstance(verdict, Proved):
            count.update(nodes_of(verdict.evidence))
            if spoil is not None:
                return Proved(spoil(verdict.evidence))
        return verdict

    for problem in problems(network, prop):
        if isinstance(problem, Witness):
            return None
        verdict = proof_lp.run(problem, Deadline(30), lambda bounds, p=problem: run(p, bounds))
        if not isinstance(verdict, Proved):
            return None
        assert isinstance(verdict.evidence, NeuronSplitTree)
        trees[problem.case] = verdict.evidence
    write(path, network, prop, trees)
    return count, list(trees.values())


@pytest.mark.parametrize("engine", ["lp", "lp_tree", "highs", "cbc", "scip"])
def test_random_instances(engine, tmp_path):
    """Every proof is valid and has the nodes of the search: nothing is solved or split again."""
    valid, kinds = 0, Counter()
    for seed in range(130 if engine in ("lp", "lp_tree") else 60):
        rng = np.random.default_rng(seed)
        network = random_network(rng, max_inputs=5, max_layers=3, max_width=8)
        prop = random_property(rng, network, max_cases=2)
        done = proof(path := tmp_path / "p.proof", network, prop, engine)
        if done is None:
            continue
        count, trees = done
        checked(path, network, prop)
        assert sum(len(tree.parent) for tree in trees) == sum(count.values())
        valid += 1
        kinds += count
    assert valid >= 15
    assert set(kinds) == ({DualLeaf} if engine == "lp" else {DualLeaf, RegionLeaf, Split})


@pytest.mark.parametrize("what", ["noise", "nothing", "no weights"])
def test_multipliers_that_prove_nothing_are_improved_or_the_node_is_split(what, tmp_path):
    """Whatever evidence claims, a leaf is one only if the checker's numbers close it."""
    noisy, more, valid = np.random.default_rng(0), 0, 0

    def noise(leaf):
        if what == "noise":
            return DualLeaf(noisy.normal(size=leaf.multipliers.shape), 1e-300)
        wrong = np.zeros_like(leaf.multipliers)
        if what == "no weights":
            wrong[: len(wrong) // 2] = leaf.multipliers[: len(wrong) // 2]
        return DualLeaf(wrong, 1.0)

    def spoilt(node):
        if isinstance(node, Split):
            return Split(node.layer, node.index, spoilt(node.inactive), spoilt(node.active))
        return noise(node) if isinstance(node, DualLeaf) else node

    def spoil(evidence):
        trees = tuple(ClauseTree(t.clause, spoilt(t.root)) for t in evidence.trees)
        return LpEvidence(evidence.case, evidence.bounds, trees)

    asked = [short("several clauses"), short("conjunctions")]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        network = random_network(rng, max_inputs=5, max_layers=3)
        asked.append((network, random_property(rng, network)))
    for network, prop in asked:
        done = proof(path := tmp_path / "p.proof", network, prop, spoil=spoil)
        if done is None:
            continue
        checked(path, network, prop)
        valid += 1
        more += sum(len(tree.parent) for tree in done[1]) > sum(done[0].values())
    assert valid >= 15
    assert more >= 1


def test_a_node_that_is_empty_without_its_clause(tmp_path):
    """relu(x) with x ≥ 1 assumed below 0: multipliers of the signs alone close that node."""
    network = Network(
        (
            Layer(np.array([[1.0], [1.0]]), np.array([0.0, -0.5]), np.ones(2, dtype=bool)),
            Layer(np.array([[1.0, -1.0]]), np.zeros(1), np.zeros(1, dtype=bool)),
        )
    )
    prop = Property(
        (Case(Box((-1,), (1,)), ((LinearConstraint(((0, Fraction(1)),), Fraction(2)),),)),), 1, 1
    )

    def spoil(evidence):
        """x ≤ 0 and x − 1/2 ≥ 0, found by the linear program, without the clause."""
        ((problem,),) = (list(problems(network, prop)),)
        relaxation = relax(problem.network, problem.box, list(evidence.bounds))
        empty = np.zeros(len(relaxation.system.rows[0]) + 1)
        # (x − z_0 = 0) − (x − z_1 = 1/2): z_1 − z_0 = −1/2, where z_1 ≥ 0 ≥ z_0.
        empty[relaxation.affine_rows[0]] = [1.0, -1.0]
        leaf = evidence.trees[0].root
        inner = Split(0, 1, leaf, DualLeaf(empty, 0.5))
        tree = ClauseTree(0, Split(0, 0, inner, leaf))
        return LpEvidence(evidence.case, evidence.bounds, (tree,))

    _, (tree,) = proof(path := tmp_path / "p.proof", network, prop, spoil=spoil)
    assert len(tree.parent) == 5
    assert checked(path, network, prop) == 5


def test_a_network_that_is_cut_off_has_no_rows(tmp_path):
    """relu(x − 2) on [−1, 1] is 0: the relaxation has no rows but the clause's."""
    layer = Layer(np.ones((1, 1)), np.array([-2.0]), np.ones(1, dtype=bool))
    clause = (LinearConstraint(((0, Fraction(1)),), Fraction(1, 2)),)
    prop = Property((Case(Box((-1,), (1,)), (clause,)),), 1, 1)
    assert proof(path := tmp_path / "p.proof", Network((layer,)), prop)
    assert checked(path, Network((layer,)), prop) == 1


@pytest.mark.parametrize("engine", ["lp", "milp"])
def test_the_engines_keep_what_a_proof_needs(engine, tmp_path):
    network, prop = short("several clauses")
    verdict = certify(network, prop, engine=engine, proof=True)
    if engine == "lp":
        assert isinstance(verdict, Unknown)
        return
    assert isinstance(verdict, Proved)
    assert isinstance(certify(network, prop, engine=engine).evidence[0], LpEvidence)
    stream = io.BytesIO()
    proofs.write(stream, network, prop, verdict, **SHA)
    (path := tmp_path / "p.proof").write_bytes(stream.getvalue())
    checked(path, network, prop)


def test_without_time_the_verdict_stands_and_has_no_proof():
    """The engine has answered, and its multipliers need more time than that."""
    network, prop = short("conjunctions")
    (problem,) = problems(network, prop)
    found = lp_tree.run(problem, Deadline(30)).evidence

    verdict = proof_lp.run(problem, Deadline(0), lambda bounds: Proved(found))
    assert verdict.evidence is found
    with pytest.raises(ExportError, match="linear programs not converted in time"):
        proofs.write(io.BytesIO(), network, prop, Proved((verdict.evidence,)), **SHA)


def test_a_time_limit_of_the_engine_is_its_answer():
    problem = hard_problem()
    verdict = proof_lp.run(problem, Deadline(0), lambda b: lp_tree.run(problem, Deadline(0), b))
    assert isinstance(verdict, Unknown)


def false_at_the_centre(network, prop):
    """The property with the outputs at the origin among the unsafe ones of every clause."""
    centre = network.exact([Fraction(0)] * network.n_inputs)
    clauses = tuple(
        tuple(LinearConstraint(c.terms, sum((v * centre[i] for i, v in c.terms), 0)) for c in k)
        for k in prop.cases[0].clauses
    )
    return Property((Case(prop.cases[0].box, clauses),), prop.n_inputs, prop.n_outputs)


@pytest.mark.parametrize("what", ["several clauses", "conjunctions", "tie"])
def test_every_column_corrupted_in_turn(what, tmp_path):
    """Refused, or (numbers that a proof may choose) a proof still; never one of what is false."""
    network, prop = tied().source if what == "tie" else short(what)
    proof(path := tmp_path / "p.proof", network, prop)
    blocks, false = recorded(path), false_at_the_centre(network, prop)
    rng, accepted, refused = np.random.default_rng(1), set(), 0
    for number, (name, block) in enumerate(blocks):
        for field, column in block.items():
            for changed in changes(rng, column) if len(column) else ():
                other = (name, {**block, field: changed})
                stored(path, [*blocks[:number], other, *blocks[number + 1 :]])
                with pytest.raises(CertificateError):
                    checked(path, network, false)
                try:
                    checked(path, network, prop)
                    accepted.add(field)
                except CertificateError:
                    refused += 1
    assert refused > 20
    free = {"slopes", "fine", "fine_leaf", "multiplier", "weight", "digits", "size", "units"}
    assert accepted <= free | {"side", "neuron", "sign", "unit", "layer"}


def test_a_dropped_leaf_and_exchanged_sides_are_refused(tmp_path):
    network, prop = short("several clauses")
    proof(path := tmp_path / "p.proof", network, prop)
    blocks = recorded(path)
    checked(stored(path, blocks), network, prop)
    trees = [i for i, (name, _) in enumerate(blocks) if name == "neurons"]
    for i in trees:
        with pytest.raises(InvalidError):
            checked(stored(path, [*blocks[:i], *blocks[i + 1 :]]), network, prop)
        name, block = blocks[i]
        if len(block["action"]) > 1:
            fewer = (name, {**block, "action": block["action"][1:]})
            with pytest.raises(InvalidError):
                checked(stored(path, [*blocks[:i], fewer, *blocks[i + 1 :]]), network, prop)
    # Multipliers and slopes of the leaves in the opposite order: those of the other side.
    i = max(trees, key=lambda i: len(blocks[i][1]["multiplier"]))
    name, block = blocks[i]
    turned = {**block, "multiplier": block["multiplier"][::-1], "slopes": block["slopes"][::-1]}
    with pytest.raises(InvalidError, match="not positive"):
        checked(stored(path, [*blocks[:i], (name, turned), *blocks[i + 1 :]]), network, prop)
