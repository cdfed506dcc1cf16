"""Verdicts in float32 semantics: proved covers every order, refuted is seen in onnxruntime."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.float32_runs import order_matters, rounds_away, run
from verifier.bounds.ball_batch import plan
from verifier.bounds.float32 import in_float32
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx
from verifier.search.float32 import certify_float32
from verifier.search.portfolio import certify
from verifier.search.replay import replay


def at_most(box: Box, bound) -> Property:
    """The first output stays below a bound."""
    unsafe = LinearConstraint(((0, Fraction(1)),), Fraction(bound))
    return Property((Case(box, ((unsafe,),)),), len(box), 1, "at most")


def asked(tmp_path, network, prop, **options):
    """The float32 verdict on the network as a file."""
    export_onnx(network, tmp_path / "n.onnx")
    model = load_model(tmp_path / "n.onnx")
    assert model.literal
    return certify_float32(
        model.network, prop, lambda w: replay(w, prop, model.run), timeout=0.5, **options
    )


def random_case(seed: int) -> tuple[Network, Box, float]:
    """A network with float32 numbers, a box, and a float32 value that it takes near the middle."""
    rng = np.random.default_rng(seed)
    sizes = [2, int(rng.integers(2, 6)), int(rng.integers(2, 6)), 1]
    layers = []
    for k, (n, m) in enumerate(pairwise(sizes)):
        weight = np.float32(rng.normal(size=(m, n)) * 2.0 ** rng.integers(-6, 7, size=(m, n)))
        layers.append(Layer(weight, np.float32(rng.normal(size=m)), np.full(m, k < 2)))
    low = np.float32(rng.normal(size=2))
    high = np.float32(low + np.float32(rng.choice([1e-5, 0.01, 0.5])))
    box = Box(tuple(map(float, low)), tuple(map(float, high)))
    return Network(tuple(layers)), box, float(run(Network(tuple(layers)), low, rng)[-1][0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), above=st.sampled_from([1e-6, 1e-3, 0.1, 10.0]))
def test_proved_covers_every_order(tmp_path_factory, seed, above):
    network, box, value = random_case(seed)
    bound = value + above * (1 + abs(value))
    verdict = asked(tmp_path_factory.mktemp("f"), network, at_most(box, bound))
    rng = np.random.default_rng(seed)
    corners = [np.array([a, b]) for a in (0, 1) for b in (0, 1)]
    ends = np.float32([box.lower, box.upper])
    points = [np.where(c == 0, ends[0], ends[1]) for c in corners]
    points += [np.clip(np.float32(rng.uniform(*ends)), *ends) for _ in range(6)]
    values = [run(network, x, rng)[-1][0] for x in points for _ in range(4)]
    if isinstance(verdict, Proved):
        assert max(values) < bound
    if isinstance(verdict, Refuted):
        assert verdict.witness.replay.violated
        assert verdict.witness.replay.y[0] >= bound


def test_robust_in_exact_arithmetic_only(tmp_path):
    """Exactly 3.5 everywhere near x = 1; in float32 −3.5 or anything else, as the order wants."""
    network = order_matters(2.0**27)
    box = Box((1,), (1,))
    prop = Property(
        (Case(box, ((LinearConstraint(((0, Fraction(-1)),), Fraction(0)),),)),), 1, 1, "positive"
    )
    assert isinstance(certify(network, prop), Proved)
    verdict = asked(tmp_path, network, prop)
    assert isinstance(verdict, Unknown)
    assert any(run(network, np.ones(1), np.random.default_rng(s))[-1][0] <= 0 for s in range(20))


def test_robust_in_float32_only(tmp_path):
    """Exactly 1 + 2^-25 is reached, while every float32 sum is 1."""
    network, prop = rounds_away(), at_most(Box((1, 1), (1, 1)), 1 + Fraction(1, 2**25))
    verdict = certify(network, prop)
    assert isinstance(verdict, Refuted)
    assert verdict.witness.y == (1 + Fraction(1, 2**25),)
    values = {run(network, np.ones(2), np.random.default_rng(s))[-1][0] for s in range(20)}
    assert values == {1.0}
    assert asked(tmp_path, network, prop) == Unknown(
        "the exact counterexample that was found is none in onnxruntime's float32",
        {"attack": 1.0},
    )


def test_overflow_is_not_decided(tmp_path):
    """Where a sum may become infinite, the error bound says nothing."""
    network = Network((Layer(np.array([[2.0**120]]), np.zeros(1), np.zeros(1, dtype=bool)),))
    assert isinstance(asked(tmp_path, network, at_most(Box((0,), (16,)), 2.0**126)), Proved)
    verdict = asked(tmp_path, network, at_most(Box((0,), (64,)), 2.0**130))
    assert verdict == Unknown("a sum may leave the float32 range")


def test_exact_engines_refuse_a_rounded_network():
    rounded, prop = in_float32(rounds_away()), at_most(Box((1, 1), (1, 1)), 2)
    with pytest.raises(NetworkError, match="exact arithmetic"):
        certify(rounded, prop)
    with pytest.raises(NetworkError, match="exact arithmetic"):
        plan(rounded)


def test_both_verdicts_occur(tmp_path):
    """Far above the value at a corner nearly all is proved, at it nearly all is refuted."""
    words = []
    for seed in range(12):
        network, box, value = random_case(seed)
        for bound in (value + 100 * (1 + abs(value)), value - 100 * (1 + abs(value))):
            words.append(type(asked(tmp_path, network, at_most(box, bound))).__name__)
    assert words.count("Proved") >= 6
    assert words.count("Refuted") >= 6
