"""The model whose gradients a black-box attack uses in place of the target's."""

from __future__ import annotations

import numpy as np

from constructions.dataset import SPLITS, DataSet, load_dataset
from relucid.bundled import open_model
from relucid.certification import Samples
from relucid.progress import Reporter
from torchbridge.attacks.interface import Classifier
from torchbridge.attacks.substitute import in_place_of, learned
from torchbridge.attacks.target import Target
from verifier.core.decision import Rule
from verifier.core.errors import DataError

#: Points on which the target is asked, at most.
_MOST = 10_000


def surrogate_for(
    target: Target, data: DataSet, samples: Samples, name: str | None, seed: int, reporter: Reporter
) -> Classifier:
    """A given model, or one that is trained on what the target answers in floats.

    Args:
        target: the target.
        data: the points that are attacked.
        samples: where they come from.
        name: of the given model, or None. One is trained on the training part of the data if it
            has one, else on all of it, on at most 10000 points.
        seed: of the training.
        reporter: told how far it is.

    Raises:
        DataError: outputs that are no scores, or a surrogate with other inputs or outputs.
    """
    if target.decision.rule is not Rule.argmax:
        raise DataError("--method transfer is for models whose largest output is the class")
    if name is not None:
        other = open_model(name).network
        if (other.n_inputs, other.n_outputs) != (data.dimension, target.n_outputs):
            raise DataError(
                f"{name}: a surrogate must have the target's {data.dimension} inputs and "
                f"{target.n_outputs} outputs, it has {other.n_inputs} and {other.n_outputs}"
            )
        return in_place_of(target, Target.of(other, target.decision, target.device))
    place, _, split = samples.data.rpartition(":")
    known = load_dataset(
        place if split in SPLITS and place else samples.data, default_split="train"
    )
    rows = np.arange(len(known))
    if len(rows) > _MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST, replace=False))
    points = known.points[rows].astype(np.float64) * float(known.scale)
    return learned(target, points, seed, reporter.update)
