"""``relucid build optimal-robust --scan``: the network as one loop over the samples."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from constructions.claims import Claim, Claims
from constructions.dataset import DataSet
from constructions.robust_scan import ScanConstruction, running_maximum_scan
from relucid.building import Request, begin
from relucid.numbers import approximate
from relucid.progress import Reporter
from verifier.core.decision import Decision, Rule
from verifier.core.scan import ScanNetwork
from verifier.core.verdict import Proved
from verifier.io.onnx_scan import export_scan, read_scan
from verifier.search.scan_balls import Balls
from verifier.search.scan_balls import run as decide

_SOURCE = "read back from the file"


def run(request: Request, as_json: bool) -> None:
    """Build, write, read back, prove the ball around every sample, and print.

    Raises:
        DataError: the data allow no such network.
        ExportError: it cannot be written.
    """
    started = time.monotonic()
    data, built = begin(
        request, lambda points: running_maximum_scan(points, request.radius_of(points))
    )
    network, claims, kind = built.network, built.claims, None
    if request.out is not None:
        names = tuple(data.label_name(label) for label in built.labels)
        decision = Decision(Rule.label, names) if len(set(names)) == len(names) else None
        kind = export_scan(network, request.out, decision=decision)
        network = read_scan(request.out)
        claims += _read_back(built.network, network)
    claims += built.closest_claims(data)
    if request.prove is not False:
        claims += _proved(network, built, data)
    claims.check()
    seconds = time.monotonic() - started
    if as_json:
        print(json.dumps(_record(request, data, built, claims, kind, seconds), indent=2))
        return
    print("\n".join([*_summary(request, data, built, kind), "", *claims.table()]))
    print(f"built and checked in {seconds:.1f} s", file=sys.stderr)


def _read_back(written: ScanNetwork, read: ScanNetwork) -> Claims:
    """The same sizes and the same numbers in the file."""
    sizes = ("width", "depth", "nonzeros", "dense_parameters")
    items = [
        Claim.equal(name.replace("_", " "), getattr(written, name), getattr(read, name), _SOURCE)
        for name in sizes
    ]
    names = ("which", "above", "below", "labels", "shift", "slope", "input_shape")
    same = all(np.array_equal(getattr(written, n), getattr(read, n)) for n in names)
    items.append(Claim.true("same numbers", same, f"every number, {_SOURCE}"))
    return Claims(written.name, tuple(items))


def _proved(network: ScanNetwork, built: ScanConstruction, data: DataSet) -> Claims:
    """The verifier's word on the ball around every sample."""
    balls = Balls(
        built.network.which,
        [value - built.radius for value in built.values],
        [value + built.radius for value in built.values],
        built.network.labels.astype(np.int64),
        np.arange(len(data)),
    )
    with Reporter(1) as reporter:
        reporter.begin(f"{data.name}: proof")
        verdicts = decide(network, balls, lambda done: reporter.update("balls", done))
    proved = sum(isinstance(verdict, Proved) for verdict in verdicts)
    how = f"radius {approximate(built.radius)}: exact bounds by the rule for maxima"
    return Claims(network.name, (Claim.equal("balls proved", len(data), proved, how),))


def _summary(
    request: Request, data: DataSet, built: ScanConstruction, kind: str | None
) -> list[str]:
    """What was built, for a person."""
    i, j = built.closest.pair
    network = built.network
    ratio = approximate(2 * built.radius / built.closest.lam)
    file = "none, --out names one"
    if request.out is not None:
        file = f"{request.out}, {kind}, {request.out.stat().st_size} bytes, one Scan"
    return [
        f"{request.construction} of {data.name}: N = {len(data)}, d = {data.dimension}, "
        f"m = {len(built.labels)}",
        f"separation   λ = {built.closest.lam}, points {i} and {j}",
        f"radius       {built.radius}, ρ = {ratio}".replace("= ≈", "≈ "),
        f"network      depth {network.depth}, width {network.width}, {network.n_relu} ReLUs",
        f"parameters   {network.nonzeros} nonzeros; {network.dense_parameters} written densely",
        f"file         {file}",
    ]


def _record(
    request: Request,
    data: DataSet,
    built: ScanConstruction,
    claims: Claims,
    kind: str | None,
    seconds: float,
) -> dict[str, Any]:
    """The same for JSON; exact rationals are strings."""
    network = built.network
    return {
        "construction": request.construction,
        "scan": True,
        "data": data.name,
        "points": len(data),
        "dimension": data.dimension,
        "labels": [data.label_name(label) for label in built.labels],
        "separation": str(built.closest.lam),
        "closest_pair": list(built.closest.pair),
        "radius": str(built.radius),
        "width": network.width,
        "depth": network.depth,
        "relus": network.n_relu,
        "nonzeros": network.nonzeros,
        "dense_parameters": network.dense_parameters,
        "model": None if request.out is None else str(request.out),
        "type": kind,
        "bytes": None if request.out is None else request.out.stat().st_size,
        "claims": claims.record(),
        "seconds": round(seconds, 3),
    }
