"""The checker's bounds in float32 semantics hold for every order of summation."""

import io
import json
import struct
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.float32_runs import nearest, order_matters, rounds_away, run
from verifier.core.network import Layer, Network
from verifier.core.property import Box, LinearConstraint, Property
from verifier.core.property import Case as PropertyCase
from verifier.core.verdict import Proved
from verifier.proof.case import Case, InvalidError
from verifier.proof.chain import chain
from verifier.proof.claim import FLOAT32, check_file, header
from verifier.proof.float32 import Float32Error, evaluate, rounded
from verifier.proof.format import MAGIC, Reader, Writer
from verifier.proof.integers import Rows, TooWideError, backward
from verifier.proof.leaves import lemma
from verifier.proof.rounding import rounding
from verifier.search.float32 import certify_float32
from verifier.search.portfolio import certify
from verifier.search.proofs import write


def float32_network(rng: np.random.Generator) -> Network:
    """Weights of different sizes."""
    sizes = [int(n) for n in rng.integers(1, 9, size=rng.integers(3, 5))] + [1]
    layers = []
    for k, n in enumerate(sizes[:-1]):
        m = sizes[k + 1]
        weight = np.float32(rng.normal(size=(m, n)) * 2.0 ** rng.integers(-8, 9, size=(m, n)))
        layers.append(Layer(weight, np.float32(rng.normal(size=m)), np.full(m, k < len(sizes) - 2)))
    return Network(tuple(layers))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_bounds_and_forms_hold_for_all_orders(seed):
    rng = np.random.default_rng(seed)
    network = float32_network(rng)
    low = np.float32(rng.normal(size=network.n_inputs))
    high = np.float32(low + np.float32(rng.choice([0.0, 1e-6, 0.3])))
    box = Box(tuple(map(float, low)), tuple(map(float, high)))
    found = chain(network.layers, box, (-np.ones((1, 1)), [Fraction(7, 3)]), float32=True)
    one, zero = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    hidden = found.bounds[:-1]
    rows = Rows(
        network.depth, (zero, one), zero, [b[0][None] for b in hidden], [b[1][None] for b in hidden]
    )
    least = backward(found.layers, found.scale, rows, found.bits).least(*found.box)
    bound = Fraction(int(least.mantissa[0])) * Fraction(2) ** int(least.exponent[0])
    for x in (low, high, np.where(rng.random(len(low)) < 0.5, low, high)):
        seen = run(network, x, rng)
        for z, (below, above), layer in zip(seen, found.bounds, found.layers, strict=False):
            unit = Fraction(2) ** layer.scale
            for value, a, b in zip(z, below, above, strict=True):
                assert int(a) <= Fraction(float(value)) * unit <= int(b)
        assert bound <= Fraction(7, 3) - Fraction(float(seen[-1][0]))


def test_exact_bounds_do_not():
    network, box = order_matters(2.0**27), Box((1,), (1,))
    exact, rounded = (chain(network.layers, box, float32=flag) for flag in (False, True))
    assert exact.bounds[-1][0][0] > 0 > rounded.bounds[-1][0][0]


@pytest.mark.parametrize(
    ("weight", "bias", "reach", "message"),
    [
        (0.1, 0.0, 1, "that are float32"),
        (0.5, 0.1, 1, "that are float32"),
        (2.0**120, 0.0, 2**8, "may leave the float32 range"),
    ],
)
def test_what_is_refused(weight, bias, reach, message):
    layers = (Layer(np.array([[weight]]), np.array([bias]), np.zeros(1, dtype=bool)),)
    with pytest.raises(TooWideError, match=message):
        chain(layers, Box((0,), (reach,)), float32=True)


SHA = {"model_sha256": "a", "property_sha256": "b"}


def above(bound, box: Box, n_outputs: int = 1) -> Property:
    """Unsafe: the first output is at least a bound."""
    row = LinearConstraint(((0, Fraction(1)),), Fraction(bound))
    return Property((PropertyCase(box, ((row,),)),), len(box), n_outputs, "p")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), power=st.sampled_from([0, -60, -75, 20]))
