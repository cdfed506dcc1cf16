"""Graphs by name and from files; colourings against brute force."""

import gzip
import itertools
import random

import networkx
import pytest

from constructions.graphs import (
    Hypergraph,
    UndecidedError,
    fano,
    load_graph,
    moser,
    random_hypergraph,
    read_dimacs,
    weak_colouring,
)
from verifier.core.errors import DataError


def brute_force(graph: Hypergraph, colours: int) -> bool:
    """Every assignment."""
    return any(
        all(len({c[v] for v in e}) > 1 for e in graph.edges)
        for c in itertools.product(range(colours), repeat=graph.n)
    )


@pytest.mark.parametrize(
    ("name", "n", "m", "chromatic"),
    [
        ("petersen", 10, 15, 3),
        ("moser", 7, 11, 4),
        ("complete-5", 5, 10, 5),
        ("cycle-5", 5, 5, 3),
        ("cycle-6", 6, 6, 2),
        ("wheel-5", 6, 10, 4),
        ("wheel-6", 7, 12, 3),
        ("mycielski-4", 11, 20, 4),
        ("chvatal", 12, 24, 4),
        ("moebius-kantor", 16, 24, 2),
        ("icosahedral", 12, 30, 4),
    ],
)
def test_named_graphs_have_their_chromatic_numbers(name, n, m, chromatic):
    graph = load_graph(name)
    assert (graph.n, len(graph.edges), graph.largest_edge) == (n, m, 2)
    assert weak_colouring(graph, chromatic - 1) is None
    colours = weak_colouring(graph, chromatic)
    assert graph.monochromatic(colours) is None
    assert set(colours) == set(range(chromatic))


def test_moser_is_a_unit_distance_graph_of_11_edges():
    # Two rhombi of triangles with a common vertex: degrees 4, 3, 3, 3, 3, 3, 3.
    graph = networkx.Graph(moser().edges)
    assert sorted(d for _, d in graph.degree) == [3] * 6 + [4]
    assert networkx.is_connected(graph)
    assert sum(networkx.triangles(graph).values()) == 3 * 4


def test_fano_is_a_projective_plane():
    lines = [set(line) for line in fano().edges]
    assert all(len(a & b) == 1 for a, b in itertools.combinations(lines, 2))
    assert all(
        sum({p, q} <= line for line in lines) == 1 for p, q in itertools.combinations(range(7), 2)
    )
    assert weak_colouring(fano(), 2) is None
    assert fano().monochromatic(weak_colouring(fano(), 3)) is None


def test_backtracking_agrees_with_brute_force():
    rng = random.Random(1)
    answers = set()
    for seed in range(120):
        n, size, q = rng.randint(3, 6), rng.choice((2, 3)), rng.choice((2, 3))
        graph = load_graph(f"random{'' if size == 2 else 3}-{n}-{rng.randint(1, n - 2)}-{seed}")
        most = n * (n - 1) // 2
        more = random_hypergraph(n, rng.randint(1, most), 2, seed)
        graph = Hypergraph(n, tuple(sorted({*graph.edges, *more.edges})))
        colours = weak_colouring(graph, q)
        assert (colours is not None) == brute_force(graph, q)
        answers.add((q, colours is not None))
        if colours is not None:
            assert graph.monochromatic(colours) is None
            assert max(colours) < q
    assert len(answers) == 4


def test_backtracking_agrees_with_networkx_on_larger_bipartite_graphs():
    for seed in range(20):
        graph = random_hypergraph(30, 24, 2, seed)
        assert (weak_colouring(graph, 2) is not None) == networkx.is_bipartite(
            networkx.Graph(graph.edges)
        )


def test_an_apex_asks_for_one_colour_more():
    for seed in range(30):
        graph = random_hypergraph(6, 3 + seed % 15, 3, seed)
        assert (weak_colouring(graph, 2) is None) == (weak_colouring(graph.with_apex(), 3) is None)


def test_a_search_that_was_stopped_is_no_answer():
    steps = iter(range(10))
    with pytest.raises(UndecidedError):
        weak_colouring(load_graph("mycielski-4"), 3, stop=lambda: next(steps, None) is None)


def test_a_large_sparse_graph_is_coloured():
    graph = load_graph("random-3000-4000-1")
    colours = weak_colouring(graph, 3)
    assert graph.monochromatic(colours) is None
    assert len(colours) == 3000


def test_an_edge_that_has_one_colour_is_named():
    assert fano().monochromatic((0, 0, 0, 1, 1, 1, 1)) == (0, 1, 2)


def test_random_edges_are_different_and_repeatable():
    graph = load_graph("random3-9-40-7")
    assert len(set(graph.edges)) == 40
    assert all(len(e) == 3 for e in graph.edges)
    assert graph == load_graph("random3-9-40-7") != load_graph("random3-9-40-8")
    sparse = load_graph("random-500-100-7")
    assert (sparse.n, len(set(sparse.edges))) == (500, 100)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("random-4-7-1", "4 vertices have 6 edges"),
        ("random3-2-1-1", "2 vertices have 0 edges"),
        ("cycle-2", "from 3 to 1000"),
        ("complete-1001", "from 2 to 1000"),
        ("mycielski-13", "from 1 to 12"),
        ("nobody", "no graph 'nobody'"),
        ("/", "is a folder"),
    ],
)
def test_names_that_mean_nothing_are_refused(spec, words):
    with pytest.raises(DataError, match=words):
        load_graph(spec)


