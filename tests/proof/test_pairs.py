"""Interval proofs: bounds hold whatever the pairs, and nothing that is wrong is proved."""

import io
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp

from constructions.dataset import DataSet
from constructions.lipschitz import lipschitz, lipschitz_multiclass
from constructions.robust import blocks, class_sum, running_maximum, shallow
from constructions.separation import positive_separation
from tests.strategies import random_box
from verifier.bounds.ball_batch import output_bounds as output_bounds64
from verifier.bounds.ball_batch import plan
from verifier.core.decision import Decision, Rule
from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.proof.case import InvalidError
from verifier.proof.check import check
from verifier.proof.flat import flattened
from verifier.proof.format import Reader, Writer
from verifier.proof.pairs import COARSE, FINE, output_bounds
from verifier.search import proof_interval


def proof_of(tmp_path, cases, *, pairs=None, network=None, sizes=None):
    """A file with one block of pairs (given, or those of the prover) and one of cases."""
    stream = io.BytesIO()
    writer = Writer(stream, {})
    if pairs is None:
        proof_interval.write(cases, network, writer)
    else:
        p, r, t = (np.asarray(v, dtype=np.int64) for v in pairs)
        writer.block("pairs", stride=np.diff(p, prepend=0), offset=r - p, minus=t < 0)
        writer.block("intervals", case=list(cases))
    writer.close()
    path = tmp_path / "proof"
    path.write_bytes(stream.getvalue())
    return path


def checked(network, prop, path):
    with Reader(path) as reader:
        return check(network, prop, reader)


def bounds(network, box, pairs, least):
    """(low, high) of the outputs as Fractions."""
    p, r, t = (np.asarray(v, dtype=np.int64) for v in pairs)
    stages = flattened(network.layers, p, r, t, "block 0")
    value, scale = output_bounds(stages, [box, box], least)
    assert np.array_equal(value[:, ::2], value[:, 1::2])
    unit = Fraction(2) ** -scale
    return [int(v) * unit for v in value[:, 0]], [-int(v) * unit for v in value[:, 2]]


NONE = ((), (), ())
KINDS = ("small", "float", "wide", "tiny")


def weights(rng, shape, kind):
    """Multiples of 1/4, generic floats, a wide range of exponents, or numbers near the smallest."""
    if kind == "small":
        return rng.integers(-4, 5, shape) / 4.0
    values = rng.normal(size=shape) * (rng.random(shape) < 0.7)
    if kind == "wide":
        return values * 2.0 ** rng.integers(-60, 60, shape)
    return values * 2.0**-1060 if kind == "tiny" and rng.random() < 0.5 else values


def gadget_network(rng, kind):
    """Random layers whose rows read many pairs of the layer before with equal coefficients."""
    sizes = rng.integers(2, 7, int(rng.integers(2, 6))).tolist()
    sizes[0] = int(rng.integers(1, 12))
    layers, pairs, start = [], [], 0
    before = []
    for n_in, n_out in zip(sizes, [*sizes[1:], 2], strict=True):
        weight, bias = weights(rng, (n_out, n_in), kind), weights(rng, n_out, kind)
        for p, r, t in before:
            rows = rng.random(n_out) < 0.8
            weight[rows, r] = t * weight[rows, p]
        relu = rng.random(n_out) < 0.7
        before = []
        for _ in range(int(rng.integers(0, 4))):
            p, r = rng.choice(n_out, 2, replace=False).tolist()
            t = int(rng.choice([-1, 1]))
            if relu[r]:
                before.append((p, r, t))
                if rng.random() < 0.7:  # row r cancels row p where p reads anything
                    some = rng.random(n_in) < 0.6
                    weight[p] = np.where(some, weight[p], 0.0)
                    weight[r] = np.where(some, -t * weight[p], weight[r])
        pairs += [(start + p, start + r, t) for p, r, t in before]
        layers.append(Layer(sp.csr_array(weight) if rng.random() < 0.5 else weight, bias, relu))
        start += n_out
    return Network(tuple(layers)), tuple(zip(*sorted(pairs), strict=True)) if pairs else NONE


