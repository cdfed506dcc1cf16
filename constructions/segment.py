"""Networks along a segment: every kink and the exact smallest margin, at any depth.

Along x(t) = p + t (q − p), 0 ≤ t ≤ 1, a ReLU network is affine between finitely many parameters t.
They are found layer by layer: where the layers so far are affine, a pre-activation is, and its sign
changes at most once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from constructions.rational_points import Vector
from verifier.core.network import Network


def kinks(network: Network, p: Sequence[Fraction], q: Sequence[Fraction]) -> list[Fraction]:
    """Parameters 0 = t_0 < ... < t_n = 1 between which the network is affine along the segment.

    Args:
        network: of any depth.
        p, q: the ends, n_inputs rationals each.
    """
    found = [Fraction(0), Fraction(1)]
    for depth in range(1, network.depth + 1):
        relu = network.layers[depth - 1].relu
        # exact_trace[k][0] are the pre-activations of layer k.
        values = [network.exact_trace(at(p, q, t))[depth - 1][0] for t in found]
        new = set(found)
        for (s, u), (t, v) in pairwise(zip(found, values, strict=True)):
            new |= {
                s + (t - s) * a / (a - b)
                for a, b, cut in zip(u, v, relu, strict=True)
                if cut and a * b < 0
            }
        found = sorted(new)
    return found


def at(p: Sequence[Fraction], q: Sequence[Fraction], t: Fraction) -> Vector:
    """p + t (q − p)."""
    return tuple(a + t * (b - a) for a, b in zip(p, q, strict=True))


def smallest_margin(
    network: Network, label: int, p: Sequence[Fraction], q: Sequence[Fraction]
) -> tuple[Fraction, Vector]:
    """min over the segment of N_label − max_{k ≠ label} N_k, and a point where it is attained.

    Every N_label − N_k is affine between kinks, so the smallest of them is attained at one.

    Args:
        network: with at least two outputs.
        label: index of an output.
        p, q: the ends.
    """
    best: tuple[Fraction, Vector] | None = None
    for t in kinks(network, p, q):
        x = at(p, q, t)
        outputs = network.exact(x)
        margin = outputs[label] - max(v for k, v in enumerate(outputs) if k != label)
        if best is None or margin < best[0]:
            best = margin, x
    if best is None:
        raise ArithmeticError("a segment has no points")
    return best
