"""Which class of a data set a model's outputs mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from verifier.core.decision import Decision, Rule
from verifier.core.errors import DataError
from verifier.core.property import Box, Property
from verifier.io.onnx import Model

if TYPE_CHECKING:
    from constructions.dataset import DataSet


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a model beside those of a data set.

    Args:
        decision: how outputs mean one of the model's classes.
        positions: (n_classes of the data,) the model's class for each, −1 if it has none.
    """

    decision: Decision
    positions: np.ndarray

    @classmethod
    def of(cls, model: Model, data: DataSet, rule: Rule | None = None) -> Classes:
        """What the file says, or the rule, or the largest output.

        Names in the file are looked up among the data's. Without names, outputs 0, 1, … are the
        data's classes 0, 1, …, and the labels 1, 2, … (or the two signs) are the classes that occur
        in the data, in increasing order.

        Args:
            model: the model.
            data: the whole data set.
            rule: what is read from the outputs, whatever the file says.

        Raises:
            PropertyError: outputs cannot be read like this.
        """
        decision = model.decision
        if decision is None or rule not in (None, decision.rule):
            decision = Decision(Rule.argmax if rule is None else rule)
        n_outputs = model.network.n_outputs
        decision.check_fits(n_outputs)
        positions = np.full(data.n_classes, -1)
        if decision.classes:
            place = {name: k for k, name in enumerate(decision.classes)}
            positions = np.array([place.get(data.label_name(c), -1) for c in range(data.n_classes)])
        elif decision.rule is Rule.argmax:
            known = min(n_outputs, data.n_classes)
            positions[:known] = np.arange(known)
        else:
            present = np.unique(data.labels)
            if decision.rule is Rule.sign:
                present = present[:2]
            positions[present] = np.arange(len(present))
        return cls(decision, positions)

    def position(self, data: DataSet, i: int) -> int:
        """The model's class for point i.

        Raises:
            DataError: the model has none for its label.
        """
        label = int(data.labels[i])
        position = int(self.positions[label])
        if position < 0:
            raise DataError(
                f"{data.name}: label {data.label_name(label)} of point {i} is not one of the "
                f"model's {self._known()}"
            )
        return position

    def _known(self) -> str:
        """Its classes in words."""
        if self.decision.classes:
            return f"classes {', '.join(self.decision.classes)}"
        count = int((self.positions >= 0).sum())
        return f"{count} {'outputs' if self.decision.rule is Rule.argmax else 'classes'}"

    def property(self, box: Box, position: int, n_outputs: int, name: str) -> Property:
        """Every point of the box is in this class of the model."""
        return self.decision.property(box, position, n_outputs, name)

    def chosen(self, outputs: Sequence[Fraction]) -> int | None:
        """The class of the data that exact outputs mean, or None."""
        return self.label(self.decision.choice(outputs))

    def label(self, position: int | None) -> int | None:
        """The class of the data that is this class of the model, or None.

        Outputs without names count as classes also where the data have fewer.
        """
        if self.decision.rule is Rule.argmax and not self.decision.classes:
            return position
        if position is None or position not in self.positions:
            return None
        return int(np.flatnonzero(self.positions == position)[0])
