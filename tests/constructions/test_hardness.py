"""The reductions: colouring -> network -> colouring, and colourings in networks of any origin."""

import random
from fractions import Fraction

import numpy as np
import pytest
import z3

from constructions.exact_layer import exact_layer
from constructions.graphs import Hypergraph, fano, load_graph, random_hypergraph, weak_colouring
from constructions.hardness import (
    SIGNS,
    ColouringProblem,
    SplittingProblem,
    one_output,
    scores,
)
from constructions.hardness_balls import BallProblem, NormalForm, margin, require_solves
from verifier.core.errors import CertificateError, DataError
from verifier.core.network import Network
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx


def network(rows, biases, out, constant):
    return Network(
        (exact_layer(rows, biases, relu=True), exact_layer([out], [constant], relu=False))
    )


def at_radius(problem, mu):
    return BallProblem(problem.points, problem.labels, Fraction(mu), problem.name)


def literal(problem, signs):
    """A network right on all centres with these output signs, by z3: relu is max(0, h), no lemma.

    Returns None if there is none.
    """
    solver = z3.SolverFor("QF_LRA")
    d = problem.dimension
    w = [[z3.Real(f"w{t}_{j}") for j in range(d)] for t in (0, 1)]
    b = [z3.Real("b0"), z3.Real("b1")]
    c = z3.Real("c")
    for i, y in enumerate(problem.labels.tolist()):
        r = []
        for t in (0, 1):
            h = b[t] + z3.Sum([v * w[t][j] for j, v in enumerate(problem.point(i))])
            v = z3.Real(f"r{t}_{i}")
            solver.add(v >= 0, v >= h, z3.Or(v <= 0, v <= h))
            r.append(v)
        value = signs[0] * r[0] + signs[1] * r[1] + c
        solver.add(value > 0 if y > 0 else value < 0)
    answer = solver.check()
    assert answer != z3.unknown
    if answer == z3.unsat:
        return None
    model = solver.model()

    def number(v):
        return Fraction(str(model.eval(v, model_completion=True)))

    return network([[number(v) for v in row] for row in w], list(map(number, b)), signs, number(c))


ALL_SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("petersen", 2),
        ("moebius-kantor", 2),
        ("dodecahedral", 2),
        ("fano", 2),
        ("complete-3", 2),
        ("complete-7", 3),
        ("complete-15", 4),
        ("random3-12-40-1", 3),
    ],
)
def test_a_colouring_becomes_a_network_and_comes_back(name, width):
    graph = load_graph(name)
    reduction = ColouringProblem.of(graph, width)
    colours = weak_colouring(graph, reduction.colours)
    made = reduction.network(colours)
    assert (made.n_inputs, made.width, made.depth) == (graph.n, width, 2)
    assert require_solves(reduction.problem, made).value >= reduction.promise > 0
    # At radius 0, and just below the limit of the theorem.
    limit = Fraction(reduction.scale, 2 * graph.largest_edge * width * graph.n)
    assert limit >= 2 * reduction.problem.mu
    for mu in (0, limit * Fraction(999, 1000)):
        assert margin(at_radius(reduction.problem, mu), made).value > 0
    back = reduction.colouring(made)
    assert graph.monochromatic(back) is None
    assert max(back) < reduction.colours


def test_the_instance_is_that_of_the_theorem():
    reduction = ColouringProblem.of(load_graph("cycle-5"))
    assert (reduction.scale, reduction.problem.mu) == (16 * 5, 1)
    points = reduction.problem.points
    assert np.array_equal(points[:5], 80 * np.eye(5, dtype=int))
    assert reduction.problem.labels.tolist() == [-1] * 5 + [1] * 5
    assert points[5].tolist() == [40, 40, 0, 0, 0]
    mixed = ColouringProblem.of(Hypergraph(4, ((0, 1), (1, 2, 3))))
    assert mixed.problem.points[-2:].sum(axis=1).tolist() == [mixed.scale] * 2
    split = SplittingProblem.of(Hypergraph(3, ((0, 1, 2),)))
    assert (split.problem.points / split.scale).tolist() == [
        [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, -1],
        [1, 1, 1, 0],
    ]  # fmt: skip
    assert split.problem.labels.tolist() == [-1, -1, -1, 1, -1, -1, 1]
    assert split.problem.mu / split.scale == Fraction(1, 24)


