"""The rule "visit": accepts what the search writes, rejects every column made wrong."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.strategies import random_instance
from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, LinearConstraint, Property
from verifier.core.property import Case as PropertyCase
from verifier.core.verdict import Proved
from verifier.proof.case import Case, InvalidError
from verifier.proof.check import check
from verifier.proof.format import Columns, Reader, Writer
from verifier.search import proof_input_split
from verifier.search.input_split import InputSplitSearch, InputSplitTree
from verifier.search.problem import Deadline, Problem, problems

Blocks = list[tuple[str, Columns]]


def folded(layers: int) -> Network:
    """|x| folded again and again: a zigzag of slope 2^layers with many unstable neurons."""
    on, off = np.ones(2, dtype=bool), np.zeros(1, dtype=bool)
    out = [Layer(np.array([[1.0], [-1.0]]), np.zeros(2), on)]
    for _ in range(layers - 1):
        out.append(Layer(np.array([[2.0, 2.0], [-2.0, -2.0]]), np.array([-1.0, 1.0]), on))
    return Network((*out, Layer(np.array([[1.0, 1.0]]), np.zeros(1), off)))


def above(bound: Fraction, n: int = 1, boxes: int = 1) -> Property:
    """Unsafe where y ≥ bound, on [-1, 1]."""
    box = Box((Fraction(-1),) * n, (Fraction(1),) * n)
    clause = (LinearConstraint(((0, Fraction(1)),), bound),)
    return Property((PropertyCase(box, (clause,)),) * boxes, n, 1)


def random_small(seed: int, outputs: int = 2) -> tuple[Network, Property]:
    """A network with 2 inputs that needs splits, and clauses of two rows near its outputs."""
    rng = np.random.default_rng(seed)
    sizes = (2, 10, 10, outputs)
    layers = tuple(
        Layer(rng.normal(size=(m, n)) / n**0.5 * 1.5, rng.normal(size=m) / 2, np.full(m, k < 2))
        for k, (n, m) in enumerate(itertools.pairwise(sizes))
    )
    network = Network(layers)
    y = network.float64(rng.uniform(-1, 1, (4000, 2)))
    one, clauses = Fraction(1), []
    for sign in (1, -1):
        # y0 >= t and sign y1 >= s: no sample has both, by a small margin.
        t = np.quantile(y[:, 0], 0.6)
        s = (sign * y[:, 1])[y[:, 0] >= t].max() + 0.05 * np.ptp(y[:, 1])
        clauses.append(
            (
                LinearConstraint(((0, one),), Fraction(float(t)), strict=sign > 0),
                LinearConstraint(((1, one * sign),), Fraction(float(s))),
            )
        )
    box = Box((-one, -one), (one, one))
    return network, Property((PropertyCase(box, tuple(clauses)),), 2, outputs)


def solved(
    network: Network, prop: Property, deadline: Deadline | None = None
) -> list[tuple[int, InputSplitTree]] | None:
    """Searches that proved the property, or None."""
    out, limit = [], deadline or Deadline(math.inf)
    for problem in problems(network, prop):
        if not isinstance(problem, Problem):
            return None
        search = InputSplitSearch(problem, 1, proof=True)
        if not isinstance(verdict := search.run(limit), Proved):
            return None
        out.append((problem.case, verdict.evidence))
    return out


def written(network: Network, prop: Property, found: list, path: Path) -> Path:
    """The proof of what was found."""
    with path.open("wb") as stream:
        writer = Writer(stream, {})
        extended = network.with_inputs_as_outputs() if prop.mixes_inputs else network
        evidence = dict(found)
        for index in range(len(prop.cases)):
            writer.block("case", case=[index])
            if index in evidence:
                case = Case(extended, prop, index)
                proof_input_split.write(evidence[index], case, writer)
        writer.close()
    return path


def blocks_of(path: Path) -> Blocks:
    """All blocks of a proof."""
    with Reader(path) as reader:
        return list(reader.blocks())


def verify(network: Network, prop: Property, blocks: Blocks, path: Path) -> int:
    """Check blocks that a test has put together."""
    with path.open("wb") as stream:
        writer = Writer(stream, {})
        for name, columns in blocks:
            writer.block(name, **columns)
        writer.close()
    with Reader(path) as reader:
        return check(network, prop, reader)


@pytest.fixture(scope="module")
def proofs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Network, Property, Blocks]]:
    """Proofs with cuts, combinations, input splits, neuron splits and several clauses."""
    folder, out = tmp_path_factory.mktemp("proofs"), []
    instances = [random_small(seed) for seed in range(8)]
    instances += [(folded(3), above(Fraction(1001, 1000)))]
    for k, (network, prop) in enumerate(instances):
        if (found := solved(network, prop)) is not None:
            path = written(network, prop, found, folder / f"{k}")
            out.append((network, prop, blocks_of(path)))
    assert len(out) >= 6
    return out


def test_every_kind_of_step_occurs(proofs: list) -> None:
    """The instances of this file exercise what the rule can say."""
    visits = [c for _, _, blocks in proofs for name, c in blocks if name == "visit"]
    actions = np.concatenate([c["action"] for c in visits])
    assert {0, 1, 3} <= set(actions.tolist())
    assert sum(len(c["close_node"]) for c in visits) > 0
    assert {0, 1} <= set(np.concatenate([c["cut_above"] for c in visits]).tolist())


def test_proofs_are_accepted(proofs: list, tmp_path: Path) -> None:
    """And every node of the record is visited."""
    for network, prop, blocks in proofs:
        nodes = sum(len(c["action"]) for name, c in blocks if name == "visit")
        assert verify(network, prop, blocks, tmp_path / "p") == nodes


class Rounds(Deadline):
    """A limit that passes after so many looks at it, however fast the machine is."""

    def __init__(self, count: int) -> None:
        super().__init__(math.inf)
        self.count = count

    @property
    def passed(self) -> bool:
        """Whether all rounds are over."""
        self.count -= 1
        return self.count < 0


def test_random_instances(tmp_path: Path) -> None:
    """What the search proves, the checker accepts: several cases, strict rows, mixed inputs."""
    cases = several = mixed = 0
    for seed in range(60):
        network, prop = random_instance(seed, max_cases=2)
        # Some cases are refuted, and ties are split until float64 ends: each case by itself.
        proved = [
            case
            for case in prop.cases
            if solved(network, replace(prop, cases=(case,)), Rounds(8)) is not None
        ]
        if not proved:
            continue
        part = replace(prop, cases=tuple(proved))
        found = solved(network, part, Rounds(8 * len(proved)))
        assert found is not None
        with Reader(written(network, part, found, tmp_path / "p")) as reader:
            check(network, part, reader)
        cases += len(proved)
        several += len(proved) > 1
        mixed += prop.mixes_inputs
    assert cases >= 40
    assert several >= 5
    assert mixed >= 8


#: Columns and what to add to an entry; the proof must fail for some entries, and never crash.
CHANGES = [
    ("action", 1), ("action", 3), ("action", 9), ("axis", 1), ("axis", 1 << 30),
    ("at", 1 << 62), ("at", -(1 << 62)), ("close_node", 1), ("close_node", 1 << 31),
    ("close_clause", 1), ("close_clause", 77), ("weight", 30000), ("cut_node", 1),
    ("cut_node", 1 << 31), ("cut_axis", 1), ("cut_axis", 99), ("cut_above", 1), ("cut_above", 7),
    ("cut_at", 1 << 62), ("cut_at", -(1 << 62)), ("cut_at", 1 << 57), ("cut_at", -(1 << 57)),
]  # fmt: skip


def changed(column: np.ndarray, i: int, by: int) -> np.ndarray:
    """One entry with something added, within its type."""
    out = column.copy()
    kind = np.iinfo(column.dtype)
    out[i] = min(max(int(out[i]) + by, kind.min), kind.max)
    return out


@pytest.mark.parametrize(("name", "by"), CHANGES)
def test_changed_entries(name: str, by: int, proofs: list, tmp_path: Path) -> None:
    """Each change is rejected somewhere, and never ends in another error."""
    rng = np.random.default_rng(abs(by) % 1000)
    rejected = 0
    for network, prop, blocks in proofs:
        places = [b for b, (_, c) in enumerate(blocks) if len(c.get(name, ()))]
        for b in rng.permutation(places)[:3].tolist():
            column = blocks[b][1][name]
            i = int(rng.integers(len(column)))
            wrong = {**blocks[b][1], name: changed(column, i, by)}
            mutated = [*blocks[:b], (blocks[b][0], wrong), *blocks[b + 1 :]]
            try:
                verify(network, prop, mutated, tmp_path / "p")
            except CertificateError:
                rejected += 1
    assert rejected > 0


COLUMNS = (
    "action", "axis", "at", "close_node", "close_clause", "weight", "cut_node", "cut_axis",
    "cut_above", "cut_at",
)  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_other_lengths(name: str, proofs: list, tmp_path: Path) -> None:
    """One entry more, one less, none: rejected, whichever column."""
    network, prop, blocks = next(p for p in proofs if any(len(c.get(name, ())) for _, c in p[2]))
    b = next(b for b, (_, c) in enumerate(blocks) if len(c.get(name, ())))
    column = blocks[b][1][name]
    for wrong in (column[:-1], column[:0], np.concatenate([column, column[-1:]])):
        mutated = [*blocks[:b], (blocks[b][0], {**blocks[b][1], name: wrong}), *blocks[b + 1 :]]
        if len(wrong) != len(column):
            with pytest.raises(CertificateError):
                verify(network, prop, mutated, tmp_path / "p")


def test_dropped_steps(proofs: list, tmp_path: Path) -> None:
    """Without its cuts, its combinations, or one of its blocks a proof fails, if it needed them."""
    for names, needed in (
        (("cut_node", "cut_axis", "cut_above", "cut_at"), False),
        (("close_node", "close_clause", "weight"), True),
    ):
        failed = 0
        for network, prop, blocks in proofs:
            mutated = [
                (n, {k: v[:0] if k in names else v for k, v in c.items()}) for n, c in blocks
            ]
            if sum(len(c.get(names[0], ())) for _, c in blocks):
                try:
                    verify(network, prop, mutated, tmp_path / "p")
                except InvalidError:
                    failed += 1
        assert failed or not needed
    network, prop, blocks = proofs[0]
    for b in range(len(blocks)):
        with pytest.raises(InvalidError):
            verify(network, prop, [*blocks[:b], *blocks[b + 1 :]], tmp_path / "p")


def test_a_false_property_has_no_such_proof(proofs: list, tmp_path: Path) -> None:
    """Replayed for a threshold that some point reaches, every proof fails."""
    network = folded(3)
    (blocks,) = [b for n, _, b in proofs if n.n_inputs == 1]
    for bound in (Fraction(1), Fraction(999, 1000), Fraction(0)):
        with pytest.raises(InvalidError):
            verify(network, above(bound), blocks, tmp_path / "p")


def block(**columns: object) -> tuple[str, Columns]:
    """A visit, by hand."""
    return "visit", columns  # type: ignore[return-value]


CASE = ("case", {"case": [0]})


def test_by_hand(tmp_path: Path) -> None:
    """|x| ≤ 1 needs one split at 0; a split of the sign of neuron 0 does as well."""
    network, prop = folded(1), above(Fraction(9, 8))
    middle = int(-Case(network, prop, 0).chain.corner[0] * 2 ** Case(network, prop, 0).chain.scale)
    leaves = block(action=[0, 0], axis=[0, 0], at=[0, 0])
    for first in (block(action=[1], axis=[0], at=[middle]), block(action=[2], axis=[0], at=[0])):
        assert verify(network, prop, [CASE, first, leaves], tmp_path / "p") == 3
        with pytest.raises(InvalidError, match="block 2"):
            verify(network, above(Fraction(1)), [CASE, first, leaves], tmp_path / "p")
    with pytest.raises(InvalidError, match="does not exist"):
        verify(network, prop, [CASE, block(action=[2], axis=[0], at=[2])], tmp_path / "p")
    with pytest.raises(InvalidError, match="does not exist"):
        verify(network, prop, [CASE, block(action=[2], axis=[2], at=[0])], tmp_path / "p")
    with pytest.raises(InvalidError, match="not between"):
        verify(network, prop, [CASE, block(action=[1], axis=[0], at=[0])], tmp_path / "p")
    with pytest.raises(InvalidError, match="no input"):
        verify(network, prop, [CASE, block(action=[1], axis=[1], at=[9])], tmp_path / "p")
    many = block(action=[0] * 4097, axis=[0] * 4097, at=[0] * 4097)
    with pytest.raises(InvalidError, match="4097"):
        verify(network, prop, [CASE, many], tmp_path / "p")
    with pytest.raises(InvalidError, match="0 nodes"):
        verify(network, prop, [CASE, block(action=[], axis=[], at=[])], tmp_path / "p")


def test_contradicted_signs_close_a_node(tmp_path: Path) -> None:
    """x ≥ 0 and x ≤ 0 assumed in turn on a box beyond 0: nothing is left of one side."""
    on, off = np.ones(1, dtype=bool), np.zeros(1, dtype=bool)
    network = Network(
        (Layer(np.array([[1.0]]), np.array([-0.5]), on), Layer(np.eye(1), np.zeros(1), off))
    )
    prop = above(Fraction(1, 2))  # unsafe at x = 1
    split = block(action=[2], axis=[0], at=[0])
    with pytest.raises(InvalidError, match="still open"):
        verify(network, prop, [CASE, split, block(action=[0, 0], axis=[0, 0], at=[0, 0])],
               tmp_path / "p")  # fmt: skip
    # Of the part where z ≤ 0 nothing is left to do, whatever is assumed of z once more.
    chain = [split, split, block(action=[0] * 2, axis=[0] * 2, at=[0] * 2)]
    with pytest.raises(InvalidError, match="open nodes"):
        verify(network, prop, [CASE, *chain], tmp_path / "p")


def test_the_stack_may_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open nodes are refused beyond a limit of memory."""
    monkeypatch.setattr("verifier.proof.case._MAX_BYTES", 3000)
    network, prop = folded(1), above(Fraction(1))
    again = [block(action=[2] * n, axis=[0] * n, at=[0] * n) for n in (1, 2, 4, 8, 16, 32, 64)]
    with pytest.raises(InvalidError, match="bytes"):
        verify(network, prop, [CASE, *again], tmp_path / "p")


