"""Graphs and hypergraphs to be coloured: by name, at random, or from a DIMACS file.

A weak q-colouring gives every vertex one of q colours so that no edge has all its vertices in one
colour. For edges of two vertices this is the colouring of graphs; q = 2 is set splitting.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from pathlib import Path

from verifier.core.errors import DataError
from verifier.core.files import read_bytes

Edge = tuple[int, ...]

MAX_VERTICES = 100_000
MAX_EDGES = 1_000_000
_MAX_BYTES = 2**28

#: Graphs that networkx has under ``NAME_graph``.
_NETWORKX = (
    "bull", "chvatal", "cubical", "desargues", "diamond", "dodecahedral", "frucht", "heawood",
    "hoffman_singleton", "house", "icosahedral", "moebius_kantor", "octahedral", "pappus",
    "petersen", "tetrahedral", "tutte",
)  # fmt: skip
_MOSER = "01 02 12 13 23 04 05 45 46 56 36"
_FANO = "012 034 056 135 146 236 245"
_FAMILY = re.compile(r"(complete|cycle|wheel|mycielski)-(\d{1,6})")
_RANDOM = re.compile(r"(random|random3)-(\d{1,6})-(\d{1,7})-(\d{1,9})")

NAMES = (
    *(name.replace("_", "-") for name in _NETWORKX),
    "moser", "fano", "complete-N", "cycle-N", "wheel-N", "mycielski-N",
    "random-N-M-SEED", "random3-N-M-SEED",
)  # fmt: skip
"""What ``load_graph`` knows: M random edges of 2 (``random``) or 3 vertices (``random3``)."""


@dataclass(frozen=True)
class Hypergraph:
    """Vertices 0..n-1 and edges of at least two of them.

    Args:
        n: number of vertices, at least 1.
        edges: each one increasing; no edge twice.
        name: shown in messages.

    Raises:
        DataError: an edge of fewer than two vertices, one that is not increasing (a self loop, for
            instance), one out of range, or one that comes twice.
    """

    n: int
    edges: tuple[Edge, ...]
    name: str = "graph"

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_VERTICES or len(self.edges) > MAX_EDGES:
            raise DataError(
                f"{self.name}: {self.n} vertices and {len(self.edges)} edges; expected 1 to "
                f"{MAX_VERTICES} vertices and at most {MAX_EDGES} edges"
            )
        for edge in self.edges:
            if len(edge) < 2 or any(a >= b for a, b in pairwise(edge)):
                raise DataError(
                    f"{self.name}: edge {edge}: expected at least two vertices, increasing"
                )
            if edge[0] < 0 or edge[-1] >= self.n:
                raise DataError(
                    f"{self.name}: edge {edge}: expected vertices from 0 to {self.n - 1}"
                )
        if len(set(self.edges)) < len(self.edges):
            raise DataError(f"{self.name}: an edge comes twice")

    @property
    def largest_edge(self) -> int:
        """s, the number of vertices of the largest edge; 0 without edges."""
        return max(map(len, self.edges), default=0)

    def monochromatic(self, colours: Sequence[int]) -> Edge | None:
        """An edge whose vertices all have one colour, or None: then this is a weak colouring."""
        return next((e for e in self.edges if len({colours[v] for v in e}) == 1), None)

    def with_apex(self) -> Hypergraph:
        """One more vertex, joined to every other one by an edge of two.

        It is weakly 3-colourable iff the hypergraph is weakly 2-colourable.
        """
        more = tuple((v, self.n) for v in range(self.n))
        return Hypergraph(self.n + 1, (*self.edges, *more), f"{self.name} with apex")


class UndecidedError(Exception):
    """The caller's limit was reached before the search for a colouring was complete."""


def weak_colouring(
    graph: Hypergraph, colours: int, *, stop: Callable[[], bool] = lambda: False
) -> tuple[int, ...] | None:
    """A weak colouring with 0..colours-1, or None if there is none, by complete backtracking.

    The vertex with the fewest possible colours comes next (as in DSATUR); colours that have not
    been used are alike, so that only one of them is tried.

    Args:
        graph: what to colour.
        colours: how many there are.
        stop: asked before every step.

    Raises:
        UndecidedError: ``stop`` said so.
    """
    partial = _PartialColouring(graph)
    stack: list[tuple[int, Iterator[int]]] = []
    while not stop():
        if len(stack) == graph.n:
            return tuple(c for c in partial.chosen if c is not None)
        v = partial.hardest()
        stack.append((v, iter(partial.options(v, colours))))
        while (colour := next(stack[-1][1], None)) is None:
            stack.pop()
            if not stack:
                return None
            partial.assign(stack[-1][0], None)
        partial.assign(stack[-1][0], colour)
    raise UndecidedError


