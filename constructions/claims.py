"""What a construction promises (width, depth, radius, sizes), compared with what was built.

A claim that fails is a defect of the construction or of the theorem behind it, never the input's
fault; that is why ``ClaimError`` is not a ``RelucidError``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from verifier.core.network import Network

Value = int | Fraction | str
Rational = int | Fraction


class ClaimError(Exception):
    """A construction is not what its theorem says."""


@dataclass(frozen=True)
class Claim:
    """One promise: ``actual relation expected``.

    Use ``equal``, ``at_most``, ``at_least`` or ``true``, which decide ``holds`` exactly.

    Args:
        name: what is counted or measured, e.g. "width".
        expected: the theorem's value.
        actual: the value read from what was built.
        holds: whether the relation holds.
        source: where the promise comes from, e.g. "width = 3d + 1 (theorem 1)".
        relation: ``=``, ``≤`` or ``≥``.

    Raises:
        TypeError: a value that is not exact (a float, a NumPy number, a truth value).
    """

    name: str
    expected: Value
    actual: Value
    holds: bool
    source: str
    relation: str = "="

    def __post_init__(self) -> None:
        for value in (self.expected, self.actual):
            if isinstance(value, bool) or not isinstance(value, int | Fraction | str):
                raise TypeError(
                    f"claim {self.name!r}: expected int, Fraction or str, got {value!r} of type "
                    f"{type(value).__name__}"
                )

    @classmethod
    def equal(cls, name: str, expected: Value, actual: Value, source: str) -> Claim:
        """``actual = expected``; text never equals a number."""
        return cls(name, expected, actual, expected == actual, source)

    @classmethod
    def at_most(cls, name: str, expected: Rational, actual: Rational, source: str) -> Claim:
        """``actual ≤ expected``."""
        return cls(name, expected, actual, actual <= expected, source, "≤")

    @classmethod
    def at_least(cls, name: str, expected: Rational, actual: Rational, source: str) -> Claim:
        """``actual ≥ expected``."""
        return cls(name, expected, actual, actual >= expected, source, "≥")

    @classmethod
    def true(cls, name: str, holds: bool, source: str) -> Claim:
        """A statement without a number."""
        return cls(name, "yes", "yes" if holds else "no", holds, source)

    def __str__(self) -> str:
        verb = "is" if self.holds else "should be"
        relation = "" if self.relation == "=" else f"{self.relation} "
        found = "" if self.holds and self.relation == "=" else f", is {self.actual}"
        return f"{self.name} {verb} {relation}{self.expected}{found} ({self.source})"


@dataclass(frozen=True)
class Claims:
    """All promises about one construction.

    Args:
        construction: its name, for messages.
        items: the promises, in the order in which they are shown.
    """

    construction: str
    items: tuple[Claim, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __add__(self, more: Claims) -> Claims:
        """These promises and then the others."""
        return Claims(self.construction, self.items + more.items)

    @property
    def broken(self) -> tuple[Claim, ...]:
        """The promises that do not hold."""
        return tuple(claim for claim in self.items if not claim.holds)

    @property
    def hold(self) -> bool:
        """Whether there is a promise, and all of them hold."""
        return bool(self.items) and not self.broken

    def check(self) -> Claims:
        """Return these claims if all hold.

        Raises:
            ClaimError: nothing was claimed, or a promise is broken; the message names each.
        """
        if not self.items:
            raise ClaimError(f"{self.construction}: nothing was claimed")
        if self.broken:
            details = "; ".join(str(claim) for claim in self.broken)
            raise ClaimError(f"{self.construction}: {details}")
        return self

    def table(self) -> list[str]:
        """Aligned lines: name, promised, found, whether it holds, source."""
        rows = [("claim", "promised", "found", "holds", "source")]
        for claim in self.items:
            relation = "" if claim.relation == "=" else f"{claim.relation} "
            holds = "yes" if claim.holds else "NO"
            rows.append(
                (claim.name, f"{relation}{claim.expected}", str(claim.actual), holds, claim.source)
            )
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        return [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]

    def record(self) -> list[dict[str, Any]]:
        """The claims for JSON: integers as numbers, other rationals as ``"p/q"``."""
        return [
            {
                "name": claim.name,
                "relation": claim.relation,
                "expected": _plain(claim.expected),
                "actual": _plain(claim.actual),
                "holds": claim.holds,
                "source": claim.source,
            }
            for claim in self.items
        ]


def network_claims(
    construction: str, network: Network, source: str, **promised: int | None
) -> Claims:
    """Equalities between promised sizes and those of a network.

    Args:
        construction: its name, for messages.
        network: what was built; best read back from the exported file.
        source: where the promises come from.
        promised: any of ``n_inputs``, ``n_outputs``, ``width``, ``depth``, ``n_relu`` and
            ``nonzeros``, as ``Network`` defines them; None promises nothing.

    Raises:
        TypeError: a size that networks do not have.
    """
    for name in promised:
        if name not in _SIZES:
            raise TypeError(f"unknown size {name!r}; expected one of {', '.join(_SIZES)}")
    return Claims(
        construction,
        tuple(
            Claim.equal(word, expected, getattr(network, name), source)
            for name, word in _SIZES.items()
            if (expected := promised.get(name)) is not None
        ),
    )


_SIZES = {
    "n_inputs": "inputs",
    "n_outputs": "outputs",
    "width": "width",
    "depth": "depth",
    "n_relu": "ReLUs",
    "nonzeros": "nonzeros",
}


def _plain(value: Value) -> int | str:
    """An integer as a number, anything else as text."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else str(value)
    return value
