"""Options that several commands share: what they are called, what they mean, what is refused."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relucid.numbers import rational

if TYPE_CHECKING:
    from relucid.certification import Samples

POINTS = "Points of a data set"
SEARCH = "Search"
OUTPUT = "Output"


class Center(StrEnum):
    """What the middle of a ball is."""

    float32 = "float32"
    exact = "exact"


class Outputs(StrEnum):
    """What is read from a model's outputs."""

    argmax = "argmax"
    label = "label"
    sign = "sign"


_SET = typer.Option(
    help="A data set: digits, a folder of IDX or CIFAR files, an NPZ or CSV; "
    "SET:train, SET:test or SET:all chooses a part (test if it has one).",
    rich_help_panel=POINTS,
)

ModelName = Annotated[str, typer.Argument(help="An ONNX file, or a bundled model's name.")]

SetName = Annotated[str, _SET]
OptionalSetName = Annotated[str | None, _SET]
Eps = Annotated[
    str | None,
    typer.Option(help="ℓ∞ radius, as 0.03 or 8/255, meant exactly.", rich_help_panel=POINTS),
]
Index = Annotated[int | None, typer.Option(min=0, help="Only this point.", rich_help_panel=POINTS)]
Start = Annotated[int, typer.Option(min=0, help="The first point.", rich_help_panel=POINTS)]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most so many points.", rich_help_panel=POINTS)
]
Clip = Annotated[
    tuple[str, str] | None,
    typer.Option(
        help="Lowest and highest value a coordinate can have "
        "(0 1 by default for pictures with values in [0, 1], else none).",
        rich_help_panel=POINTS,
    ),
]
NoClip = Annotated[
    bool, typer.Option("--no-clip", help="Do not cut the balls.", rich_help_panel=POINTS)
]
CenterOption = Annotated[
    Center,
    typer.Option(
        help="The middle of the ball is the float32 nearest to the data's value, "
        "which is what a deployed model is fed, or the exact value, such as p/255.",
        rich_help_panel=POINTS,
    ),
]
OutputsOption = Annotated[
    Outputs | None,
    typer.Option(
        help="What the outputs mean: the largest one wins, one output is the label 1, 2, … of "
        "the classes that occur, or the sign of one output tells the first from the second. "
        "By default what the file says (relucid build writes it), else argmax.",
        rich_help_panel=POINTS,
    ),
]

#: Torch does not survive it if the system refuses it a thread.
MAX_THREADS = 256
#: A thousand times this still is a seed for Torch, and every JSON reader keeps it.
MAX_SEED = 2**53
Seed = Annotated[
    int,
    typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.", rich_help_panel=SEARCH),
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=OUTPUT)]
Out = Annotated[
    Path | None,
    typer.Option(help="Also write the results to a .json or .csv file.", rich_help_panel=OUTPUT),
]


def require_seconds(timeout: float) -> None:
    """Refuse a time limit that is none (0, negative, not a number).

    Raises:
        typer.BadParameter: it is.
    """
    if not timeout > 0:
        raise typer.BadParameter(f"--timeout must be a positive number of seconds, got {timeout}")


def choose_samples(
    data: str,
    radius: Fraction,
    clip: tuple[str, str] | None,
    no_clip: bool,
    *,
    index: int | None = None,
    start: int = 0,
    limit: int | None = None,
    center: Center = Center.float32,
    outputs: Outputs | None = None,
) -> Samples:
    """The balls that the options name.

    Raises:
        typer.BadParameter: options exclude each other, or ``--clip`` is no interval.
    """
    if index is not None and (start or limit is not None):
        raise typer.BadParameter("--index chooses one point; --start and --limit choose several")
    if no_clip and clip is not None:
        raise typer.BadParameter("--clip and --no-clip exclude each other")
    interval = None if clip is None else (rational(clip[0], "--clip"), rational(clip[1], "--clip"))
    if interval is not None and interval[0] > interval[1]:
        raise typer.BadParameter(f"--clip needs LOW <= HIGH, got {interval[0]} {interval[1]}")
    # Loading the engines takes time, which --help and a wrong option need not wait for.
    from relucid.certification import Samples
    from verifier.core.decision import Rule

    rule = None if outputs is None else Rule(outputs)
    return Samples(
        data, radius, interval, not no_clip, center is Center.exact, index, start, limit, rule
    )
