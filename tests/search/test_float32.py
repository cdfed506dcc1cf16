"""Verdicts in float32 semantics: proved covers every order, refuted is seen in onnxruntime."""

import io
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.float32_runs import order_matters, rounds_away, run
from verifier.bounds.ball_batch import plan
from verifier.bounds.float32 import in_float32
from verifier.core.errors import ExportError, NetworkError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.core.verdict import Proved, Refuted, Unknown
from verifier.io.float32_chain import float32_chain
from verifier.io.onnx import load_model
from verifier.io.onnx_export import export_onnx
from verifier.proof.claim import check_file
from verifier.proof.float32 import evaluate
from verifier.proof.format import Reader
from verifier.search.float32 import certify_float32
from verifier.search.portfolio import certify
from verifier.search.proofs import write

SHA = {"model_sha256": "a", "property_sha256": "b"}


def at_most(box: Box, bound) -> Property:
    """The first output stays below a bound."""
    unsafe = LinearConstraint(((0, Fraction(1)),), Fraction(bound))
    return Property((Case(box, ((unsafe,),)),), len(box), 1, "at most")


def asked(tmp_path, network, prop, **options):
    """The float32 verdict on the network as a file; if it is one, its proof is VALID."""
    export_onnx(network, tmp_path / "n.onnx")
    model = load_model(tmp_path / "n.onnx")
    computed = float32_chain(model)
    verdict = certify_float32(
        computed, prop, model.run, **{"timeout": 0.5, "proof": True, **options}
    )
    if not isinstance(verdict, Unknown):
        with (tmp_path / "p.proof").open("wb") as stream:
            write(stream, computed, prop, verdict, **SHA, float32=True)
        with Reader(tmp_path / "p.proof") as reader:
            done = check_file(model.network, prop, reader, **SHA, float32=computed)
        assert done.verdict == type(verdict).__name__.lower()
        assert done.semantics == "float32"
    return verdict


def random_case(seed: int, inputs: int = 2) -> tuple[Network, Box, float]:
    """A network with float32 numbers, a box, and a float32 value that it takes near the middle."""
    rng = np.random.default_rng(seed)
    sizes = [inputs, int(rng.integers(2, 6)), int(rng.integers(2, 6)), 1]
    layers = []
    for k, (n, m) in enumerate(pairwise(sizes)):
        weight = np.float32(rng.normal(size=(m, n)) * 2.0 ** rng.integers(-6, 7, size=(m, n)))
        layers.append(Layer(weight, np.float32(rng.normal(size=m)), np.full(m, k < 2)))
    low = np.float32(rng.normal(size=inputs))
    high = np.float32(low + np.float32(rng.choice([1e-5, 0.01, 0.5])))
    box = Box(tuple(map(float, low)), tuple(map(float, high)))
    return Network(tuple(layers)), box, float(run(Network(tuple(layers)), low, rng)[-1][0])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    above=st.sampled_from([-0.1, 1e-6, 1e-3, 0.1, 10.0]),
    inputs=st.sampled_from([1, 2, 3, 20]),
    engine=st.sampled_from(["auto", "bab"]),
)
def test_proved_covers_every_order(tmp_path_factory, seed, above, inputs, engine):
    network, box, value = random_case(seed, inputs)
    bound = value + above * (1 + abs(value))
    folder = tmp_path_factory.mktemp("f")
    verdict = asked(folder, network, at_most(box, bound), engine=engine)
    rng = np.random.default_rng(seed)
    ends = np.float32([box.lower, box.upper])
    points = [np.where(rng.random(inputs) < 0.5, *ends) for _ in range(6)]
    points += [np.clip(np.float32(rng.uniform(*ends)), *ends) for _ in range(6)]
    values = [run(network, x, rng)[-1][0] for x in points for _ in range(4)]
    if isinstance(verdict, Proved):
        assert max(values) < bound
    if isinstance(verdict, Refuted):
        witness = verdict.witness
        assert box.contains(witness.x)
        assert witness.y[0] >= bound
        assert witness.replay.x == tuple(map(float, witness.x))
        assert witness.y == evaluate(network, witness.x) or witness.replay.violated


def at_least(box: Box, bound) -> Property:
    """The first output stays above a bound."""
    unsafe = LinearConstraint(((0, Fraction(-1)),), -Fraction(bound))
    return Property((Case(box, ((unsafe,),)),), len(box), 1, "at least")