RHOS = (None, *(Fraction(p, 1000) for p in (10, 100, 250, 400, 490, 499)))


@pytest.mark.parametrize("signs", SIGNS)
@pytest.mark.parametrize("rho", RHOS)
def test_a_splitting_becomes_a_network_and_comes_back(rho, signs):
    for seed in range(6):
        graph = random_hypergraph(4 + seed, 4, 3, seed)
        colours = weak_colouring(graph, 2)
        reduction = SplittingProblem.of(graph, rho)
        made = reduction.network(colours, signs)
        found = require_solves(reduction.problem, made)
        assert found.exact
        assert found.value >= reduction.promise > 0
        assert [u.sign for u in NormalForm.of(made).units] == [{"+": 1, "-": -1}[s] for s in signs]
        assert graph.monochromatic(reduction.colouring(made)) is None
        if rho is not None:  # the radius is ρ λ(D)
            p, y = reduction.problem.points, reduction.problem.labels
            lam = min(np.abs(a - b).max() for a in p[y > 0] for b in p[y < 0])
            assert reduction.problem.mu == rho * int(lam)


def test_colourings_are_found_in_networks_of_every_sign_pattern():
    rng = random.Random(5)
    patterns = set()
    for _ in range(12):
        n = rng.randint(4, 6)
        graph = random_hypergraph(n, rng.randint(3, n + 1), 2, rng.randint(0, 999))
        problem = ColouringProblem.of(graph)
        for signs in ALL_SIGNS:
            made = literal(problem.problem, signs)
            if made is not None:
                patterns.add(("colouring", signs))
                back = problem.colouring(made)
                assert graph.monochromatic(back) is None
                assert max(back) < 3
    for _ in range(8):
        graph = random_hypergraph(5, rng.randint(2, 6), 3, rng.randint(0, 999))
        problem = SplittingProblem.of(graph)
        for signs in ALL_SIGNS:
            made = literal(problem.problem, signs)
            if made is not None:
                patterns.add(("splitting", signs))
                back = problem.colouring(made)
                assert graph.monochromatic(back) is None
                assert max(back) < 2
    # F < 0 must not be convex in a splitting instance: (+,+) never.
    assert {s for kind, s in patterns if kind == "splitting"} == set(ALL_SIGNS[1:])
    assert {s for kind, s in patterns if kind == "colouring"} >= set(ALL_SIGNS[1:])


def test_a_vertex_on_the_third_face_only_is_coloured_as_the_proof_says():
    # Vertex 0 exceeds c only in h_1 + h_2.
    graph = Hypergraph(3, ((0, 1, 2),))
    reduction = SplittingProblem.of(graph)
    made = network([[3, 5, -20, 5], [3, -20, 5, -5]], [0, 0], [-1, -1], 4 * reduction.scale)
    form = NormalForm.of(made)
    heights = [unit.before(reduction.problem.point(0)) for unit in form.units]
    assert max(heights) < form.constant < sum(heights)
    assert reduction.colouring(made) == (0, 0, 1)


# ----- simplifications that are wrong


def test_centroids_without_an_apex_do_not_decide_splitting():
    assert weak_colouring(fano(), 2) is None
    reduction = ColouringProblem.of(fano())
    made = reduction.network(weak_colouring(fano(), 3))
    assert margin(at_radius(reduction.problem, 0), made).value > 0


def test_blum_rivest_points_without_the_gadget_do_not_decide_splitting():
    full = SplittingProblem.of(fano())
    keep = [i for i in range(len(full.problem)) if i not in (8, 9)]
    bare = BallProblem(
        full.problem.points[keep], full.problem.labels[keep], Fraction(0), "no gadget"
    )
    # |2 (Σ x_j − 1)| − 1: a convex F < 0, signs (+,+).
    k = full.scale
    row = [2] * 7 + [0]
    made = network([row, [-v for v in row]], [-2 * k, 2 * k], [1, 1], -k)
    assert require_solves(bare, made).value == k
    with pytest.raises(CertificateError, match="wrong at point 8"):
        full.colouring(made)


