"""Is this file still a proof? Decided again in rational arithmetic, by another kind of bound.

The checker bounds by backward passes in rounded integers; here the same tree is followed with
z3's exact rationals on the triangle relaxation: every bound that a backward pass can find is a
combination of the relaxation's inequalities, so whatever follows from the file's numbers by
FORMAT.md's rules follows here as well, and what follows here is true. Only the grid of the inputs
(corner and scale) is taken from the checker, after a test that it covers the box.

Slow: for networks of a few neurons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import z3

from tests.soundness.mutations import parse
from verifier.core.network import Network
from verifier.core.property import LinearConstraint, Property
from verifier.proof.case import Case

Interval = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class _Node:
    """A box of t, and proved bounds of every layer's pre-activations."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    bounds: tuple[tuple[Interval, ...], ...]
    open: frozenset[int]


class NoProofError(Exception):
    """What does not follow."""


class OtherRuleError(Exception):
    """A kind of block that only the checker knows."""


def follow(network: Network, prop: Property, data: bytes) -> None:
    """Follow a file whose blocks are of the kinds ``case`` and ``visit``.

    Raises:
        NoProofError: something does not follow.
        OtherRuleError: there is another kind of block.
    """
    extended = network.with_inputs_as_outputs() if prop.mixes_inputs else network
    state: _Case | None = None
    done = 0
    for name, columns in parse(data)[1]:
        if name == "case":
            if (state and state.stack) or columns["case"].tolist() != [done]:
                raise NoProofError("cases out of order")
            state, done = _Case(extended, prop, done), done + 1
        elif name != "visit":
            raise OtherRuleError(name)
        elif state is None:
            raise NoProofError("a block before the first case")
        else:
            state.visit({field: column.tolist() for field, column in columns.items()})
    if done != len(prop.cases) or (state and state.stack):
        raise NoProofError("something is left to do")


