"""The truth about a bias classifier on a box, from z3, with its own encoding of patterns."""

from __future__ import annotations

from fractions import Fraction

import z3

from verifier.core.network import Network
from verifier.core.property import Box


def wrong_somewhere(network: Network, box: Box, label: int, *, strong: bool) -> bool:
    """Whether β_k ≥ β_label for some k, x in the box and consistent pattern (off kinks if weak).

    A unit is a kink if its pre-activation is 0 at x and its slope is not the zero vector.
    """
    solver = z3.Solver()
    x = [z3.Real(f"x{j}") for j in range(len(box))]
    for v, low, high in zip(x, box.lower, box.upper, strict=True):
        solver.add(v >= _real(low), v <= _real(high))
    zero = z3.RealVal(0)
    values, beta = list(x), [zero] * len(x)
    slopes = [[z3.RealVal(int(i == j)) for j in range(len(x))] for i in range(len(x))]
    for k, layer in enumerate(network.layers):
        new = []
        for i, (row, b) in enumerate(zip(layer.dense, layer.bias, strict=True)):
            weights = [_real(w) for w in row]
            u = z3.Sum([w * v for w, v in zip(weights, values, strict=True)]) + _real(b)
            v = z3.Sum([w * t for w, t in zip(weights, beta, strict=True)]) + _real(b)
            slope = [
                z3.Sum([w * s[j] for w, s in zip(weights, slopes, strict=True)])
                for j in range(len(x))
            ]
            if layer.relu[i]:
                z = z3.Bool(f"z{k},{i}")
                solver.add(z3.Implies(z, u >= 0), z3.Implies(z3.Not(z), u <= 0))
                if not strong:
                    solver.add(z3.Or(u != 0, z3.And([s == 0 for s in slope])))
                u, v = z3.If(z, u, zero), z3.If(z, v, zero)
                slope = [z3.If(z, s, zero) for s in slope]
            new.append((u, v, slope))
        values, beta, slopes = ([row[c] for row in new] for c in range(3))
    solver.add(z3.Or([beta[k] >= beta[label] for k in range(len(beta)) if k != label]))
    answer = solver.check()
    if answer == z3.unknown:
        raise AssertionError("z3 gave up")
    return bool(answer == z3.sat)


def _real(value: object) -> z3.RatNumRef:
    number = Fraction(value)
    return z3.Q(number.numerator, number.denominator)
