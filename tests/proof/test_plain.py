"""The second checker says what the first one says, and never that something false is proved."""

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from constructions.dataset import load_dataset
from relucid.bundled import open_model
from tests.float32_runs import order_matters, rounds_away, run
from tests.proof import test_float32, test_pairs, test_rejections
from tests.proof.networks import KINDS, unpleasant_box, unpleasant_network
from tests.proof.test_leaves import recorded
from tests.proof.test_visit import above, folded
from tests.search.test_branch_and_bound import tied
from tests.search.test_proof_neuron_split import proof, short
from tests.soundness.mutation_suite import bases, candidate
from tests.soundness.mutations import MUTATIONS, mutate, parse
from tests.soundness.proofs import hashes, prove
from tests.strategies import random_point
from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved
from verifier.proof import plain_pairs
from verifier.proof.claim import check_file, header
from verifier.proof.format import Reader, Writer
from verifier.proof.outcome import FLOAT32, Checked, InvalidError
from verifier.proof.plain import check_plainly
from verifier.proof.plain_bounds import (
    ONE,
    PASSES,
    Form,
    backward,
    behind,
    dyadic,
    nearest,
    read,
)  # fmt: skip
from verifier.proof.plain_leaves import Slopes, _require_partition
from verifier.proof.plain_pairs import Intervals
from verifier.proof.plain_rules import Case as PlainCase
from verifier.search.float32 import certify_float32
from verifier.search.portfolio import certify

SHA = {"model_sha256": "a", "property_sha256": "b"}
TWO = Fraction(2)


def said(checker, path, network, prop, sha=SHA, float32=None):
    """What a checker says: what was shown, or the refusal."""
    with Reader(path) as reader:
        try:
            return checker(network, prop, reader, **sha, float32=float32)
        except CertificateError as problem:
            return problem


def agreed(path, network, prop, sha=SHA, float32=None):
    """What both checkers say; where they refuse, what the second one says."""
    first, second = (
        said(checker, path, network, prop, sha, float32) for checker in (check_file, check_plainly)
    )
    if isinstance(first, Checked):
        assert first == second
    else:
        assert isinstance(second, CertificateError)
    return second


def of_blocks(path, blocks, semantics="real", witness=None):
    """A file with a header and these blocks."""
    stream = io.BytesIO()
    writer = Writer(stream, header("a", "b", witness, semantics=semantics))
    for name, columns in blocks:
        writer.block(name, **columns)
    writer.close()
    path.write_bytes(stream.getvalue())
    return path


def with_header(path):
    """The blocks of a proof behind a header."""
    return of_blocks(path, recorded(path))


def test_random_instances(tmp_path):
    """Proofs of all engines, with all rules among them."""
    path, rules, mixed = tmp_path / "p", set(), 0
    for seed in range(24):
        network, prop = candidate(seed)
        for engine in ("auto", "bab", "lp"):
            if prove(network, prop, path, engine=engine):
                assert agreed(path, network, prop, hashes(network, prop)).nodes > 0
                rules |= {name for name, _ in parse(path.read_bytes())[1]}
                mixed += prop.mixes_inputs
    assert rules >= {"case", "visit", "lemma", "neurons", "intervals"}
    assert mixed > 0


def test_mutations(tmp_path):
    """Of a mutant the checkers agree, and nobody proves what is false."""
    path, count = tmp_path / "m", {True: 0, False: 0}
    rng = np.random.default_rng(7)
    for base in bases(range(1, 11), tmp_path):
        sha = hashes(*base.safe)
        for kind in MUTATIONS:
            for _ in range(2):
                path.write_bytes(mutate(base.proof, kind, rng))
                try:
                    Reader(path).stream.close()
                except CertificateError:
                    continue
                count[isinstance(agreed(path, *base.safe, sha), Checked)] += 1
                for twin in base.twins:
                    assert not isinstance(said(check_plainly, path, *twin, sha), Checked)
        path.write_bytes(base.proof)
        for twin in base.twins:
            assert not isinstance(said(check_plainly, path, *twin, sha), Checked)
    assert count[True] > 2
    assert count[False] > 50