class _PartialColouring:
    """Colours of some vertices, and the colours that these forbid to each of the others."""

    def __init__(self, graph: Hypergraph) -> None:
        self.chosen: list[int | None] = [None] * graph.n
        self.forbidden: list[set[int]] = [set() for _ in range(graph.n)]
        self.free = set(range(graph.n))
        self.used: dict[int, int] = {}
        self.touching: list[list[Edge]] = [[] for _ in range(graph.n)]
        for edge in graph.edges:
            for v in edge:
                self.touching[v].append(edge)

    def assign(self, v: int, colour: int | None) -> None:
        """Give the vertex a colour, or take it away."""
        old = self.chosen[v]
        if old is not None:
            self.used[old] -= 1
        if colour is not None:
            self.used[colour] = self.used.get(colour, 0) + 1
        self.chosen[v] = colour
        (self.free.add if colour is None else self.free.discard)(v)
        for u in {u for edge in self.touching[v] for u in edge if u != v}:
            self.forbidden[u] = set()
            for edge in self.touching[u]:
                others = {self.chosen[w] for w in edge if w != u}
                if len(others) == 1:
                    self.forbidden[u] |= {c for c in others if c is not None}

    def hardest(self) -> int:
        """A vertex without colour that has most colours forbidden; of these, most edges."""
        return max(self.free, key=lambda v: (len(self.forbidden[v]), len(self.touching[v]), -v))

    def options(self, v: int, colours: int) -> list[int]:
        """Colours that are not forbidden; only the first of those that nobody has."""
        fresh = 1 + max((c for c, count in self.used.items() if count), default=-1)
        return [c for c in range(min(fresh + 1, colours)) if c not in self.forbidden[v]]


def moser() -> Hypergraph:
    """The Moser spindle: 7 vertices, 11 edges, unit distances in the plane, no 3-colouring."""
    return _from_digits(_MOSER, "moser")


def fano() -> Hypergraph:
    """The Fano plane: 7 points and 7 lines of three; no 2-colouring, but weak 3-colourings."""
    return _from_digits(_FANO, "fano")


def _from_digits(text: str, name: str) -> Hypergraph:
    return Hypergraph(7, tuple(tuple(map(int, word)) for word in text.split()), name)


def random_hypergraph(n: int, edges: int, size: int, seed: int) -> Hypergraph:
    """So many different edges of ``size`` vertices, each set of them equally likely.

    Raises:
        DataError: there are not so many edges.
    """
    name = f"random{'' if size == 2 else size}-{n}-{edges}-{seed}"
    if not 1 <= n <= MAX_VERTICES or edges > min(comb(n, size), MAX_EDGES):
        raise DataError(
            f"{name}: {n} vertices have {comb(n, size)} edges of {size}; expected at most these, "
            f"and at most {MAX_EDGES}"
        )
    generator = random.Random(seed)
    if comb(n, size) <= 4 * edges:
        everything = list(combinations(range(n), size))
        return Hypergraph(n, tuple(sorted(generator.sample(everything, edges))), name)
    found: set[Edge] = set()
    while len(found) < edges:
        found.add(tuple(sorted(generator.sample(range(n), size))))
    return Hypergraph(n, tuple(sorted(found)), name)


def load_graph(spec: str) -> Hypergraph:
    """A graph by its name (see ``NAMES``) or from a DIMACS file.

    Raises:
        DataError: neither of them, or a file that is not what it announces.
    """
    if spec in ("moser", "fano"):
        return moser() if spec == "moser" else fano()
    if found := _RANDOM.fullmatch(spec):
        n, m, seed = (int(v) for v in found.groups()[1:])
        return random_hypergraph(n, m, 2 if found[1] == "random" else 3, seed)
    if spec.replace("-", "_") in _NETWORKX:
        return _from_networkx(spec.replace("-", "_"), (), spec)
    if found := _FAMILY.fullmatch(spec):
        family, n = found[1], int(found[2])
        least, most = (1, 12) if family == "mycielski" else (3 if family == "cycle" else 2, 1000)
        if not least <= n <= most:
            raise DataError(f"{spec}: expected a number from {least} to {most}, got {n}")
        return _from_networkx(family, (n + 1 if family == "wheel" else n,), spec)
    path = Path(spec)
    if path.is_file():
        return read_dimacs(path)
    raise DataError(
        f"no graph {spec!r}: expected a DIMACS file or one of {', '.join(NAMES)}"
        if not path.exists()
        else f"{spec}: is a folder, expected a DIMACS file"
    )