@pytest.mark.parametrize(
    ("n", "edges", "words"),
    [
        (0, (), "0 vertices"),
        (100_001, (), "100001 vertices"),
        (3, ((0,),), "at least two vertices"),
        (3, ((1, 1),), "increasing"),
        (3, ((2, 1),), "increasing"),
        (3, ((1, 3),), "from 0 to 2"),
        (3, ((-1, 1),), "from 0 to 2"),
        (3, ((0, 1), (0, 1)), "twice"),
    ],
)
def test_hypergraphs_are_checked(n, edges, words):
    with pytest.raises(DataError, match=words):
        Hypergraph(n, edges)


# ----- DIMACS files

TRIANGLE = "c a triangle\np edge 3 3\ne 1 2\ne 2 3\ne 1 3\n"


def written(tmp_path, text, name="graph.col"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_is_read(tmp_path):
    path = written(tmp_path, TRIANGLE)
    assert read_dimacs(path) == Hypergraph(3, ((0, 1), (0, 2), (1, 2)), "graph.col")
    assert load_graph(str(path)) == read_dimacs(path)
    packed = written(tmp_path, gzip.compress(TRIANGLE.encode()), "graph.col.gz")
    assert read_dimacs(packed).edges == read_dimacs(path).edges


def test_what_published_files_do_is_understood(tmp_path):
    both = "p col 3 4\nn 1 5\n\ne 1 2\ne 2 1\ne 2 3\ne 3 2\n"
    assert read_dimacs(written(tmp_path, both)).edges == ((0, 1), (1, 2))
    assert read_dimacs(written(tmp_path, both.replace("3 4", "3 2"))).edges == ((0, 1), (1, 2))
    once = "p edges 3 4\ne 1 2\ne 2 3\n"  # M counts both directions, the lines do not
    assert read_dimacs(written(tmp_path, once)).edges == ((0, 1), (1, 2))
    again = TRIANGLE + "e 1 2\n"  # M counts the different edges
    assert len(read_dimacs(written(tmp_path, again)).edges) == 3
    hyper = "p hyper 4 2\ne 1 2 3\ne 4 2\n"
    assert read_dimacs(written(tmp_path, hyper)).edges == ((0, 1, 2), (1, 3))


def test_networkx_and_the_reader_agree(tmp_path):
    graph = networkx.gnm_random_graph(20, 50, seed=3)
    lines = [f"e {b + 1} {a + 1}" for a, b in graph.edges]
    found = read_dimacs(written(tmp_path, "\n".join(["p edge 20 50", *lines])))
    assert networkx.utils.graphs_equal(networkx.Graph(found.edges), graph)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":0: no line 'p edge N M'"),
        ("c nothing\n", ":1: no line 'p edge N M'"),
        ("e 1 2\np edge 2 1\n", ":1: an edge before the p line"),
        ("p edge 3\n", ":1: expected 'p edge N M'"),
        ("p edge 3 x\n", ":1: expected 'p edge N M'"),
        ("p edge 3 -1\n", ":1: expected 'p edge N M'"),
        ("p cnf 3 1\n", ":1: expected 'p edge N M'"),
        ("p edge 0 0\n", ":1: 0 vertices"),
        ("p edge 999999999 1\n", ":1: 999999999 vertices"),
        (TRIANGLE + "p edge 3 3\n", ":6: a second p line"),
        (TRIANGLE.replace("e 2 3", "e 2 2"), ":4: a self loop"),
        (TRIANGLE.replace("e 2 3", "e 2 4"), ":4: vertex 4 is not one of 1..3"),
        (TRIANGLE.replace("e 2 3", "e 0 2"), ":4: vertex 0 is not one of 1..3"),
        (TRIANGLE.replace("e 2 3", "e 2 three"), ":4: expected vertex numbers"),
        (TRIANGLE.replace("e 2 3", "e 2"), ":4: expected two vertices, got 1"),
        (TRIANGLE.replace("e 2 3", "e 1 2 3"), ":4: expected two vertices, got 3"),
        (TRIANGLE.replace("e 2 3", "q 2 3"), ":4: expected c, p, e or n, got 'q'"),
        (TRIANGLE.replace("e 1 3\n", ""), ":4: 3 edges were announced, but 2 lines"),
        (TRIANGLE.replace("e 1 3\n", ""), "truncated"),
        (TRIANGLE.replace("3 3", "3 2"), ":5: 2 edges were announced, but 3 lines hold 3"),
        ("p hyper 4 1\ne 1 2 1\n", ":2: a self loop, or a vertex twice"),
        ("p hyper 4 1\ne 1\n", ":2: expected two or more vertices"),
        (b"p edge 3 3\n\xff\n", "not a text file"),
        (b"\x1f\x8b broken", "gzip"),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_dimacs(path)
    assert words in str(caught.value)
    assert "graph.col" in str(caught.value)
