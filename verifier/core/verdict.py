"""Verdicts: a type that carries its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Replay:
    """What onnxruntime computed in float32 at the witness rounded into the box.

    Args:
        x: the float32 input that was run, n_inputs numbers.
        y: its float32 outputs.
        violated: whether these outputs are unsafe, compared exactly.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    violated: bool


@dataclass(frozen=True)
class Witness:
    """An exact point of the box with unsafe exact outputs.

    Args:
        x: rational input inside the box.
        y: the network's exact outputs at x.
        case: index of the property's case that contains x.
        clause: index of the clause that y satisfies.
        replay: the same in the deployed arithmetic, when a model file was at hand.
    """

    x: tuple[Fraction, ...]
    y: tuple[Fraction, ...]
    case: int
    clause: int
    replay: Replay | None = None


@dataclass(frozen=True)
class Proved:
    """No point of any box is unsafe.

    Args:
        evidence: what a proof is written from: the search trees with their multipliers.
        statistics: counts for people (nodes, iterations), never read to decide anything.
    """

    evidence: Any
    statistics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Refuted:
    """Some point is unsafe, and here it is."""

    witness: Witness
    statistics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """Neither was shown, with the reason (time limit, an incomplete engine, a hint that failed)."""

    reason: str
    statistics: dict[str, float] = field(default_factory=dict)


Verdict = Proved | Refuted | Unknown


def word(verdict: Verdict) -> str:
    """``proved``, ``refuted`` or ``unknown``."""
    return type(verdict).__name__.lower()
