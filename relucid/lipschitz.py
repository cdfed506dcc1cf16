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

if TYPE_CHECKING:
    from verifier.core.network import Network
    from verifier.core.property import Box
    from verifier.search.lipschitz_evidence import Lipschitz

_DOMAIN = "Where"
_FUNCTION = "Of what"


def lipschitz(
    model: Annotated[str, typer.Argument(help="An ONNX file, or a bundled model's name.")],
    box: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Every input in [LOW, HIGH].", rich_help_panel=_DOMAIN),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="The ball around a point of this set.", rich_help_panel=_DOMAIN),
    ] = None,
    index: Annotated[int, typer.Option(min=0, help="Which point.", rich_help_panel=_DOMAIN)] = 0,
    eps: Annotated[
        str | None,
        typer.Option(help="ℓ∞ radius, as 0.03 or 8/255, meant exactly.", rich_help_panel=_DOMAIN),
    ] = None,
    clip: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Cut the ball (0 1 by default for pictures with values in [0, 1], else none).",
            rich_help_panel=_DOMAIN,
        ),
    ] = None,
    no_clip: Annotated[
        bool, typer.Option("--no-clip", help="Do not cut the ball.", rich_help_panel=_DOMAIN)
    ] = False,
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
    timeout: Annotated[float, typer.Option(help="Seconds of searching.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the points that are tried.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Check the evidence again, by independent code.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the answer with all its evidence to a .json file.")
    ] = None,
) -> None:
    """Find the ℓ∞ Lipschitz constant of a network, exactly or between two proved bounds.

    The largest ℓ1 norm of an output's gradient over all linear regions: everywhere, or in a box.
    """
    _check_options(box, data, index, eps, clip, no_clip, property_file)
    if output is not None and margin is not None:
        raise typer.BadParameter("--output and --margin exclude each other")
    if not timeout > 0:
        raise typer.BadParameter(f"--timeout must be a positive number of seconds, got {timeout}")
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
    elif data is not None and eps is not None:
        domain = _ball(network, data, index, eps, clip, not no_clip)
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
    if no_clip and clip is not None:
        raise typer.BadParameter("--clip and --no-clip exclude each other")


def _check_target(out: Path | None) -> None:
    """Find out before the work that the result has a place to go."""
    from verifier.core.errors import ExportError

    if out is None:
        return
    if out.suffix != ".json":
        raise ExportError(f"{out}: the evidence is written as .json")
    if not out.absolute().parent.is_dir():
        raise ExportError(f"{out}: the folder {out.absolute().parent} does not exist")


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


def _ball(
    network: Network,
    name: str,
    index: int,
    eps: str,
    clip: tuple[str, str] | None,
    default_clip: bool,
) -> Box:
    """The ball around one point; its middle is what a float32 model is fed."""
    from constructions.dataset import load_dataset
    from relucid.certification import Samples
    from verifier.core.errors import DataError
    from verifier.core.property import Box

    radius = rational(eps, "--eps")
    if radius <= 0:
        raise typer.BadParameter(f"--eps must be positive, got {eps}")
    points = load_dataset(name)
    if points.dimension != network.n_inputs:
        raise DataError(
            f"{points.name}: points have {points.dimension} coordinates, but the model takes "
            f"{network.n_inputs} inputs"
        )
    cut = None if clip is None else (rational(clip[0], "--clip"), rational(clip[1], "--clip"))
    samples = Samples(name, radius, cut, default_clip, False, index, 0, None)
    (i,) = samples.indices(points)
    center = [Fraction(float(v)) for v in points.float32(i)]
    return Box.ball(center, radius, samples.ball(points).clip)


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
