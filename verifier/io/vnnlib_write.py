"""Properties as VNN-LIB 1.0, exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from verifier.core.errors import ExportError, PropertyError
from verifier.core.property import LinearConstraint, Property
from verifier.io.decimals import finite_decimal, odd_part
from verifier.io.vnnlib import parse_property


def property_text(prop: Property) -> str:
    """A property with one box as a VNN-LIB 1.0 file, which reads back as the same property.

    Numbers are written with all their decimals. A comparison with a number that is no finite
    decimal (a face at 1/2 + 8/255) is multiplied by the least integer that makes its numbers
    finite decimals: ``(<= (* 51.0 X_0) 27.1)``.

    Raises:
        ExportError: several boxes, no clauses, numbers with too many digits for the reader.
    """
    if len(prop.cases) != 1 or not prop.cases[0].clauses:
        raise ExportError(
            f"{prop.name}: only a property with one box and unsafe outputs is written"
        )
    (case,) = prop.cases
    lines = [f"; {line}" for line in _ascii(prop.name).splitlines()]
    lines += [f"(declare-const X_{j} Real)" for j in range(prop.n_inputs)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(prop.n_outputs)]
    for j, (low, high) in enumerate(zip(case.box.lower, case.box.upper, strict=True)):
        lines.append(f"(assert {_comparison('>=', [(f'X_{j}', Fraction(1))], low)})")
        lines.append(f"(assert {_comparison('<=', [(f'X_{j}', Fraction(1))], high)})")
    clauses = [_clause(prop, clause) for clause in case.clauses]
    unsafe = clauses[0] if len(clauses) == 1 else f"(or {' '.join(clauses)})"
    text = "\n".join([*lines, f"(assert {unsafe})"]) + "\n"
    _compare(prop, text)
    return text


def _ascii(name: str) -> str:
    """A file's name may be anything."""
    return name.encode("ascii", "backslashreplace").decode()


def _clause(prop: Property, constraints: Iterable[LinearConstraint]) -> str:
    """A conjunction."""
    names = [f"Y_{i}" for i in range(prop.n_outputs)] + [f"X_{j}" for j in range(prop.n_inputs)]
    parts = [
        _comparison(">" if c.strict else ">=", [(names[i], v) for i, v in c.terms], c.bound)
        for c in constraints
    ]
    return f"(and {' '.join(parts)})"


def _comparison(operator: str, terms: list[tuple[str, Fraction]], bound: Fraction) -> str:
    """Σ coefficient · variable compared with the bound, times a positive integer.

    One variable, or the difference of two compared with 0, is written as other programs expect it.
    """
    if len(terms) == 2 and not bound:
        (minus, plus) = sorted(terms, key=lambda term: term[1])
        if minus[1] == -1 and plus[1] == 1:
            return f"({operator} {plus[0]} {minus[0]})"
    if len(terms) == 1 and terms[0][1] < 0:
        operator, bound = operator.replace(">", "<"), -bound
        terms = [(terms[0][0], -terms[0][1])]
    numbers = [*(v for _, v in terms), bound]
    factor = math.lcm(*(odd_part(v.denominator)[1] for v in numbers))
    parts = []
    for name, value in terms:
        scaled = value * factor
        number = finite_decimal(scaled, name)
        parts.append(name if scaled == 1 else f"(* {number} {name})")
    left = parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})" if parts else "0.0"
    return f"({operator} {left} {finite_decimal(bound * factor, 'a bound')})"


def _compare(prop: Property, text: str) -> None:
    """Raise ExportError unless the text means the property, clause by clause in the same order."""
    try:
        again = parse_property(
            text, n_inputs=prop.n_inputs, n_outputs=prop.n_outputs, name=prop.name
        ).prop
    except PropertyError as problem:
        raise ExportError(f"{prop.name} cannot be written as VNN-LIB: {problem}") from problem
    if _meaning(again) != _meaning(prop):
        raise ExportError(f"{prop.name} cannot be written as VNN-LIB: it would be another property")


def _meaning(prop: Property) -> object:
    """The property with each constraint's terms in order, up to a positive factor."""
    return [
        (case.box, [[_normal(c) for c in clause] for clause in case.clauses]) for case in prop.cases
    ]


def _normal(constraint: LinearConstraint) -> object:
    """The constraint with coefficients whose absolute values sum to 1."""
    total: dict[int, Fraction] = {}
    for i, v in constraint.terms:
        total[i] = total.get(i, Fraction(0)) + v
    size = sum(map(abs, total.values()), Fraction(0)) or Fraction(1)
    terms = sorted((i, v / size) for i, v in total.items() if v)
    return terms, constraint.bound / size, constraint.strict