def test_cases(tmp_path: Path) -> None:
    """Out of order, too many, too few, too early."""
    network, prop = folded(1), above(Fraction(2), boxes=2)
    leaf = block(action=[0], axis=[0], at=[0])
    second = ("case", {"case": [1]})
    assert verify(network, prop, [CASE, leaf, second, leaf], tmp_path / "p") == 2
    for wrong in (
        [CASE, leaf],
        [CASE, second, leaf],
        [second, leaf, CASE, leaf],
        [leaf, CASE, leaf, second, leaf],
        [CASE, leaf, second, leaf, ("case", {"case": [2]}), leaf],
        [CASE, leaf, second, leaf, leaf],
        [("case", {"case": []}), leaf],
        [("case", {"case": [0, 1]}), leaf],
        [],
    ):
        with pytest.raises(InvalidError):
            verify(network, prop, wrong, tmp_path / "p")


def test_trivial_clauses(tmp_path: Path) -> None:
    """A case without clauses is proved by naming it; a clause that always holds never is."""
    network = folded(1)
    box = Box((Fraction(-1),), (Fraction(1),))
    never = (LinearConstraint((), Fraction(1)),)
    nothing = Property((PropertyCase(box, ()), PropertyCase(box, (never,))), 1, 1)
    assert verify(network, nothing, [CASE, ("case", {"case": [1]})], tmp_path / "p") == 0
    always = Property((PropertyCase(box, ((LinearConstraint((), Fraction(0)),),)),), 1, 1)
    with pytest.raises(InvalidError, match="always true"):
        verify(network, always, [CASE], tmp_path / "p")
    fine = (LinearConstraint(((0, Fraction(2**54 + 1)), (0, Fraction(1, 3))), Fraction(1)),)
    with pytest.raises(InvalidError, match="53 bits"):
        verify(network, Property((PropertyCase(box, (fine,)),), 1, 1), [CASE], tmp_path / "p")


