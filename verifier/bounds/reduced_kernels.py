"""Compiled inner loops of ``Reduced``: passes in which only unstable neurons take part in the ReLU.

Arrays named ``param`` and ``sign`` have a column for each unstable neuron of the network, of which
a layer's begin at ``first``; the other arrays have one for each neuron of the layer that is not
dead, the unstable ones before those that are always active. Where no sign is assumed, ``param`` is
the slope of the line below the ReLU; where one is, the signed multiplier of that constraint.

Loops run over views of rows: with an offset in the index they would not be vectorised, because
Numba lets indices be negative.
"""

from __future__ import annotations

import numpy as np

from verifier.bounds.jit import jit

#: Larger gradients are not followed: their squares would overflow.
_STEEP = np.float32(1e18)


@jit
def checked_backward(lam, first, param, sign, slope, chord, bias, size, const, mag):  # type: ignore[no-untyped-def]
    """``relu_backward`` in float64 for the neurons that are not dead, in place.

    Args:
        lam: (N, n) coefficients at activations, overwritten by those at pre-activations.
        first: column of the layer's first unstable neuron.
        param, sign: (N, n_units) float32 and int8.
        slope, chord: (n_unstable,) the line above, a <= slope z + chord.
        bias, size: (n,) as in ``relu_backward``.
        const, mag: (N,) running constants and magnitudes.
    """
    rows, n = lam.shape
    count = slope.shape[0]
    for i in range(rows):
        total = 0.0
        chords = 0.0
        sizes = 0.0
        row = lam[i]
        numbers, signs = param[i, first : first + count], sign[i, first : first + count]
        for j in range(count):
            v = row[j]
            p = numbers[j]
            s = signs[j]
            # Whoever proposed them: a slope outside [0, 1] or a multiplier against its sign would
            # bound nothing.
            p = min(max(p, 0.0), 1.0) if s == 0 else (p if p * s >= 0.0 else 0.0)
            fixed = 1.0 if s > 0 else 0.0
            above = s == 0 and v < 0.0
            k = slope[j] if v < 0.0 else p
            chords += v * chord[j] if above else 0.0
            v = v * (k if s == 0 else fixed) - (0.0 if s == 0 else p)
            row[j] = v
            total += v * bias[j]
            sizes += abs(v) * size[j]
        for j in range(count, n):
            v = row[j]
            total += v * bias[j]
            sizes += abs(v) * size[j]
        const[i] += total + chords
        mag[i] += sizes - chords


@jit
def proposed_backward(lam, first, param, sign, slope, chord, bias, out, const):  # type: ignore[no-untyped-def]
    """``checked_backward`` in float32, without an account of rounding, from ``lam`` to ``out``."""
    rows, n = lam.shape
    count = slope.shape[0]
    zero, one = np.float32(0.0), np.float32(1.0)
    for i in range(rows):
        total = zero
        row, made = lam[i], out[i]
        numbers, signs = param[i, first : first + count], sign[i, first : first + count]
        for j in range(count):
            v = row[j]
            p = numbers[j]
            s = signs[j]
            fixed = one if s > 0 else zero
            above = s == 0 and v < zero
            k = slope[j] if v < zero else p
            total += v * chord[j] if above else zero
            v = v * (k if s == 0 else fixed) - (zero if s == 0 else p)
            made[j] = v
            total += v * bias[j]
        for j in range(count, n):
            v = row[j]
            made[j] = v
            total += v * bias[j]
        const[i] += total


@jit
def proposed_corner(lam, low, high, const, value, point):  # type: ignore[no-untyped-def]
    """``concretise`` in float32, for one box (n,), (n,)."""
    rows, n = lam.shape
    zero = np.float32(0.0)
    for i in range(rows):
        total = zero
        for j in range(n):
            v = lam[i, j]
            x = low[j] if v >= zero else high[j]
            point[i, j] = x
            total += v * x
        value[i] = total + const[i]


@jit
def proposed_step(z, lam, first, param, sign, slope, low, bias, mean, square, rate, step, ahead):  # type: ignore[no-untyped-def]
    """Forward through the lines that a backward pass chose, with one Adam ascent step on the way.

    The bound's derivative by a slope is max(lam, 0) z, by a signed multiplier −z.

    Args:
        z: (N, n) W a without the bias; overwritten by the activations.
        lam: (N, n) coefficients at the activations in the backward pass.
        first, param, sign, slope, bias: as above; slopes stay in [0, 1], multipliers keep the sign.
        low: (n_unstable,) lower ends, where the line above is 0.
        mean, square: (N, n_units) moment estimates.
        rate: step size: of slopes as it is, of multipliers times the layer's largest coefficient,
            so that the size of the objective does not matter.
        step: number of this step, from 1.
        ahead: whether the activations are wanted.
    """
    rows, n = lam.shape
    count = slope.shape[0]
    zero, one = np.float32(0.0), np.float32(1.0)
    old, new = np.float32(0.9), np.float32(0.1)
    long, short = np.float32(0.999), np.float32(0.001)
    tiny = np.float32(1e-12)
    c1 = np.float32(rate / (1.0 - 0.9**step))
    c2 = np.float32(1.0 / (1.0 - 0.999**step))
    for i in range(rows):
        row, forward = lam[i], z[i]
        numbers, signs = param[i, first : first + count], sign[i, first : first + count]
        means, squares = mean[i, first : first + count], square[i, first : first + count]
        largest = zero
        for j in range(count):
            largest = max(largest, abs(row[j]))
        for j in range(count):
            v = row[j]
            at = forward[j] + bias[j]
            p = numbers[j]
            s = signs[j]
            g = max(v, zero) * at if s == 0 else -at
            g = g if abs(g) < _STEEP else zero
            m = means[j] * old + g * new
            q = squares[j] * long + g * g * short
            means[j] = m
            squares[j] = q
            stride = c1 if s == 0 else c1 * largest
            moved = p + stride * m / (np.sqrt(q * c2) + tiny)
            line = min(max(moved, zero), one)
            beta = moved if moved * np.float32(s) > zero else zero
            numbers[j] = line if s == 0 else beta
            relaxed = p * at if v >= zero else (at - low[j]) * slope[j]
            forward[j] = relaxed if s == 0 else (at if s > 0 else zero)
        if ahead:
            for j in range(count, n):
                forward[j] += bias[j]
