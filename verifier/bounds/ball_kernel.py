"""Compiled interval pass through all layers for a batch of boxes; see ``ball_batch``."""

from __future__ import annotations

from verifier.bounds.float_error import TINY, UNIT
from verifier.bounds.jit import jit

#: Boxes on which numbers become larger are given up, long before anything overflows.
LARGEST = 1e290


@jit
def forward(low, high, spare_low, spare_high, size, known, layers, entries, rows, pairs):  # type: ignore[no-untyped-def]
    """Bounds on the outputs, one box a column.

    Layer k has rows offset[k]..offset[k+1]: ``real[k]`` neurons, then z_p + t z_r of each of its
    pairs. What it hands on is the activation of each neuron, then a_p + t a_r of each pair.

    Args:
        low, high: (widest, batch), the boxes in the first rows; overwritten.
        spare_low, spare_high: (widest, batch), overwritten.
        size: (widest,), overwritten.
        known: (batch,) bool, True; False on return where the numbers became too large (rounding
            errors are those of the largest box, so that it can take others along).
        layers: (offset, real, number of inputs, where each layer's pairs start).
        entries: (indptr, indices, data), the rows of all layers over what the one before hands on.
        rows: (bias, bound on its magnitude, whether the sum is exact, relu).
        pairs: (p, r, t).

    The outputs' bounds are then in the first rows of (low, high), or of (spare_low, spare_high) if
    the number of layers is odd.
    """
    offset, real, n_inputs, pair_start = layers
    indptr, indices, data = entries
    bias, magnitude, exact, relu = rows
    first, second, sign = pairs
    for k in range(len(real)):
        features = n_inputs if k == 0 else offset[k] - offset[k - 1]
        for j in range(features):
            top = 0.0
            for b in range(low.shape[1]):
                top = max(top, abs(low[j, b]), abs(high[j, b]))
            size[j] = top
        count = offset[k + 1] - offset[k]
        for i in range(count):
            row = offset[k] + i
            start, end = indptr[row], indptr[row + 1]
            _sums(low, high, spare_low, spare_high, i, bias[row], indices, data, start, end)
            total = magnitude[row]
            for e in range(start, end):
                total += abs(data[e]) * size[indices[e]]
            _widen(spare_low, spare_high, i, total, 0 if exact[row] else end - start + 3, known)
        for i in range(real[k], count):
            q = pair_start[k] + i - real[k]
            has_relu = relu[offset[k] + first[q]]
            _pair(spare_low, spare_high, i, first[q], second[q], sign[q], has_relu)
        for i in range(real[k]):
            if relu[offset[k] + i]:
                for b in range(low.shape[1]):
                    spare_low[i, b] = max(spare_low[i, b], 0.0)
                    spare_high[i, b] = max(spare_high[i, b], 0.0)
        low, spare_low = spare_low, low
        high, spare_high = spare_high, high


@jit
def _sums(low, high, out_low, out_high, i, bias, indices, data, start, end):  # type: ignore[no-untyped-def]
    """One row over intervals, rounded as float64 rounds."""
    for b in range(low.shape[1]):
        out_low[i, b] = bias
        out_high[i, b] = bias
    for e in range(start, end):
        j, w = indices[e], data[e]
        if w >= 0.0:
            for b in range(low.shape[1]):
                out_low[i, b] += w * low[j, b]
                out_high[i, b] += w * high[j, b]
        else:
            for b in range(low.shape[1]):
                out_low[i, b] += w * high[j, b]
                out_high[i, b] += w * low[j, b]


@jit
def _widen(low, high, i, total, terms, known):  # type: ignore[no-untyped-def]
    """Outwards by the rounding error of a sum whose terms' magnitudes add up to ``total``.

    ``terms`` is more than their number, or 0 if nothing was rounded.
    """
    if terms:
        error = 2.5 * (terms + 8) * UNIT * total + TINY
        for b in range(low.shape[1]):
            low[i, b] -= error
            high[i, b] += error
    if not total < LARGEST:
        for b in range(low.shape[1]):
            # NaN fails every comparison.
            if not (abs(low[i, b]) < LARGEST and abs(high[i, b]) < LARGEST):
                known[b] = False
                low[i, b] = 0.0
                high[i, b] = 0.0


@jit
def _pair(low, high, i, p, r, t, has_relu):  # type: ignore[no-untyped-def]
    """Row i from bounds on z_p + t z_r to bounds on a_p + t a_r, by the rule of ``ball_batch``."""
    for b in range(low.shape[1]):
        d_low, d_high = low[i, b], high[i, b]
        p_low, p_high, r_low, r_high = low[p, b], high[p, b], low[r, b], high[r, b]
        a_low, a_high = p_low, p_high
        if has_relu:
            a_low, a_high = max(p_low, 0.0), max(p_high, 0.0)
        same = not has_relu or p_low >= 0.0
        if t > 0:
            least = a_low + max(r_low, 0.0)
            most = a_high + max(r_high, 0.0)
            if same:
                d_low, d_high = max(p_low, d_low), max(p_high, d_high)
            else:
                d_low = max(0.0, p_low, r_low, d_low)
                d_high = max(0.0, p_high, r_high, d_high)
        else:
            least = a_low - max(r_high, 0.0)
            most = a_high - max(r_low, 0.0)
            if same:
                d_low, d_high = min(p_low, d_low), min(p_high, d_high)
            else:
                first_low = min(a_low, max(d_low, -r_high))
                first_high = min(a_high, max(d_high, -r_low))
                d_low = max(first_low, max(min(p_low, d_low), -max(r_high, 0.0)))
                d_high = min(first_high, max(min(p_high, d_high), -max(r_low, 0.0)))
        # Two activations' bounds added up are valid too; they were rounded.
        error = 4.0 * UNIT * (abs(a_low) + abs(a_high) + abs(r_low) + abs(r_high)) + TINY
        low[i, b] = max(d_low, least - error)
        high[i, b] = min(d_high, most + error)