def test_flipped_bytes(proofs: list, tmp_path: Path) -> None:
    """Damage in the file is found, or leaves a proof."""
    network, prop, blocks = proofs[0]
    verify(network, prop, blocks, tmp_path / "p")
    data = (tmp_path / "p").read_bytes()
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (tmp_path / "q").write_bytes(bytes(damaged))
        try:
            with Reader(tmp_path / "q") as reader:
                check(network, prop, reader)
        except CertificateError:
            rejected += 1
    assert rejected >= 55


def test_an_assumed_sign_with_a_weight_closes_a_clause(tmp_path: Path) -> None:
    """y = x + relu(x − 1/2) where x ≤ 1/2 is assumed: only the sum with the sign's form helps."""
    off = np.zeros(1, dtype=bool)
    hidden = Layer(np.array([[1.0], [1.0]]), np.array([-0.5, 2.0]), np.array([True, True]))
    network = Network((hidden, Layer(np.array([[1.0, 1.0]]), np.array([-2.0]), off)))
    prop = above(Fraction(3, 4))  # where x ≤ 1/2 is assumed y = x ≤ 1/2
    split = block(action=[2], axis=[0], at=[0])
    closed = {"close_node": [1], "close_clause": [0], "weight": [1, 1]}
    lower = block(action=[3, 0], axis=[0, 0], at=[0, 0], **closed)
    with pytest.raises(InvalidError, match="still open"):
        verify(network, prop, [CASE, split, block(action=[3, 0], axis=[0, 0], at=[0, 0])],
               tmp_path / "p")  # fmt: skip
    with pytest.raises(InvalidError, match="open nodes"):
        verify(network, prop, [CASE, split, lower], tmp_path / "p")
    for weight in ([1, 0], [0, 1], [0, 0]):
        wrong = block(action=[3, 0], axis=[0, 0], at=[0, 0], **{**closed, "weight": weight})
        with pytest.raises(InvalidError, match="not positive"):
            verify(network, prop, [CASE, split, wrong], tmp_path / "p")
    # Repeated splits of the same sign do no harm, and their weights are asked for as well.
    twice = block(action=[3, 2], axis=[0, 0], at=[0, 0])
    both = {"close_node": [1, 2], "close_clause": [0, 0], "weight": [1, 1, 0, 1, 0, 1]}
    again = block(action=[3, 0, 0], axis=[0] * 3, at=[0] * 3, **both)
    with pytest.raises(InvalidError, match="open nodes"):
        verify(network, prop, [CASE, split, twice, again], tmp_path / "p")
    short = block(action=[3, 0], axis=[0, 0], at=[0, 0], **{**closed, "weight": [1]})
    with pytest.raises(InvalidError, match="weights for"):
        verify(network, prop, [CASE, split, short], tmp_path / "p")


