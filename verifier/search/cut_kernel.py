"""Cutting a box to the part where linear forms can be nonnegative, and logging steps, compiled."""

from __future__ import annotations

from verifier.bounds.box_kernels import FLAT_BELOW
from verifier.bounds.float_error import TINY, UNIT
from verifier.bounds.jit import jit

#: Kinds of steps in the log of a search.
SPLIT, CUT_BELOW, CUT_ABOVE, SPLIT_NEURON, CLOSE, AGAIN, SLOPE = 0, 1, 2, 3, 4, 5, 6

#: Share of a box's radius that a cut leaves standing beyond what rounding asks for: a proof is
#: checked with coarser numbers than it was found with.
MARGIN = 1e-4
#: A proof names the slope below a ReLU if the bounds that decide it are so near to a tie: the
#: checker's differ by rounding and by the room that the search leaves, a thousand times less.
_TIE = 1e-4


@jit
def widen_hull(const, rows, w):  # type: ignore[no-untyped-def]
    """Widen [start, stop] (in t) by the part where all forms const + rows . t can be >= 0."""
    k, d = rows.shape
    for j in range(d):
        begin = -1.0
        end = 1.0
        for q in range(k):
            total = const[q]
            mag = abs(const[q])
            for i in range(d):
                mag += abs(rows[q, i])
                if i != j:
                    total += abs(rows[q, i])
            slope = rows[q, j]
            # const + others + slope t >= 0 is needed; ``total`` is rounded up.
            total += mag * (4.0 * (d + 4) * UNIT) + TINY
            if total < abs(slope):
                t = -total / abs(slope)
                t -= MARGIN
                if slope > 0.0:
                    begin = max(begin, t)
                else:
                    end = min(end, -t)
        if begin <= end:
            w.start[j] = min(w.start[j], begin)
            w.stop[j] = max(w.stop[j], end)


@jit
def contract(lower, upper, node, log, written, f, w):  # type: ignore[no-untyped-def]
    """Cut the box to the hull of what the open clauses left; each cut is logged.

    Returns:
        (log rows written, fraction of the volume kept; 0 if nothing is left).
    """
    cuts = 0
    kept = 1.0
    for j in range(lower.shape[0]):
        span = upper[j] - lower[j]
        if w.start[j] > w.stop[j]:
            return cuts, 0.0
        slack = (abs(f.centre[j]) + f.radius[j]) * (8.0 * UNIT)
        if w.start[j] > -1.0:
            at = f.centre[j] + f.radius[j] * w.start[j] - slack
            if at > upper[j]:
                return cuts, 0.0
            if at > lower[j]:
                log_row(log, written + cuts, node, CUT_BELOW, j, at, -1)
                cuts += 1
                lower[j] = at
        if w.stop[j] < 1.0:
            at = f.centre[j] + f.radius[j] * w.stop[j] + slack
            if at < lower[j]:
                return cuts, 0.0
            if at < upper[j]:
                log_row(log, written + cuts, node, CUT_ABOVE, j, at, -1)
                cuts += 1
                upper[j] = at
        if span > 0.0:
            kept *= max((upper[j] - lower[j]) / span, 1e-3)
    return cuts, kept


@jit
def log_row(log, row, node, kind, axis, at, child):  # type: ignore[no-untyped-def]
    """Write one step."""
    log.node[row] = node
    log.kind[row] = kind
    log.axis[row] = axis
    log.at[row] = at
    log.child[row] = child


@jit
def log_slopes(net, stack, top, log, written):  # type: ignore[no-untyped-def]
    """Log which slopes are used below the ReLUs of slot ``top`` where rounding might decide.

    Returns:
        log rows written.
    """
    for k in range(net.width.shape[0] - 1):
        for i in range(net.width[k + 1]):
            low, high = stack.low[top, k, i], stack.high[top, k, i]
            if not (net.relu[k, i] and low < 0.0 and high > 0.0):
                continue
            if abs(high + low * FLAT_BELOW) <= _TIE * high:
                slope = 0.0 if high < -low * FLAT_BELOW else 1.0
                number = k * stack.low.shape[2] + i
                log_row(log, written, stack.node[top], SLOPE, number, slope, -1)
                written += 1
    return written
