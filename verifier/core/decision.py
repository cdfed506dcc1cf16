"""How the outputs of a network mean one of several classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np

from verifier.core.errors import PropertyError
from verifier.core.property import Box, Property

_HALF = Fraction(1, 2)


class Rule(StrEnum):
    """What is read from the outputs.

    argmax: output k is the largest, alone: class k.
    label: one output y with |y − (k + 1)| < 1/2: class k; labels count from 1.
    sign: one output, y < 0: class 0, y > 0: class 1.
    """

    argmax = "argmax"
    label = "label"
    sign = "sign"


@dataclass(frozen=True)
class Decision:
    """A rule, and which classes it chooses from.

    Args:
        rule: what is read from the outputs.
        classes: the names of the classes in the order of the rule, or empty if they are not known.

    Raises:
        PropertyError: a name twice, or other than two names for a sign.
    """

    rule: Rule
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise PropertyError(f"a class occurs twice in {', '.join(self.classes)}")
        if self.rule is Rule.sign and len(self.classes) not in (0, 2):
            raise PropertyError(f"a sign tells two classes apart, got {len(self.classes)}")

    def check_fits(self, n_outputs: int) -> None:
        """Raise PropertyError unless a network with so many outputs can be read like this."""
        if self.rule is Rule.argmax:
            if n_outputs < 2:
                raise PropertyError(
                    "the largest output of one says nothing: is the output of this network the "
                    "label 1, 2, … (--outputs label) or a sign (--outputs sign)?"
                )
            if self.classes and len(self.classes) != n_outputs:
                raise PropertyError(f"{len(self.classes)} classes for {n_outputs} outputs")
        elif n_outputs != 1:
            raise PropertyError(
                f"a {self.rule} is read from one output, the network has {n_outputs}"
            )

    def property(self, box: Box, k: int, n_outputs: int, name: str) -> Property:
        """Every point of the box is in class k.

        Raises:
            PropertyError: there is no such class.
        """
        if self.rule is Rule.argmax:
            return Property.robustness(box, k, n_outputs, name)
        if self.rule is Rule.label:
            return Property.near(box, k + 1, name)
        if k not in (0, 1):
            raise PropertyError(f"{name}: a sign tells the classes 0 and 1 apart, not {k}")
        return Property.sign(box, bool(k), name)

    def choice(self, outputs: Sequence[Fraction]) -> int | None:
        """The class that these exact outputs mean, or None; of largest outputs the first."""
        if self.rule is Rule.argmax:
            return max(range(len(outputs)), key=lambda k: outputs[k])
        (value,) = outputs
        if self.rule is Rule.sign:
            return int(value > 0) if value else None
        nearest = round(value)
        known = nearest >= 1 and abs(value - nearest) < _HALF
        return nearest - 1 if known and nearest <= (len(self.classes) or nearest) else None

    def certain(self, k: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Whether bounds on the outputs leave class k only.

        Args:
            k: (n,) a class for each row.
            low, high: (n, n_outputs) float64, not NaN.

        Returns:
            (n,) bool; every comparison is exact.
        """
        if self.rule is Rule.sign:
            return np.where(k == 1, low[:, 0] > 0, high[:, 0] < 0)
        if self.rule is Rule.label:
            return (low[:, 0] > k + 0.5) & (high[:, 0] < k + 1.5)
        rows = np.arange(len(k))
        others = high.copy()
        others[rows, k] = -np.inf
        return low[rows, k] > others.max(axis=1)