@pytest.mark.parametrize("strict", [False, True])
def test_a_threshold_far_below_what_rounding_loses_elsewhere(strict: bool, tmp_path: Path) -> None:
    """y = relu(z) < 2^-80 where z ≤ 0: what counts nothing must cost nothing, once and for all."""
    hidden = Layer(
        np.array([[0.5, -2.0], [0.25, 0.5], [1.25, 1.5]]),
        np.array([-1.5, 1.0, 1.25]), np.array([False, True, True]),
    )  # fmt: skip
    last = Layer(np.array([[1.25, -2.0, -1.0]]), np.array([-0.25]), np.ones(1, dtype=bool))
    network = Network((hidden, last))
    box = Box((Fraction(-7, 3), Fraction(-1)), (Fraction(5, 3), Fraction(7, 3)))
    for bound, proved in ((Fraction(1, 2**80), True), (Fraction(-1, 2**80), False)):
        clause = (LinearConstraint(((0, Fraction(1)),), bound, strict=strict),)
        prop = Property((PropertyCase(box, (clause,)),), 2, 1)
        grid = Case(network, prop, 0).chain
        middle = int((Fraction(2, 3) - grid.corner[1]) * 2**grid.scale)
        lower = int((Fraction(-1, 6) - grid.corner[1]) * 2**grid.scale)
        blocks = [CASE, block(action=[1], axis=[1], at=[middle]),
                  block(action=[1, 0], axis=[1, 0], at=[lower, 0]),
                  block(action=[0, 0], axis=[0, 0], at=[0, 0])]  # fmt: skip
        if proved:
            assert verify(network, prop, blocks, tmp_path / "p") == 5
        else:
            with pytest.raises(InvalidError, match="still open"):
                verify(network, prop, blocks, tmp_path / "p")