def test_one_order_in_integers_is_that_of_ieee_754(seed, power):
    """Compared with this machine's float32, and with rationals rounded one operation at a time."""
    rng = np.random.default_rng(seed)
    network = float32_network(rng)
    layers = tuple(
        Layer(
            np.float32(np.ldexp(y.dense, power)) * (rng.random(y.dense.shape) < 0.7),
            np.float32(np.ldexp(y.bias, power)), y.relu,
        )
        for y in network.layers
    )  # fmt: skip
    x = np.float32(np.ldexp(rng.normal(size=network.n_inputs), power))
    a, b = x, [Fraction(float(v)) for v in x]
    # No sum reaches 2^127 where these do not.
    most = np.abs(x).astype(np.float64)
    for y in layers:
        most = np.abs(y.dense) @ most + np.abs(y.bias)
        assume(most.max() < 2.0**126)
    for y in layers:
        z, exact = [], []
        for w, c in zip(np.float32(y.dense), np.float32(y.bias), strict=True):
            total, value = np.float32(0), Fraction(0)
            for v, u, r in zip(w, a, b, strict=True):
                total = np.float32(total + np.float32(v * u))
                product = Fraction(float(nearest(Fraction(float(v)) * r)))
                value = Fraction(float(nearest(value + product)))
            z.append(np.float32(total + c))
            exact.append(Fraction(float(nearest(value + Fraction(float(c))))))
        a = np.where(y.relu, np.maximum(z, np.float32(0)), z).astype(np.float32)
        b = [max(v, Fraction(0)) if r else v for v, r in zip(exact, y.relu, strict=True)]
    found = evaluate(Network(layers), [Fraction(float(v)) for v in x])
    assert found == tuple(b) == tuple(Fraction(float(v)) for v in a)


def test_evaluation_refuses_what_is_no_float32():
    plain = Layer(np.ones((1, 1)), np.zeros(1), np.zeros(1, dtype=bool))
    large = Layer(np.full((1, 1), 2.0**127), np.zeros(1), np.zeros(1, dtype=bool))
    fine = Layer(np.full((1, 1), 0.1), np.zeros(1), np.zeros(1, dtype=bool))
    most = Fraction(2**128 - 2**104)
    assert evaluate(Network((plain,)), [most]) == (most,)
    assert evaluate(Network((large,)), [Fraction(2) - Fraction(1, 2**23)]) == (most,)
    for x in (Fraction(1, 3), Fraction(1, 2**150), Fraction(10) ** 400, Fraction(2**128)):
        with pytest.raises(Float32Error, match="coordinate is no float32"):
            evaluate(Network((plain,)), [x])
    with pytest.raises(Float32Error, match="beyond the largest"):
        evaluate(Network((large,)), [Fraction(2)])
    with pytest.raises(Float32Error, match="weight, bias or coordinate"):
        evaluate(Network((fine,)), [Fraction(1)])


def tightened(network: Network, box: Box, passes: int) -> list[Case]:
    """A case after each lemma on all neurons of a layer, and the rounding that follows."""
    out = []
    for _ in range(passes):
        state = Case(rounded(network), above(1, box), 0)
        for k, part in enumerate(state.parts[1:], start=1):
            for _ in range(passes):
                n, none = part.stop - part.start, np.zeros(0, dtype=np.int64)
                columns = {
                    "layer": np.array([k]), "neuron": np.tile(np.arange(n), 2),
                    "side": np.repeat([0, 1], n), "leaves": np.ones(2 * n, dtype=np.int64),
                    "splits": np.zeros(2 * n, dtype=np.int64),
                    **dict.fromkeys(("unit", "sign", "multiplier", "fine_leaf"), none),
                    **dict.fromkeys(("units", "slopes", "fine"), none.astype(np.uint8)),
                }  # fmt: skip
                assert lemma(state, columns, "s") == 0
                assert rounding(state, {}, "s") == 0
        out.append(state)
    return out


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), passes=st.integers(1, 2))
def test_bounds_hold_for_all_orders_after_rounding_anew(seed, passes):
    rng = np.random.default_rng(seed)
    network = float32_network(rng)
    low = np.float32(rng.normal(size=network.n_inputs))
    high = np.float32(low + np.float32(rng.choice([0.0, 1e-6, 0.3])))
    box = Box(tuple(map(float, low)), tuple(map(float, high)))
    before = Case(rounded(network), above(1, box), 0).chain
    for state in tightened(network, box, passes):
        (node,) = state.stack
        for x in (low, high, np.where(rng.random(len(low)) < 0.5, low, high)):
            seen = run(network, x, rng)
            for z, part, layer in zip(seen, state.parts, state.chain.layers, strict=False):
                unit = Fraction(2) ** layer.scale
                ends = zip(z, node.low[0, part], node.high[0, part], strict=True)
                assert all(int(a) <= Fraction(float(v)) * unit <= int(b) for v, a, b in ends)
        for old, new in zip(before.layers[1:], state.chain.layers[1:], strict=True):
            widths = [
                np.ldexp((y.bias_high - y.bias_low).astype(float), -y.bias_scale)
                for y in (old, new)
            ]
            assert (widths[1] <= widths[0] * 1.001 + 2.0**-140).all()


