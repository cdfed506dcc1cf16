"""``relucid lipschitz``: how steep a network can be, exactly or between proved bounds."""

from __future__ import annotations

import json
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relucid.numbers import rational
from relucid.options import (
    OUTPUT,
    POINTS,
    SEARCH,
    Clip,
    Eps,
    Json,
    ModelName,
    NoClip,
    OptionalSetName,
    Seed,
    choose_samples,
    require_seconds,
)

if TYPE_CHECKING:
    from relucid.certification import Samples
    from verifier.core.network import Network
    from verifier.core.property import Box
    from verifier.search.lipschitz_evidence import Lipschitz

_DOMAIN = "Where"
_FUNCTION = "Of what"


def lipschitz(
    model: ModelName,
    box: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Every input in [LOW, HIGH].", rich_help_panel=_DOMAIN),
    ] = None,
    data: OptionalSetName = None,
    index: Annotated[int, typer.Option(min=0, help="Which point.", rich_help_panel=POINTS)] = 0,
    eps: Eps = None,
    clip: Clip = None,
    no_clip: NoClip = False,
    property_file: Annotated[
        Path | None,
        typer.Option(
            "--property", help="The input box of a VNN-LIB file.", rich_help_panel=_DOMAIN
        ),
    ] = None,
    output: Annotated[
        int | None, typer.Option(min=0, help="Only this output.", rich_help_panel=_FUNCTION)
    ] = None,
    margin: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Output I minus output J.", rich_help_panel=_FUNCTION),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds of searching.", rich_help_panel=SEARCH)
    ] = 60.0,
    seed: Seed = 0,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Check the evidence again, by independent code.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json_output: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the answer with all its evidence to a .json file.", rich_help_panel=OUTPUT
        ),
    ] = None,
) -> None:
    """Find the ℓ∞ Lipschitz constant of a network, exactly or between two proved bounds.

    The largest ℓ1 norm of an output's gradient over all linear regions: everywhere, or in a box.
    """
    _check_options(box, data, index, eps, clip, no_clip, property_file)
    if output is not None and margin is not None:
        raise typer.BadParameter("--output and --margin exclude each other")
    require_seconds(timeout)
    samples = None
    if data is not None and eps is not None:
        samples = _samples(data, index, eps, clip, no_clip)
    # Loading the search takes half a second, which --help and a wrong option need not wait for.
    from relucid.lipschitz_report import Answer, evidence, lines, record
    from relucid.runs import open_model
    from verifier.core.files import write_atomic

    _check_target(out)
    network = open_model(model).network
    rows, of = _rows(network.n_outputs, output, margin)
    domain: Box | None = None
    if box is not None:
        domain = _cube(box, network.n_inputs)
    elif samples is not None:
        domain = _ball(network, samples)
    elif property_file is not None:
        domain = _property_box(property_file, network)
    started = time.monotonic()
    found = _search(model, network, domain, rows, timeout, seed)
    seconds = time.monotonic() - started
    if check:
        from verifier.search.lipschitz_check import check_lipschitz

        check_lipschitz(network, domain, rows, found)
    answer = Answer(model, network, domain, of, found, seconds, check)
    if out is not None:
        write_atomic(out, (json.dumps(evidence(answer), ensure_ascii=False) + "\n").encode())
    if json_output:
        sys.stdout.write(json.dumps(record(answer), indent=2, ensure_ascii=False) + "\n")
        return
    for note in network.notes:
        print(f"note: {note}", file=sys.stderr)
    print("\n".join(lines(answer)))


def _check_options(
    box: tuple[str, str] | None,
    data: str | None,
    index: int,
    eps: str | None,
    clip: tuple[str, str] | None,
    no_clip: bool,
    property_file: Path | None,
) -> None:
    """Refuse options of the domain that do not go together."""
    if sum(v is not None for v in (box, data, property_file)) > 1:
        raise typer.BadParameter("--box, --data and --property exclude each other")
    if (data is None) != (eps is None):
        raise typer.BadParameter("--data and --eps belong together")
    if data is None and (index or clip is not None or no_clip):
        raise typer.BadParameter("--index, --clip and --no-clip go with --data")


def _check_target(out: Path | None) -> None:
    """Find out before the work that the result has a place to go."""
    from relucid.places import require_file
    from verifier.core.errors import ExportError

    if out is None:
        return
    if out.suffix != ".json":
        raise ExportError(f"{out}: the evidence is written as .json")
    require_file(out)


def _rows(
    n_outputs: int, output: int | None, margin: tuple[int, int] | None
) -> tuple[list[list[int]], str]:
    """The functions in question as rows of outputs, and their name."""
    chosen = () if output is None and margin is None else margin or (output,)
    for k in chosen:
        if k is None or not 0 <= k < n_outputs:
            raise typer.BadParameter(
                f"no output {k}: the model has {n_outputs} (0..{n_outputs - 1})"
            )
    if margin is not None:
        i, j = margin
        if i == j:
            raise typer.BadParameter(f"--margin needs two different outputs, got {i} {j}")
        return [[int(k == i) - int(k == j) for k in range(n_outputs)]], f"output {i} − output {j}"
    eye = [[int(k == i) for k in range(n_outputs)] for i in range(n_outputs)]
    if output is not None:
        return [eye[output]], f"output {output}"
    return eye, "the output" if n_outputs == 1 else f"the largest of {n_outputs} outputs"


def _cube(faces: tuple[str, str], n: int) -> Box:
    from verifier.core.property import Box

    low, high = (rational(face, "--box") for face in faces)
    if low >= high:
        raise typer.BadParameter(f"--box needs LOW < HIGH, got {low} {high}")
    return Box((low,) * n, (high,) * n)


def _samples(
    data: str, index: int, eps: str, clip: tuple[str, str] | None, no_clip: bool
) -> Samples:
    """The one ball that the options name."""
    radius = rational(eps, "--eps")
    if radius <= 0:
        raise typer.BadParameter(f"--eps must be positive, got {eps}")
    return choose_samples(data, radius, clip, no_clip, index=index)


def _ball(network: Network, samples: Samples) -> Box:
    """The ball around one point; its middle is what a float32 model is fed."""
    from constructions.dataset import load_dataset
    from verifier.core.errors import DataError
    from verifier.core.property import Box

    points = load_dataset(samples.data)
    if points.dimension != network.n_inputs:
        raise DataError(
            f"{points.name}: points have {points.dimension} coordinates, but the model takes "
            f"{network.n_inputs} inputs"
        )
    (i,) = samples.indices(points)
    center = [Fraction(float(v)) for v in points.float32(i)]
    return Box.ball(center, samples.eps, samples.ball(points).clip)


def _property_box(path: Path, network: Network) -> Box:
    from verifier.core.errors import PropertyError
    from verifier.io.vnnlib import read_property

    prop = read_property(path, n_inputs=network.n_inputs, n_outputs=network.n_outputs).prop
    boxes = {case.box for case in prop.cases}
    if len(boxes) != 1:
        raise PropertyError(f"{path}: expected one input box, got {len(boxes)}")
    return boxes.pop()


def _search(
    model: str,
    network: Network,
    domain: Box | None,
    rows: list[list[int]],
    timeout: float,
    seed: int,
) -> Lipschitz:
    """The search, with its progress on stderr."""
    from relucid.progress import Reporter
    from verifier.search.lipschitz import lipschitz as search
    from verifier.search.problem import Deadline

    with Reporter(1) as reporter:
        reporter.begin(model)
        return search(
            network, domain, rows, deadline=Deadline(timeout), seed=seed, progress=reporter.update
        )
