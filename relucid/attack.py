"""``relucid attack``: what gradients and queries find, each success verified exactly."""

from __future__ import annotations

import math
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from relucid.device import device_option
from relucid.numbers import rational
from relucid.options import (
    OUTPUT,
    POINTS,
    SEARCH,
    Center,
    CenterOption,
    Clip,
    Eps,
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


class Method(StrEnum):
    """How to attack."""

    fgsm = "fgsm"
    pgd = "pgd"
    apgd = "apgd"
    cw = "cw"
    cw_l2 = "cw-l2"
    fab = "fab"
    square = "square"
    transfer = "transfer"
    auto = "auto"
    one_pixel = "one-pixel"
    jsma = "jsma"

    @property
    def counts_pixels(self) -> bool:
        """Whether the size of a change is a number of pixels."""
        return self in (Method.one_pixel, Method.jsma)


def attack(
    model: ModelName,
    data: SetName,
    eps: Eps = None,
    pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many pixels may change, by any amount (one-pixel, jsma).",
            rich_help_panel=POINTS,
        ),
    ] = None,
    index: Index = None,
    start: Start = 0,
    limit: Limit = None,
    clip: Clip = None,
    no_clip: NoClip = False,
    center: CenterOption = Center.float32,
    outputs: OutputsOption = None,
    method: Annotated[Method, typer.Option(help="How to attack.", rich_help_panel=SEARCH)] = (
        Method.pgd
    ),
    steps: Annotated[
        int | None, typer.Option(min=1, help="Gradient steps of a start.", rich_help_panel=SEARCH)
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(min=1, help="Starts.", rich_help_panel=SEARCH)
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1, help="Evaluations of a point without gradients.", rich_help_panel=SEARCH
        ),
    ] = None,
    surrogate: Annotated[
        str | None,
        typer.Option(
            help="transfer: the model whose gradients are used; by default one is trained on the "
            "target's answers on the set's training part.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds for all points; inf for no limit.", rich_help_panel=SEARCH),
    ] = math.inf,
    device: Annotated[str, device_option(SEARCH)] = "auto",
    seed: Seed = 0,
    json_output: Json = False,
    out: Out = None,
    counterexample: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the successes in VNN-COMP form, INDEX.txt for each.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Write a PNG of the first successes.", rich_help_panel=OUTPUT),
    ] = None,
) -> None:
    """Attack a classifier on the points of a data set; every success is verified exactly."""
    require_seconds(timeout)
    samples = choose_samples(
        data,
        _size(method, eps, pixels),
        clip,
        no_clip,
        index=index,
        start=start,
        limit=limit,
        center=center,
        outputs=outputs,
    )
    if surrogate is not None and method is not Method.transfer:
        raise typer.BadParameter(f"--surrogate goes with --method transfer, not {method}")
    # Loading Torch takes a second, which --help and a wrong option need not wait for.
    from torchbridge.installed import require_torch

    require_torch("relucid attack")
    from relucid.attacking import Plan, attack_data
    from relucid.certification import Targets
    from torchbridge.attacks.methods import Effort

    plan = Plan(str(method), Effort(steps, restarts, queries), seed, timeout, surrogate, device)
    attack_data(model, samples, plan, Targets(out, counterexample, picture, json_output))


def _size(method: Method, eps: str | None, pixels: int | None) -> Fraction:
    """The radius or the number of pixels, whichever the method takes.

    Raises:
        typer.BadParameter: the other one was given, none, or a negative radius.
    """
    if method.counts_pixels:
        if eps is not None:
            raise typer.BadParameter(
                f"--method {method} changes --pixels N by any amount, no --eps"
            )
        return Fraction(1 if pixels is None else pixels)
    if pixels is not None:
        raise typer.BadParameter(f"--method {method} takes --eps E, no --pixels")
    if eps is None:
        raise typer.BadParameter(f"--method {method} needs --eps")
    radius = rational(eps, "--eps")
    if radius < 0:
        raise typer.BadParameter(f"--eps must be at least 0, got {eps}")
    return radius