def points(rng, box, count):
    """Random points and corners of a box."""
    for _ in range(count):
        share = [Fraction(int(v), 4) for v in rng.integers(0, 5, len(box))]
        if rng.random() < 0.5:
            share = [Fraction(round(v)) for v in share]
        yield [
            low + s * (high - low) for low, high, s in zip(box.lower, box.upper, share, strict=True)
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_lie_in_the_bounds(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    better = 0
    for _ in range(60):
        network, pairs = gadget_network(rng, kind)
        box = random_box(rng, network.n_inputs)
        some = list(points(rng, box, 8))
        plain = bounds(network, box, NONE, FINE)
        for least in (COARSE, FINE):
            low, high = bounds(network, box, pairs, least)
            for x in some:
                for y, a, b in zip(network.exact(x), low, high, strict=True):
                    assert a <= y <= b
            if least == FINE:
                better += low > plain[0] or high < plain[1]
    assert better > 10 or kind == "tiny"


def exact_intervals(network, box):
    """Plain interval arithmetic in Fractions."""
    low, high = list(box.lower), list(box.upper)
    for layer in network.layers:
        rows = [[Fraction(float(v)) for v in row] for row in layer.dense]
        ends = [
            (
                sum((w * (low[j] if w > 0 else high[j]) for j, w in enumerate(row)), start=b),
                sum((w * (high[j] if w > 0 else low[j]) for j, w in enumerate(row)), start=b),
            )
            for row, b in zip(rows, map(Fraction, layer.bias.tolist()), strict=True)
        ]
        ends = [
            (max(a, 0), max(b, 0)) if relu else (a, b)
            for (a, b), relu in zip(ends, layer.relu, strict=True)
        ]
        low, high = [a for a, _ in ends], [b for _, b in ends]
    return low, high


@pytest.mark.parametrize("kind", KINDS)
def test_without_pairs_the_second_attempt_is_interval_arithmetic(kind):
    """Exactly so where few bits are needed, else to far more bits than a float64 has."""
    rng = np.random.default_rng(10 + KINDS.index(kind))
    for _ in range(30):
        network, _ = gadget_network(rng, kind)
        box = random_box(rng, network.n_inputs)
        dyadic = all(v.denominator in (1, 2, 4, 8) for v in (*box.lower, *box.upper))
        low, high = bounds(network, box, NONE, FINE)
        expected_low, expected_high = exact_intervals(network, box)
        if kind == "small" and dyadic:
            assert (low, high) == (expected_low, expected_high)
            assert bounds(network, box, NONE, COARSE) == (low, high)
        for a, b, c, d in zip(low, high, expected_low, expected_high, strict=True):
            assert a <= c <= d <= b
            if kind in ("small", "float"):
                assert max(c - a, b - d) <= Fraction(1, 2**120) * max(1, abs(c), abs(d))


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_prover_proves_is_valid(tmp_path, kind):
    """With the prover's own pairs the checker's bounds are never worse than the prover's."""
    rng = np.random.default_rng(20 + KINDS.index(kind))
    used = 0
    for _ in range(40):
        network, _ = gadget_network(rng, kind)
        box = random_box(rng, network.n_inputs)
        prepared = plan(network)
        lower, upper = box.outward()
        ((_, low, high, known),) = output_bounds64(prepared, lower[None], upper[None])
        if not known[0]:
            continue
        used += prepared.n_pairs > 0
        clauses = [
            (LinearConstraint(((i, sign),), sign * Fraction(bound), strict=True),)
            for i in range(2)
            for sign, bound in ((1, float(high[0, i])), (-1, float(low[0, i])))
        ]
        prop = Property((Case(box, tuple(clauses)),), network.n_inputs, 2)
        assert checked(network, prop, proof_of(tmp_path, [0], network=network)) == 1
    assert used > 3


VALUES = [Fraction(v, 2) for v in range(-4, 5)]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("relu", [True, False])
def test_a_pair_is_bounded_as_well_as_maximum_and_minimum_allow(sign, relu):
    """v ± relu(±(w − v)) on boxes of (v, w): exact ends where no ReLU cuts v off."""
    first = Layer(np.array([[1.0, 0.0], [-sign, sign]]), np.zeros(2), np.array([relu, True]))
    last = Layer(np.array([[3.0, 3.0 * sign]]), np.zeros(1), np.zeros(1, dtype=bool))
    network, pairs = Network((first, last)), ((0,), (1,), (sign,))
    rng = np.random.default_rng(1)
    for _ in range(100):
        ends = [sorted(rng.choice(VALUES, 2)) for _ in range(2)]
        box = Box(tuple(e[0] for e in ends), tuple(e[1] for e in ends))
        low, high = bounds(network, box, pairs, COARSE)
        found = [network.exact(x)[0] for x in product(*ends)]
        assert low[0] <= min(found) <= max(found) <= high[0]
        if not relu or ends[0][0] >= 0:
            assert (low[0], high[0]) == (min(found), max(found))


def one_output(network, box, terms, bound, strict=False):
    constraint = LinearConstraint(terms, bound, strict)
    return Property((Case(box, ((constraint,),)),), network.n_inputs, network.n_outputs)


def test_ties_are_decided_exactly(tmp_path):
    """max(v, w) on [0, 1]² reaches 1: more than 1 is excluded, 1 is not; the same at 1 ± 2^-70."""
    layers = (
        Layer(np.array([[1.0, 0.0], [-1.0, 1.0]]), np.zeros(2), np.array([False, True])),
        Layer(np.ones((1, 2)), np.zeros(1), np.zeros(1, dtype=bool)),
    )
    network = Network(layers)
    box = Box((0, 0), (1, 1))
    path = proof_of(tmp_path, [0], network=network)
    tiny = Fraction(1, 2**70)
    for bound, strict, valid in [
        (1, True, True), (1, False, False), (1 + tiny, False, True), (1 - tiny, True, False),
    ]:  # fmt: skip
        prop = one_output(network, box, ((0, 1),), bound, strict)
        if valid:
            assert checked(network, prop, path) == 1
        else:
            with pytest.raises(InvalidError, match="clause 0"):
                checked(network, prop, path)


def test_a_face_that_is_not_dyadic_needs_the_second_attempt(tmp_path):
    """x ≤ 1/3 excludes 2^20 x − 2^20/3 ≥ 2^-60, which 59 bits do not see."""
    factor = 2.0**20
    weight = np.array([[factor, -factor]])
    network = Network((Layer(weight, np.zeros(1), np.zeros(1, dtype=bool)),))
    third = Fraction(1, 3)
    box = Box((0, third), (third, third))
    prop = one_output(network, box, ((0, 1),), Fraction(1, 2**60))
    _, high = bounds(network, box, NONE, COARSE)
    assert high[0] >= Fraction(1, 2**60)
    assert checked(network, prop, proof_of(tmp_path, [0], network=network)) == 1
    wrong = one_output(network, box, ((0, 1),), 0)
    with pytest.raises(InvalidError, match="clause 0"):
        checked(network, wrong, proof_of(tmp_path, [0], network=network))


def test_constraints_of_a_clause_and_inputs_among_them(tmp_path):
    """One excluded constraint is enough, an empty clause never is; inputs may be mixed in."""
    network = Network((Layer(np.array([[1.0]]), np.zeros(1), np.zeros(1, dtype=bool)),))
    box = Box((0,), (1,))
    far, near = LinearConstraint(((0, 1),), 2), LinearConstraint(((0, 1), (1, -2)), Fraction(1, 2))
    path = proof_of(tmp_path, [0], network=network)

    def prop(*clauses):
        return Property((Case(box, clauses),), 1, 1, mixes_inputs=True)

    assert checked(network, prop((near, far)), path) == 1
    assert checked(network, prop(), path) == 1
    assert checked(network, prop((LinearConstraint((), 1),)), path) == 1
    for clauses in [((near,),), ((far,), (near,)), ((),), ((LinearConstraint((), -1),),)]:
        with pytest.raises(InvalidError, match="intervals"):
            checked(network, prop(*clauses), path)


# ---- constructions -------------------------------------------------------------------------------

BUILD = {
    "optimal-robust": running_maximum,
    "class-sum": class_sum,
    "blocks": lambda data, radius: blocks(data, radius, 2),
    "shallow": shallow,
    "lipschitz": lambda data, _: lipschitz(data),
    "lipschitz-multiclass": lambda data, _: lipschitz_multiclass(data),
}


def data_set(seed, classes, n=9, d=3):
    rng = np.random.default_rng(seed)
    found = np.unique(rng.integers(0, 17, (4 * n, d)), axis=0)
    found = found[rng.permutation(len(found))[:n]].astype(np.uint8)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return DataSet(found, labels, (d,), classes, "grid", Fraction(1, 16))


def construction(name, ratio, seed=0):
    """(network, one property with a case for every ball, centres, radius, decision, classes)."""
    data = data_set(seed + len(name), 2 if name == "lipschitz" else 3)
    radius = ratio * positive_separation(data).lam / 2
    built = BUILD[name](data, radius)
    rule = {"lipschitz": Rule.sign, "lipschitz-multiclass": Rule.argmax}.get(name, Rule.label)
    decision = Decision(rule)
    classes = [built.labels.index(int(label)) for label in data.labels]
    centres = [data.sample(i) for i in range(len(data))]
    cases = [
        decision.property(Box.ball(x, radius), k, built.network.n_outputs, "ball").cases[0]
        for x, k in zip(centres, classes, strict=True)
    ]
    prop = Property(tuple(cases), built.network.n_inputs, built.network.n_outputs)
    return built.network, prop, centres, radius, decision, classes


@pytest.mark.parametrize("ratio", [Fraction(99, 100), Fraction(999, 1000)], ids=str)
@pytest.mark.parametrize("name", BUILD)
def test_all_balls_of_every_construction(tmp_path, name, ratio):
    network, prop, *_ = construction(name, ratio)
    count = len(prop.cases)
    assert checked(network, prop, proof_of(tmp_path, range(count), network=network)) == count
    wider = tuple(
        Case(Box.ball([(a + b) / 2 for a, b in zip(c.box.lower, c.box.upper, strict=True)], 1),
             c.clauses)
        for c in prop.cases
    )  # fmt: skip
    for i in range(count):  # of balls of radius 1 none is proved
        one = Property((wider[i],), prop.n_inputs, prop.n_outputs)
        with pytest.raises(InvalidError, match="exclude no constraint"):
            checked(network, one, proof_of(tmp_path, [0], network=network))


def mutated(rng, network):
    """One weight or bias changed."""
    layers = list(network.layers)
    k = int(rng.integers(len(layers)))
    weight, bias = layers[k].dense.copy(), layers[k].bias.copy()
    target = bias if rng.random() < 0.3 else weight.reshape(-1)
    where = np.flatnonzero(target)
    i = int(rng.choice(where)) if len(where) and rng.random() < 0.8 else rng.integers(len(target))
    target[i] = rng.choice([0.0, -target[i], 2 * target[i] + 1, target[i] + rng.normal()])
    layers[k] = Layer(weight, bias, layers[k].relu)
    return Network(tuple(layers))


@pytest.mark.parametrize("name", BUILD)
def test_no_network_that_is_wrong_on_a_ball_is_proved(tmp_path, name):
    """The proof is the intact network's: the pairs need not be those of the changed one."""
    network, prop, centres, radius, decision, classes = construction(name, Fraction(9, 10), 5)
    rng, broken = np.random.default_rng(5), 0
    path = proof_of(tmp_path, [0], network=network)
    for _ in range(40):
        other = mutated(rng, network)
        for i, x in enumerate(centres):
            steps = rng.integers(-1, 2, (3, len(x))).tolist()
            corners = [[v + radius * s for v, s in zip(x, step, strict=True)] for step in steps]
            if any(decision.choice(other.exact(c)) != classes[i] for c in corners):
                broken += 1
                one = Property((prop.cases[i],), prop.n_inputs, prop.n_outputs)
                with pytest.raises(InvalidError, match="exclude no constraint"):
                    checked(other, one, path)
    assert broken > 20  # otherwise the mutations test nothing


# ---- blocks that are no proofs -------------------------------------------------------------------


def small():
    """Two layers with the pair (0, 1) and a neuron without a ReLU; max(v, w) ≤ 1 on [0, 1]²."""
    first = Layer(
        np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]]), np.zeros(3), np.array([True, True, False])
    )
    last = Layer(np.array([[1.0, 1.0, 0.0]]), np.zeros(1), np.zeros(1, dtype=bool))
    network = Network((first, last))
    return network, one_output(network, Box((0, 0), (1, 1)), ((0, 1),), Fraction(3, 2))


