"""The mixed-integer program of the bias classifier, against exact enumeration and ``bias_box``."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from constructions.bias_check import BiasProof, BiasWitness, check_bias_witness
from constructions.bias_part import forms_of, signs_at
from constructions.bias_regions import decide_bias
from tests.search.test_bias_box import network, question
from tests.stopwatch import within
from verifier.bounds.bias_lp import bias_program
from verifier.core.errors import NetworkError, PropertyError, SolverError
from verifier.core.network import Layer, Network
from verifier.core.property import Box
from verifier.search.bias_box import BiasRight, BiasSearch, BiasUnknown, BiasWrong
from verifier.search.bias_milp import BiasMinimum, bias_milp, bias_minimum
from verifier.search.milp import MilpModel
from verifier.search.problem import Deadline


def agrees(seed, net, box, label, found):
    """Whether an answer is that of the enumeration; a wrong point is checked by its checker."""
    expected = decide_bias(net, box, label)
    assert isinstance(found, BiasRight) == isinstance(expected, BiasProof), seed
    if isinstance(found, BiasWrong):
        witness = BiasWitness(True, found.x, found.pattern, found.other)
        check_bias_witness(net, box, label, witness)
    return expected


def test_answers_and_minima_are_those_of_the_exact_enumeration():
    seen = {BiasRight: 0, BiasWrong: 0}
    for seed in range(110):
        net, box, label = question(seed)
        found = bias_milp(net, box, label, Deadline(60))
        seen[type(found)] += 1
        expected = agrees(seed, net, box, label, found)
        least = bias_minimum(net, box, label, Deadline(60))
        assert isinstance(least, BiasMinimum)
        assert (least.lead > 0) == isinstance(found, BiasRight)
        if isinstance(expected, BiasProof):
            assert least.lead == expected.margin
        # The minimum is attained where it says.
        assert box.contains(least.at.x)
        signs = signs_at(net, least.at.x)
        bits = zip(signs, least.at.pattern, strict=True)
        assert all(s == 0 or bit == (s > 0) for s, bit in bits)
        beta = forms_of(net, least.at.pattern)[1].constant
        assert beta[label] - beta[least.at.other] == least.lead
    assert min(seen.values()) >= 20


LIES = {
    "nothing": lambda columns: None,
    "a wrong point": lambda columns: np.full(columns, 1e6),
    "halves": lambda columns: np.full(columns, 0.5),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_solver_changes_no_answer(lie, monkeypatch):
    monkeypatch.setattr(MilpModel, "least", lambda self, cost, *_: LIES[lie](len(cost)))
    for seed in range(25):
        net, box, label = question(seed)
        agrees(seed, net, box, label, bias_milp(net, box, label, Deadline(60)))


def test_a_kink_alone_makes_it_wrong():
    # h1 = h2 = relu(x − 1), C = (1/2, h2 − h1): β is (1/2, 0) off x = 1, but (1/2, 1) at a kink.
    net = Network(
        (
            Layer(np.ones((2, 1)), -np.ones(2), np.ones(2, dtype=bool)),
            Layer(np.array([[0.0, 0.0], [-1.0, 1.0]]), np.array([0.5, 0.0]), np.zeros(2, bool)),
        )
    )
    found = bias_milp(net, Box([0], [2]), 0, Deadline(10))
    assert isinstance(found, BiasWrong)
    assert (found.x, found.pattern) == ((1,), (True, False))
    beside = Box([0], [Fraction(2**60 - 1, 2**60)])
    assert isinstance(bias_milp(net, beside, 0, Deadline(10)), BiasRight)
    least = bias_minimum(net, Box([0], [2]), 0, Deadline(10))
    assert least.lead == Fraction(-1, 2)


def holds(program, values):
    """Whether exact values of the columns satisfy every row and bound."""
    system = program.system
    columns = all(
        Fraction(a) <= v <= Fraction(b) for a, v, b in zip(system.columns[0], values,
                                                           system.columns[1], strict=True)
    )  # fmt: skip
    dense = system.matrix.toarray()
    for row, low, high in zip(dense, *system.rows, strict=True):
        total = sum((Fraction(w) * v for w, v in zip(row, values, strict=True) if w), Fraction(0))
        if (np.isfinite(low) and total < low) or (np.isfinite(high) and total > high):
            return False
    return columns


def run_of(net, program, x, bits):
    """The columns' values for a point and bits of the open ReLUs, whether consistent or not."""
    values, free = list(x), dict(zip(map(tuple, program.open.tolist()), bits, strict=True))
    h, beta = list(x), [Fraction(0)] * len(x)
    for k, layer in enumerate(net.layers):
        weight = [[Fraction(w) for w in row] for row in layer.dense]
        bias = [Fraction(b) for b in layer.bias]
        u, v = (
            [sum((w * t for w, t in zip(row, side, strict=True)), b)
             for row, b in zip(weight, bias, strict=True)]
            for side in (h, beta)
        )  # fmt: skip
        on = [free.get((k, i), not r or u[i] > 0) for i, r in enumerate(layer.relu)]
        some = [i for i in range(len(u)) if (k, i) in free]
        h = [a if z else Fraction(0) for a, z in zip(u, on, strict=True)]
        beta = [a if z else Fraction(0) for a, z in zip(v, on, strict=True)]
        values += u + v + [h[i] for i in some] + [beta[i] for i in some]
        values += [Fraction(int(free[k, i])) for i in some]
    return values


