"""A network means one exact function, however its numbers are stored and whoever keeps the arrays.

The judge is ``truth``: the definition of a layer in Fractions, entry by entry.
"""

import itertools
import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators, random_network, wild_network
from verifier.core.errors import NetworkError
from verifier.core.network import Layer, Network


def number(value):
    """A weight as a Fraction, without the code under test."""
    return value if isinstance(value, Fraction) else Fraction(value)


def entries(weight):
    return weight.toarray() if sp.issparse(weight) else weight


def truth(network, x):
    """For each layer (z, a) from the definition."""
    a, steps = [number(v) for v in x], []
    for layer in network.layers:
        z = [
            sum((number(w) * v for w, v in zip(row, a, strict=True)), number(b))
            for row, b in zip(entries(layer.weight), layer.bias, strict=True)
        ]
        a = [max(v, Fraction(0)) if r else v for v, r in zip(z, layer.relu, strict=True)]
        steps.append((tuple(z), tuple(a)))
    return steps


def rational_point(rng, n):
    """Small rationals, with thirds and tenths."""
    return [Fraction(int(rng.integers(-50, 51)), int(rng.choice([1, 2, 3, 10]))) for _ in range(n)]


def exact_network(rng, bits=400):
    """Partial ReLU; weights that are integers of many bits, or Fractions, zeros among them."""
    sizes, layers = [int(n) for n in rng.integers(1, 4, 4)], []
    for n_in, n_out in itertools.pairwise(sizes):
        values = np.empty((n_out, n_in + 1), dtype=object)
        for index in np.ndindex(values.shape):
            big = int(rng.integers(-4, 5)) * 2 ** int(rng.integers(0, bits)) + 1
            values[index] = [0, big, Fraction(big, 3), Fraction(big, 2**70)][rng.integers(4)]
        layers.append(Layer(values[:, :-1], values[:, -1], rng.random(n_out) < 0.5))
    return Network(tuple(layers))


@given(generators())
def test_exact_is_the_definition(rng):
    for network in (random_network(rng), wild_network(rng, 1000), exact_network(rng)):
        x = rational_point(rng, network.n_inputs)
        steps = truth(network, x)
        assert network.exact_trace(x) == steps
        assert network.exact(x) == steps[-1][1]
        assert all(type(v) is Fraction for v in network.exact(x))


@given(generators())
def test_a_float_input_means_its_exact_value(rng):
    network = random_network(rng)
    x = rng.normal(size=network.n_inputs) * 2.0 ** rng.integers(-900, 900, network.n_inputs)
    assert network.exact(x) == truth(network, [Fraction(v) for v in x.tolist()])[-1][1]


@given(generators())
def test_dense_and_sparse_are_the_same_network(rng):
    network = random_network(rng)
    other = Network(
        tuple(
            Layer(
                layer.dense if layer.is_sparse else sp.csr_array(layer.weight),
                layer.bias,
                layer.relu,
            )
            for layer in network.layers
        )
    )
    x = rational_point(rng, network.n_inputs)
    assert network.exact(x) == other.exact(x)
    assert network.nonzeros == other.nonzeros
    assert network.n_relu == other.n_relu


def forward_error(network, x):
    """Exact outputs and a bound on float64's error: |fl(Wa+b) - (Wa+b)| <= gamma (|W||a| + |b|).

    Higham, Accuracy and Stability, 3.1; errors of earlier layers pass through |W|.
    """
    error = [Fraction(0)] * len(x)
    inputs = [number(v) for v in x]
    for layer, (_, a) in zip(network.layers, truth(network, x), strict=True):
        n = layer.n_in + 1
        gamma = Fraction(n, 2**53 - n)
        new = []
        for row, b in zip(entries(layer.weight), layer.bias, strict=True):
            weights = [abs(number(w)) for w in row]
            carried = sum((w * e for w, e in zip(weights, error, strict=True)), Fraction(0))
            size = sum(
                (w * (abs(v) + e) for w, v, e in zip(weights, inputs, error, strict=True)),
                abs(number(b)),
            )
            new.append(carried + gamma * size + n * Fraction(1, 2**1074))
        inputs, error = list(a), new
    return inputs, error


@given(generators())
def test_float64_is_within_its_rounding_error(rng):
    for network in (random_network(rng), wild_network(rng, 60)):
        batch = rng.normal(size=(3, network.n_inputs))
        rows = network.float64(batch)
        assert rows.shape == (3, network.n_outputs)
        for x, row in zip(batch, rows, strict=True):
            values, error = forward_error(network, x.tolist())
            for y in (row, network.float64(x)):
                assert y.shape == (network.n_outputs,)
                assert all(
                    abs(Fraction(got) - value) <= e
                    for got, value, e in zip(y.tolist(), values, error, strict=True)
                )


@given(generators(), st.sampled_from(["float", "exact"]))
def test_inputs_ride_along(rng, kind):
    network = random_network(rng) if kind == "float" else exact_network(rng)
    extended = network.with_inputs_as_outputs()
    x = tuple(rational_point(rng, network.n_inputs))
    assert extended.exact(x) == truth(network, x)[-1][1] + x
    assert extended.input_shape == network.input_shape
    assert extended.n_relu == network.n_relu
    assert extended.is_float is network.is_float