def written(tmp_path, *columns):
    stream = io.BytesIO()
    writer = Writer(stream, {})
    for name, values in columns:
        writer.block(name, **values)
    writer.close()
    path = tmp_path / "proof"
    path.write_bytes(stream.getvalue())
    return path


GOOD = {"stride": [0], "offset": [1], "minus": [0]}
PAIRS, CASES = ("pairs", GOOD), ("intervals", {"case": [0]})


def test_the_small_proof_needs_its_pair(tmp_path):
    network, prop = small()
    assert checked(network, prop, written(tmp_path, PAIRS, CASES)) == 1
    assert checked(network, prop, proof_of(tmp_path, [0], network=network)) == 1
    for first in ([], [("pairs", {"stride": [], "offset": [], "minus": []})]):
        with pytest.raises(InvalidError, match="exclude no constraint"):
            checked(network, prop, written(tmp_path, *first, CASES))
        assert checked(network, prop, written(tmp_path, PAIRS, CASES)) == 1


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("offset", [0], "no pair"),  # p = r
        ("offset", [2], "no pair"),  # r has no ReLU
        ("offset", [3], "no pair"),  # r is in another layer
        ("offset", [-1], "4 neurons"),
        ("offset", [2**31 - 1], "4 neurons"),
        ("stride", [3], "4 neurons"),
        ("stride", [2**32 - 1], "4 neurons"),
        ("stride", [0, 0], "different lengths"),
        ("offset", [], "different lengths"),
        ("minus", [2], "unknown sign"),
        ("minus", [1], "exclude no constraint"),
        ("stride", [1], "no pair"),
    ],
)
def test_corrupted_pairs(tmp_path, column, value, message):
    network, prop = small()
    with pytest.raises(InvalidError, match=message):
        checked(network, prop, written(tmp_path, ("pairs", {**GOOD, column: value}), CASES))


