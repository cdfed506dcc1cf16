"""Formulas of linear comparisons, built one operator at a time in exact arithmetic.

Both readers of VNN-LIB call ``apply`` for each operator that they meet; nothing here depends on the
syntax. Variables are numbered as in ``LinearConstraint``: the outputs 0..n_outputs-1, then the
inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from verifier.core.errors import PropertyError
from verifier.core.property import LinearConstraint

MAX_BITS = 13_000
"""Numbers beyond this are refused; Python itself refuses to print integers of 4300 digits."""

MAX_DIGITS = 1000

ONE = Fraction(1)


@dataclass(slots=True)
class Linear:
    """Σ terms[i] · v_i + constant."""

    terms: dict[int, Fraction]
    constant: Fraction


@dataclass(frozen=True, slots=True)
class Junction:
    """The conjunction (``every``) or disjunction of its parts, or the negation of that."""

    every: bool
    parts: tuple[Formula, ...]
    negated: bool = False


Formula = LinearConstraint | Junction
Expression = Linear | LinearConstraint | Junction

TRUE = Junction(True, ())
FALSE = Junction(False, ())


def apply(operator: str, arguments: Sequence[Expression]) -> Expression:
    """The value of one operator application.

    Args:
        operator: + - * / for arithmetic; <= >= < > = == chained comparisons; != or distinct of two
            numbers; and, or, not, =>.
        arguments: the evaluated operands. A ``Linear`` with several terms may be changed in place,
            so that a sum of n nested terms takes n steps, not n².

    Raises:
        PropertyError: an unknown operator, a wrong number or kind of operands, a product of
            variables, a division by zero; without a position, which the reader adds.
    """
    if operator in _ARITHMETIC:
        return _ARITHMETIC[operator](_numbers(operator, arguments))
    if operator in _COMPARISONS:
        return _compare(operator, _numbers(operator, arguments))
    if operator in _CONNECTIVES:
        return _CONNECTIVES[operator](_formulas(operator, arguments))
    raise PropertyError(f"unknown operator {operator!r}; known: {', '.join(OPERATORS)}")


def _numbers(operator: str, arguments: Sequence[Expression]) -> list[Linear]:
    """The operands as numbers, at least one."""
    numbers = [a for a in arguments if isinstance(a, Linear)]
    if len(numbers) != len(arguments):
        raise PropertyError(
            f"{operator!r} takes numbers, but an operand is a true-or-false formula"
        )
    if not numbers:
        raise PropertyError(f"{operator!r} needs operands")
    return numbers


def _formulas(operator: str, arguments: Sequence[Expression]) -> list[Formula]:
    """The operands as formulas."""
    formulas = [a for a in arguments if not isinstance(a, Linear)]
    if len(formulas) != len(arguments):
        raise PropertyError(
            f"{operator!r} takes true-or-false formulas, but an operand is a number"
        )
    return formulas


def _sum(arguments: list[Linear]) -> Linear:
    """The sum, collected in the longest operand (short ones may be shared constants: copied)."""
    largest = max(range(len(arguments)), key=lambda k: len(arguments[k].terms))
    start = arguments[largest]
    terms = start.terms if len(start.terms) > 1 else dict(start.terms)
    constant = start.constant
    for k, argument in enumerate(arguments):
        if k == largest:
            continue
        for i, c in argument.terms.items():
            terms[i] = _bounded(terms[i] + c) if i in terms else c
        constant = _bounded(constant + argument.constant)
    return Linear(terms, constant)


def _scaled(value: Linear, factor: Fraction) -> Linear:
    """The value multiplied by a constant."""
    return Linear(
        {i: _bounded(c * factor) for i, c in value.terms.items()},
        _bounded(value.constant * factor),
    )


def _difference(arguments: list[Linear]) -> Linear:
    """-a for one operand, a - b - c for several."""
    if len(arguments) == 1:
        return _scaled(arguments[0], -ONE)
    return _sum([arguments[0], *(_scaled(a, -ONE) for a in arguments[1:])])


def _product(arguments: list[Linear]) -> Linear:
    """The product, of which at most one factor may hold variables."""
    factor, variable = ONE, None
    for argument in arguments:
        if not _is_constant(argument):
            if variable is not None:
                raise PropertyError("not linear: a product of variables")
            variable = argument
        else:
            factor = _bounded(factor * argument.constant)
    return Linear({}, factor) if variable is None else _scaled(variable, factor)


def _quotient(arguments: list[Linear]) -> Linear:
    """The first operand divided by the others, which must be constants."""
    if len(arguments) < 2:
        raise PropertyError("'/' needs at least 2 operands")
    divisor = ONE
    for argument in arguments[1:]:
        if not _is_constant(argument):
            raise PropertyError("not linear: a division by a variable")
        divisor = _bounded(divisor * argument.constant)
    if divisor == 0:
        raise PropertyError("division by zero")
    return _scaled(arguments[0], 1 / divisor)


def _is_constant(value: Linear) -> bool:
    """Whether no variable is left (X - X counts as none)."""
    return not any(value.terms.values())


def _bounded(value: Fraction) -> Fraction:
    """The value, unless it has so many bits that arithmetic with it would not end in good time."""
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise PropertyError(f"a coefficient needs more than {MAX_BITS} bits")
    return value


def _compare(operator: str, arguments: list[Linear]) -> Formula:
    """Neighbouring operands compared: (<= a b c) is a ≤ b and b ≤ c."""
    if len(arguments) < 2:
        raise PropertyError(f"{operator!r} needs at least 2 operands")
    if operator in ("!=", "distinct"):
        if len(arguments) > 2:
            raise PropertyError(f"{operator!r} takes exactly 2 operands, got {len(arguments)}")
        first, second = arguments
        return Junction(False, (_at_least(first, second, True), _at_least(second, first, True)))
    atoms: list[Formula] = []
    for first, second in itertools.pairwise(arguments):
        if operator in (">=", ">", "=", "=="):
            atoms.append(_at_least(first, second, operator == ">"))
        if operator in ("<=", "<", "=", "=="):
            atoms.append(_at_least(second, first, operator == "<"))
    return atoms[0] if len(atoms) == 1 else Junction(True, tuple(atoms))


def _at_least(first: Linear, second: Linear, strict: bool) -> LinearConstraint:
    """The comparison first ≥ second (or > if strict) with all variables on the left."""
    terms = dict(first.terms)
    for i, c in second.terms.items():
        terms[i] = _bounded(terms[i] - c) if i in terms else -c
    bound = second.constant if not first.constant else _bounded(second.constant - first.constant)
    kept = terms.items() if len(terms) == 1 else sorted(terms.items())
    return LinearConstraint(tuple((i, c) for i, c in kept if c), bound, strict)


def negation(formula: Formula) -> Formula:
    """The opposite: ≥ becomes < exactly, a junction is marked and turned round when it is read."""
    if isinstance(formula, Junction):
        return Junction(formula.every, formula.parts, not formula.negated)
    return opposite(formula)


def opposite(atom: LinearConstraint) -> LinearConstraint:
    """Not (Σ c v ≥ b) is Σ -c v > -b, and not (Σ c v > b) is Σ -c v ≥ -b."""
    terms = tuple((i, -c) for i, c in atom.terms)
    return LinearConstraint(terms, -atom.bound, not atom.strict)


def _not(parts: list[Formula]) -> Formula:
    if len(parts) != 1:
        raise PropertyError(f"'not' takes exactly 1 operand, got {len(parts)}")
    return negation(parts[0])


def _implies(parts: list[Formula]) -> Formula:
    """Right-associative: a => b => c is a => (b => c), that is (not a) or (not b) or c."""
    if len(parts) < 2:
        raise PropertyError("'=>' needs at least 2 operands")
    return Junction(False, (*(negation(p) for p in parts[:-1]), parts[-1]))


_ARITHMETIC: dict[str, Callable[[list[Linear]], Linear]] = {
    "+": _sum,
    "-": _difference,
    "*": _product,
    "/": _quotient,
}
_COMPARISONS = ("<=", ">=", "<", ">", "=", "==", "!=", "distinct")
_CONNECTIVES: dict[str, Callable[[list[Formula]], Formula]] = {
    "and": lambda parts: Junction(True, tuple(parts)),
    "or": lambda parts: Junction(False, tuple(parts)),
    "not": _not,
    "=>": _implies,
}
OPERATORS = (*_ARITHMETIC, *_COMPARISONS, *_CONNECTIVES)


def decimal(lexeme: str) -> Fraction:
    """A decimal numeral, with or without an exponent, as the exact rational that it denotes.

    Raises:
        PropertyError: too many digits or too large an exponent to be meant seriously.
        ValueError: not a decimal numeral.
    """
    mantissa, _, exponent = lexeme.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 6 or abs(int(exponent or 0)) > MAX_DIGITS:
        raise PropertyError(f"the number {lexeme[:20]}... has more than {MAX_DIGITS} digits")
    return Fraction(lexeme)
