"""``relucid certify``: one property, or the points of a data set."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from relucid.numbers import rational


class Engine(StrEnum):
    """How to decide."""

    auto = "auto"
    bab = "bab"
    milp = "milp"
    lp = "lp"
    interval = "interval"


class Solver(StrEnum):
    """Which solver the milp engine calls."""

    highs = "highs"
    cbc = "cbc"
    scip = "scip"
    gurobi = "gurobi"


class Center(StrEnum):
    """What the middle of a ball is."""

    float32 = "float32"
    exact = "exact"


class Outputs(StrEnum):
    """What is read from a model's outputs."""

    argmax = "argmax"
    label = "label"
    sign = "sign"


_PROPERTY = "One property"
_DATA = "A data set"
_SEARCH = "Search"
_OUTPUT = "Output"


def certify(
    model: Annotated[str, typer.Argument(help="An ONNX file, or a bundled model's name.")],
    property_file: Annotated[
        Path | None,
        typer.Option(
            "--property", help="A VNN-LIB 1.0 or 2.0 file, gzip or not.", rich_help_panel=_PROPERTY
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A data set: digits, a folder of IDX or CIFAR files, an NPZ or CSV; "
            "SET:train, SET:test or SET:all chooses a part (test if it has one).",
            rich_help_panel=_DATA,
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="ℓ∞ radius, as 0.03 or 8/255, meant exactly.", rich_help_panel=_DATA),
    ] = None,
    index: Annotated[
        int | None, typer.Option(min=0, help="Only this point.", rich_help_panel=_DATA)
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="The first point.", rich_help_panel=_DATA)] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many points.", rich_help_panel=_DATA)
    ] = None,
    clip: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Lowest and highest value a coordinate can have "
            "(0 1 by default for pictures with values in [0, 1], else none).",
            rich_help_panel=_DATA,
        ),
    ] = None,
    no_clip: Annotated[
        bool, typer.Option("--no-clip", help="Do not cut the balls.", rich_help_panel=_DATA)
    ] = False,
    center: Annotated[
        Center,
        typer.Option(
            help="The middle of the ball is the float32 nearest to the data's value, "
            "which is what a deployed model is fed, or the exact value, such as p/255.",
            rich_help_panel=_DATA,
        ),
    ] = Center.float32,
    outputs: Annotated[
        Outputs | None,
        typer.Option(
            help="What the outputs mean: the largest one wins, one output is the label 1, 2, … of "
            "the classes that occur, or the sign of one output tells the first from the second. "
            "By default what the file says (relucid build writes it), else argmax.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds for one property (loading included) or one point.",
            rich_help_panel=_SEARCH,
        ),
    ] = 60.0,
    engine: Annotated[
        Engine,
        typer.Option(
            help="lp and interval are incomplete: they prove, or mostly do not know.",
            rich_help_panel=_SEARCH,
        ),
    ] = Engine.auto,
    solver: Annotated[
        Solver, typer.Option(help="Solver of the milp engine.", rich_help_panel=_SEARCH)
    ] = Solver.highs,
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
            help="Where to write a witness in VNN-COMP form; with --data a folder, "
            "INDEX.txt for each refuted point.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a PNG of one refuted point.", rich_help_panel=_OUTPUT)
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option(
            help="Where to write a proof for relucid check; with --data a folder, INDEX.proof "
            "about INDEX.vnnlib for each point.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    no_check_proof: Annotated[
        bool,
        typer.Option(
            "--no-check-proof",
            help="Do not check a proof as soon as it is written.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
) -> None:
    """Decide whether a network is safe: proved, refuted with a witness, or unknown with a reason.

    Either  certify MODEL --property FILE.vnnlib  or  certify MODEL --data SET --eps E
    """
    started = time.monotonic()
    if (property_file is None) == (data is None):
        raise typer.BadParameter("give either --property FILE or --data SET")
    if no_check_proof and proof is None:
        raise typer.BadParameter("--no-check-proof goes with --proof")
    if not timeout > 0:
        raise typer.BadParameter(f"--timeout must be a positive number of seconds, got {timeout}")
    # Loading the engines takes half a second, which --help and a wrong option need not wait for.
    from relucid import certification
    from relucid.runs import Options
    from verifier.core.decision import Rule

    options = Options(timeout, str(engine), str(solver), seed, proof is not None)
    targets = certification.Targets(
        out, counterexample, picture, json_output, proof, not no_check_proof
    )
    if property_file is not None:
        given = {
            "--eps": eps,
            "--index": index,
            "--clip": clip,
            "--limit": limit,
            "--picture": picture,
            "--outputs": outputs,
        }
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter(f"{name} goes with --data, not with --property")
        certification.certify_property(model, property_file, options, targets, started)
        return
    if data is None or eps is None:
        raise typer.BadParameter("--data needs --eps")
    if index is not None and (start or limit is not None):
        raise typer.BadParameter("--index chooses one point; --start and --limit choose several")
    if no_clip and clip is not None:
        raise typer.BadParameter("--clip and --no-clip exclude each other")
    radius = rational(eps, "--eps")
    if radius < 0:
        raise typer.BadParameter(f"--eps must be at least 0, got {eps}")
    interval = None if clip is None else (rational(clip[0], "--clip"), rational(clip[1], "--clip"))
    if interval is not None and interval[0] > interval[1]:
        raise typer.BadParameter(f"--clip needs LOW <= HIGH, got {interval[0]} {interval[1]}")
    rule = None if outputs is None else Rule(outputs)
    samples = certification.Samples(
        data, radius, interval, not no_clip, center is Center.exact, index, start, limit, rule
    )
    certification.certify_data(model, samples, options, targets)