@pytest.mark.parametrize(
    "blocks_",
    [
        [],
        [PAIRS],
        [PAIRS, ("intervals", {"case": []})],
        [PAIRS, ("intervals", {"case": [1]})],
        [PAIRS, ("intervals", {"case": [0, 1]})],
        [PAIRS, ("intervals", {"case": [0, 0]})],
        [PAIRS, CASES, CASES],
        [PAIRS, CASES, ("visit", {"action": [0], "axis": [0], "at": [0]})],
        [PAIRS, ("case", {"case": [0]}), CASES],
        [PAIRS, CASES, ("case", {"case": [1]})],
        [CASES, PAIRS],
    ],
    ids=range(11),
)
def test_blocks_that_are_no_proof(tmp_path, blocks_):
    network, prop = small()
    with pytest.raises(CertificateError):
        checked(network, prop, written(tmp_path, *blocks_))


def test_cases_of_both_kinds(tmp_path):
    """A case may be proved by intervals, the next by a tree, and pairs may change between them."""
    network, prop = small()
    case = prop.cases[0]
    plain = one_output(network, case.box, ((0, 1),), Fraction(5, 2)).cases[0]
    both = Property((case, plain, case), 2, 1)
    leaf = ("visit", {"action": [0], "axis": [0], "at": [0]})
    tree = [("case", {"case": [1]}), leaf]
    last = ("intervals", {"case": [2]})
    assert checked(network, both, written(tmp_path, PAIRS, CASES, *tree, last)) == 3
    assert checked(network, both, written(tmp_path, PAIRS, CASES, *tree, PAIRS, last)) == 3
    with pytest.raises(InvalidError):
        checked(network, both, written(tmp_path, PAIRS, CASES, tree[0], last))