def _from_networkx(name: str, arguments: tuple[int, ...], shown: str) -> Hypergraph:
    import networkx

    graph = getattr(networkx, f"{name}_graph")(*arguments)
    numbers = {v: k for k, v in enumerate(graph.nodes)}
    edges = sorted(tuple(sorted((numbers[a], numbers[b]))) for a, b in graph.edges)
    return Hypergraph(len(numbers), tuple(edges), shown)


def read_dimacs(path: Path) -> Hypergraph:
    """A DIMACS ``.col`` file, plain or gzip: ``p edge N M`` (or ``p col``), then M ``e A B`` lines.

    Vertices are numbered from 1. Many published files list every edge in both directions; M may
    count the lines, or the different edges, once or twice. ``p hyper N M`` announces a hypergraph,
    whose ``e`` lines have two or more vertices.

    Raises:
        DataError: with the number of the line: not such a file, truncated, a self loop, a vertex
            out of range, a wrong number of edges.
    """
    try:
        text = read_bytes(path, limit=_MAX_BYTES, error=DataError).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    header: tuple[str, int, int] | None = None
    edges: dict[Edge, None] = {}
    count = number = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        # c: comment; n: weight of a vertex; d, v, x: descriptions that some files carry.
        if not words or words[0] in ("c", "n", "d", "v", "x"):
            continue
        if words[0] == "p":
            if header is not None:
                raise DataError(f"{path}:{number}: a second p line")
            header = _header(path, number, words)
        elif words[0] == "e":
            if header is None:
                raise DataError(f"{path}:{number}: an edge before the p line")
            edges[_edge(path, number, words, header)] = None
            count += 1
        else:
            raise DataError(f"{path}:{number}: expected c, p, e or n, got {words[0][:20]!r}")
    if header is None:
        raise DataError(f"{path}:{number}: no line 'p edge N M'")
    _, n, m = header
    if m not in (count, len(edges), 2 * len(edges)):
        cut = "; the file is truncated" if count < m else ""
        raise DataError(
            f"{path}:{number}: {m} edges were announced, but {count} lines hold {len(edges)}{cut}"
        )
    return Hypergraph(n, tuple(sorted(edges)), path.name)


def _header(path: Path, number: int, words: list[str]) -> tuple[str, int, int]:
    """The kind, N and M of a p line."""
    right = len(words) == 4 and words[1] in ("edge", "edges", "col", "hyper")
    if not right or not all(re.fullmatch(r"\d{1,9}", w, re.ASCII) for w in words[2:]):
        raise DataError(f"{path}:{number}: expected 'p edge N M', got {' '.join(words)[:40]!r}")
    kind, n, m = words[1], int(words[2]), int(words[3])
    if not 1 <= n <= MAX_VERTICES or m > 2 * MAX_EDGES:
        raise DataError(
            f"{path}:{number}: {n} vertices and {m} edges; expected 1 to {MAX_VERTICES} vertices "
            f"and at most {2 * MAX_EDGES} edges"
        )
    return kind, n, m


def _edge(path: Path, number: int, words: list[str], header: tuple[str, int, int]) -> Edge:
    """The vertices of an e line, from 0, increasing."""
    kind, n, _ = header
    if not all(re.fullmatch(r"\d{1,9}", w, re.ASCII) for w in words[1:]):
        raise DataError(f"{path}:{number}: expected vertex numbers, got {' '.join(words)[:40]!r}")
    vertices = [int(w) for w in words[1:]]
    if len(vertices) < 2 or (kind != "hyper" and len(vertices) > 2):
        several = "two or more vertices" if kind == "hyper" else "two vertices"
        raise DataError(f"{path}:{number}: expected {several}, got {len(vertices)}")
    for v in vertices:
        if not 1 <= v <= n:
            raise DataError(f"{path}:{number}: vertex {v} is not one of 1..{n}")
    if len(set(vertices)) < len(vertices):
        raise DataError(
            f"{path}:{number}: a self loop, or a vertex twice in one edge: {' '.join(words)[:40]!r}"
        )
    return tuple(sorted(v - 1 for v in vertices))
