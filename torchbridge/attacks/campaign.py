"""Attacks on many inputs: exact at the start, floats in between, exact at the end.

An input that is itself misclassified is its own witness. The others go through the attacks in
order; after each one every point that looks wrong in floats is moved into its exact ball and
evaluated exactly, and only what is not refuted by then goes on to the next attack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchbridge.attacks.exact import Question
from torchbridge.attacks.interface import Attack, Classifier, Control, Task, margin
from torchbridge.attacks.regions import Region, nearest
from torchbridge.attacks.scores import scores
from torchbridge.attacks.target import Target
from verifier.core.errors import DataError, NetworkError
from verifier.core.verdict import Witness

#: Points whose margin in floats is at most this share of the largest output are looked at exactly.
_DOUBT = 1e-4


@dataclass(frozen=True, eq=False)
class Named:
    """An attack with its name in reports."""

    name: str
    attack: Attack


@dataclass(frozen=True, eq=False)
class Attacked:
    """What became of one input.

    Args:
        row: which of the regions.
        witness: an exact one, or None.
        by: name of the attack that found it; "" for an input that is wrong itself.
        claims: how many points looked wrong in floats and are not, exactly.
        seconds: its share of the time of its batch.
        finished: whether all attacks were run on it, or it was refuted.
    """

    row: int
    witness: Witness | None
    by: str
    claims: int
    seconds: float
    finished: bool


@dataclass(frozen=True)
class Run:
    """How to go about it.

    Args:
        seed: of everything random.
        batch: inputs at a time; with another number, random points are others.
        progress: told what is done, and the fraction of all work.
        stop: asked after every step.
    """

    seed: int = 0
    batch: int = 256
    progress: Callable[[str, float], None] = lambda what, fraction: None
    stop: Callable[[], bool] = lambda: False


def attack_points(
    target: Target,
    attacks: Sequence[Named],
    regions: Sequence[Region],
    positions: Sequence[int],
    run: Run,
    *,
    shape: tuple[int, int, int] | None = None,
) -> Iterator[Attacked]:
    """Attack every input, batch by batch.

    Args:
        target: the classifier.
        attacks: in order, all of the norm that the regions have.
        regions: the ball around each input, all of one size.
        positions: the class of each input.
        run: how.
        shape: (channels, rows, columns) of an input, if it is a picture.

    Raises:
        NetworkError: outputs that are not finite or of another shape.
        DataError: no inputs, or a class that the outputs do not have.
    """
    if not regions or len(regions) != len(positions):
        raise DataError(f"{len(regions)} inputs with {len(positions)} labels to attack")
    form = (1, 1, len(regions[0].center)) if shape is None else shape
    classifier, offset = scores(target.module, target.decision, max(positions) + 1)
    for first in range(0, len(regions), run.batch):
        rows = list(range(first, min(len(regions), first + run.batch)))
        batch = _Batch(target, classifier, offset, regions, positions, run, rows, form)
        yield from batch.attacked(attacks)


class _Batch:
    """The inputs that are attacked at the same time."""

    def __init__(
        self, target: Target, classifier: Classifier, offset: int, regions: Sequence[Region],
        positions: Sequence[int], run: Run, rows: list[int], shape: tuple[int, int, int],
    ) -> None:  # fmt: skip
        self.target, self.classifier, self.offset, self.run = target, classifier, offset, run
        self.rows, self.shape, self.total = rows, shape, len(regions)
        self.questions = {
            i: Question(target.exact, target.decision, positions[i], target.n_outputs, regions[i])
            for i in rows
        }
        self.witnesses: dict[int, tuple[Witness, str]] = {}
        self.claims = dict.fromkeys(rows, 0)

    def attacked(self, attacks: Sequence[Named]) -> Iterator[Attacked]:
        """All attacks on the batch."""
        started = time.monotonic()
        for i, question in self.questions.items():
            witness = question.at(question.region.center)
            if witness is not None:
                self.witnesses[i] = (witness, "")
        done = not self._attack(attacks)
        seconds = (time.monotonic() - started) / len(self.rows)
        for i in self.rows:
            witness, by = self.witnesses.get(i, (None, ""))
            yield Attacked(i, witness, by, self.claims[i], seconds, done or witness is not None)

    def _attack(self, attacks: Sequence[Named]) -> bool:
        """The attacks in order, each on what is left; whether it was stopped."""
        for k, named in enumerate(attacks):
            left = [i for i in self.rows if i not in self.witnesses]
            if not left:
                return False
            if self.run.stop():
                return True
            seed = np.random.SeedSequence([self.run.seed, self.rows[0], k]).generate_state(1)
            control = Control.seeded(
                int(seed[0]), self._progress(named.name, k / len(attacks), len(attacks)),
                self.run.stop,
            )  # fmt: skip
            task = self._task(left)
            if k == 0:
                self._check(task)
            points = named.attack.run(task, control)
            self._verify(left, task, points, named.name)
        return self.run.stop() and len(self.witnesses) < len(self.rows)

    def _progress(self, name: str, start: float, count: int) -> Callable[[str, float], None]:
        """What an attack reports, as a fraction of everything."""

        def progress(what: str, fraction: float) -> None:
            share = start + min(1.0, fraction) / count
            whole = (self.rows[0] + share * len(self.rows)) / self.total
            self.run.progress(name, whole)

        return progress

    def _task(self, left: list[int]) -> Task:
        """The task of these inputs."""
        regions = [self.questions[i].region for i in left]

        def tensor(rows: list[np.ndarray]) -> Tensor:
            return torch.tensor(np.stack(rows)).to(self.target.device, self.target.dtype)

        boxes = [r.search_box for r in regions]
        lower, upper = tensor([low for low, _ in boxes]), tensor([high for _, high in boxes])
        x = torch.minimum(torch.maximum(tensor([r.center32 for r in regions]), lower), upper)
        labels = [self.questions[i].position + self.offset for i in left]
        return Task(
            self.classifier, x, torch.tensor(labels).to(x.device), lower, upper,
            nearest(regions[0].size), self.shape, regions[0].span,
        )  # fmt: skip

    def _check(self, task: Task) -> None:
        """Refuse a module that cannot be attacked.

        Raises:
            NetworkError: outputs of another shape, or not finite.
            DataError: a class that they do not have.
        """
        with torch.no_grad():
            z = task.model(task.x)
        if z.ndim != 2 or len(z) != len(task):
            raise NetworkError(
                f"expected outputs of shape ({len(task)}, classes) for {len(task)} inputs, got "
                f"{tuple(z.shape)}"
            )
        if z.shape[1] < 2:
            raise NetworkError("the classifier has one output, and so no other class to reach")
        if not torch.isfinite(z).all():
            raise NetworkError("the classifier's outputs are NaN or infinite at an input")
        low, high = int(task.labels.min()), int(task.labels.max())
        if low < 0 or high >= z.shape[1]:
            wrong = low if low < 0 else high
            raise DataError(f"label {wrong} is not one of the {z.shape[1]} classes of the outputs")

    def _verify(self, left: list[int], task: Task, points: Tensor, name: str) -> None:
        """The exact end: witnesses, and claims that are none."""
        with torch.no_grad():
            z = task.model(points)
            margins = margin(z, task.labels)
            doubtful = (margins <= _DOUBT * (1 + z.abs().amax(1))).cpu().numpy()
            wrong = (margins < 0).cpu().numpy()
        array = points.detach().cpu().numpy().astype(np.float64)
        for row in np.flatnonzero(doubtful | wrong | (not self.target.sure)):
            i = left[row]
            witness = self.questions[i].verified(array[row])
            if witness is not None:
                self.witnesses[i] = (witness, name)
            elif wrong[row]:
                self.claims[i] += 1