def test_exact_weights_have_no_proof(tmp_path):
    weight = np.array([[Fraction(1, 3)]], dtype=object)
    bias = np.array([Fraction(0)], dtype=object)
    network = Network((Layer(weight, bias, np.zeros(1, dtype=bool)),))
    prop = one_output(network, Box((0,), (1,)), ((0, 1),), 2)
    with pytest.raises(InvalidError, match="float64"):
        checked(network, prop, written(tmp_path, CASES))


def test_pairs_that_blow_up_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("verifier.proof.flat._MOST", 100)
    network, prop = small()
    many = {"stride": [0] + [0] * 60, "offset": [1] * 61, "minus": [0] * 61}
    with pytest.raises(InvalidError, match="100 are allowed"):
        checked(network, prop, written(tmp_path, ("pairs", many), CASES))


# ---- deep and wide -------------------------------------------------------------------------------


def test_a_deep_network_with_long_numbers(tmp_path):
    """1000 layers x ← relu(w x) with 53-bit weights near 1: rounded, and still far below 2^-100."""
    rng = np.random.default_rng(3)
    factors = rng.uniform(0.99, 1.01, 1000)
    layers = [Layer(np.array([[f]]), np.zeros(1), np.ones(1, dtype=bool)) for f in factors]
    network = Network(tuple(layers))
    exact = Fraction(1)
    for f in factors.tolist():
        exact *= Fraction(f)
    box = Box((0,), (1,))
    path = proof_of(tmp_path, [0], network=network)
    margin = exact / 2**100
    assert checked(network, one_output(network, box, ((0, 1),), exact + margin), path) == 1
    with pytest.raises(InvalidError):
        checked(network, one_output(network, box, ((0, 1),), exact), path)