class _Case:
    """One case of the property and the nodes that are still to do."""

    def __init__(self, network: Network, prop: Property, index: int) -> None:
        self.network, case = network, prop.cases[index]
        grid = Case(network, prop, index).chain
        self.corner, self.unit = grid.corner, Fraction(1, 2) ** grid.scale
        low, high = (tuple(t.tolist()) for t in grid.box)
        ends = zip(case.box.lower, case.box.upper, self._x(low), self._x(high), strict=True)
        if not all(c <= a and b <= d for a, b, c, d in ends):
            raise NoProofError("the grid does not cover the box")
        # A clause with a constraint that never holds needs no proof.
        self.clauses = [
            clause
            for clause in case.clauses
            if not any(not c.terms and not c.holds(()) for c in clause)
        ]
        root = _Node(low, high, self._intervals(low, high), frozenset(range(len(self.clauses))))
        self.stack = [root] if self.clauses else []

    def _x(self, t: tuple[int, ...]) -> tuple[Fraction, ...]:
        return tuple(c + v * self.unit for c, v in zip(self.corner, t, strict=True))

    def _intervals(
        self, low: tuple[int, ...], high: tuple[int, ...]
    ) -> tuple[tuple[Interval, ...], ...]:
        """Bounds of all layers' pre-activations by interval arithmetic."""
        values = list(zip(self._x(low), self._x(high), strict=True))
        out = []
        for layer in self.network.layers:
            z = []
            for row, bias in zip(layer.dense.tolist(), layer.bias.tolist(), strict=True):
                terms = [sorted((Fraction(w) * a, Fraction(w) * b)) for w, (a, b) in
                         zip(row, values, strict=True)]  # fmt: skip
                z.append(tuple(sum((t[e] for t in terms), Fraction(bias)) for e in (0, 1)))
            out.append(tuple(z))
            values = [
                (max(a, Fraction(0)), max(b, Fraction(0))) if relu else (a, b)
                for (a, b), relu in zip(z, layer.relu, strict=True)
            ]
        return tuple(out)

    def _relaxed(
        self, node: _Node, solver: z3.Solver | z3.Optimize, layer: int
    ) -> list[z3.ArithRef]:
        """The relaxation of all layers before one; what that layer reads."""
        x = [z3.Real(f"x{j}") for j in range(len(node.low))]
        for v, a, b in zip(x, self._x(node.low), self._x(node.high), strict=True):
            solver.add(v >= _q(a), v <= _q(b))
        values = x
        for k in range(layer):
            z, relu = self._affine(k, values), self.network.layers[k].relu
            for v, (low, high) in zip(z, node.bounds[k], strict=True):
                solver.add(v >= _q(low), v <= _q(high))
            values = [
                _relaxed_relu(solver, f"a{k}_{i}", z[i], node.bounds[k][i]) if relu[i] else z[i]
                for i in range(len(z))
            ]
        return values

    def _affine(self, k: int, values: list[z3.ArithRef]) -> list[z3.ArithRef]:
        """The pre-activations of layer k."""
        layer = self.network.layers[k]
        return [
            sum((_q(w) * v for w, v in zip(row, values, strict=True) if w), _q(bias))
            for row, bias in zip(layer.dense.tolist(), layer.bias.tolist(), strict=True)
        ]

    def _tightened(self, node: _Node) -> _Node | None:
        """Bounds of every unstable neuron again; None if they contradict each other."""
        for k in range(len(node.bounds)):
            layer, bounds = self.network.layers[k], list(node.bounds[k])
            for i, (low, high) in enumerate(bounds):
                if not layer.relu[i] or low >= 0 or high <= 0:
                    continue
                for sign in (1, -1):
                    optimize = z3.Optimize()
                    z = self._affine(k, self._relaxed(node, optimize, k))[i]
                    value = z3.Real("value")
                    optimize.add(value == sign * z)
                    optimize.minimize(value)
                    if optimize.check() != z3.sat:
                        return None
                    found = sign * Fraction(optimize.model()[value].as_fraction())
                    low, high = (max(low, found), high) if sign > 0 else (low, min(high, found))
                bounds[i] = (low, high)
            node = replace(node, bounds=(*node.bounds[:k], tuple(bounds), *node.bounds[k + 1 :]))
        return node

    def _excluded(self, node: _Node, clause: int) -> bool:
        """Whether no point of the relaxation satisfies a clause."""
        solver = z3.Solver()
        y = self._relaxed(node, solver, len(self.network.layers))
        for constraint in self.clauses[clause]:
            solver.add(_holds(constraint, y))
        return solver.check() == z3.unsat

    def visit(self, columns: dict[str, list[int]]) -> None:
        """One block.

        Raises:
            NoProofError: something does not follow.
        """
        count = len(columns["action"])
        if not 0 < count <= len(self.stack):
            raise NoProofError("not so many nodes")
        nodes, self.stack = self.stack[-count:], self.stack[:-count]
        found = [self._tightened(node) for node in nodes]
        nodes = [
            replace(node, open=frozenset()) if new is None else new
            for node, new in zip(nodes, found, strict=True)
        ]
        nodes = [
            replace(n, open=frozenset(c for c in n.open if not self._excluded(n, c))) for n in nodes
        ]
        for i, c in zip(columns["close_node"], columns["close_clause"], strict=True):
            if i >= count or c >= len(self.clauses):
                raise NoProofError("no such node or clause")
            if c in nodes[i].open:
                raise NoProofError("a clause is not excluded")
        names = ("cut_node", "cut_axis", "cut_above", "cut_at")
        for i, j, above, at in zip(*(columns[n] for n in names), strict=True):
            if i >= count:
                raise NoProofError("no such node")
            below_part, above_part = _halves(nodes[i], j, at)
            removed, kept = (above_part, below_part) if above else (below_part, above_part)
            if not all(self._excluded(removed, c) for c in removed.open):
                raise NoProofError("the part that was cut is not excluded")
            nodes[i] = kept
        rows = zip(nodes, columns["action"], columns["axis"], columns["at"], strict=True)
        for node, action, axis, at in rows:
            self._act(node, action, axis, at)

    def _act(self, node: _Node, action: int, axis: int, at: int) -> None:
        """Leaf, input split, neuron split or another visit."""
        if action == 0 and node.open:
            raise NoProofError("a leaf is not closed")
        if action == 1:
            self.stack += _halves(node, axis, at)
        elif action == 2:
            if axis >= len(node.bounds) or not 0 <= at < len(node.bounds[axis]):
                raise NoProofError("no such neuron")
            low, high = node.bounds[axis][at]
            self.stack += [
                _with_bounds(node, axis, at, (max(low, Fraction(0)), high)),
                _with_bounds(node, axis, at, (low, min(high, Fraction(0)))),
            ]
        elif action == 3:
            self.stack.append(node)
        elif action:
            raise NoProofError("no such action")


def _halves(node: _Node, axis: int, at: int) -> tuple[_Node, _Node]:
    """The parts below and above a value of one input."""
    if axis >= len(node.low) or not node.low[axis] < at < node.high[axis]:
        raise NoProofError("no place to split")
    high = (*node.high[:axis], at, *node.high[axis + 1 :])
    low = (*node.low[:axis], at, *node.low[axis + 1 :])
    return replace(node, high=high), replace(node, low=low)


def _with_bounds(node: _Node, layer: int, neuron: int, bounds: Interval) -> _Node:
    """The node with other bounds of one neuron; contradictory ones exclude every clause later."""
    row = list(node.bounds[layer])
    row[neuron] = bounds
    return replace(node, bounds=(*node.bounds[:layer], tuple(row), *node.bounds[layer + 1 :]))


def _relaxed_relu(
    solver: z3.Solver | z3.Optimize, name: str, z: z3.ArithRef, bounds: Interval
) -> z3.ArithRef:
    """A value between relu(z) and its chord."""
    low, high = bounds
    if low >= 0 or high <= 0:
        return z if low >= 0 else _q(0)
    a = z3.Real(name)
    slope = high / (high - low)
    solver.add(a >= 0, a >= z, a <= _q(slope) * z - _q(slope * low))
    return a


def _holds(constraint: LinearConstraint, values: list[z3.ArithRef]) -> z3.BoolRef:
    left = sum((_q(c) * values[i] for i, c in constraint.terms), _q(0))
    return left > _q(constraint.bound) if constraint.strict else left >= _q(constraint.bound)


def _q(value: Fraction | float | int) -> z3.RatNumRef:
    exact = Fraction(value)
    return z3.Q(exact.numerator, exact.denominator)
