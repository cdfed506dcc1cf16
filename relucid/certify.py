"""``relucid certify``: one property, or the points of a data set."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from relucid.device import device_option, lent, require_proposer
from relucid.numbers import rational
from relucid.options import (
    OUTPUT,
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
    OptionalSetName,
    Out,
    OutputsOption,
    Seed,
    Start,
    choose_samples,
    require_seconds,
)


class Engine(StrEnum):
    """How to decide."""

    auto = "auto"
    bab = "bab"
    milp = "milp"
    lp = "lp"
    interval = "interval"


class Semantics(StrEnum):
    """What arithmetic the network is meant in."""

    real = "real"
    float32 = "float32"


class Solver(StrEnum):
    """Which solver the milp engine calls."""

    highs = "highs"
    cbc = "cbc"
    scip = "scip"
    gurobi = "gurobi"


_PROPERTY = "One property"


def certify(
    context: typer.Context,
    model: ModelName,
    property_file: Annotated[
        Path | None,
        typer.Option(
            "--property", help="A VNN-LIB 1.0 or 2.0 file, gzip or not.", rich_help_panel=_PROPERTY
        ),
    ] = None,
    data: OptionalSetName = None,
    eps: Eps = None,
    index: Index = None,
    start: Start = 0,
    limit: Limit = None,
    clip: Clip = None,
    no_clip: NoClip = False,
    center: CenterOption = Center.float32,
    outputs: OutputsOption = None,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds for one property (loading included) or one point.",
            rich_help_panel=SEARCH,
        ),
    ] = 60.0,
    engine: Annotated[
        Engine,
        typer.Option(
            help="lp and interval are incomplete: they prove, or mostly do not know.",
            rich_help_panel=SEARCH,
        ),
    ] = Engine.auto,
    solver: Annotated[
        Solver, typer.Option(help="Solver of the milp engine.", rich_help_panel=SEARCH)
    ] = Solver.highs,
    semantics: Annotated[
        Semantics,
        typer.Option(
            help="The exact real function of the weights, or what a runtime may compute in "
            "float32, in any order of summation, with fused multiply-add or without.",
            rich_help_panel=SEARCH,
        ),
    ] = Semantics.real,
    device: Annotated[
        str,
        device_option(
            SEARCH,
            " When neurons are split it proposes slopes and multipliers; bounds and verdicts are "
            "always computed on the processor.",
        ),
    ] = "cpu",
    seed: Seed = 0,
    json_output: Json = False,
    out: Out = None,
    counterexample: Annotated[
        Path | None,
        typer.Option(
            help="Where to write a witness in VNN-COMP form; with --data a folder, "
            "INDEX.txt for each refuted point.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a PNG of one refuted point.", rich_help_panel=OUTPUT)
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option(
            help="Where to write a proof for relucid check; with --data a folder, INDEX.proof "
            "about INDEX.vnnlib for each point.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    no_check_proof: Annotated[
        bool,
        typer.Option(
            "--no-check-proof",
            help="Do not check a proof as soon as it is written.",
            rich_help_panel=OUTPUT,
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
    require_seconds(timeout)
    if semantics is Semantics.float32 and engine not in (Engine.auto, Engine.bab):
        raise typer.BadParameter(
            f"--engine {engine} decides exact arithmetic; --semantics float32 takes auto or bab"
        )
    require_proposer(device, engine)
    # Loading the engines takes time, which --help and a wrong option need not wait for.
    from relucid import certification
    from relucid.runs import Options

    options = Options(
        timeout, str(engine), str(solver), seed, proof is not None, semantics is Semantics.float32
    )
    targets = certification.Targets(
        out, counterexample, picture, json_output, proof, not no_check_proof
    )
    context.with_resource(lent(device))
    if property_file is not None:
        _require_alone(
            {
                "--eps": eps,
                "--index": index,
                "--start": start or None,
                "--limit": limit,
                "--clip": clip,
                "--no-clip": no_clip or None,
                "--center": None if center is Center.float32 else center,
                "--outputs": outputs,
                "--picture": picture,
            }
        )
        raise typer.Exit(
            certification.certify_property(model, property_file, options, targets, started)
        )
    if data is None or eps is None:
        raise typer.BadParameter("--data needs --eps")
    radius = rational(eps, "--eps")
    if radius < 0:
        raise typer.BadParameter(f"--eps must be at least 0, got {eps}")
    samples = choose_samples(
        data,
        radius,
        clip,
        no_clip,
        index=index,
        start=start,
        limit=limit,
        center=center,
        outputs=outputs,
    )
    raise typer.Exit(certification.certify_data(model, samples, options, targets))


def _require_alone(given: dict[str, object]) -> None:
    """Refuse options of points beside a property.

    Args:
        given: what the user said, None for nothing.

    Raises:
        typer.BadParameter: the first that was given.
    """
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{name} goes with --data, not with --property")
