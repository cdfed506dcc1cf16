"""Networks that fool floating point: every verdict is right, and solvers are fooled."""

import itertools
import sys
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest

from tests.float_traps import traps
from tests.soundness.random_instances import is_wrong
from tests.soundness.rivals import (
    MILP_SOLVERS,
    ask_marabou,
    ask_milp,
    marabou_python,
    right,
)
from verifier.core.verdict import Unknown
from verifier.io.onnx_export import export_onnx
from verifier.search.portfolio import ENGINES, certify

SMALL, ALL = traps([6]), traps([10, 30, 60])
FLOAT = [trap for trap in ALL if trap.family not in ("knife", "hidden_switch")]


def name(trap):
    return f"{trap.family}-{trap.exponent}-{'unsafe' if trap.unsafe else 'safe'}"


def maximum(network, low, high):
    """The largest output of a network with one input, from the exact values at all its kinks."""
    kinks = [low, high]
    for depth in range(1, network.depth + 1):
        values = [activations(network, x, depth) for x in kinks]
        more = set(kinks)
        for i, relu in enumerate(network.layers[depth - 1].relu):
            pieces = zip(itertools.pairwise(kinks), itertools.pairwise(values), strict=True)
            for (a, b), (u, v) in pieces:
                if relu and u[i] * v[i] < 0:
                    more.add(a - u[i] * (b - a) / (v[i] - u[i]))
        kinks = sorted(more)
    return max(activations(network, x, network.depth)[0] for x in kinks)


def activations(network, x, depth):
    """Pre-activations of a layer, in Fractions."""
    values = [x]
    for k, layer in enumerate(network.layers[:depth]):
        values = [
            sum((Fraction(w) * v for w, v in zip(row, values, strict=True)), Fraction(bias))
            for row, bias in zip(layer.dense.tolist(), layer.bias.tolist(), strict=True)
        ]
        if k < depth - 1:
            values = [
                max(v, Fraction(0)) if r else v for v, r in zip(values, layer.relu, strict=True)
            ]
    return values


@pytest.mark.parametrize("trap", [*SMALL, *ALL], ids=name)
def test_the_stated_maximum_is_the_maximum(trap):
    assert maximum(trap.network, trap.box.lower[0], trap.box.upper[0]) == trap.maximum


@pytest.mark.parametrize("engine", ENGINES)
def test_no_engine_is_wrong_and_complete_ones_decide(engine):
    unknown = 0
    for trap in ALL:
        if trap.exponent > 1074:
            continue  # numbers that overflow in between: decided, but slowly
        verdict = certify(trap.network, trap.property(), timeout=600, engine=engine)
        assert not is_wrong(trap.network, trap.property(), verdict, violated=trap.unsafe)
        unknown += isinstance(verdict, Unknown)
    assert unknown == 0 or engine in ("lp", "interval")


@pytest.mark.parametrize("solver", MILP_SOLVERS)
def test_solvers_are_right_about_small_sizes(solver):
    easy = [trap for trap in SMALL if trap.family != "subnormal"]
    assert all(right(trap, ask_milp(trap, solver)) for trap in easy)


@pytest.mark.parametrize("solver", MILP_SOLVERS)
def test_solvers_are_wrong_in_both_directions(solver):
    wrong = {trap.unsafe for trap in ALL if right(trap, ask_milp(trap, solver)) is False}
    assert wrong == {True, False}


def test_a_runtime_is_fooled_as_well(tmp_path):
    """onnxruntime computes the opposite of the truth for some of the largest."""
    fooled = 0
    for trap in FLOAT:
        if trap.family == "subnormal":
            continue  # weights that float32 does not have
        path = tmp_path / "n.onnx"
        export_onnx(trap.network, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        ends = [float(v) for v in (trap.box.lower[0], trap.box.upper[0])]
        dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
        seen = [
            session.run(None, {session.get_inputs()[0].name: np.array([[x]], dtype)})[0].item()
            for x in ends
        ]
        fooled += (max(seen) >= 0) is not trap.unsafe
    assert fooled >= 3


@pytest.mark.skipif(marabou_python() is None, reason="RELUCID_MARABOU names no Python")
def test_marabou_is_right_about_small_sizes_and_fooled_by_large_ones():
    easy = [trap for trap in SMALL if trap.family != "subnormal"]
    answers = ask_marabou(str(marabou_python()), easy)
    assert all(right(trap, answer) for trap, answer in zip(easy, answers, strict=True))
    answers = ask_marabou(str(marabou_python()), ALL)
    assert False in [right(trap, answer) for trap, answer in zip(ALL, answers, strict=True)]


def test_a_marabou_that_is_not_there_is_not_mistaken_for_an_answer():
    assert ask_marabou(sys.executable, SMALL[:1]) == ["crashed"]
