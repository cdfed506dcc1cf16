"""The truth about a small network and property, by means that share nothing with the verifier.

``violated`` enumerates activation patterns and decides each linear region with z3's exact real
arithmetic; ``violated_at_once`` gives the whole question to z3 with the ReLUs as case distinctions.
Weights are read from the layers' dense float arrays; all else is computed here, in Fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import z3

from verifier.core.network import Network
from verifier.core.property import Box, Case, LinearConstraint, Property

Form = tuple[tuple[Fraction, ...], Fraction]
"""(g, c) for the affine form g·x + c of the inputs."""


def violated(network: Network, prop: Property) -> bool:
    """Whether some point of some case is unsafe, by enumerating activation patterns."""
    return any(_case_violated(network, prop, case) for case in prop.cases)


def violated_at_once(network: Network, prop: Property) -> bool:
    """The same, as one question to z3 per case."""
    for case in prop.cases:
        solver, x = _boxed(case.box)
        values = list(x)
        for layer in network.layers:
            z = [
                sum((_real(w) * v for w, v in zip(row, values, strict=True)), _real(b))
                for row, b in zip(layer.dense, layer.bias, strict=True)
            ]
            values = [
                z3.If(v > 0, v, _real(0)) if r else v for v, r in zip(z, layer.relu, strict=True)
            ]
        values += list(x) if prop.mixes_inputs else []
        solver.add(
            z3.Or(
                [
                    z3.And([_holds(constraint, values) for constraint in clause])
                    for clause in case.clauses
                ]
            )
        )
        if _satisfiable(solver):
            return True
    return False


def maximum(network: Network, box: Box, weights: Sequence[Fraction]) -> Fraction:
    """max over the box of weights · N(x), exactly."""
    solver, x = _boxed(box)
    best: Fraction | None = None
    for outputs, region in _regions(network, solver, x):
        optimizer = z3.Optimize()
        optimizer.add(region)
        value = z3.Real("value")
        total = sum((_real(w) * y for w, y in zip(weights, outputs, strict=True)), _real(0))
        optimizer.add(value == total)
        optimizer.maximize(value)
        assert optimizer.check() == z3.sat
        found = optimizer.model()[value].as_fraction()
        best = found if best is None else max(best, found)
    assert best is not None
    return Fraction(best)


def nearest(network: Network, case: Case, center: Sequence[Fraction]) -> Fraction | None:
    """The smallest l-infinity distance of an unsafe point of the case's box, exactly, if any."""
    solver, x = _boxed(case.box)
    best: Fraction | None = None
    for outputs, region in _regions(network, solver, x):
        for clause in case.clauses:
            optimizer, size = z3.Optimize(), z3.Real("size")
            optimizer.add([*region, *(_holds(constraint, outputs) for constraint in clause)])
            for v, c in zip(x, center, strict=True):
                optimizer.add(v - _real(c) <= size, _real(c) - v <= size)
            optimizer.minimize(size)
            if optimizer.check() == z3.sat:
                found = Fraction(optimizer.model()[size].as_fraction())
                best = found if best is None else min(best, found)
    return best


def lipschitz(network: Network, box: Box | None, rows: Sequence[Sequence[int]]) -> Fraction:
    """The largest ℓ1 norm of a gradient of rows · N over all open sets of equal signs.

    Args:
        box: with an interior; None for the whole space.
    """
    n = network.n_inputs
    x, solver = [z3.Real(f"x{j}") for j in range(n)], z3.Solver()
    if box is not None:
        for v, low, high in zip(x, box.lower, box.upper, strict=True):
            solver.add(v > _real(low), v < _real(high))
    start = [(tuple(Fraction(int(i == j)) for j in range(n)), Fraction(0)) for i in range(n)]
    best = Fraction(0)
    for forms in _open_regions(network, 0, start, solver, x):
        for row in rows:
            slope, _ = _combine([Fraction(c) for c in row], forms, Fraction(0))
            best = max(best, sum(map(abs, slope), Fraction(0)))
    return best


def _open_regions(
    network: Network, k: int, forms: list[Form], solver: z3.Solver, x: list[z3.ArithRef]
) -> Iterator[list[Form]]:
    """The outputs as forms on every full-dimensional region that meets the solver's open set."""
    if k == network.depth:
        yield forms
        return
    layer = network.layers[k]
    z = [
        _combine([Fraction(w) for w in row], forms, Fraction(b))
        for row, b in zip(layer.dense, layer.bias, strict=True)
    ]
    for chosen in _open_phases(layer.relu, z, 0, solver, x):
        yield from _open_regions(network, k + 1, chosen, solver, x)


