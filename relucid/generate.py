"""``relucid generate``: sets of verification instances whose answers are known."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from relucid.options import MAX_THREADS, OUTPUT, Json, Seed


class FamilyName(StrEnum):
    """The families; ``relucid.generating.catalogue`` has their modules."""

    hidden = "hidden"


def generate(
    family: Annotated[FamilyName, typer.Argument(help="Which kind.", metavar="FAMILY")],
    out: Annotated[
        Path,
        typer.Option(
            help="The folder for onnx/, vnnlib/, instances.csv and ground_truth.csv.",
            rich_help_panel=OUTPUT,
        ),
    ],
    count: Annotated[int, typer.Option(min=1, help="How many networks.")] = 10,
    seed: Seed = 0,
    difficulty: Annotated[
        str | None, typer.Option(help="A name of the family's; easy by default.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting of the difficulty."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Threads on the processor.")
    ] = 1,
    json_output: Json = False,
) -> None:
    """Write instances for verifiers, with their true answers; an interrupted run goes on.

    hidden: small networks trained so that a known point of a box is a counterexample which attacks
    do not find (sat), and boxes of the same networks with a checked proof (unsat).
    """
    from torchbridge.installed import require_torch

    require_torch("relucid generate")
    from relucid.generating.running import Order
    from relucid.generating.running import generate as run
    from torchbridge.hardware import use_threads

    use_threads(threads)
    run(Order(str(family), out, count, seed, difficulty, tuple(changes or ()), json_output))