def test_inputs_ride_along_a_wide_input():
    """More inputs than neurons: a dense layer becomes sparse."""
    network = Network(
        (
            Layer(np.ones((2, 9)), np.zeros(2), np.ones(2, bool)),
            Layer(np.ones((1, 2)), np.zeros(1), np.zeros(1, bool)),
        )
    )
    x = tuple(Fraction(i - 3, 7) for i in range(9))
    assert network.with_inputs_as_outputs().exact(x) == network.exact(x) + x


# ----- who may change the arrays


@pytest.mark.parametrize("how", ["own", "view", "sparse", "object", "transposed"])
def test_writing_into_the_callers_arrays_changes_nothing(how):
    base = np.arange(16.0).reshape(4, 4) + 1
    if how == "object":
        base = np.array([[int(v) for v in row] for row in base], dtype=object)
    weight = {"view": base[:2, :2], "transposed": base.T}.get(how, base)
    weight = sp.csr_array(weight) if how == "sparse" else weight
    n = weight.shape[0]
    bias, relu = base[0, :n].copy(), np.ones(n, dtype=bool)
    network = Network((Layer(weight, bias, relu),))
    x = [Fraction(1, 2)] * n
    before = network.exact(x)
    if how == "sparse":
        weight.data[:] = -1.0
        weight.indices[:] = 0
        weight.indptr[:] = 0
    else:
        base[:] = -1
    bias[:] = -100
    relu[:] = False
    assert network.exact(x) == before == truth(network, x)[-1][1]
    fresh = Network((Layer(network.layers[0].weight, network.layers[0].bias, np.ones(n, bool)),))
    assert fresh.exact(x) == before  # not only what was cached
    if how != "object":
        assert network.float64(np.full(n, 0.5)).tolist() == [float(v) for v in before]


def test_the_networks_arrays_cannot_be_written():
    dense = Layer(np.eye(2), np.zeros(2), np.ones(2, bool))
    sparse = Layer(sp.eye_array(2, format="csr"), np.zeros(2), np.ones(2, bool))
    exact = Layer(np.eye(2).astype(int).astype(object), [0, 0], np.ones(2, bool))
    stored = [dense.weight, dense.bias, dense.relu, exact.weight, exact.bias]
    stored += [sparse.weight.data, sparse.weight.indices, sparse.weight.indptr]
    for array in stored:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(FrozenInstanceError):
        dense.bias = np.ones(2)
    with pytest.raises(FrozenInstanceError):
        Network((dense,)).layers = ()


# ----- numbers


def test_float32_weights_mean_what_they_are():
    weight = np.array([[0.1]], dtype=np.float32)
    network = Network((Layer(weight, np.zeros(1, np.float32), [False]),))
    assert network.exact([1]) == (Fraction(float(np.float32(0.1))),)


def test_an_exact_layer_takes_every_number_for_what_it_is():
    """NumPy integers wrap around and floats round in products of objects; neither may happen."""
    weight = np.empty((1, 3), dtype=object)
    weight[0] = [np.int64(2**62), 0.1, Fraction(1, 3)]
    network = Network((Layer(weight, np.array([0.1]), [False]),))
    assert network.exact([8, 3, 3]) == (Fraction(2**65) + 4 * Fraction(0.1) + 1,)
    huge = Network((Layer(np.array([[2**5000 + 1]], dtype=object), [0], [False]),))
    assert huge.exact([Fraction(1, 2**5000)]) == (1 + Fraction(1, 2**5000),)


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_integers_that_a_float_cannot_hold_are_refused(make, value):
    with pytest.raises(NetworkError, match="int64 has more bits than a float64"):
        Layer(make(np.array([[value]])), [0.0], [False])


def test_other_number_types_keep_their_value_or_are_refused():
    for weight in (np.array([[2**60]]), np.array([[-3]], np.int8), np.array([[True]])):
        network = Network((Layer(weight, [0], [False]),))
        assert network.exact([1]) == (Fraction(int(weight[0, 0])),)
        assert network.is_float
    wide = np.array([[1]], np.longdouble) + np.finfo(np.longdouble).eps
    with pytest.raises(NetworkError, match="more bits than a float64"):
        Layer(wide, [0.0], [False])
    with pytest.raises(NetworkError, match="must hold real numbers, got dtype complex128"):
        Layer(np.array([[1j]]), [0.0], [False])
    with pytest.raises(NetworkError, match="must hold real numbers, got dtype <U3"):
        Layer(np.array([["1.5"]]), [0.0], [False])
    with pytest.raises(NetworkError, match="dtype object"):
        Layer(np.eye(1), [Fraction(1, 3)], [False])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["weight", "bias"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "object", "float32"])