@pytest.mark.parametrize("what", ["several clauses", "conjunctions", "tie"])
def test_corrupted_columns(what, tmp_path):
    """Splits on neurons, with lemmas, exact leaves and ties decided without rounding."""
    network, prop = tied().source if what == "tie" else short(what)
    proof(path := tmp_path / "p", network, prop)
    assert agreed(with_header(path), network, prop).nodes > 0
    blocks, rng, refused = recorded(path), np.random.default_rng(3), 0
    columns = [(k, f, c) for k, (_, block) in enumerate(blocks) for f, c in block.items() if len(c)]
    for pick in rng.permutation(len(columns))[:14]:
        number, field, column = columns[pick]
        name, block = blocks[number]
        i, changed = int(rng.integers(len(column))), column.copy()
        changed[i] ^= column.dtype.type(1 << int(rng.integers(0, 8 * column.itemsize - 1)))
        for other in (changed, np.delete(column, i), np.append(column, column[i])):
            new = [*blocks[:number], (name, {**block, field: other}), *blocks[number + 1 :]]
            refused += isinstance(agreed(of_blocks(path, new), network, prop), InvalidError)
    assert refused > 10


NAMED = [
    *((1, steps) for steps, *_ in test_rejections.OF_VISITS.values()),
    *((2, steps) for steps, *_ in test_rejections.OF_NEURONS.values()),
]


@pytest.mark.parametrize("i", range(len(NAMED)))
def test_what_the_first_checker_refuses(i, tmp_path):
    """Every refusal of the rules on nodes, from proofs by hand."""
    folds, steps = NAMED[i]
    blocks = [test_rejections.CASE, *steps]
    path = of_blocks(tmp_path / "p", blocks)
    found = agreed(path, folded(folds), above(Fraction(1)))
    assert isinstance(found, InvalidError)
    assert str(found) == f"{found.rule}, {found.step}: {found.why}"


def test_more_that_is_refused(tmp_path):
    """Blocks in the wrong place, weights that are no weights, numbers left over."""
    path, network, prop = tmp_path / "p", folded(1), above(TWO)
    case, neurons, visit = test_rejections.CASE, test_rejections.neurons, test_rejections.visit
    done = visit([0])
    wrong = [
        ([done], "before the first case"),
        ([case, done, ("case", {"case": [1]})], "not case 1"),
        ([("case", {"case": []})], "not case 0"),
        ([("intervals", {"case": [1]})], "not case 0"),
        ([("intervals", {"case": [0, 1]})], "not case 0"),
        ([], "0 of 1 cases"),
        ([("pairs", {"stride": [0], "offset": [0], "minus": [0]})], "0 and 0 are no pair"),
        ([("pairs", {"stride": [1], "offset": [1], "minus": [0]})], "1 and 2 are no pair"),
        ([("pairs", {"stride": [0], "offset": [9], "minus": [0]})], "0 and 9 are no pair"),
        ([("pairs", {"stride": [0], "offset": [1], "minus": [2]})], "unknown sign"),
        ([("pairs", {"stride": [0], "offset": [], "minus": [0]})], "different lengths"),
        ([("intervals", {"case": [0]})], "exclude no constraint of clause 0"),
        ([case, neurons([0], weight=[1 << 35])], "not from 0 to 2^35"),
        ([case, neurons([0], weight=[-1])], "not from 0 to 2^35"),
        ([case, visit([3], weight=[1])], "more weights than forms"),
        ([case, visit([3], close_node=[0], close_clause=[0])], "too few weights"),
        ([case, ("rounding", {})], "exact arithmetic"),
        ([case, neurons([3], size=[1, 1], digits=[0, 0])], "do not fit their bytes"),
    ]
    for blocks, words in wrong:
        found = agreed(of_blocks(path, blocks), network, prop)
        assert words in str(found), found
    assert agreed(of_blocks(path, [case, done]), network, prop) == Checked("proved", 1)
    # What single forms have closed needs no combination.
    done = visit([0], close_node=[0], close_clause=[0], weight=[0])
    assert agreed(of_blocks(path, [case, done]), network, prop) == Checked("proved", 1)
    never = (LinearConstraint((), Fraction(1)),)
    false = Property((replace(prop.cases[0], clauses=(never,)),), 1, 1)
    assert agreed(of_blocks(path, [case]), network, false) == Checked("proved", 0)
    either = Property((replace(prop.cases[0], clauses=((),)),), 1, 1)
    assert "always true" in str(agreed(path, network, either))
    exact = Network(
        (Layer(np.array([[Fraction(1, 3)]]), np.array([Fraction(0)]), np.ones(1, bool)),)
    )
    assert "no float64" in str(said(check_plainly, path, exact, prop))
    of_blocks(path, [("intervals", {"case": [0]})])
    assert "no float64" in str(agreed(path, exact, prop))


