"""Attacks on the bias classifier argmax B_C, or on C itself, each success verified rigorously (T8).

B_C is constant on linear regions, so attacks need another guide (``guides``). What they return is
moved into its exact ball; there the outputs are enclosed by intervals in float64, rounded outwards,
for every activation pattern consistent with the point: ``wrong`` and ``right`` hold whatever
relu'(0) ∈ [0, 1] is, and what the enclosure leaves open is ``undecided``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from torchbridge.attacks.interface import Attack, Classifier, Control, Task, margin
from torchbridge.attacks.regions import LinfBall
from torchbridge.bias_classifier import bias_part, parts
from torchbridge.bias_smoothing import smooth_bias_part
from torchbridge.training.points import Points
from verifier.bounds.bias import bias_bounds, strongly_right, strongly_wrong
from verifier.bounds.interval import interval_bounds
from verifier.core.exact import fractions
from verifier.core.network import Network

RIGHT, WRONG, UNDECIDED = "r", "w", "u"
#: Points whose margin in floats is at most this share of the largest output are looked at exactly.
_DOUBT = 1e-4
#: Points that are attacked at the same time.
_BATCH = 250


@dataclass(frozen=True, eq=False)
class Subject:
    """What is attacked.

    Args:
        module: C, on inputs of ``shape``, in evaluation mode on the processor.
        network: the same, exactly.
        shape: of one input.
        bias: whether argmax B_C is attacked, or argmax C.
    """

    module: nn.Module
    network: Network
    shape: tuple[int, ...]
    bias: bool

    def flat(self, model: Classifier) -> Classifier:
        """A classifier on rows (n, d)."""
        return lambda x: model(x.reshape(len(x), *self.shape))

    @property
    def whole(self) -> Classifier:
        """C on rows."""
        return self.flat(self.module)

    @property
    def classifier(self) -> Classifier:
        """What is attacked, on rows, as Torch computes it."""
        return self.flat(bias_part(self.module)) if self.bias else self.whole

    def state(self, x: np.ndarray, label: int) -> str:
        """``RIGHT``, ``WRONG`` or ``UNDECIDED`` at a point (d,) of floats: rigorous."""
        x = x.astype(np.float64)
        bounds = (
            bias_bounds(self.network, x, x)
            if self.bias
            else interval_bounds(self.network, x, x)[-1]
        )
        if strongly_right(bounds, label):
            return RIGHT
        return WRONG if strongly_wrong(bounds, label) else UNDECIDED


@dataclass(frozen=True, eq=False)
class Inputs:
    """Points to attack.

    Args:
        x: (n, d) float32; these numbers are the middles of the balls.
        labels: (n,) int64.
        planes: (channels, rows, columns) of one, (1, 1, d) if it is no picture.
        clip: lowest and highest value of a coordinate, or None.
    """

    x: Tensor
    labels: Tensor
    planes: tuple[int, int, int]
    clip: tuple[Fraction, Fraction] | None

    def __len__(self) -> int:
        return len(self.x)

    def batches(self) -> tuple[Tensor, ...]:
        """Rows of points that are attacked at the same time; none if there are no points."""
        return torch.split(torch.arange(len(self)), _BATCH) if len(self) else ()

    def rows(self, index: Tensor) -> Inputs:
        """Some of the points."""
        return Inputs(self.x[index], self.labels[index], self.planes, self.clip)

    def right(self, subject: Subject) -> list[bool]:
        """Where the subject is right, as Torch computes it."""
        found: list[bool] = []
        with torch.no_grad():
            for rows in self.batches():
                z = subject.classifier(self.x[rows])
                found += (margin(z, self.labels[rows]) > 0).tolist()
        return found

    def picked(self, rows: list[int]) -> Inputs:
        """Some of the points."""
        return self.rows(torch.tensor(rows, dtype=torch.int64))

    def ball(self, row: int, size: Fraction) -> LinfBall:
        """The exact ball around a point."""
        return LinfBall(fractions(self.x[row].double().numpy()), size, self.clip)

    def task(self, model: Classifier, size: Fraction) -> Task:
        """A task whose box is the ball's up to the rounding of its faces."""
        low, high = self.x - float(size), self.x + float(size)
        if self.clip is not None:
            ends = [float(end) for end in self.clip]
            low, high = low.clamp(*ends), high.clamp(*ends)
        return Task(model, self.x, self.labels, low, high, float(size), self.planes)


