"""What bounds are judged by: exact values at points and exact minima; and cases to judge on."""

import itertools
import math
from fractions import Fraction

import numpy as np

from tests.strategies import at_least, at_most, points_between, wild_network
from verifier.bounds.interval import affine_interval, relu_interval
from verifier.bounds.linear import root_bounds
from verifier.bounds.queries import Queries
from verifier.core.network import Layer, Network


def escapes(network, bounds, points):
    """How many exact pre-activations lie outside their bounds."""
    count = 0
    for x in points:
        for (z, _), (low, high) in zip(network.exact_trace(x), bounds, strict=True):
            for value, a, b in zip(z, low.tolist(), high.tolist(), strict=True):
                count += not (at_most(a, value) and at_least(b, value))
    return count


def activations(network, x):
    """Exact values after 0, 1, ... layers."""
    return [x] + [a for _, a in network.exact_trace(x)]


def random_queries(rng, network, bounds, box, count, inside=None):
    """Rows, constants and slopes of all sizes; with a point, splits that hold there."""
    start = int(rng.integers(0, network.depth + 1))
    n = len(box[0]) if start == 0 else network.layers[start - 1].n_out
    scale = 2.0 ** float(rng.choice([0, 0, -30, 40, -300, 300]))
    rows = scale * rng.integers(-3, 4, (count, n)) * rng.choice([1.0, 0.1, 1 / 3], (count, n))
    const = scale * rng.normal(size=count) * rng.integers(0, 2, count)
    shapes = [(count, layer.n_out) for layer in network.layers[:start]]
    alpha = [rng.choice([0.0, 1.0, 0.5, rng.random()], shape) for shape in shapes]
    low = [np.repeat(b[0][None], count, axis=0) for b in bounds[:start]]
    high = [np.repeat(b[1][None], count, axis=0) for b in bounds[:start]]
    q = Queries(start, rows, const, alpha, low, high, (box[0][None], box[1][None]))
    if inside is not None:
        q.sign, q.mult = [], []
        for k, shape in enumerate(shapes):
            sign = np.zeros(shape, dtype=np.int8)
            for i, z in enumerate(network.exact_trace(inside)[k][0]):
                chosen = rng.random(count) < 0.4
                sign[chosen, i] = (1 if z > 0 else -1) if z else rng.choice([-1, 1])
            low[k][sign > 0] = np.maximum(low[k][sign > 0], 0.0)
            high[k][sign < 0] = np.minimum(high[k][sign < 0], 0.0)
            q.sign.append(sign)
            q.mult.append(sign * np.abs(rng.normal(size=shape)) * scale)
    return q


def satisfies(q, i, trace):
    """Whether a point has the signs that query i assumes."""
    return q.sign is None or all(
        s * v >= 0
        for sign, (z, _) in zip(q.sign, trace, strict=False)
        for s, v in zip(sign[i].tolist(), z, strict=True)
    )


def objective(q, i, a):
    """The exact value of query i at activations a."""
    terms = zip(q.rows[i].tolist(), a, strict=True)
    return sum((Fraction(w) * v for w, v in terms), Fraction(float(q.const[i])))


def check(network, q, values, points):
    """No bound is above the exact objective at any point that satisfies its signs.

    Returns:
        how many pairs of a query and a point were compared with a finite bound.
    """
    compared = 0
    for x in points:
        trace = network.exact_trace(x)
        a = activations(network, x)[q.start]
        for i, value in enumerate(values.tolist()):
            assert not math.isnan(value)
            if satisfies(q, i, trace):
                assert at_most(value, objective(q, i, a))
                compared += math.isfinite(value)
    return compared


def settled_network(rng, exponent, box):
    """A network whose ReLUs are all stable on the box."""
    layers, (lower, upper) = [], box
    for layer in wild_network(rng, exponent).layers:
        if layers and layer.n_in != layers[-1].n_out:
            break
        if not layers and layer.n_in != len(lower):
            layer = Layer(rng.normal(size=(layer.n_out, len(lower))), layer.bias, layer.relu)
        low, high = affine_interval(layer, lower, upper)
        stable = (low >= 0) | (high <= 0)
        layer = Layer(layer.weight, layer.bias, stable & layer.relu)
        layers.append(layer)
        lower, upper = relu_interval(layer, low, high)
    return Network(tuple(layers))


def exact_minimum(network, box, q, i):
    """(minimum, sum of the absolute values of all terms) of query i, with all ReLUs settled."""
    signs = network.exact_trace([Fraction(v) for v in box[0].tolist()])
    lam, total = [Fraction(w) for w in q.rows[i].tolist()], Fraction(float(q.const[i]))
    sizes, size = [abs(v) for v in lam], abs(total)
    for layer, (z, _) in reversed(
        list(zip(network.layers[: q.start], signs[: q.start], strict=True))
    ):
        off = [r and v < 0 for r, v in zip(layer.relu.tolist(), z, strict=True)]
        lam = [Fraction(0) if o else v for o, v in zip(off, lam, strict=True)]
        weight = [[Fraction(w) for w in row] for row in layer.dense.tolist()]
        bias = [Fraction(b) for b in layer.bias.tolist()]
        total += sum((v * b for v, b in zip(lam, bias, strict=True)), Fraction(0))
        size += sum((s * abs(b) for s, b in zip(sizes, bias, strict=True)), Fraction(0))
        columns = range(layer.n_in)
        lam = [
            sum((v * r[j] for v, r in zip(lam, weight, strict=True)), Fraction(0)) for j in columns
        ]
        sizes = [
            sum((s * abs(r[j]) for s, r in zip(sizes, weight, strict=True)), Fraction(0))
            for j in columns
        ]
    for v, s, low, high in zip(lam, sizes, *map(list, box), strict=True):
        total += min(v * Fraction(float(low)), v * Fraction(float(high)))
        size += s * max(abs(Fraction(float(low))), abs(Fraction(float(high))))
    return total, size


def wide_case(seed=1, sizes=(4, 40, 40, 30)):
    """A generic network with many unstable neurons."""
    rng = np.random.default_rng(seed)
    layers = [
        Layer(rng.normal(size=(m, n)) / math.sqrt(n), rng.normal(size=m) / 2, np.full(m, True))
        for n, m in itertools.pairwise(sizes)
    ]
    box = np.full(sizes[0], -0.5), np.full(sizes[0], 0.5)
    return rng, Network(tuple(layers)), box


def slope_queries(seed=1, count=5):
    """Queries with their own slopes and some splits, and a point that satisfies the splits."""
    rng, network, box = wide_case(seed, (3, 8, 8, 4))
    engine, bounds = root_bounds(network, *box)
    inside = points_between(rng, *box, 4)[-1]
    q = random_queries(rng, network, bounds, box, count, inside)
    while q.start < 3:
        q = random_queries(rng, network, bounds, box, count, inside)
    q.rows = rng.normal(size=q.rows.shape)
    q.const = rng.normal(size=count)
    q.alpha = [rng.uniform(0.2, 0.8, a.shape) for a in q.alpha]
    q.mult = [s * rng.uniform(0.1, 0.2, s.shape) for s in q.sign]
    return rng, network, box, engine, q