def test_the_program_holds_exactly_the_points_with_their_consistent_patterns():
    kept = lost = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        net = network(rng, (2, 3, 2, 2))
        box = Box([Fraction(-1)] * 2, [Fraction(1)] * 2)
        search = BiasSearch(net, box, 0, Deadline(9), None)
        root = search.root()
        # All bits open, so that every column is there.
        phases = [np.where(la.relu, 0, 1).astype(np.int8) for la in net.layers]
        wide = [(np.minimum(a, 0.0), np.maximum(b, 0.0)) for a, b in root.bounds]
        root = type(root)(wide, phases, ())
        ranges = search.ranges(root)[0]
        program = bias_program(net, box.outward(), wide, ranges, phases)
        x = tuple(Fraction(int(v), 4) for v in rng.integers(-4, 5, 2))
        signs = signs_at(net, x)
        for bits in product((False, True), repeat=len(program.bits)):
            consistent = all(s == 0 or b == (s > 0) for s, b in zip(signs, bits, strict=True))
            assert holds(program, run_of(net, program, x, bits)) == consistent
            kept, lost = kept + consistent, lost + (not consistent)
    assert kept > 40 < lost


@pytest.mark.parametrize("scale", [1e200, 1e300])
def test_overflow_decides_nothing_that_is_not_true(scale):
    for seed in range(10):
        net, box, label = question(seed)
        layers = tuple(Layer(la.weight * scale, la.bias * scale, la.relu) for la in net.layers)
        huge = Network(layers)
        agrees(seed, huge, box, label, bias_milp(huge, box, label, Deadline(20)))


def test_a_larger_network_in_time():
    rng = np.random.default_rng(5)
    net = network(rng, (10, 30, 30, 4))
    middle = [Fraction(float(v)) for v in rng.normal(size=10)]
    with within(6):
        found = bias_milp(net, Box.ball(middle, 1), 0, Deadline(2))
        none = bias_minimum(net, Box.ball(middle, 1), 0, Deadline(0))
    assert isinstance(found, BiasWrong | BiasUnknown)
    assert none == BiasUnknown(0, 1)


def test_what_does_not_fit_is_refused():
    net, box, _ = question(0)
    with pytest.raises(SolverError, match="unknown MILP solver"):
        bias_milp(net, box, 0, Deadline(1), "simplex")
    with pytest.raises(PropertyError, match="label 3"):
        bias_minimum(net, box, 3, Deadline(1))
    exact = Network(
        (Layer(np.array([[Fraction(1, 3)]] * 2), np.zeros(2, object), np.zeros(2, bool)),)
    )
    with pytest.raises(NetworkError, match="floats"):
        bias_milp(exact, Box([0], [1]), 0, Deadline(1))
