"""Accuracies of the first-degree part W_C, the bias part B_C and C, after three trainings (T8)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import Any

from relucid.experiments.findings import Cell, Findings, Table, bars
from relucid.experiments.workshop import Trained, Workshop
from torchbridge.bias_classifier import correct
from torchbridge.training.architectures import Module
from torchbridge.training.objectives import Adversarial, Ascent, BiasAdversarial
from torchbridge.training.points import Points

#: The slides' figures on MNIST with LeNet-5: W_C, B_C, C.
SLIDES = {
    "normal": ("98.80", "15.62", "99.09"),
    "adversarial": ("90.61", "98.77", "99.19"),
    "bias-adversarial": ("0.28", "99.09", "99.43"),
}
EPS = 0.1
#: Shorter than the recipes: attacks within training are of three steps, or of one.
_CHANGES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "normal": {},
        "adversarial": {"objective": Adversarial(Ascent(3, 0.5)), "epochs": 20},
        "bias-adversarial": {
            "objective": BiasAdversarial(Ascent(1, 1.25)),
            "epochs": 15,
            "rate": 3e-3,
        },
    }
)
_HEADS = (
    "training", "W_C", "B_C", "C", "slides' W_C", "slides' B_C", "slides' C", "epochs", "seconds",
)  # fmt: skip


def run(shop: Workshop) -> Findings:
    """Train LeNet-5, or another network, in the three ways and count.

    Raises:
        DataError: the points are no pictures that LeNet-5 takes.
        OSError: a folder cannot be written to.
    """
    rows: list[tuple[Cell, ...]] = []
    total = len(shop.data.held_out)
    for name, slides in SLIDES.items():
        model = training(shop, name)
        points = shop.data.held_out_points
        counts = shop.remembered(
            f"parts-{name}", model.path.name, partial(_counted, model.module, points)
        )["correct"]
        whole, first_degree, bias = (Fraction(c, total) for c in counts)
        theirs = [Fraction(figure) / 100 for figure in slides]
        rows.append(
            (name, first_degree, bias, whole, *theirs, model.recipe.epochs, round(model.seconds))
        )
    groups = [str(row[0]) for row in rows]
    series = {head: [row[k] for row in rows] for k, head in enumerate(_HEADS[1:7], 1)}
    used = model.recipe.architecture
    title = f"{used} on {shop.data.held_out.name}: the parts of a network as classifiers"
    return Findings(
        title,
        (Table("Accuracy on the held-out points", _HEADS, tuple(rows)),),
        (
            f"{total} held-out points; robust trainings at ℓ∞ radius {EPS:g}: the adversarial one "
            "with attacks of three steps; the bias-adversarial one minimises CE(B_C(x′), y) + "
            "CE(C(x′), y), with x′ found by one step along the gradient of the second term. The "
            "slides' figures are for MNIST and LeNet-5. Counted by Torch in float32; C(x) = "
            "W_C(x) + B_C(x), W_C(x) = J_C(x)x.",
        ),
        {"": bars(groups, series, title, "accuracy")},  # type: ignore[arg-type]
    )


def training(shop: Workshop, name: str) -> Trained:
    """The model of one of ``SLIDES``.

    Raises:
        DataError: the points are no pictures that the network takes.
        OSError: the folder of models cannot be written to.
    """
    return shop.trained(name, architecture="lenet5", eps=EPS, **_CHANGES[name])


def _counted(module: Module, points: Points) -> dict[str, Any]:
    """The three numbers of points, for a step."""
    return {"correct": correct(module, points)}
