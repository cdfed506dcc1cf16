"""``relucid radius``: how far around a point a classifier keeps its answer, from both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relucid.certify import Center, Outputs
from relucid.numbers import rational

_POINTS = "Which points"
_SEARCH = "Search"
_OUTPUT = "Output"


def radius(
    model: Annotated[str, typer.Argument(help="An ONNX file, or a bundled model's name.")],
    data: Annotated[
        str,
        typer.Option(
            help="A data set: digits, a folder of IDX or CIFAR files, an NPZ or CSV; "
            "SET:train, SET:test or SET:all chooses a part (test if it has one).",
            rich_help_panel=_POINTS,
        ),
    ],
    index: Annotated[
        int | None, typer.Option(min=0, help="Only this point.", rich_help_panel=_POINTS)
    ] = None,
    start: Annotated[
        int, typer.Option(min=0, help="The first point.", rich_help_panel=_POINTS)
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many points.", rich_help_panel=_POINTS)
    ] = None,
    clip: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Lowest and highest value a coordinate can have "
            "(0 1 by default for pictures with values in [0, 1], else none).",
            rich_help_panel=_POINTS,
        ),
    ] = None,
    no_clip: Annotated[
        bool, typer.Option("--no-clip", help="Do not cut the balls.", rich_help_panel=_POINTS)
    ] = False,
    center: Annotated[
        Center,
        typer.Option(
            help="The middle is the float32 nearest to the data's value, or the exact value.",
            rich_help_panel=_POINTS,
        ),
    ] = Center.float32,
    outputs: Annotated[
        Outputs | None,
        typer.Option(
            help="What the outputs mean; by default what the file says, else argmax.",
            rich_help_panel=_POINTS,
        ),
    ] = None,
    gap: Annotated[
        str,
        typer.Option(
            help="Stop when (refuted − proved) / refuted is at most this.", rich_help_panel=_SEARCH
        ),
    ] = "1e-3",
    timeout: Annotated[
        float, typer.Option(help="Seconds for one point.", rich_help_panel=_SEARCH)
    ] = 60.0,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of everything random.", rich_help_panel=_SEARCH)
    ] = 0,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_OUTPUT)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Also write the results to a .json or .csv file.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    counterexample: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the nearest counterexamples in VNN-COMP form, INDEX.txt for each.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Write a PNG of one point and its nearest counterexample.", rich_help_panel=_OUTPUT
        ),
    ] = None,
) -> None:
    """Find the largest proved and the smallest refuted ℓ∞ radius around points of a data set."""
    if index is not None and (start or limit is not None):
        raise typer.BadParameter("--index chooses one point; --start and --limit choose several")
    if no_clip and clip is not None:
        raise typer.BadParameter("--clip and --no-clip exclude each other")
    if not timeout > 0:
        raise typer.BadParameter(f"--timeout must be a positive number of seconds, got {timeout}")
    narrow = rational(gap, "--gap")
    if not 0 < narrow < 1:
        raise typer.BadParameter(f"--gap must lie between 0 and 1, got {gap}")
    interval = None if clip is None else (rational(clip[0], "--clip"), rational(clip[1], "--clip"))
    if interval is not None and interval[0] > interval[1]:
        raise typer.BadParameter(f"--clip needs LOW <= HIGH, got {interval[0]} {interval[1]}")
    # Loading the engines takes half a second, which --help and a wrong option need not wait for.
    from fractions import Fraction

    from relucid.certification import Samples, Targets
    from relucid.radii import Effort, find_radii
    from verifier.core.decision import Rule

    rule = None if outputs is None else Rule(outputs)
    samples = Samples(
        data, Fraction(0), interval, not no_clip, center is Center.exact, index, start, limit, rule
    )
    targets = Targets(out, counterexample, picture, json_output)
    find_radii(model, samples, Effort(timeout, narrow, seed), targets)