def test_what_is_not_finite_is_refused(kind, place, bad):
    weight, bias = np.eye(2), np.zeros(2)
    (weight if place == "weight" else bias)[...] = bad
    if kind == "object":
        weight, bias = weight.astype(object), bias.astype(object)
    elif kind == "sparse":
        weight = sp.csr_array(weight)
    elif kind == "float32":
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    with pytest.raises(NetworkError, match=r"NaN or infinite|not a finite number"):
        Layer(weight, bias, [True, True])


def test_an_entry_that_is_no_number_is_refused():
    with pytest.raises(NetworkError, match="not a finite number"):
        Layer(np.array([[None]], dtype=object), [0], [False])


# ----- shapes


@pytest.mark.parametrize(
    ("weight", "bias", "relu", "message"),
    [
        (np.zeros(3), np.zeros(3), np.zeros(3), r"2 dimensions, got shape \(3,\)"),
        (np.zeros((1, 2, 3)), np.zeros(1), np.zeros(1), "2 dimensions"),
        (np.zeros((2, 3)), np.zeros(3), np.zeros(2), r"bias must have shape \(2,\).*got \(3,\)"),
        (np.zeros((2, 3)), np.zeros((2, 1)), np.zeros(2), "bias must have shape"),
        (np.zeros((2, 3)), np.zeros(2), np.zeros(1), r"relu must have shape \(2,\)"),
        (np.zeros((2, 3)), 0.0, np.zeros(2), r"bias must have shape \(2,\).*got \(\)"),
        (sp.csr_array((2, 3)), np.zeros(3), np.zeros(2), "bias must have shape"),
    ],
)
def test_layers_that_do_not_fit_in_themselves(weight, bias, relu, message):
    with pytest.raises(NetworkError, match=message):
        Layer(weight, bias, relu)


def plain(n_out, n_in):
    return Layer(np.ones((n_out, n_in)), np.zeros(n_out), np.zeros(n_out, bool))


def test_layers_that_do_not_fit_each_other():
    with pytest.raises(NetworkError, match="at least one layer"):
        Network(())
    with pytest.raises(NetworkError, match="layer 0 has 3 outputs but layer 1 takes 2 inputs"):
        Network((plain(3, 2), plain(1, 2)))
    for shape in [(5,), (2, 3), (-1, -4)]:
        with pytest.raises(NetworkError, match="does not hold 4 numbers"):
            Network((plain(1, 4),), input_shape=shape)
    assert Network((plain(1, 4),), input_shape=(2, 2)).input_shape == (2, 2)
    assert Network((plain(1, 4),)).input_shape == (4,)


def test_points_that_do_not_fit():
    network = Network((plain(1, 2),))
    for method in (network.exact, network.exact_trace):
        with pytest.raises(NetworkError, match="expected 2 inputs, got 3"):
            method([1, 2, 3])
        with pytest.raises(NetworkError, match="an input is not a number: nan"):
            method([1, math.nan])
    for shape in [(3,), (2, 3), (), (1, 1, 2)]:
        with pytest.raises(NetworkError, match=r"expected shape \(2,\) or \(batch, 2\)"):
            network.float64(np.zeros(shape))


def test_an_exact_network_has_no_float_form():
    network = Network((Layer(np.array([[2**2000]], dtype=object), [0], [False]),))
    assert not network.is_float
    with pytest.raises(NetworkError, match="without a float64 form"):
        network.float64(np.ones(1))


def test_sizes():
    network = Network((plain(3, 2), plain(4, 3), plain(1, 4)))
    assert (network.n_inputs, network.n_outputs, network.depth, network.width) == (2, 1, 3, 4)
    assert Network((plain(1, 2),)).width == 0
    assert network.nonzeros == 6 + 12 + 4
    assert network.n_relu == 0
    sparse = Layer(sp.csr_array(np.eye(3)), np.ones(3), [True, False, True])
    assert (sparse.nonzeros, sparse.n_relu, sparse.is_sparse) == (6, 2, True)
    assert (sparse.dense == np.eye(3)).all()


def test_numbers_stay_short_in_deep_networks():
    halve = Layer(np.array([[0.5, 0.0], [0.0, 1.0]]), np.zeros(2), np.ones(2, bool))
    double = Layer(np.array([[2.0, 0.0], [0.0, 1.0]]), np.zeros(2), np.ones(2, bool))
    network = Network((halve, double) * 300)
    *_, (_, numerators, denominator) = network._exact_steps([Fraction(3, 7), 5])
    assert (numerators.tolist(), denominator) == ([3, 35], 7)
    assert network.exact([Fraction(3, 7), 5]) == (Fraction(3, 7), 5)
    assert network.exact([0, 0]) == (0, 0)


def test_sparse_rows_without_weights():
    weight = sp.csr_array(np.array([[0.0, 0.0], [2.0, 0.5], [0.0, 0.0]]))
    layer = Layer(weight, np.array([1.0, 0.0, -0.25]), np.zeros(3, bool))
    assert Network((layer,)).exact([3, 4]) == (1, 8, Fraction(-1, 4))
    empty = Layer(sp.csr_array((2, 2)), np.array([1.0, 0.0]), np.zeros(2, bool))
    assert Network((empty,)).exact([3, 4]) == (1, 0)