def test_rounding_anew_is_worth_it():
    """Six layers whose intervals grow faster than their values."""
    rng = np.random.default_rng(1)
    sizes = [2] + [12] * 6 + [1]
    layers = [
        Layer(
            np.float32(rng.normal(size=(m, n)) / 2),
            np.float32(rng.normal(size=m)),
            np.full(m, k < 6),
        )
        for k, (n, m) in enumerate(pairwise(sizes))
    ]
    box = Box((-1.0, -1.0), (1.0, 1.0))
    (state,) = tightened(Network(tuple(layers)), box, 1)
    before = Case(rounded(Network(tuple(layers))), above(1, box), 0).chain
    width = [
        float(np.ldexp(float((y.bias_high - y.bias_low)[0]), -y.bias_scale))
        for y in (before.layers[6], state.chain.layers[6])
    ]
    assert width[1] < 0.5 * width[0]


def test_where_rounding_is_refused():
    network, box = rounds_away(), Box((0, 0), (1, 1))
    with pytest.raises(InvalidError, match="in exact arithmetic nothing"):
        rounding(Case(network, above(3, box), 0), {}, "s")
    state = Case(rounded(network), above(3, box), 0)
    state.stack.append(state.stack[0])
    with pytest.raises(InvalidError, match="more than one node"):
        rounding(state, {}, "s")
    state = Case(rounded(network), above(3, box), 0)
    state.stack[0].low[0, 0] = state.stack[0].high[0, 0] + 1
    with pytest.raises(InvalidError, match="contradict"):
        rounding(state, {}, "s")
    state.stack.clear()
    with pytest.raises(InvalidError, match="0 are open"):
        rounding(state, {}, "s")


def proof_file(tmp_path, blocks, semantics=FLOAT32):
    stream = io.BytesIO()
    writer = Writer(stream, header("a", "b", semantics=semantics))
    for name, columns in blocks:
        writer.block(name, **columns)
    writer.close()
    (tmp_path / "p").write_bytes(stream.getvalue())
    return tmp_path / "p"


def checked(path, network, prop, computed="same"):
    with Reader(path) as reader:
        other = network if computed == "same" else computed
        return check_file(network, prop, reader, **SHA, float32=other)


def test_rules_of_exact_arithmetic_are_refused(tmp_path):
    network, prop = rounds_away(), above(3, Box((1, 1), (1, 1)))
    exact_leaf = {"action": [3], "size": [1, 1], "digits": [1, 1]}
    for name, blocks in (
        ("intervals", [("intervals", {"case": [0]})]),
        ("pairs", [("pairs", {}), ("intervals", {"case": [0]})]),
        ("exact leaf", [("case", {"case": [0]}), ("neurons", exact_leaf)]),
    ):
        assert checked(proof_file(tmp_path, blocks, "real"), network, prop).semantics == "real"
        with pytest.raises(InvalidError) as caught:
            checked(proof_file(tmp_path, blocks), network, prop)
        assert caught.value.rule == name


def test_sums_that_may_overflow_are_refused():
    wide = Layer(np.full((1, 4), 2.0**-20), np.zeros(1), np.zeros(1, dtype=bool))
    Case(rounded(Network((wide,))), above(1, Box((0,) * 4, (2**124,) * 4)), 0)
    with pytest.raises(TooWideError, match="leave the float32 range"):
        Case(rounded(Network((wide,))), above(1, Box((0,) * 4, (2**125,) * 4)), 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), slack=st.sampled_from([1e-6, 1e-3, 0.1, 3.0]))
