"""The exact normal form of a formula: input boxes, each with a disjunction of conjunctions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from verifier.core.errors import PropertyError
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.io.formula import Formula, Junction, opposite

MAX_CLAUSES = 100_000
MAX_ATOMS = 2_000_000

ONE = Fraction(1)

Atoms = tuple[LinearConstraint, ...]


def _fold(
    root: Formula,
    leaf: Callable[[LinearConstraint], Any],
    join: Callable[[bool, list[Any]], Any],
) -> Any:
    """Bottom-up value of a formula with negations pushed to the atoms, without recursion."""
    results: list[Any] = []
    stack: list[tuple[Formula, bool, bool]] = [(root, False, False)]
    while stack:
        node, flipped, visited = stack.pop()
        if isinstance(node, LinearConstraint):
            results.append(leaf(opposite(node) if flipped else node))
            continue
        flips = flipped != node.negated
        if not visited:
            stack.append((node, flipped, True))
            stack.extend((part, flips, False) for part in reversed(node.parts))
            continue
        first = len(results) - len(node.parts)
        parts = results[first:]
        del results[first:]
        results.append(join(node.every != flips, parts))
    return results[0]


def _size(every: bool, parts: list[tuple[int, int]]) -> tuple[int, int]:
    """(clauses, atoms) of the disjunctive normal form, before it is written out.

    Raises:
        PropertyError: more than MAX_CLAUSES or MAX_ATOMS.
    """
    clauses, atoms = (1, 0) if every else (0, 0)
    for n, size in parts:
        if every:
            clauses, atoms = clauses * n, atoms * n + size * clauses
        else:
            clauses, atoms = clauses + n, atoms + size
        if clauses > MAX_CLAUSES or atoms > MAX_ATOMS:
            raise PropertyError(
                f"the property multiplies out to at least {clauses} clauses with {atoms} "
                f"comparisons; the limits are {MAX_CLAUSES} and {MAX_ATOMS}"
            )
    return clauses, atoms


def _clauses(every: bool, parts: list[list[Atoms]]) -> list[Atoms]:
    """The disjunctive normal form of a junction from those of its parts."""
    if not every:
        return [clause for part in parts for clause in part]
    return [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]


def _atom_clauses(atom: LinearConstraint) -> list[Atoms]:
    """One clause of one atom; a comparison of constants is decided here."""
    if atom.terms:
        return [(atom,)]
    return [()] if atom.holds(()) else []


def normalise(
    assertions: Iterable[Formula], *, n_inputs: int, n_outputs: int, name: str
) -> Property:
    """The conjunction of the assertions as a ``Property``, exactly.

    Comparisons of one input with a constant become faces of the box. Where such a face is strict,
    the closed box is kept and the strict comparison stays as a constraint. Disjuncts with the same
    box become the clauses of one case; a disjunct with an empty box is left out.

    Raises:
        PropertyError: an input without a lower or upper bound, no point left at all, or too many
            disjuncts.
    """
    common: list[LinearConstraint] = []
    branching: list[Formula] = []
    stack = list(assertions)[::-1]
    while stack:
        formula = stack.pop()
        if isinstance(formula, Junction) and formula.every and not formula.negated:
            stack.extend(reversed(formula.parts))
        elif isinstance(formula, LinearConstraint) and formula.terms:
            common.append(formula)
        else:
            branching.append(formula)
    tree = Junction(True, tuple(branching))
    _fold(tree, lambda atom: (1, 1) if atom.terms else (int(atom.holds(())), 0), _size)
    boxes = _Cases(common, n_inputs, n_outputs)
    for clause in _fold(tree, _atom_clauses, _clauses):
        boxes.add(clause)
    return boxes.property(name)


Face = tuple[Fraction, bool]
"""Where a face of a box lies, and whether the comparison was strict."""

Faces = dict[int, Face]


class _Cases:
    """Disjuncts collected by their input box.

    A box is kept as its difference from the box that all disjuncts share, so that ten disjuncts
    over 784 inputs cost little more than one.

    Args:
        common: atoms that hold in every disjunct.
    """

    def __init__(self, common: Iterable[LinearConstraint], n_inputs: int, n_outputs: int) -> None:
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.lower: Faces = {}
        self.upper: Faces = {}
        self.constraints = self._split(common, self.lower, self.upper)
        self.empty = not self._feasible(self.lower, self.upper)
        self.groups: dict[object, tuple[Box, dict[Atoms, None]]] = {}

    def _split(
        self, atoms: Iterable[LinearConstraint], lower: Faces, upper: Faces
    ) -> list[LinearConstraint]:
        """Tighten the faces by the atoms about one input; return the other atoms."""
        others = []
        for atom in atoms:
            if len(atom.terms) != 1 or atom.terms[0][0] < self.n_outputs:
                others.append(atom)
                continue
            variable, coefficient = atom.terms[0]
            j = variable - self.n_outputs
            value = atom.bound if coefficient == 1 else atom.bound / coefficient
            if coefficient > 0:
                old = lower.get(j) or self.lower.get(j)
                if old is None or (value, atom.strict) > old:
                    lower[j] = (value, atom.strict)
            else:
                old = upper.get(j) or self.upper.get(j)
                if old is None or (-value, atom.strict) > (-old[0], old[1]):
                    upper[j] = (value, atom.strict)
        return others

    def _feasible(self, lower: Faces, upper: Faces) -> bool:
        """Whether no input named here has its lower face beyond its upper one."""
        for j in {*lower, *upper}:
            low, high = lower.get(j) or self.lower.get(j), upper.get(j) or self.upper.get(j)
            if low is None or high is None:
                continue
            if low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1])):
                return False
        return True

    def add(self, clause: Atoms) -> None:
        """Add one disjunct, unless its box is empty."""
        lower: Faces = {}
        upper: Faces = {}
        others = self._split(clause, lower, upper)
        if self.empty or not self._feasible(lower, upper):
            return
        key = (_moved(lower, self.lower), _moved(upper, self.upper))
        if key not in self.groups:
            self.groups[key] = (self._box({**self.lower, **lower}, {**self.upper, **upper}), {})
        strict = [*self._open(self.lower, lower, ONE), *self._open(self.upper, upper, -ONE)]
        self.groups[key][1][tuple(dict.fromkeys((*self.constraints, *others, *strict)))] = None

    def _open(self, shared: Faces, own: Faces, sign: Fraction) -> list[LinearConstraint]:
        """The strict faces as constraints (the closed box alone would lose their strictness)."""
        return [
            LinearConstraint(((self.n_outputs + j, sign),), sign * value, True)
            for j, (value, is_open) in (*shared.items(), *own.items())
            if is_open and own.get(j, (value, is_open)) == (value, is_open)
        ]

    def _box(self, lows: Faces, highs: Faces) -> Box:
        """The closed box, with every face present."""
        for faces, side in ((lows, "lower"), (highs, "upper")):
            if len(faces) < self.n_inputs:
                missing = [j for j in range(self.n_inputs) if j not in faces]
                more = f" (nor have {len(missing) - 1} other inputs)" if len(missing) > 1 else ""
                raise PropertyError(f"input X_{missing[0]} has no {side} bound{more}")
        inputs = range(self.n_inputs)
        return Box(tuple(lows[j][0] for j in inputs), tuple(highs[j][0] for j in inputs))

    def property(self, name: str) -> Property:
        """The collected cases."""
        if not self.groups:
            raise PropertyError(
                "the property is empty: no input satisfies its bounds and constant comparisons"
            )
        cases = tuple(Case(box, tuple(clauses)) for box, clauses in self.groups.values())
        mixes = any(
            i >= self.n_outputs
            for case in cases
            for clause in case.clauses
            for constraint in clause
            for i, _ in constraint.terms
        )
        return Property(cases, self.n_inputs, self.n_outputs, name, mixes_inputs=mixes)


def _moved(own: Faces, shared: Faces) -> frozenset[tuple[int, Fraction]]:
    """The faces that differ in place (not only in strictness) from the shared ones."""
    return frozenset(
        (j, value) for j, (value, _) in own.items() if j not in shared or shared[j][0] != value
    )