def _open_phases(
    relu: Sequence[bool], z: list[Form], i: int, solver: z3.Solver, x: list[z3.ArithRef]
) -> Iterator[list[Form]]:
    """The activations as forms, from neuron i on, on every open set of equal signs."""
    if i == len(z):
        yield z
        return
    slope, constant = z[i]
    cut = [*z[:i], (tuple(Fraction(0) for _ in x), Fraction(0)), *z[i + 1 :]]
    if not relu[i] or not any(slope):
        on = not relu[i] or constant > 0
        yield from _open_phases(relu, z if on else cut, i + 1, solver, x)
        return
    for sign, chosen in ((1, z), (-1, cut)):
        solver.push()
        solver.add(sign * _term(z[i], x) > 0)
        if _satisfiable(solver):
            yield from _open_phases(relu, chosen, i + 1, solver, x)
        solver.pop()


def _case_violated(network: Network, prop: Property, case: Case) -> bool:
    solver, x = _boxed(case.box)
    for outputs, _ in _regions(network, solver, x):
        values = outputs + (x if prop.mixes_inputs else [])
        for clause in case.clauses:
            solver.push()
            solver.add([_holds(constraint, values) for constraint in clause])
            found = _satisfiable(solver)
            solver.pop()
            if found:
                return True
    return False


def _regions(
    network: Network, solver: z3.Solver, x: list[z3.ArithRef]
) -> Iterator[tuple[list[z3.ArithRef], list[z3.BoolRef]]]:
    """The outputs as forms of x on every linear region that meets the box.

    While one is being looked at, the solver holds its constraints.
    """
    n = len(x)
    start = [(tuple(Fraction(int(i == j)) for j in range(n)), Fraction(0)) for i in range(n)]
    yield from _layer_regions(network, 0, start, solver, x)


def _layer_regions(
    network: Network, k: int, forms: list[Form], solver: z3.Solver, x: list[z3.ArithRef]
) -> Iterator[tuple[list[z3.ArithRef], list[z3.BoolRef]]]:
    if k == network.depth:
        yield [_term(form, x) for form in forms], list(solver.assertions())
        return
    layer = network.layers[k]
    z = [
        _combine([Fraction(float(w)) for w in row], forms, Fraction(float(b)))
        for row, b in zip(layer.dense, layer.bias, strict=True)
    ]
    yield from _phases(network, k, z, 0, solver, x)


def _phases(
    network: Network, k: int, z: list[Form], i: int, solver: z3.Solver, x: list[z3.ArithRef]
) -> Iterator[tuple[list[z3.ArithRef], list[z3.BoolRef]]]:
    """Fix the phases of layer k from neuron i on, dropping those that meet no point of the box."""
    relu = network.layers[k].relu
    while i < len(z) and not relu[i]:
        i += 1
    if i == len(z):
        yield from _layer_regions(network, k + 1, z, solver, x)
        return
    zero: Form = (tuple(Fraction(0) for _ in x), Fraction(0))
    for active in (False, True):
        solver.push()
        value = _term(z[i], x)
        solver.add(value >= 0 if active else value <= 0)
        if _satisfiable(solver):
            chosen = z if active else [*z[:i], zero, *z[i + 1 :]]
            yield from _phases(network, k, chosen, i + 1, solver, x)
        solver.pop()


def _combine(weights: list[Fraction], forms: list[Form], bias: Fraction) -> Form:
    n = len(forms[0][0])
    slope = tuple(
        sum((w * g[j] for w, (g, _) in zip(weights, forms, strict=True)), Fraction(0))
        for j in range(n)
    )
    return slope, sum((w * c for w, (_, c) in zip(weights, forms, strict=True)), bias)


def _boxed(box: Box) -> tuple[z3.Solver, list[z3.ArithRef]]:
    x = [z3.Real(f"x{j}") for j in range(len(box))]
    solver = z3.Solver()
    for v, low, high in zip(x, box.lower, box.upper, strict=True):
        solver.add(v >= _real(low), v <= _real(high))
    return solver, x


def _term(form: Form, x: list[z3.ArithRef]) -> z3.ArithRef:
    slope, constant = form
    return sum((_real(g) * v for g, v in zip(slope, x, strict=True)), _real(constant))


def _holds(constraint: LinearConstraint, values: Sequence[z3.ArithRef]) -> z3.BoolRef:
    left = sum((_real(c) * values[i] for i, c in constraint.terms), _real(0))
    right = _real(constraint.bound)
    return left > right if constraint.strict else left >= right


def _real(value: Fraction | float | int) -> z3.RatNumRef:
    exact = value if isinstance(value, Fraction) else Fraction(float(value))
    return z3.Q(exact.numerator, exact.denominator)


def _satisfiable(solver: z3.Solver) -> bool:
    answer = solver.check()
    assert answer != z3.unknown, solver.reason_unknown()
    return answer == z3.sat
