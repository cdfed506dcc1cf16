"""``relucid radius``: how far around a point a classifier keeps its answer, from both sides."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from relucid.numbers import rational
from relucid.options import (
    OUTPUT,
    SEARCH,
    Center,
    CenterOption,
    Clip,
    Index,
    Json,
    Limit,
    ModelName,
    NoClip,
    Out,
    OutputsOption,
    Seed,
    SetName,
    Start,
    choose_samples,
    require_seconds,
)


def radius(
    model: ModelName,
    data: SetName,
    index: Index = None,
    start: Start = 0,
    limit: Limit = None,
    clip: Clip = None,
    no_clip: NoClip = False,
    center: CenterOption = Center.float32,
    outputs: OutputsOption = None,
    gap: Annotated[
        str,
        typer.Option(
            help="Stop when (refuted − proved) / refuted is at most this.", rich_help_panel=SEARCH
        ),
    ] = "1e-3",
    timeout: Annotated[
        float, typer.Option(help="Seconds for one point.", rich_help_panel=SEARCH)
    ] = 60.0,
    seed: Seed = 0,
    json_output: Json = False,
    out: Out = None,
    counterexample: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the nearest counterexamples in VNN-COMP form, INDEX.txt for each.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Write a PNG of one point and its nearest counterexample.", rich_help_panel=OUTPUT
        ),
    ] = None,
) -> None:
    """Find the largest proved and the smallest refuted ℓ∞ radius around points of a data set."""
    require_seconds(timeout)
    narrow = rational(gap, "--gap")
    if not 0 < narrow < 1:
        raise typer.BadParameter(f"--gap must lie between 0 and 1, got {gap}")
    samples = choose_samples(
        data,
        Fraction(0),
        clip,
        no_clip,
        index=index,
        start=start,
        limit=limit,
        center=center,
        outputs=outputs,
    )
    # Loading the engines takes half a second, which --help and a wrong option need not wait for.
    from relucid.certification import Targets
    from relucid.radii import Effort, find_radii

    targets = Targets(out, counterexample, picture, json_output)
    find_radii(model, samples, Effort(timeout, narrow, seed), targets)
