"""``relucid build``: a data set becomes a network that is robust on it by theorem."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from relucid.numbers import rational


class Name(StrEnum):
    """What can be built."""

    optimal_robust = "optimal-robust"
    class_sum = "class-sum"
    blocks = "blocks"
    shallow = "shallow"
    compact = "compact"
    compact_nearest = "compact-nearest"
    bias = "bias"
    depth_two = "depth-two"
    lipschitz = "lipschitz"
    lipschitz_multiclass = "lipschitz-multiclass"
    nearest_class = "nearest-class"
    memorize_depth2 = "memorize-depth2"
    memorize_sqrt = "memorize-sqrt"


_EVERY_RADIUS = (Name.lipschitz, Name.lipschitz_multiclass, Name.nearest_class)
_POINTS_ONLY = (Name.memorize_depth2, Name.memorize_sqrt)


def build(
    construction: Annotated[Name, typer.Argument(help="Which theorem.", metavar="CONSTRUCTION")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="digits, a folder of IDX or CIFAR files, an NPZ or CSV; "
            "SET:train, SET:test or SET:all chooses a part (all by default).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The ONNX file to write; without it, only sizes and claims."),
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option(
            help="Radius as a share of λ/2 (of the critical radius for depth-two), at least 0 and "
            "below 1 (0.99 by default)."
        ),
    ] = None,
    mu: Annotated[
        str | None, typer.Option(help="Radius itself, as 0.2 or 7/40, meant exactly.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(min=1, help="blocks only: no layer wider than this; as many samples a layer."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many points.")] = None,
    prove: Annotated[
        bool | None,
        typer.Option(
            "--prove/--no-prove",
            help="Let the verifier prove the ball around every point, by one interval pass "
            "(by default if that takes seconds).",
        ),
    ] = None,
    scan: Annotated[
        bool,
        typer.Option(
            "--scan",
            help="optimal-robust only: one ONNX Scan over the points instead of 2N+1 layers, "
            "which holds sets of any size.",
        ),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build a network, write it, read it back, and check what its theorem promises.

    optimal-robust: running maximum, width 3d+1, depth 2N+1.  class-sum: width 3d+2, depth 2N+2.
    blocks: between class-sum and shallow.  shallow: depth 4.  All four give the label 1..m on every
    ball of a radius below λ/2.  compact: depth 4, boxes instead of samples; with --ratio they serve
    every radius below λ/2, with --mu only that one, and are larger.  compact-nearest: the class of
    the nearest box, an answer everywhere.  bias: depth 4, one output a class, which is also the
    largest coordinate of the bias part.  depth-two: depth 2, at every radius below the exact
    critical one, or the proof that no depth-2 network does it.  lipschitz: two classes, slope 2/λ,
    one network for every radius.  lipschitz-multiclass, also called nearest-class: the nearest
    class, every output 1-Lipschitz.  memorize-depth2, memorize-sqrt: right on the points only, with
    depth 2 and width N-1, or width 11, depth ~ sqrt(N) and integers of so many bits that an ONNX
    file holds them for small sets only.
    """
    _require_options(construction, ratio, mu, width, scan)
    share = _share(ratio)
    radius = None if mu is None else rational(mu, "--mu")
    # Loading the compiled search takes a second, which --help need not wait for.
    from relucid import building, building_scan

    request = building.Request(str(construction), data, out, share, radius, width, limit, prove)
    (building_scan if scan else building).run(request, json_output)


def _require_options(
    construction: Name, ratio: str | None, mu: str | None, width: int | None, scan: bool
) -> None:
    """Refuse options that do not go together.

    Raises:
        typer.BadParameter: which ones.
    """
    if ratio is not None and mu is not None:
        raise typer.BadParameter("--ratio and --mu exclude each other")
    if construction in _EVERY_RADIUS and (ratio is not None or mu is not None):
        raise typer.BadParameter(f"{construction} serves every radius; leave out --ratio and --mu")
    if construction in _POINTS_ONLY and (ratio is not None or mu is not None):
        raise typer.BadParameter(
            f"{construction} is right on the points only; leave out --ratio and --mu"
        )
    if (construction is Name.blocks) != (width is not None):
        raise typer.BadParameter("--width goes with blocks, and blocks needs it")
    if scan and construction is not Name.optimal_robust:
        raise typer.BadParameter("--scan goes with optimal-robust")


def _share(ratio: str | None) -> Fraction | None:
    """The radius as a share of λ/2.

    Raises:
        typer.BadParameter: no number at least 0 and below 1.
    """
    share = None if ratio is None else rational(ratio, "--ratio")
    if share is not None and not 0 <= share < 1:
        raise typer.BadParameter(
            f"--ratio must be at least 0 and below 1, got {ratio}: at λ/2 two balls meet"
        )
    return share
