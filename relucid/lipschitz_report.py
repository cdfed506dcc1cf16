"""What ``relucid lipschitz`` prints and writes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from relucid.numbers import approximate
from verifier.core.network import Network
from verifier.core.property import Box
from verifier.search.lipschitz_evidence import Capped, Lipschitz, Split, Step

#: Points and gradients with more numbers are left to --json.
_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Answer:
    """One run.

    Args:
        model: as the user named it.
        network: the network.
        domain: the box, or None for everywhere.
        of: the functions in question, in words.
        found: the bounds with their evidence.
        seconds: of the search.
        checked: whether the evidence was checked again.
    """

    model: str
    network: Network
    domain: Box | None
    of: str
    found: Lipschitz
    seconds: float
    checked: bool


def lines(answer: Answer) -> list[str]:
    """The answer for a person."""
    network, found = answer.network, answer.found
    sizes = f"{network.n_inputs} inputs, {network.n_relu} ReLUs, {network.n_outputs} outputs"
    out = [
        f"{answer.model}: {sizes}",
        f"  of        {answer.of}",
        f"  where     {_where(answer.domain)}",
    ]
    if found.exact:
        out.append(f"  exact     {_value(found.lower)}")
    else:
        out.append(f"  at least  {_value(found.lower)}")
        out.append(f"  at most   {_value(found.upper)}")
        out.append(f"  because   {found.reason}")
    if found.attained is not None and len(found.attained.x) <= _SHOWN:
        out.append(f"  at x      {_vector(found.attained.x)}")
        out.append(f"  gradient  {_vector(found.attained.gradient)}")
    again = ", checked again" if answer.checked else ""
    count = len(found.evidence.steps)
    out.append(f"  evidence  a point evaluated exactly, a tree of {count} cells{again}")
    out.append(f"  time      {answer.seconds:.2f} s")
    return out


def _where(domain: Box | None) -> str:
    if domain is None:
        return "everywhere"
    if len(set(domain.lower)) == len(set(domain.upper)) == 1:
        return f"[{domain.lower[0]}, {domain.upper[0]}] in every input"
    width = max(b - a for a, b in zip(domain.lower, domain.upper, strict=True))
    return f"a box, at most {approximate(width)} wide"


def _value(value: Fraction) -> str:
    """``1/3 ≈ 0.333333``, or the float that it is."""
    text = approximate(value)
    if text == str(value) or value.denominator > 10**6:
        return text
    return f"{value} {text[0]} {text[1:]}" if text.startswith("≈") else f"{value} = {text}"


def _vector(values: tuple[Fraction, ...]) -> str:
    return f"({', '.join(approximate(v) for v in values)})"


def record(answer: Answer) -> dict[str, Any]:
    """The answer for machines; rationals are strings."""
    found, domain = answer.found, answer.domain
    where: Any = "everywhere"
    if domain is not None:
        where = {"lower": [str(v) for v in domain.lower], "upper": [str(v) for v in domain.upper]}
    attained = None
    if found.attained is not None:
        attained = {
            "x": [str(v) for v in found.attained.x],
            "row": found.attained.row,
            "gradient": [str(v) for v in found.attained.gradient],
            "active": [[i for i, on in enumerate(layer) if on] for layer in found.attained.pattern],
        }
    return {
        "model": answer.model,
        "of": answer.of,
        "domain": where,
        "exact": found.exact,
        "lower": str(found.lower),
        "upper": str(found.upper),
        "reason": found.reason,
        "seconds": round(answer.seconds, 3),
        "attained": attained,
        "cells": len(found.evidence.steps),
        "checked": answer.checked,
        "notes": list(answer.network.notes),
    }


def evidence(answer: Answer) -> dict[str, Any]:
    """The same with the tree that proves the upper bound."""
    found = answer.found.evidence
    return {
        **record(answer),
        "phases": [layer.tolist() for layer in found.phases],
        "tree": [_step(step) for step in found.steps],
    }


def _step(step: Step) -> dict[str, Any]:
    """One step of the tree."""
    if isinstance(step, Split):
        return {"split": [step.layer, step.index], "below": [step.negative, step.positive]}
    if isinstance(step, Capped):
        return {"capped": str(step.slope)}
    return {"void": [str(w) for w in step.weights]}
