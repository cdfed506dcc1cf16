"""Compiled inner loops of the backward linear bounds, without temporaries.

Arrays named ``low``, ``high`` (pre-activation bounds) have one row for all queries or one row a
query.
"""

from __future__ import annotations

from verifier.bounds.float_error import TINY, UNIT
from verifier.bounds.jit import jit

#: Covers the rounding of the chord's intercept.
CHORD = 8.0 * UNIT


@jit
def copy_row(target, source):  # type: ignore[no-untyped-def]
    """target = source, of equal length; NumPy's assignment would look out for overlaps."""
    for j in range(source.shape[0]):
        target[j] = source[j]


@jit
def copy_rows(target, source):  # type: ignore[no-untyped-def]
    """``copy_row`` for each row of a matrix."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@jit
def chord_above(lo, hi):  # type: ignore[no-untyped-def]
    """Slope s and intercept t with max(z, 0) <= s z + t for every z in [lo, hi], lo < 0 < hi.

    A convex function lies below a line if it does so at both ends; t is chosen for the s that was
    computed, so that any s is sound (it is 0 where hi - lo overflows, or s underflows).
    """
    s = hi / (hi - lo)
    return s, max(hi - s * hi, -s * lo) + CHORD * hi + TINY


@jit
def chords(low, high, slope, intercept):  # type: ignore[no-untyped-def]
    """``chord_above`` for arrays (n,) of ends, into two more."""
    for j in range(low.shape[0]):
        slope[j], intercept[j] = chord_above(low[j], high[j])


@jit
def relu_backward(lam, relu, low, high, alpha, mult, bias, size, const, mag):  # type: ignore[no-untyped-def]
    """Coefficients at activations a -> coefficients at pre-activations z, in place.

    For unstable z in [lo, hi]: a >= alpha z, and a <= s z + t (``chord_above``). ``mult`` holds the
    signed multiplier of a split constraint (sign of the split times beta >= 0); it is subtracted
    from the coefficient of z. On return

        lam_in . a  >=  lam_out . z + (const added)   up to the error that ``mag`` accounts for.

    Args:
        lam: (N, n) coefficients, overwritten.
        relu: (n,) bool.
        low, high: (1 | N, n).
        alpha: (1 | N, n) slopes in [0, 1].
        mult: (N, n), or (0, 0) if there are none.
        bias: (n,) of the layer, added to const right away.
        size: (n,) bound on |W||a| + |b|, for ``mag``.
        const: (N,) running constant.
        mag: (N,) running sum of the magnitudes of everything that was rounded.
    """
    rows, n = lam.shape
    for i in range(rows):
        k = i if low.shape[0] > 1 else 0
        q = i if alpha.shape[0] > 1 else 0
        total = 0.0
        chord = 0.0
        sizes = 0.0
        for j in range(n):
            v = lam[i, j]
            if relu[j]:
                lo = low[k, j]
                hi = high[k, j]
                if lo < 0.0:
                    if hi <= 0.0:
                        v = 0.0
                    elif v >= 0.0:
                        v = v * alpha[q, j]
                    else:
                        s, t = chord_above(lo, hi)
                        chord += v * t
                        v = v * s
            if mult.shape[0] > 0:
                v = v - mult[i, j]
            lam[i, j] = v
            total += v * bias[j]
            sizes += abs(v) * size[j]
        const[i] += total + chord
        mag[i] += sizes - chord


@jit
def concretise(lam, low, high, size, const, mag, value, point):  # type: ignore[no-untyped-def]
    """Minimum of lam . x + const over the box [low, high], and a corner where it is attained.

    Args:
        lam: (N, n) coefficients at the input.
        low, high: (1 | N, n) box.
        size: (n,) bound on |x|.
        const: (N,).
        mag: (N,) running magnitudes.
        value: (N,) output.
        point: (N, n) output, the minimising corner.
    """
    rows, n = lam.shape
    for i in range(rows):
        k = i if low.shape[0] > 1 else 0
        total = 0.0
        sizes = 0.0
        for j in range(n):
            v = lam[i, j]
            x = low[k, j] if v >= 0.0 else high[k, j]
            point[i, j] = x
            total += v * x
            sizes += abs(v) * size[j]
        value[i] = total + const[i]
        mag[i] += sizes
