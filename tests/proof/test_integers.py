"""Backward passes in integers: every form lies below the exact value at exact points."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.proof.networks import KINDS, inputs, point, unpleasant_box, unpleasant_network
from verifier.core.errors import CertificateError
from verifier.core.network import Network
from verifier.proof.chain import Chain, chain
from verifier.proof.forms import Forms, Total, scaled, wide
from verifier.proof.integers import (
    LIMB,
    WIDEST,
    Rows,
    backward,
    half_bits,
    halves,
    product,
)


def value_of(total: Total, row: int) -> Fraction:
    """A row's exact number."""
    return int(total.mantissa[row]) * Fraction(2) ** int(total.exponent[row])


def form_at(forms: Forms, row: int, t: list[Fraction]) -> Fraction:
    """A form at t."""
    unit = Fraction(2) ** (int(forms.exponent[row]) - forms.scale)
    total = sum((int(c) * v for c, v in zip(forms.lam[row], t, strict=True)), Fraction(0))
    return value_of(forms.const, row) + total * unit


def node(rng: np.random.Generator, network: Network, view: Chain) -> tuple[list, list, list]:
    """A part of the box with bounds that hold at some of its points, and these points.

    Bounds of two thirds of the neurons are cut down to what the points need, as splits do it.
    """
    points = [point(rng, *view.box) for _ in range(6)]
    traces = [network.exact_trace(inputs(view, t)) for t in points]
    low, high = [], []
    for k, (a, b) in enumerate(view.bounds[: network.depth]):
        unit = Fraction(2) ** view.layers[k].scale
        z = [[v * unit for v in trace[k][0]] for trace in traces]
        least = np.array([int(np.floor(min(column))) for column in zip(*z, strict=True)])
        most = np.array([int(np.ceil(max(column))) for column in zip(*z, strict=True)])
        cut = rng.random(len(a)) < 2 / 3
        low.append(np.where(cut, least, a).astype(np.int64))
        high.append(np.where(cut, most, b).astype(np.int64))
    return low, high, list(zip(points, traces, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(14))
def test_forms_lie_below_exact_values(kind: str, seed: int) -> None:
    """Single neurons with both signs, with any slopes, multipliers and pass-through coordinates."""
    rng = np.random.default_rng(100 + seed)
    network = unpleasant_network(rng, kind, sparse=seed % 3 == 0)
    view = chain(network.layers, unpleasant_box(rng, network.n_inputs))
    low, high, samples = node(rng, network, view)
    layer = network.depth - 1
    n = network.n_outputs
    if seed % 2:
        neuron = np.concatenate([np.arange(n), np.arange(n)])
        sign = np.repeat([1, -1], n)
        mu: np.ndarray | tuple = (neuron, sign)
        exact = np.zeros((2 * n, n), dtype=object)
        exact[np.arange(2 * n), neuron] = sign
    else:
        size = int(rng.choice([3, 20, view.bits - 1]))
        mu = rng.integers(-(1 << size), 1 << size, (2 * n, n))
        exact = mu.astype(object)
    count = 2 * n
    slopes = [rng.integers(0, 257, (count, len(a))) for a in low[:layer]]
    multipliers, lowered = [], []
    for k in range(layer):
        # Signs that hold at all points: of neurons that are stable in the node.
        sure = np.flatnonzero((low[k] >= 0) | (high[k] <= 0))
        pairs = [(r, int(i)) for r in range(count) for i in sure if rng.random() < 0.4]
        row, index = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        mantissa = np.where(low[k][index] >= 0, 1, -1) * rng.integers(0, 256, len(row))
        multipliers.append((row, index, mantissa, rng.integers(-60, 10, len(row))))
        lowered.append(len(row))
    rows = Rows(
        layer, mu, np.zeros(count, dtype=np.int64),
        [np.tile(a, (count, 1)) for a in low[:layer]],
        [np.tile(a, (count, 1)) for a in high[:layer]],
        slopes if rng.random() < 0.7 else None,
        multipliers if rng.random() < 0.7 else None,
    )  # fmt: skip
    forms = backward(view.layers, view.scale, rows, view.bits)
    assert np.abs(forms.lam).max() < 1 << 44
    least = forms.least(*view.box)
    for t, trace in samples:
        z = trace[layer][0]
        for q in range(count):
            value = sum((int(c) * v for c, v in zip(exact[q], z, strict=True)), Fraction(0))
            at = form_at(forms, q, t)
            assert value_of(least, q) <= at <= value


@pytest.mark.parametrize("seed", range(6))
def test_forms_are_tight_where_nothing_is_relaxed(seed: int) -> None:
    """With every neuron stable the form is the function, to 10 digits of its largest terms."""
    rng = np.random.default_rng(seed)
    network = unpleasant_network(rng, "float32", sizes=(3, 20, 20, 2))
    box = unpleasant_box(rng, 3)
    view = chain(network.layers, box)
    t = point(rng, *view.box)
    trace = network.exact_trace(inputs(view, t))
    low, high = [], []
    for k in range(2):
        z = np.array([v * Fraction(2) ** view.layers[k].scale for v in trace[k][0]])
        low.append(np.where(z >= 0, 0, view.bounds[k][0]).astype(np.int64)[None])
        high.append(np.where(z >= 0, view.bounds[k][1], 0).astype(np.int64)[None])
    rows = Rows(2, (np.array([0]), np.array([1])), np.zeros(1, dtype=np.int64), low, high)
    forms = backward(view.layers, view.scale, rows, view.bits)
    size = max(1, *(abs(v) for a in view.bounds[2] for v in a.tolist()))
    error = (trace[2][0][0] - form_at(forms, 0, t)) * Fraction(2) ** view.layers[2].scale
    assert 0 <= error <= Fraction(size, 10**9)


def test_two_multipliers_of_one_neuron_are_refused() -> None:
    """Their sum might not fit."""
    rng = np.random.default_rng(0)
    network = unpleasant_network(rng, "bits", sizes=(2, 3, 1))
    view = chain(network.layers, unpleasant_box(rng, 2))
    twice = (np.zeros(2, int), np.ones(2, int), np.ones(2, int), np.zeros(2, int))
    low, high = ([end[None] for end in ends] for ends in view.bounds[0])
    rows = Rows(1, np.ones((1, 1), int), np.zeros(1, int), [low[0]], [high[0]], None, [twice])
    rows.low, rows.high = [view.bounds[0][0][None]], [view.bounds[0][1][None]]
    with pytest.raises(CertificateError, match="two multipliers"):
        backward(view.layers, view.scale, rows, view.bits)
    rows.multipliers, rows.mu = None, np.full((1, 1), 1 << (view.bits + 1))
    with pytest.raises(CertificateError, match="bits"):
        backward(view.layers, view.scale, rows, view.bits)


@pytest.mark.parametrize("n", [1, 50, 600, WIDEST])
def test_products_stay_below_and_exact_at_their_limits(n: int) -> None:
    """The largest numbers that are allowed, in one column: no partial sum loses a bit."""
    half = half_bits(n)
    assert n << (half + LIMB) <= 1 << 53
    for sign in (1, -1):
        rows = np.full((1, n), float(sign * ((1 << (2 * half)) - (sign > 0))))
        high, low = halves(rows, half)
        first = np.full((n, 1), float(sign * ((1 << (LIMB - 1)) - 1)))
        second = np.full((n, 1), float((1 << LIMB) - 1))
        value = int(product(high, low, [first, second], half)[0, 0])
        weight = Fraction(int(first[0, 0])) + Fraction(int(second[0, 0]), 1 << LIMB)
        exact = n * int(rows[0, 0]) * weight / (1 << half)
        assert 0 <= exact - value < 2
        assert abs(value) < 1 << 53


def test_scaled_and_wide_are_rounded_down() -> None:
    """Against Python's integers, at the largest sizes too."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.integers(-(2**43), 2**43, 500), [2**44 - 1, -(2**44) + 1]])
    y = np.concatenate([rng.integers(-(2**30), 2**30, 500), [2**31 - 1, -(2**31) + 1]])
    assert scaled(x, y).tolist() == [
        (a * b) >> 28 for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
    y = np.concatenate([rng.integers(-(2**60), 2**60, 500), [2**60 - 1, -(2**60) + 1]])
    for got, a, b in zip(wide(x, y).tolist(), x.tolist(), y.tolist(), strict=True):
        assert 0 <= Fraction(a * b, 1 << 58) - got < 2


def test_totals_never_exceed_the_sum() -> None:
    """Terms of wildly different sizes."""
    rng = np.random.default_rng(6)
    total, exact = Total(200), [Fraction(0)] * 200
    for _ in range(30):
        terms = rng.integers(-(2**61) + 1, 2**61, 200) >> rng.integers(0, 61, 200)
        exponent = rng.integers(-90, 90, 200)
        total.add(terms, exponent)
        for q in range(200):
            exact[q] += int(terms[q]) * Fraction(2) ** int(exponent[q])
            assert value_of(total, q) <= exact[q]
        assert (np.abs(total.mantissa) <= 1 << 61).all()
    for q, v in enumerate(total.at_scale(-100).tolist()):
        assert v <= value_of(total, q) / 2**100 < v + 1


def test_totals_beyond_the_range_of_a_scale() -> None:
    """A number that does not fit is cut to ±2^62."""
    total = Total(4)
    total.add(np.array([5, -5, 0, 3]), np.array([70, 70, 70, -2]))
    assert total.at_scale(0).tolist() == [1 << 62, -(1 << 62), 0, 0]
    assert total.shown(0) == f"{5 << 57} * 2^13"


@pytest.mark.parametrize("count", [1, 40, 3000])
def test_combinations_lie_below_the_weighted_sum(count: int) -> None:
    """Also with the largest weights and coefficients, where a plain sum would leave 63 bits."""
    rng = np.random.default_rng(count)
    const = Total(count)
    const.add(
        rng.integers(2**59, 2**60, count) * rng.choice([-1, 1], count), rng.integers(-9, 9, count)
    )
    lam = np.where(rng.random((count, 2)) < 0.5, -(2**42) + 1, 2**42 - 1)
    forms = Forms(const, lam, rng.integers(-40, -20, count), 10)
    index = np.concatenate([np.arange(count), np.arange(count)])
    weight = np.concatenate([np.full(count, 65535), rng.integers(0, 65536, count)])
    both = forms.combined(index, weight, np.array([0, count]))
    t = [Fraction(7, 3), Fraction(2**50)]
    for s in range(2):
        part = slice(s * count, (s + 1) * count)
        exact = sum(
            (int(w) * form_at(forms, q, t) for q, w in zip(index[part], weight[part], strict=True)),
            Fraction(0),
        )
        size = sum(
            int(w) * abs(form_at(forms, q, t))
            for q, w in zip(index[part], weight[part], strict=True)
        )
        assert 0 <= exact - form_at(both, s, t) <= size / 2**20
    assert np.abs(both.lam).max() < 1 << 44