def test_exact_leaves(tmp_path):
    """Signs that only an exact range decides, at a face of the box that is not dyadic."""
    path, on = tmp_path / "p", np.ones(1, bool)
    leaf = test_rejections.neurons([3], size=[1, 1], digits=[1, 1])
    of_blocks(path, [test_rejections.CASE, leaf])
    for folds in (1, 2):
        found = agreed(path, folded(folds), above(TWO))
        assert "the sign of neuron 0 is not decided" in found.why
    row = LinearConstraint(((0, Fraction(1)),), TWO, strict=True)
    prop = Property((Case(Box((Fraction(1, 3),), (1,)), ((row,),)),), 1, 1)
    one, three, none = np.array([[1.0]]), np.array([[3.0]]), np.zeros(1)
    for layers in (
        [Layer(three, -np.ones(1), on)],
        [Layer(one, none, on), Layer(three, -np.ones(1), on)],
    ):
        network = Network((*layers, Layer(one, none, ~on)))
        assert agreed(path, network, prop) == Checked("proved", 1)
        weak = Property((replace(prop.cases[0], clauses=((replace(row, strict=False),),)),), 1, 1)
        assert agreed(path, network, weak).why == "clause 0: the least value is 0, not positive"


def test_leaves_that_are_no_partition(tmp_path):
    path, one = tmp_path / "p", test_rejections.ONE
    twice = test_rejections.lemma(splits=[2, 1], unit=[0] * 3, sign=[0, 0, 1], multiplier=[one] * 3)
    found = agreed(of_blocks(path, [test_rejections.CASE, twice]), folded(2), above(TWO))
    assert found.why == "a sign is assumed twice"
    whole = [{0: (1, 0), 1: (1, 0)}, {0: (1, 0), 1: (-1, 0)}, {0: (-1, 0)}]
    _require_partition(whole, "s")
    _require_partition([{}], "s")
    for some, words in (
        (whole[:2], "share is 1/2"),
        ([{0: (1, 0)}], "share of the node is 1/2"),
        ([{0: (1, 0)}, {1: (1, 0)}], "overlap"),
        ([{}, {}], "share is 2"),
        ([dict.fromkeys(range(1025), (1, 0))] * 1024, "more than 2^20"),
    ):
        with pytest.raises(InvalidError, match=words.replace("^", ".")):
            _require_partition(some, "s")


