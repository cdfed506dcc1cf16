"""What a theorem's file shows: ``demonstrate()`` returns one of these."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shown:
    """One claim that was checked.

    Args:
        claim: what is true.
        certificate: what was checked, exactly, so that it is known.
    """

    claim: str
    certificate: str


@dataclass(frozen=True)
class Demonstration:
    """A theorem on a concrete instance.

    Args:
        statement: the theorem.
        instance: the concrete data.
        shown: what was proved of the instance, and how; never empty.
        values: exact numbers by name, rationals as strings such as "29/70".
    """

    statement: str
    instance: str
    shown: tuple[Shown, ...]
    values: dict[str, object] = field(default_factory=dict)
