"""``relucid hardness``: a graph to be coloured becomes a question about networks of width 2."""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relucid.numbers import rational

if TYPE_CHECKING:
    from constructions.hardness import Colouring, Reduction
    from constructions.hardness_balls import Margin
    from verifier.core.network import Network


class Problem(StrEnum):
    """What is asked of the graph."""

    colouring = "colouring"
    splitting = "splitting"


@dataclass(frozen=True)
class _Answer:
    """What was found.

    Args:
        word: yes, no or undecided.
        reason: how it is known, or why it is not.
        colours: a colouring, from 0, if there is one.
        network: a network that is right on all balls (one from elsewhere: on the centres).
        margin: its smallest y F on the balls.
        contradictions: leaves of the proof that there is none, if that was asked for.
    """

    word: str
    reason: str
    colours: Colouring | None = None
    network: Network | None = None
    margin: Margin | None = None
    contradictions: int | None = None


def hardness(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="A DIMACS .col file, or a name: petersen, moser, fano, complete-5, wheel-5, "
            "random-10-20-SEED, ... (the reference lists them).",
        ),
    ],
    problem: Annotated[
        Problem,
        typer.Option(help="colouring with 2^width − 1 colours, or splitting into two sets."),
    ] = Problem.colouring,
    width: Annotated[
        int | None, typer.Option(min=2, max=6, help="colouring only: hidden neurons; 2 by default.")
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option(help="splitting only: radius as a share of λ/2, above 0 and below 1."),
    ] = None,
    decide: Annotated[
        bool,
        typer.Option("--decide", help="Decide the balls themselves, without a look at the graph."),
    ] = False,
    network: Annotated[
        Path | None, typer.Option(help="Take the colouring out of this ONNX network instead.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds for the answer.")] = 60.0,
    out_data: Annotated[
        Path | None, typer.Option(help="Write the centres with their labels to a .csv or .npz.")
    ] = None,
    out_network: Annotated[
        Path | None, typer.Option(help="Write the network, if there is one, to an ONNX file.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn a graph into balls that a network of width 2 can label iff the graph can be coloured.

    Prints the instance, whether there is a colouring and a network, and turns each into the other.
    """
    if width is not None and problem is Problem.splitting:
        raise typer.BadParameter("--width goes with colouring; splitting is about width 2")
    if ratio is not None and problem is Problem.colouring:
        raise typer.BadParameter("--ratio goes with splitting; colouring has the radius 1")
    if decide and network is not None:
        raise typer.BadParameter("--decide and --network exclude each other")
    if decide and width not in (None, 2):
        raise typer.BadParameter("--decide handles width 2; leave out --width")
    if out_data is not None and out_data.suffix not in (".csv", ".npz"):
        raise typer.BadParameter(f"--out-data: expected a .csv or .npz file, got {out_data}")
    share = None if ratio is None else rational(ratio, "--ratio") / 2
    if share is not None and not 0 < share < Fraction(1, 2):
        raise typer.BadParameter(f"--ratio must be above 0 and below 1, got {ratio}")
    from constructions.graphs import load_graph
    from constructions.hardness import ColouringProblem, SplittingProblem

    shape = load_graph(graph)
    reduction: Reduction = (
        ColouringProblem.of(shape, width or 2)
        if problem is Problem.colouring
        else SplittingProblem.of(shape, share)
    )
    if network is not None:
        answer = _extracted(reduction, network)
    else:
        answer = (_decided if decide else _coloured)(reduction, time.monotonic() + timeout)
    written = _write(reduction, answer, out_data, out_network)
    if json_output:
        print(json.dumps(_record(reduction, answer, written), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(reduction, answer, written)))


def _coloured(reduction: Reduction, end: float) -> _Answer:
    """The answer through the graph: a colouring and its network, or none of both."""
    from constructions.graphs import UndecidedError, weak_colouring
    from constructions.hardness_balls import require_solves

    try:
        colours = weak_colouring(
            reduction.graph, reduction.colours, stop=lambda: time.monotonic() > end
        )
    except UndecidedError:
        return _Answer("undecided", "the time limit was reached")
    if colours is None:
        return _Answer("no", "complete backtracking over the colourings, and the theorem")
    network = reduction.network(colours)
    margin = require_solves(reduction.problem, network)
    reduction.colouring(network)
    reason = "the colouring gives the network, checked exactly on every ball"
    return _Answer("yes", reason, colours, network, margin)


def _decided(reduction: Reduction, end: float) -> _Answer:
    """The answer through the balls: a network and its colouring, or a proof that there is none."""
    from constructions.hardness_check import Impossibility
    from constructions.hardness_decision import Solved, decide

    found = decide(reduction.problem, stop=lambda: time.monotonic() > end)
    if isinstance(found, Solved):
        colours = reduction.colouring(found.network)
        reason = "the network, checked exactly on every ball, gives the colouring"
        return _Answer("yes", reason, colours, found.network, found.margin)
    if isinstance(found, Impossibility):
        reason = f"a tree of cases with {found.leaves} contradictions, each one checked in integers"
        return _Answer("no", reason, contradictions=found.leaves)
    return _Answer("undecided", found.reason)


def _extracted(reduction: Reduction, path: Path) -> _Answer:
    """The colouring in a network from elsewhere, which is right on the centres."""
    from constructions.hardness import one_output
    from constructions.hardness_balls import margin
    from verifier.io.onnx import load_model

    network = one_output(load_model(path).network)
    colours = reduction.colouring(network)
    found = margin(reduction.problem, network)
    where = "every ball" if found.value > 0 else "the centres, not shown on all balls"
    reason = f"{path}, right on {where}, gives the colouring"
    return _Answer("yes", reason, colours, network, found)


def _write(
    reduction: Reduction, answer: _Answer, data: Path | None, network: Path | None
) -> dict[str, str]:
    """The files that were asked for and can be written, by kind."""
    from constructions.hardness import scores
    from verifier.core.files import write_atomic

    written = {}
    if data is not None:
        write_atomic(data, _data_bytes(reduction, data.suffix))
        written["data"] = str(data)
    if network is not None and answer.network is None:
        print(f"relucid: {network} is not written: there is no network", file=sys.stderr)
    elif network is not None and answer.network is not None:
        from verifier.io.onnx_export import export_onnx

        export_onnx(scores(answer.network), network)
        written["network"] = str(network)
    return written


def _data_bytes(reduction: Reduction, suffix: str) -> bytes:
    """The centres with the labels 0 (F < 0) and 1 (F > 0)."""
    import numpy as np

    points, labels = reduction.problem.points, (reduction.problem.labels > 0).astype(np.int64)
    if suffix == ".npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, x=points, y=labels)
        return stream.getvalue()
    text = io.StringIO()
    header = ",".join([*(f"x{j}" for j in range(points.shape[1])), "label"])
    np.savetxt(text, np.column_stack([points, labels]), "%d", ",", header=header, comments="")
    return text.getvalue().encode()


def _question(reduction: Reduction) -> str:
    """What the graph is asked."""
    from constructions.hardness import ColouringProblem

    if not isinstance(reduction, ColouringProblem):
        return "splitting into two sets, no edge inside one of them"
    return f"weak colouring with {reduction.colours} colours"


def _lines(reduction: Reduction, answer: _Answer, written: dict[str, str]) -> list[str]:
    """The answer for a person."""
    balls, graph = reduction.problem, reduction.graph
    sizes = sorted({len(edge) for edge in graph.edges})
    lines = [
        f"{graph.name}: {graph.n} vertices, {len(graph.edges)} edges of "
        f"{' or '.join(map(str, sizes))} vertices",
        f"question   {_question(reduction)}",
        f"instance   {len(balls)} balls of radius {balls.mu} in {balls.dimension} dimensions, "
        f"for networks of width {reduction.width}",
        f"answer     {answer.word}",
        f"by         {answer.reason}",
    ]
    if answer.colours is not None:
        colours = " ".join(str(c + 1) for c in answer.colours)
        lines.append(f"colouring  {colours}")
    if answer.margin is not None:
        relation = "" if answer.margin.exact else "at least "
        lines.append(f"network    smallest y F on the balls {relation}{answer.margin.value}")
    return lines + [f"{kind:<10} written to {path}" for kind, path in written.items()]


def _record(reduction: Reduction, answer: _Answer, written: dict[str, str]) -> dict[str, Any]:
    """The answer for machines; rationals are strings."""
    balls, graph, network = reduction.problem, reduction.graph, answer.network
    return {
        "graph": graph.name,
        "vertices": graph.n,
        "edges": len(graph.edges),
        "question": _question(reduction),
        "colours": reduction.colours,
        "width": reduction.width,
        "balls": len(balls),
        "dimension": balls.dimension,
        "radius": str(balls.mu),
        "answer": answer.word,
        "reason": answer.reason,
        "colouring": None if answer.colours is None else [c + 1 for c in answer.colours],
        "margin": None if answer.margin is None else str(answer.margin.value),
        "network": None if network is None else _weights(network),
        "contradictions": answer.contradictions,
        "written": written,
    }


def _weights(network: Network) -> dict[str, Any]:
    """F = constant + Σ out · relu(weights x + biases), all exact."""
    hidden, last = network.layers
    as_text = [[str(Fraction(v)) for v in row] for row in hidden.dense.tolist()]
    return {
        "weights": as_text,
        "biases": [str(Fraction(v)) for v in hidden.bias.tolist()],
        "out": [str(Fraction(v)) for v in last.dense[0].tolist()],
        "constant": str(Fraction(last.bias.tolist()[0])),
    }
