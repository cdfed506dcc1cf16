"""``relucid experiment``: one of the tables that set training and attacks beside what is proved."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from relucid.device import device_option
from relucid.options import MAX_THREADS, OUTPUT, POINTS, SEARCH, Json, Seed, require_seconds
from relucid.train import ArchitectureName

RUN = "Run"


class ExperimentName(StrEnum):
    """The experiments; ``relucid.experiments.catalogue`` has their modules."""

    bias_parts = "bias-parts"
    game = "game"
    trade_off = "trade-off"
    gap = "gap"
    few_pixels = "few-pixels"
    bias_verified = "bias-verified"
    bias_safety = "bias-safety"
    parameter_attack = "parameter-attack"
    bias_attacks = "bias-attacks"


def experiment(
    name: Annotated[ExperimentName, typer.Argument(help="Which table.", metavar="NAME")],
    data: Annotated[
        str,
        typer.Option(
            metavar="SET",
            help="What to learn: digits, a folder of IDX or CIFAR files, an NPZ or CSV.",
            rich_help_panel=POINTS,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The folder for NAME.md, NAME.csv and NAME.png, and for steps that are finished.",
            rich_help_panel=OUTPUT,
        ),
    ],
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="What to measure on; by default the test part of --data.",
            rich_help_panel=POINTS,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="At most so many points are attacked or decided.", rich_help_panel=POINTS
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="The folder of trained models; OUT/models.", rich_help_panel=RUN),
    ] = None,
    architecture: Annotated[
        ArchitectureName | None,
        typer.Option(help="The network, instead of the experiment's.", rich_help_panel=RUN),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Of training, instead of each recipe's.", rich_help_panel=RUN),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds for each exact decision.", rich_help_panel=SEARCH)
    ] = 20.0,
    seed: Seed = 0,
    device: Annotated[str, device_option(RUN)] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_THREADS, help="Threads on the processor.", rich_help_panel=RUN),
    ] = None,
    json_output: Json = False,
) -> None:
    """Train, attack and prove for one table; writes CSV, PNG and Markdown, and goes on if stopped.

    bias-parts: accuracy of a network's first-degree part, of its bias part and of itself, after
    normal, adversarial and bias-adversarial training.

    game: accuracy and adversarial accuracy, with and without adversarial training, at two radii,
    under attack and with exact bounds; values of the Stackelberg game.

    trade-off: accuracy against adversarial accuracy over the radius of training.

    gap: accuracy under attack ≥ exact adversarial accuracy ≥ certified accuracy.

    few-pixels: how often a chosen class is reached, and by how many pixels (JSMA); how often one,
    three or five pixels change the answer.

    bias-verified: the bias part on whole balls: right under attack, not refuted, proved.

    bias-safety: attacks along a gradient that a random matrix hides, beside random signs.

    parameter-attack: what is left of robustness when every number of a network may change a little,
    by an exact construction and by gradients.

    bias-attacks: how often random directions create adversaries of the bias classifier, and what
    white-box, black-box and safe-direction attacks reach, at three radii.
    """
    require_seconds(timeout)
    from torchbridge.installed import require_torch

    require_torch("relucid experiment")
    from relucid.experiments.running import Order, run

    order = Order(
        str(name), data, held_out, out, models or out / "models", limit,
        None if architecture is None else str(architecture), epochs, timeout, seed, device,
        threads, json_output,
    )  # fmt: skip
    run(order)