def test_headers_and_witnesses(tmp_path):
    path, network, prop = tmp_path / "p", folded(1), above(Fraction(1))
    for x, words in (
        ([Fraction(1)], None),
        ([Fraction(1, 3)], "not unsafe"),
        ([Fraction(3)], "outside"),
        ([], "not 1 coordinates"),
    ):
        found = agreed(of_blocks(path, [], witness=x), network, prop)
        assert found == Checked("refuted", 0) if words is None else words in str(found)
    data = of_blocks(path, [], witness=[Fraction(1, 3)]).read_bytes()
    for old, new, words in (
        (b'"1/3"', b'"1/0"', "no rational"),
        (b'"1/3"', b'"0.3"', "no rational"),
        (b'"a"', b'"c"', "another model"),
        (b'"b"', b'"c"', "another property"),
        (b'"real"', b'"fake"', "not known"),
        (b"refuted", b"refutes", "not 'proved' or"),
        (b"relucid", b"rehearse", "not a relucid proof"),
    ):
        path.write_bytes(data.replace(old, new))
        if b"rehearse" in new:
            with pytest.raises(CertificateError, match=words):
                agreed(path, network, prop)
        else:
            assert words in str(agreed(path, network, prop))
    of_blocks(path, [test_rejections.CASE], witness=[Fraction(1)])
    assert "a refutation has no blocks" in str(agreed(path, network, prop))


@pytest.mark.parametrize("kind", KINDS)
def test_unpleasant_numbers(kind, tmp_path):
    """What is proved of networks with numbers far apart, and the bounds themselves."""
    path, valid = tmp_path / "p", 0
    for seed in range(25):
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        network = unpleasant_network(rng, kind, sparse=seed % 2 == 0)
        box = unpleasant_box(rng, network.n_inputs)
        points = [random_point(rng, box) for _ in range(4)]
        top = max(network.exact(x)[0] for x in points)
        row = LinearConstraint(((0, Fraction(1)),), top + max(abs(top), 1) / (1 + seed % 3))
        prop = Property((Case(box, ((row,),)),), network.n_inputs, network.n_outputs)
        if prove(network, prop, path, seconds=0.5):
            first, second = (
                said(checker, path, network, prop, hashes(network, prop))
                for checker in (check_file, check_plainly)
            )
            # The first checker's bounds have 50 bits, which may be too few for such numbers.
            assert second == first or not isinstance(first, Checked)
            valid += isinstance(second, Checked)
        _require_true_bounds(network, prop, points, rng)
    assert valid > 2


def _require_true_bounds(network, prop, points, rng):
    """Intervals and forms are below the exact values, rounded or not, whatever the slopes."""
    case = PlainCase(network, prop, 0, False)
    (root,) = case.stack
    lines = [
        (int(rng.integers(0, ONE + 1)), *ends) if relu else PASSES
        for relu, *ends in zip(case.relu, root.z_low, root.z_high, strict=True)
    ]
    for x in points:
        trace = network.exact_trace(x)
        values = [v for z, _ in trace for v in z]
        for layer, (z, _) in zip(case.layers, trace, strict=True):
            for i, v in enumerate(z):
                n = layer.first + i
                low, high = (dyadic(e[n], layer.bound_scale) for e in (root.z_low, root.z_high))
                assert low <= v <= high
        for n, v in enumerate(values):
            for sign in (1, -1):
                for bits in (60, 7, None):
                    assert case.bound(n, sign, lines, None, bits).least(x, x) <= sign * v


def test_forms_are_exact_where_nothing_is_rounded():
    """Without ReLUs a backward pass is a product of matrices, and a multiplier is subtracted."""
    rng = np.random.default_rng(5)
    parts = [
        Layer(rng.normal(size=(3, 3)), rng.normal(size=3), np.zeros(3, bool)) for _ in range(3)
    ]
    network, x = Network(tuple(parts)), [Fraction(int(v), 7) for v in rng.integers(-9, 9, 3)]
    ends = [-(10**6)] * 3, [10**6] * 3
    layers, _ = read(network.layers, ends, 0, False)
    trace = network.exact_trace(x)
    y, z = trace[-1][0], trace[1][0][1]
    form = backward(layers, [PASSES] * 9, Form(Fraction(0), [1, -2, 3], 0), {4: (-3, -1)})
    assert form.least(x, x) == y[0] - 2 * y[1] + 3 * y[2] + Fraction(3, 2) * z