def test_robust_in_exact_arithmetic_only(tmp_path):
    """Exactly 3.5 everywhere near x = 1; in float32 −3.5 or anything else, as the order wants."""
    network = order_matters(2.0**27)
    prop = at_least(Box((1,), (1,)), 0)
    assert isinstance(certify(network, prop), Proved)
    verdict = asked(tmp_path, network, prop)
    assert isinstance(verdict, Refuted)
    assert verdict.witness.y == (Fraction(-7, 2),)
    seen = {run(network, np.ones(1), np.random.default_rng(s))[-1][0] for s in range(20)}
    assert min(seen) <= 0 < max(seen)


def test_robust_in_float32_only(tmp_path):
    """Exactly 1 + 2^-25 is reached, while every float32 sum is 1: the bounds do not know that."""
    network, prop = rounds_away(), at_most(Box((1, 1), (1, 1)), 1 + Fraction(1, 2**25))
    verdict = certify(network, prop)
    assert isinstance(verdict, Refuted)
    assert verdict.witness.y == (1 + Fraction(1, 2**25),)
    values = {run(network, np.ones(2), np.random.default_rng(s))[-1][0] for s in range(20)}
    assert values == {1.0}
    found = asked(tmp_path, network, prop)
    assert isinstance(found, Unknown)
    assert found.reason == "the exact counterexample that was found is none in float32"


def test_a_run_of_onnxruntime_is_a_witness_without_a_proof(tmp_path):
    """Where only the runtime's own order is unsafe, the verdict says so and no file is written."""
    network, prop = rounds_away(), at_most(Box((1, 1), (1, 1)), 1 + Fraction(1, 2**25))
    verdict = certify_float32(network, prop, lambda _: np.array([2.0], dtype=np.float32))
    assert isinstance(verdict, Refuted)
    assert verdict.witness.y == (2,)
    assert verdict.witness.replay.violated
    with pytest.raises(ExportError, match="only onnxruntime's own order"):
        write(io.BytesIO(), network, prop, verdict, **SHA, float32=True)


def test_an_engine_that_does_not_know_of_rounding_is_refused():
    with pytest.raises(ValueError, match="unknown engine 'milp'"):
        certify_float32(rounds_away(), at_most(Box((0, 0), (1, 1)), 2), lambda x: x, engine="milp")


def test_several_cases_and_one_without_unsafe_outputs(tmp_path):
    never = LinearConstraint((), Fraction(1))
    box, far = Box((0, 0), (1, 1)), LinearConstraint(((0, Fraction(1)),), Fraction(9))
    cases = (Case(box, ((far,), (never, far))), Case(box, ((never,),)), Case(box, ((far,),)))
    assert isinstance(asked(tmp_path, rounds_away(), Property(cases, 2, 1, "p")), Proved)
    always = Property((Case(box, ((),)),), 2, 1, "all")
    assert isinstance(asked(tmp_path, rounds_away(), always), Refuted)
    empty = Property((Case(Box((0.1, 0), (0.1, 0)), ((),)),), 2, 1, "no float32 point")
    assert isinstance(asked(tmp_path, rounds_away(), empty), Unknown)


def test_inputs_and_outputs_in_one_constraint(tmp_path):
    """y ≥ x_0 + x_1 is unsafe: y = x_0 + 2^-25 x_1 in exact arithmetic."""
    row = LinearConstraint(((0, Fraction(1)), (1, Fraction(-1)), (2, Fraction(-1))), Fraction(0))
    box = Box((0.5, 0.25), (1, 1))
    prop = Property((Case(box, ((row,),)),), 2, 1, "mixed", mixes_inputs=True)
    assert isinstance(asked(tmp_path, rounds_away(), prop), Proved)
    other = replace(prop, cases=(Case(Box((0.5, 0), (1, 1)), ((row,),)),))
    assert isinstance(asked(tmp_path, rounds_away(), other), Refuted)


def test_overflow_is_not_decided(tmp_path):
    """Where a sum may become infinite, the error bound says nothing."""
    network = Network((Layer(np.array([[2.0**120]]), np.zeros(1), np.zeros(1, dtype=bool)),))
    assert isinstance(asked(tmp_path, network, at_most(Box((0,), (16,)), 2.0**126)), Proved)
    verdict = asked(tmp_path, network, at_most(Box((0,), (64,)), 2.0**130))
    assert verdict == Unknown("a sum may leave the float32 range")


def test_a_plain_sum_that_overflows_is_not_decided(tmp_path):
    """Equal weights may be applied after the sum, which must not overflow either."""
    network = Network((Layer(np.full((1, 4), 2.0**-20), np.zeros(1), np.zeros(1, dtype=bool)),))
    assert isinstance(
        asked(tmp_path, network, at_most(Box((0,) * 4, (2**123,) * 4), 2**106)), Proved
    )
    verdict = asked(tmp_path, network, at_most(Box((0,) * 4, (2**126,) * 4), 2**109))
    assert verdict == Unknown("a sum may leave the float32 range", {})


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