def test_a_proof_is_none_of_what_some_order_violates(tmp_path_factory, seed, slack):
    """A proof for a higher threshold, replayed for one that a simulated evaluation reaches."""
    rng = np.random.default_rng(seed)
    network, path = float32_network(rng), tmp_path_factory.mktemp("p") / "p"
    low = np.float32(rng.normal(size=network.n_inputs))
    high = np.float32(low + np.float32(rng.choice([0.0, 1e-6, 0.3])))
    box = Box(tuple(map(float, low)), tuple(map(float, high)))
    ends = [low, high, *(np.where(rng.random(len(low)) < 0.5, low, high) for _ in range(6))]
    top = max(float(run(network, x, rng)[-1][0]) for x in ends for _ in range(3))
    prop = above(top + slack * (1 + abs(top)), box)
    verdict = certify_float32(network, prop, lambda x: np.zeros(1), timeout=1.0, proof=True)
    if isinstance(verdict, Proved):
        written(path, network, prop, verdict, float32=True)
        assert checked(path, network, prop).verdict == "proved"
        with pytest.raises(InvalidError):
            checked(path, network, above(top, box))


def relabelled(path, semantics):
    """The same proof with another word in its header."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    start = len(MAGIC) + 4
    head = json.loads(data[start : start + length])
    text = json.dumps({**head, "semantics": semantics}).encode()
    path.write_bytes(MAGIC + struct.pack("<I", len(text)) + text + data[start + length :])
    return path


def written(path, network, prop, verdict, *, float32):
    with path.open("wb") as stream:
        write(stream, network, prop, verdict, **SHA, float32=float32)
    return path


@pytest.mark.parametrize("engine", ["auto", "bab"])
def test_a_real_proof_is_none_in_float32_where_rounding_decides(tmp_path, engine):
    network, path = order_matters(2.0**27), tmp_path / "p"
    row = LinearConstraint(((0, Fraction(-1)),), Fraction(0))
    prop = Property((PropertyCase(Box((0.75,), (1,)), ((row,),)),), 1, 1, "positive")
    verdict = certify(network, prop, proof=True, engine=engine)
    assert isinstance(verdict, Proved)
    written(path, network, prop, verdict, float32=False)
    assert checked(path, network, prop).semantics == "real"
    for word, wrong in ((FLOAT32, "."), ("float64", "float64"), (None, "None"), (["real"], "real")):
        with pytest.raises(InvalidError, match=wrong):
            checked(relabelled(path, word), network, prop)


def test_a_float32_proof_needs_the_sums_that_are_computed(tmp_path):
    """A network whose layers were merged is no reading of the file in float32."""
    network, prop = rounds_away(), above(3, Box((0, 0), (1, 1)))
    verdict = certify_float32(network, prop, lambda x: np.zeros(1), proof=True)
    assert isinstance(verdict, Proved)
    path = written(tmp_path / "p", network, prop, verdict, float32=True)
    assert checked(path, network, prop).semantics == FLOAT32
    with pytest.raises(InvalidError, match="only real is checked"):
        checked(path, network, prop, None)
    # The blocks speak of sums by their places: in exact arithmetic the rule "rounding" is refused.
    with pytest.raises(InvalidError, match="in exact arithmetic nothing"):
        checked(relabelled(path, "real"), network, prop)


def test_witnesses_in_float32(tmp_path):
    network, box = order_matters(2.0**27), Box((0.5,), (1.5,))
    row = LinearConstraint(((0, Fraction(-1)),), Fraction(0))
    prop = Property((PropertyCase(box, ((row,),)),), 1, 1, "positive")

    def said(x, semantics=FLOAT32, prop=prop):
        text = header("a", "b", [x], semantics=semantics)
        stream = io.BytesIO()
        Writer(stream, text).close()
        (tmp_path / "w").write_bytes(stream.getvalue())
        return checked(tmp_path / "w", network, prop)

    done = said(Fraction(1))
    assert (done.verdict, done.semantics, done.nodes) == ("refuted", FLOAT32, 0)
    with pytest.raises(InvalidError, match="exact outputs at the point are not unsafe"):
        said(Fraction(1), "real")
    with pytest.raises(InvalidError, match="no float32 number"):
        said(Fraction(4, 3))
    with pytest.raises(InvalidError, match="outside"):
        said(Fraction(2))
    safe = Property((PropertyCase(box, ((LinearConstraint(row.terms, Fraction(9)),),)),), 1, 1, "s")
    with pytest.raises(InvalidError, match="float32 outputs at the point are not unsafe"):
        said(Fraction(1), prop=safe)
