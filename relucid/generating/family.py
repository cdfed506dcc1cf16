"""What a family of instances is, and what it says of each instance that it made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from relucid.numbers import rational
from relucid.progress import Reporter
from verifier.core.errors import DataError

#: No setting that is a whole number is larger.
_LARGEST = 10**9


@dataclass(frozen=True)
class Made:
    """One instance, with its truth.

    Args:
        network, property: files, relative to the set's folder.
        limit: seconds for a verifier.
        truth: sat (there is a counterexample) or unsat.
        kind: how the truth is known: ``exact witness`` or ``checked proof``.
        evidence: the file with it, relative to the folder.
        margin: by how much the witness violates the property, rounded; "" without one.
        attacks: the attacks that were tried on it, comma separated.
        found_by: the one of them that found a counterexample, or "".
        radius: of the box, as an exact rational.
        seconds: that making it took.
    """

    network: str
    property: str
    limit: int
    truth: str
    kind: str
    evidence: str
    margin: str
    attacks: str
    found_by: str
    radius: str
    seconds: float


#: Columns of ground_truth.csv.
HEADS = tuple(field.name for field in fields(Made) if field.name != "limit")


@dataclass(frozen=True, eq=False)
class Place:
    """Where a family works.

    Args:
        folder: has onnx, vnnlib, witnesses and proofs.
        seed: of everything random.
        reporter: shows progress.
    """

    folder: Path
    seed: int
    reporter: Reporter


@dataclass(frozen=True)
class Family:
    """A family.

    Args:
        difficulties: settings by name, each a frozen dataclass of the same type; the first is the
            default. Its fields are what ``--set`` changes.
        make: the instances number k of a set, written into its folder; it depends on nothing but
            the settings, the seed and k.
    """

    difficulties: Mapping[str, Any]
    make: Callable[[Any, Place, int], tuple[Made, ...]]

    def settings(self, difficulty: str | None, changes: Iterable[str]) -> Any:
        """The settings of a difficulty with some of them changed.

        Args:
            difficulty: a name, or None for the first.
            changes: ``NAME=VALUE`` each.

        Raises:
            DataError: there is no such difficulty or setting, or the value is none.
        """
        name = next(iter(self.difficulties)) if difficulty is None else difficulty
        if name not in self.difficulties:
            known = ", ".join(self.difficulties)
            raise DataError(f"--difficulty {name}: expected one of {known}")
        chosen = self.difficulties[name]
        now, given = asdict(chosen), {}
        for change in changes:
            key, equals, text = change.partition("=")
            if not equals or key not in now:
                raise DataError(
                    f"--set {change}: expected NAME=VALUE with one of {', '.join(sorted(now))}"
                )
            given[key] = _read(text, type(now[key]), change)
        return replace(chosen, **given)


def _read(text: str, kind: type, change: str) -> Any:
    """A value of the type that the setting has.

    Raises:
        DataError: the text is none.
    """
    try:
        # Not Fraction: the digits of 1e999999999 take gigabytes.
        value = rational(text, f"--set {change}") if kind is Fraction else kind(text)
    except ValueError as problem:
        words = {int: "a whole number", float: "a number"}
        raise DataError(f"--set {change}: expected {words.get(kind, 'a word')}") from problem
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"--set {change}: expected a finite number")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise DataError(f"--set {change}: expected a whole number up to {_LARGEST}")
    return value