def test_pairs_are_those_of_the_first_checker(tmp_path):
    """Intervals without rounding are those that the first one has with all its bits."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network, pairs = test_pairs.gadget_network(rng, ("small", "float", "wide")[seed % 3])
        box = unpleasant_box(rng, network.n_inputs)
        box = Box(*(tuple(Fraction(round(v * 8), 8) for v in e) for e in (box.lower, box.upper)))
        prop = Property((Case(box, ()),), network.n_inputs, network.n_outputs)
        intervals = Intervals(network, prop)
        p, r, t = (np.asarray(v, dtype=np.int64) for v in pairs)
        columns = {"stride": np.diff(p, prepend=0), "offset": r - p, "minus": (t < 0) * 1}
        intervals.pairs(columns, "s")
        found = intervals._outputs(box, "s")
        assert found == test_pairs.bounds(network, box, pairs, test_pairs.FINE)


@pytest.mark.parametrize("name", ["lipschitz", "lipschitz-multiclass"])
def test_constructions(tmp_path, name, monkeypatch):
    """All balls of a construction, and none of the same network with other weights on a ball."""
    network, prop, *_ = test_pairs.construction(name, Fraction(999, 1000))
    every = range(len(prop.cases))
    path = with_header(test_pairs.proof_of(tmp_path, every, network=network))
    assert agreed(path, network, prop).nodes == len(every)
    rng = np.random.default_rng(2)
    for _ in range(20):
        agreed(path, test_pairs.mutated(rng, network), prop)
    monkeypatch.setattr(plain_pairs, "_MOST", 9)
    assert "more than 9 entries" in str(said(check_plainly, path, network, prop))


def test_proofs_in_float32(tmp_path):
    """Proofs in float32 with lemmas and "rounding", and what some order violates."""
    path, valid, rules = tmp_path / "p", 0, set()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        network = test_float32.float32_network(rng)
        low = np.float32(rng.normal(size=network.n_inputs))
        high = np.float32(low + np.float32(rng.choice([1e-6, 0.3])))
        box = Box(tuple(map(float, low)), tuple(map(float, high)))
        top = max(float(run(network, x, rng)[-1][0]) for x in (low, high) for _ in range(3))
        prop = test_float32.above(top + (1e-5, 0.1)[seed % 2] * (1 + abs(top)), box)
        verdict = certify_float32(network, prop, lambda x: np.zeros(1), timeout=1.0, proof=True)
        if isinstance(verdict, Proved):
            test_float32.written(path, network, prop, verdict, float32=True)
            valid += isinstance(agreed(path, network, prop, SHA, network), Checked)
            rules |= {name for name, _ in parse(path.read_bytes())[1]}
            false = test_float32.above(top, box)
            assert not isinstance(agreed(path, network, false, SHA, network), Checked)
            assert "not known" in str(agreed(path, network, prop))
    assert valid > 5
    assert "rounding" in rules


def test_what_float32_refuses(tmp_path):
    network, prop = rounds_away(), test_float32.above(3, Box((1, 1), (1, 1)))
    leaf, path = {"action": [3], "size": [1, 1], "digits": [1, 1]}, tmp_path / "p"
    case = ("case", {"case": [0]})
    for blocks, words in (
        ([("intervals", {"case": [0]})], "exact arithmetic only"),
        ([("pairs", {})], "exact arithmetic only"),
        ([case, ("neurons", leaf)], "not meant exactly"),
    ):
        of_blocks(path, blocks, FLOAT32)
        assert words in str(agreed(path, network, prop, SHA, network))
    of_blocks(path, [case], FLOAT32)
    wide = Network((Layer(np.full((1, 4), 2.0**-20), np.zeros(1), np.zeros(1, dtype=bool)),))
    far = test_float32.above(1, Box((0,) * 4, (2**125,) * 4))
    assert "leave the float32 range" in str(agreed(path, wide, far, SHA, wide))
    third = Network((Layer(np.full((1, 1), 1 / 3), np.zeros(1), np.zeros(1, dtype=bool)),))
    one = test_float32.above(1, Box((0,), (1,)))
    assert "no float32 number" in str(agreed(path, third, one, SHA, third))


def test_witnesses_in_float32(tmp_path):
    network, path = order_matters(2.0**27), tmp_path / "p"
    row = LinearConstraint(((0, Fraction(-1)),), Fraction(0))
    prop = Property((Case(Box((0.5,), (1.5,)), ((row,),)),), 1, 1, "positive")
    of_blocks(path, [], FLOAT32, [Fraction(1)])
    assert agreed(path, network, prop, SHA, network) == Checked("refuted", 0, FLOAT32)
    of_blocks(path, [], FLOAT32, [Fraction(4, 3)])
    assert "no float32 number" in str(agreed(path, network, prop, SHA, network))
    of_blocks(path, [], FLOAT32, [Fraction(5, 4)])
    safe = replace(prop, cases=(replace(prop.cases[0], clauses=()),))
    assert "not unsafe" in str(agreed(path, network, safe, SHA, network))
    large = Network((Layer(np.full((1, 1), 2.0**127), np.zeros(1), np.zeros(1, dtype=bool)),))
    of_blocks(path, [], FLOAT32, [Fraction(2)])
    far = test_float32.above(1, Box((2,), (2,)))
    assert "beyond the largest" in str(agreed(path, large, far, SHA, large))


def test_nearest_float32_number():
    """As NumPy rounds; of two the even one; subnormal numbers too."""
    rng = np.random.default_rng(0)
    values = np.ldexp(rng.normal(size=400), rng.integers(-160, 120, 400))
    values = [*values.tolist(), 1 + 2.0**-24, 1 + 3 * 2.0**-24, 2.0**-150, 3 * 2.0**-150, 0.0]
    for v in values:
        assert nearest(Fraction(v)) == Fraction(float(np.float32(v)))


def test_digits(tmp_path):
    """Images of a bundled model."""
    network, data = open_model("digits-conv-robust").network, load_dataset("digits:test")
    path, valid = tmp_path / "p", 0
    for i in range(3):
        box = Box.ball(data.sample(i), Fraction(3, 100), (0, 1))
        prop = Property.robustness(box, int(data.labels[i]), 10)
        verdict = certify(network, prop, timeout=10, proof=True)
        if isinstance(verdict, Proved) and prove(network, prop, path, seconds=10):
            valid += agreed(path, network, prop, hashes(network, prop)).nodes > 0
    assert valid > 0


def test_small_parts():
    assert behind(([-1, -2], [3, 4]), [True, False]) == ([0, -2], [3, 4])
    layer = Layer(sp.csr_array((1, 1)), np.zeros(1), np.ones(1, bool))
    prop = Property((Case(Box((0,), (0,)), ()),), 1, 1)
    case = PlainCase(Network((layer,)), prop, 0, False)
    empty = np.zeros(0, dtype=np.uint8)
    columns = dict.fromkeys(("units", "slopes", "fine_leaf", "fine"), empty)
    with pytest.raises(InvalidError, match="slopes"):
        Slopes(case, {**columns, "units": np.zeros(2, dtype=np.uint8)}, 1, 1, "s")
    given = {**columns, "units": np.array([1]), "slopes": np.array([255])}
    assert list(Slopes(case, given, 1, 1, "s").of(0)) == [(0, ONE)]
    fine = {**given, "slopes": np.array([3]), "fine_leaf": np.array([0]), "fine": np.array([5])}
    assert list(Slopes(case, fine, 1, 1, "s").of(0)) == [(0, 197)]