# ----- what is refused


def test_networks_that_are_wrong_on_the_centres_give_no_colouring():
    reduction = ColouringProblem.of(load_graph("petersen"))
    made = reduction.network(weak_colouring(reduction.graph, 3))
    hidden, last = made.layers
    rows = [[-1 if j == 4 else int(v) for j, v in enumerate(row)] for row in hidden.dense]
    with pytest.raises(CertificateError, match=r"wrong at point 4 of petersen.* F = "):
        reduction.colouring(Network((exact_layer(rows, [0, 0], relu=True), last)))
    with pytest.raises(CertificateError, match="expected 10 inputs and width ≤ 2"):
        reduction.colouring(network([[1] * 10] * 3, [0] * 3, [1] * 3, 0))
    with pytest.raises(CertificateError, match="expected 10 inputs"):
        reduction.colouring(network([[1] * 9] * 2, [0] * 2, [1] * 2, 0))


@pytest.mark.parametrize(
    ("colours", "words"),
    [
        ((0,) * 7, r"edge \(0, 1, 2\) have one colour"),
        ((0, 1, 2, 0, 1, 2), "each of 7 vertices"),
        ((0, 1, 2, 0, 1, 2, 3), "from 0 to 2"),
        ((0, 1, 2, 0, 1, 2, -1), "from 0 to 2"),
    ],
)
def test_colourings_are_checked(colours, words):
    with pytest.raises(DataError, match=words):
        ColouringProblem.of(fano()).network(colours)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ColouringProblem.of(Hypergraph(3, ())), "no edges"),
        (lambda: ColouringProblem.of(fano(), 1), "width from 2 to 6"),
        (lambda: ColouringProblem.of(fano(), 7), "width from 2 to 6"),
        (lambda: ColouringProblem.of(Hypergraph(40, (tuple(range(40)),))), r"above 2\^53"),
        (lambda: SplittingProblem.of(Hypergraph(3, ())), "no edges"),
        (lambda: SplittingProblem.of(load_graph("petersen")), "edges of 3 vertices"),
        (lambda: SplittingProblem.of(fano(), Fraction(1, 2)), "between 0 and λ/2"),
        (lambda: SplittingProblem.of(fano(), Fraction(0)), "between 0 and λ/2"),
        (lambda: SplittingProblem.of(fano(), Fraction(1, 3**40)), r"above 2\^53"),
        (lambda: ColouringProblem.of(load_graph("random-60000-9-1")), "GiB"),
    ],
)
def test_instances_that_make_no_sense_are_refused(make, words):
    with pytest.raises(DataError, match=words):
        make()


def test_other_signs_are_refused():
    graph = Hypergraph(3, ((0, 1, 2),))
    with pytest.raises(DataError, match="expected signs"):
        SplittingProblem.of(graph).network((0, 1, 1), "++")


# ----- the exported network


def test_the_exported_scores_are_those_of_the_network(tmp_path):
    reduction = ColouringProblem.of(load_graph("petersen"))
    made = reduction.network(weak_colouring(reduction.graph, 3))
    two = scores(made)
    path = tmp_path / "petersen.onnx"
    assert export_onnx(two, path) == "float32"
    read = load_model(path).network
    for i, y in enumerate(reduction.problem.labels.tolist()):
        x = reduction.problem.point(i)
        value = made.exact(x)[0]
        assert read.exact(x) == two.exact(x) == (-value, value)
        assert one_output(read).exact(x) == (2 * value,)
        assert one_output(made).exact(x) == (value,)
        assert (value > 0) == (y > 0)


def test_other_outputs_are_refused():
    for count, relu in ((3, False), (1, True), (2, True)):
        hidden = exact_layer([[1, 1]], [0], relu=True)
        last = exact_layer([[1]] * count, [0] * count, relu=relu)
        with pytest.raises(CertificateError, match="expected one output"):
            one_output(Network((hidden, last)))