def test_named_slopes(tmp_path: Path) -> None:
    """relu(x) + relu(−x) ≥ α x − β x: fine with equal slopes, −1 with others; no other is taken."""
    network, box = folded(1), Box((Fraction(-1),), (Fraction(1),))
    below = (LinearConstraint(((0, Fraction(-1)),), Fraction(1, 2)),)
    prop = Property((PropertyCase(box, (below,)),), 1, 1)

    def tried(node: list[int], neuron: list[int], slope: list[int]) -> int:
        named = {"slope_node": node, "slope_neuron": neuron, "slope": slope}
        return verify(
            network, prop, [CASE, block(action=[0], axis=[0], at=[0], **named)], tmp_path / "p"
        )

    for slopes in ([0, 0], [1, 1]):
        assert tried([0, 0], [0, 1], slopes) == 1
    assert tried([], [], []) == tried([0], [1], [1]) == tried([0], [2], [0]) == 1
    for node, neuron, slope in (([0, 0], [0, 1], [1, 0]), ([0], [1], [0]), ([0], [0], [0])):
        with pytest.raises(InvalidError, match="still open"):
            tried(node, neuron, slope)
    for node, neuron, slope in (
        ([1], [0], [1]), ([0], [3], [1]), ([0], [0], [2]), ([0, 0], [1, 0], [1, 1]),
        ([0, 0], [0, 0], [1, 1]), ([0], [0], []), ([], [0], [1]), ([0], [], [1]),
    ):  # fmt: skip
        with pytest.raises(InvalidError, match="slope, "):
            tried(node, neuron, slope)


def test_the_search_names_slopes_where_bounds_nearly_tie(tmp_path: Path) -> None:
    """Bounds of 1023/1024, near which one rounding more or less would choose another slope."""
    network = folded(2)
    clause = (LinearConstraint(((0, Fraction(1)),), Fraction(5, 4)),)
    for share, named in ((1, True), (Fraction(10**6 + 1, 10**6), True), (Fraction(9, 8), False)):
        box = Box((Fraction(-1),), (Fraction(1023, 1024) * share,))
        prop = Property((PropertyCase(box, (clause,)),), 1, 1)
        found = solved(network, prop)
        assert found is not None
        blocks = blocks_of(written(network, prop, found, tmp_path / "p"))
        slopes = [s for _, c in blocks for s in c.get("slope", ())]
        assert bool(slopes) == named
        verify(network, prop, blocks, tmp_path / "q")
        assert all(s in (0, 1) for s in slopes)
