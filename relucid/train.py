"""``relucid train``: a classifier by one of several recipes, resumable, written as ONNX."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from relucid.device import device_option
from relucid.numbers import nearest, rational
from relucid.options import MAX_SEED, MAX_THREADS, Json

RUN = "Run"
CHANGES = "Changes to the recipe"


class RecipeName(StrEnum):
    """The recipes; ``torchbridge.training.recipe`` says what they are."""

    normal = "normal"
    adversarial = "adversarial"
    adversarial_fast = "adversarial-fast"
    adversarial_cw = "adversarial-cw"
    trades = "trades"
    bias_adversarial = "bias-adversarial"
    certified = "certified"
    certified_backward = "certified-backward"


class ArchitectureName(StrEnum):
    """The architectures; ``torchbridge.training.architectures`` builds them."""

    mlp = "mlp"
    small_cnn = "small-cnn"
    lenet5 = "lenet5"
    resnet18 = "resnet18"
    vgg16 = "vgg16"


def train(
    recipe: Annotated[RecipeName, typer.Argument(help="How to train.", metavar="RECIPE")],
    data: Annotated[
        str,
        typer.Option(
            metavar="SET",
            help="What to learn: digits, a folder of IDX or CIFAR files, an NPZ or CSV; its "
            "training part if it has one.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The ONNX file to write; FILE.checkpoint is kept until then.")
    ],
    held_out: Annotated[
        str | None,
        typer.Option(metavar="SET", help="What to measure on; by default the test part of --data."),
    ] = None,
    architecture: Annotated[
        ArchitectureName | None, typer.Option(help="The network.", rich_help_panel=CHANGES)
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="ℓ∞ radius of robust recipes, as 0.03 or 8/255.", rich_help_panel=CHANGES
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data.", rich_help_panel=CHANGES)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Points a step.", rich_help_panel=CHANGES)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Largest step size.", rich_help_panel=CHANGES)
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Mirror and move pictures at random.",
            rich_help_panel=CHANGES,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=MAX_SEED, help="Of weights, order and attacks.", rich_help_panel=CHANGES
        ),
    ] = 0,
    device: Annotated[str, device_option(RUN)] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_THREADS, help="Threads on the processor.", rich_help_panel=RUN),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Begin anew, whatever checkpoint there is.", rich_help_panel=RUN
        ),
    ] = False,
    curves: Annotated[
        Path | None, typer.Option(help="Write a PNG of loss and accuracies over the epochs.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Train a classifier; an interrupted run goes on where it stopped."""
    radius = None if eps is None else nearest(rational(eps, "--eps"))
    # Loading Torch takes a second, which --help and a wrong option need not wait for.
    from torchbridge.installed import require_torch

    require_torch("relucid train")
    from relucid.training import Place, train_model

    changes = {
        "architecture": None if architecture is None else str(architecture),
        "eps": radius, "epochs": epochs, "batch": batch, "rate": rate, "flip": flip, "seed": seed,
    }  # fmt: skip
    place = Place(out, curves, device, threads, restart, json_output)
    train_model(str(recipe), changes, data, held_out, place)