def clean_states(subject: Subject, inputs: Inputs, progress: Callable[[str, float], None]) -> str:
    """What the subject is at the points themselves, a letter each; rigorous."""
    found = []
    for row, (x, label) in enumerate(zip(inputs.x.numpy(), inputs.labels.tolist(), strict=True)):
        found.append(subject.state(x, label))
        progress("points themselves", (row + 1) / len(inputs))
    return "".join(found)


def attack_states(
    subject: Subject, attack: Attack, inputs: Inputs, size: Fraction, control: Control
) -> str:
    """What the subject is at the points that an attack returns, a letter each.

    ``WRONG`` is rigorous, and the point lies in its ball exactly. ``RIGHT`` says that the attack
    has failed: that point's margin in floats is clearly positive, or it is proved right.

    Args:
        subject: what is attacked.
        attack: of the norm ℓ∞.
        inputs: where.
        size: radius of the balls.
        control: see there.
    """
    states: list[str] = []
    for rows in inputs.batches():
        part = inputs.rows(rows)
        task = part.task(subject.classifier, size)
        share = _Share(control, len(states) / len(inputs), len(part) / len(inputs))
        points = attack.run(task, Control(control.generator, share, control.stop))
        with torch.no_grad():
            z = task.model(points)
        doubtful = margin(z, part.labels) <= _DOUBT * (1 + z.abs().amax(1))
        array = points.detach().numpy()
        for row, look in enumerate(doubtful.tolist()):
            point = part.ball(row, size).inward(array[row]) if look else None
            if point is None:
                states.append(RIGHT)
                continue
            exact = np.array([float(v) for v in point])
            states.append(subject.state(exact, int(part.labels[row])))
    return "".join(states)


@torch.no_grad()
def measured_wrong(
    subject: Subject, attack: Attack, inputs: Inputs, size: Fraction, control: Control
) -> int:
    """At how many points that an attack returns the subject is wrong, as Torch computes it."""
    count = 0
    for rows in inputs.batches():
        part = inputs.rows(rows)
        task = part.task(subject.classifier, size)
        count += int((margin(task.model(attack.run(task, control)), part.labels) <= 0).sum())
    return count


@dataclass(frozen=True, eq=False)
class _Share:
    """Progress of one batch as a share of all work."""

    control: Control
    start: float
    length: float

    def __call__(self, what: str, fraction: float) -> None:
        self.control.progress(what, self.start + self.length * min(1.0, max(0.0, fraction)))


def first_degree_guides(subject: Subject) -> tuple[Classifier, ...]:
    """W_C and −W_C on rows: C = W_C + B_C, so B_C may fall where either does."""

    def part(x: Tensor) -> Tensor:
        return parts(subject.module, x).first_degree

    return subject.flat(part), subject.flat(lambda x: -part(x))


def smooth_guides(subject: Subject, taus: tuple[float, ...]) -> tuple[Classifier, ...]:
    """B_τ on rows, for each τ."""
    return tuple(subject.flat(smooth_bias_part(subject.module, tau)) for tau in taus)


def inputs_of(points: Points, count: int) -> Inputs:
    """The first points of a set; balls are cut to its range if it has one."""
    rows = torch.arange(count)
    shape = points.shape
    planes = (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, points.codes.shape[1])
    low, high = points.span
    clip = (Fraction(low), Fraction(high)) if np.isfinite(points.span).all() else None
    return Inputs(
        points.inputs(rows, torch.device("cpu")).reshape(count, -1),
        points.classes(rows, torch.device("cpu")), planes, clip,
    )  # fmt: skip
