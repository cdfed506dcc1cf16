"""Compiled backward linear bounds for one small box of a small network, without any allocation.

For networks with few inputs a search visits very many boxes; each one inherits its parent's
pre-activation bounds, so that only neurons still unstable there are bounded again. All forms are
written in local coordinates t in [-1, 1]^d with x = centre + radius * t. Rounding is covered as in
``verifier.bounds.linear``: one magnitude a pass, times gamma.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from verifier.bounds.float_error import TINY, UNIT, gamma
from verifier.bounds.interval import Bounds, magnitudes, own_error, underflow_allowance
from verifier.bounds.jit import jit
from verifier.bounds.kernels import chord_above, copy_row
from verifier.core.network import Network

#: A ReLU is bounded below by 0 rather than by z where hi < −lo times this. Not 1, where symmetric
#: networks are exactly, so that a checker's rounding does not decide otherwise.
FLAT_BELOW = 1023.0 / 1024.0
#: A proof is checked with coarser numbers than it was found with. Where one is wanted, bounds are
#: weakened by these shares of what relaxed neurons, and of what all neurons contribute.
ROOM_RELAXED, ROOM_ALL = 1e-7, 1e-11


class Packed(NamedTuple):
    """A network as padded arrays that compiled code can read.

    Attributes:
        weight: (depth, P, P), rows beyond a layer's size are zero.
        bias, size: (depth, P); size bounds |W||a| + |b| on the outermost box.
        relu: (depth, P) bool.
        width: (depth + 1,) sizes, input first.
        error: gamma for a whole backward pass.
        underflow: covers the products of a whole backward pass that underflow.
        own: (depth, P) what a neuron's own rounding adds (0 in exact arithmetic).
        room_relaxed, room_all: see ``ROOM_RELAXED``; 0 where no proof is wanted.
    """

    weight: np.ndarray
    bias: np.ndarray
    size: np.ndarray
    relu: np.ndarray
    width: np.ndarray
    error: float
    underflow: float
    own: np.ndarray
    room_relaxed: float = 0.0
    room_all: float = 0.0


class Forms(NamedTuple):
    """Working arrays of one worker.

    Attributes:
        lam, buf: (P,) coefficients in a backward pass.
        centre, radius: (d,) of the box.
        reach: (depth, P, d) |coefficients| of each unstable neuron's last linear form in t.
        blame: (d,) share of a row's relaxation gap that each input answers for.
        rows: (R, d) and const: (R,): each output row's slack is at most const + rows . t.
        gaps: (R, d) the blame vector of each row.
        worst: (R, 3) gap, layer and index of the neuron with the largest gap in each row.
        top: (3,) the same for the pass under way.
    """

    lam: np.ndarray
    buf: np.ndarray
    centre: np.ndarray
    radius: np.ndarray
    reach: np.ndarray
    blame: np.ndarray
    rows: np.ndarray
    const: np.ndarray
    gaps: np.ndarray
    worst: np.ndarray
    top: np.ndarray


def pack(
    network: Network, lower: np.ndarray, upper: np.ndarray, bounds: list[Bounds]
) -> tuple[Packed, np.ndarray, np.ndarray]:
    """The network for one outermost box, and that box's pre-activation bounds as (depth, P) arrays.

    Args:
        network: a float network.
        lower, upper: (n_inputs,) outermost box.
        bounds: rigorous pre-activation bounds of every layer on it.
    """
    width = np.array([network.n_inputs] + [layer.n_out for layer in network.layers])
    padded = int(-(-width.max() // 8) * 8)
    depth = network.depth
    weight = np.zeros((depth, padded, padded))
    bias, size = np.zeros((depth, padded)), np.zeros((depth, padded))
    low, high = np.zeros((depth, padded)), np.zeros((depth, padded))
    relu = np.zeros((depth, padded), dtype=bool)
    own = np.zeros((depth, padded))
    error = gamma(int(width.max()) + 4 * depth)
    sizes = magnitudes(network, lower, upper, bounds, error)
    for k, layer in enumerate(network.layers):
        n = layer.n_out
        weight[k, :n, : layer.n_in] = layer.dense
        bias[k, :n], relu[k, :n], size[k, :n] = layer.bias, layer.relu, sizes[k]
        low[k, :n], high[k, :n] = bounds[k]
        if layer.rounding:
            own[k, :n] = own_error(layer, sizes[k])
    underflow = underflow_allowance(lower, upper, sizes)
    return Packed(weight, bias, size, relu, width, error, underflow, own), low, high


def forms(net: Packed, rows: int) -> Forms:
    """Fresh working arrays for a network and a number of output rows."""
    d, (depth, padded, _) = int(net.width[0]), net.weight.shape
    return Forms(
        np.zeros(padded), np.zeros(padded), np.zeros(d), np.zeros(d), np.zeros((depth, padded, d)),
        np.zeros(d), np.zeros((rows, d)), np.zeros(rows), np.zeros((rows, d)), np.zeros((rows, 3)),
        np.zeros(3),
    )  # fmt: skip


@jit
def set_box(lower, upper, f):  # type: ignore[no-untyped-def]
    """Local coordinates whose unit cube covers [lower, upper]."""
    for j in range(lower.shape[0]):
        middle = 0.5 * (lower[j] + upper[j])
        radius = max(upper[j] - middle, middle - lower[j])
        f.centre[j] = middle
        f.radius[j] = radius + abs(radius) * (8.0 * UNIT) + abs(middle) * (4.0 * UNIT) + TINY


@jit
def blame_neuron(d, q, i, v, lo, hi, f):  # type: ignore[no-untyped-def]
    """Share the relaxation gap of one neuron, used with coefficient v, among the inputs."""
    gap = v * min(hi, -lo) if v > 0.0 else v * hi * lo / (hi - lo)
    total = 1e-300
    for j in range(d):
        total += f.reach[q, i, j]
    for j in range(d):
        f.blame[j] += gap * f.reach[q, i, j] / total
    if gap > f.top[0]:
        f.top[0] = gap
        f.top[1] = q
        f.top[2] = i


@jit
def backward(net, layers, low, high, f, blame):  # type: ignore[no-untyped-def]
    """A lower bound const + lam . t of the form lam . a_layers, over the unit cube.

    On entry ``f.lam`` holds the coefficients at the activations after ``layers`` layers (exact); on
    return those at t. The returned const includes the rounding error of the whole pass.

    Args:
        low, high: (depth, P) pre-activation bounds on this box.
        blame: whether to collect in ``f.blame`` how much each input contributes to the relaxation
            gaps.
    """
    d = net.width[0]
    const = 0.0
    mag = 0.0
    relaxed = 0.0
    for q in range(layers - 1, -1, -1):
        m = net.width[q]
        for j in range(m):
            f.buf[j] = 0.0
        for i in range(net.width[q + 1]):
            v = f.lam[i]
            lo = low[q, i]
            hi = high[q, i]
            if v == 0.0 or (net.relu[q, i] and hi <= 0.0):
                continue
            if net.relu[q, i] and lo < 0.0:
                relaxed += abs(v) * max(hi, -lo)
                if blame:
                    blame_neuron(d, q, i, v, lo, hi, f)
                if v > 0.0:
                    if hi < -lo * FLAT_BELOW:
                        continue
                else:
                    s, t = chord_above(lo, hi)
                    const += v * t
                    mag -= v * t
                    v = v * s
            const += v * net.bias[q, i] - abs(v) * net.own[q, i]
            mag += abs(v) * net.size[q, i]
            for j in range(m):
                f.buf[j] += v * net.weight[q, i, j]
        for j in range(m):
            f.lam[j] = f.buf[j]
    for j in range(d):
        v = f.lam[j]
        const += v * f.centre[j]
        mag += abs(v) * (abs(f.centre[j]) + f.radius[j])
        f.lam[j] = v * f.radius[j]
    return const - (net.error + net.room_all) * mag - net.underflow - net.room_relaxed * relaxed


@jit
def least(const, coefficients):  # type: ignore[no-untyped-def]
    """A lower bound of const + coefficients . t over the unit cube."""
    d = coefficients.shape[0]
    spread = 0.0
    for j in range(d):
        spread += abs(coefficients[j])
    return const - spread - (abs(const) + spread) * (4.0 * (d + 4) * UNIT)


@jit
def tighten(net, low, high, f):  # type: ignore[no-untyped-def]
    """Bound every neuron that is unstable in (low, high) again on the box of ``f``, in place.

    Returns False if some pre-activation range came out empty (the box then holds no point at all
    that satisfies what the inherited bounds assume; it never happens without neuron splits).
    """
    d = net.width[0]
    for k in range(net.width.shape[0] - 1):
        for i in range(net.width[k + 1]):
            if not (net.relu[k, i] and low[k, i] < 0.0 and high[k, i] > 0.0):
                continue
            for side in range(2):
                sign = 1.0 if side == 0 else -1.0
                for j in range(net.width[k]):
                    f.lam[j] = sign * net.weight[k, i, j]
                b = sign * net.bias[k, i]
                const = backward(net, k, low, high, f, False) + b
                const -= (abs(const) + abs(b)) * (4.0 * UNIT) + net.own[k, i]
                for j in range(d):
                    f.reach[k, i, j] = abs(f.lam[j])
                v = least(const, f.lam[:d])
                if side == 0 and v > low[k, i]:
                    low[k, i] = v
                if side == 1 and -v < high[k, i]:
                    high[k, i] = -v
                if low[k, i] >= 0.0:
                    break
            if low[k, i] > high[k, i]:
                return False
    return True


@jit
def bound_row(net, row, bound, r, low, high, f):  # type: ignore[no-untyped-def]
    """Store const and coefficients with row . y - bound <= const + rows . t on the box of ``f``.

    Returns:
        an upper bound of the slack row . y - bound on the box.
    """
    depth = net.width.shape[0] - 1
    for j in range(net.width[depth]):
        f.lam[j] = -row[j]
    f.blame[:] = 0.0
    f.top[0] = 0.0
    const = backward(net, depth, low, high, f, True) + bound
    const -= (abs(const) + abs(bound)) * (4.0 * UNIT)
    copy_row(f.gaps[r], f.blame)
    copy_row(f.worst[r], f.top)
    return store_form(const, r, f)


@jit
def bound_split(net, layer, neuron, sign, r, low, high, f):  # type: ignore[no-untyped-def]
    """Store const and coefficients with sign * z <= const + rows . t for one pre-activation z.

    Returns:
        an upper bound of sign * z on the box.
    """
    for j in range(net.width[layer]):
        f.lam[j] = -sign * net.weight[layer, neuron, j]
    b = -sign * net.bias[layer, neuron]
    const = backward(net, layer, low, high, f, False) + b
    const -= (abs(const) + abs(b)) * (4.0 * UNIT) + net.own[layer, neuron]
    return store_form(const, r, f)


@jit
def store_form(const, r, f):  # type: ignore[no-untyped-def]
    """Keep minus the lower form const + lam . t as row r; return its upper bound on the cube."""
    d = f.centre.shape[0]
    f.const[r] = -const
    for j in range(d):
        f.rows[r, j] = -f.lam[j]
    return -least(const, f.lam[:d])


@jit
def evaluate(net, x, a, z):  # type: ignore[no-untyped-def]
    """The network at x in float64, left in ``a``."""
    for j in range(net.width[0]):
        a[j] = x[j]
    for k in range(net.width.shape[0] - 1):
        for i in range(net.width[k + 1]):
            total = net.bias[k, i]
            for j in range(net.width[k]):
                total += net.weight[k, i, j] * a[j]
            z[i] = 0.0 if (net.relu[k, i] and total < 0.0) else total
        for i in range(net.width[k + 1]):
            a[i] = z[i]