def test_a_wide_sparse_network(tmp_path):
    """100000 maxima of two inputs each, added up."""
    n, d = 100_000, 50
    rng = np.random.default_rng(4)
    v, w = rng.integers(0, d, (2, n))
    w = np.where(v == w, (w + 1) % d, w)
    rows = np.concatenate([np.arange(n), np.arange(n, 2 * n), np.arange(n, 2 * n)])
    data = np.concatenate([np.ones(n), -np.ones(n), np.ones(n)])
    weight = sp.csr_array((data, (rows, np.concatenate([v, v, w]))), shape=(2 * n, d))
    first = Layer(weight, np.zeros(2 * n), np.ones(2 * n, dtype=bool))
    last = Layer(sp.csr_array(np.ones((1, 2 * n))), np.zeros(1), np.zeros(1, dtype=bool))
    network = Network((first, last))
    low = rng.integers(0, 100, d) / 128.0
    box = Box(tuple(low.tolist()), tuple((low + 0.125).tolist()))
    least = Fraction(float(np.maximum(low[v], low[w]).sum()))
    pairs = (np.arange(n), np.arange(n, 2 * n), np.ones(n))
    assert plan(network).n_pairs in (0, n)
    path = proof_of(tmp_path, [0], pairs=pairs)
    for bound, valid in [(-least, True), (-least - n, False)]:
        prop = one_output(network, box, ((0, -1),), bound, strict=valid)
        if valid:
            assert checked(network, prop, path) == 1
        else:
            with pytest.raises(InvalidError):
                checked(network, prop, path)
    top = one_output(network, box, ((0, 1),), least + Fraction(n, 8), strict=True)
    assert checked(network, top, path) == 1
