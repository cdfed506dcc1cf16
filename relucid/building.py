"""What ``relucid build`` does once its arguments are understood."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from constructions.bias_boxes import bias
from constructions.claims import Claim, Claims, network_claims
from constructions.compact import compact
from constructions.construction import Construction, dense_size
from constructions.dataset import DataSet, load_dataset
from constructions.depth_two_network import depth_two
from constructions.exact_evaluation import largest_bits
from constructions.lipschitz import lipschitz, lipschitz_multiclass
from constructions.memorize_depth2 import dyadic
from constructions.memorize_sqrt import vardi
from constructions.nearest_box import nearest_box
from constructions.radius import RadiusError
from constructions.robust import blocks, class_sum, running_maximum, shallow
from constructions.separation import positive_separation
from relucid.compilation import note_compilation
from relucid.numbers import approximate
from relucid.pictures import text_grid
from relucid.progress import Reporter
from relucid.proving import BallProof, is_cheap, prove
from verifier.core.decision import Decision
from verifier.core.errors import DataError, ExportError
from verifier.core.network import Network
from verifier.io.gemm_chain import read_gemm_chain
from verifier.io.onnx_export import export_onnx

DEFAULT_RATIO = Fraction(99, 100)

_AT_ONE_RADIUS = {
    "optimal-robust": running_maximum,
    "class-sum": class_sum,
    "shallow": shallow,
    "bias": bias,
}
#: Boxes at distance λ from their enemies, or, where --mu is given, as far as that radius needs.
_OF_BOXES = {"compact": compact, "compact-nearest": nearest_box}
_AT_EVERY_RADIUS = {
    "lipschitz": lipschitz,
    "lipschitz-multiclass": lipschitz_multiclass,
    "nearest-class": lipschitz_multiclass,
}


@dataclass(frozen=True)
class Request:
    """What is to be built.

    Args:
        construction: its name.
        data: name or path of the set.
        out: the ONNX file, or None: only sizes and claims are asked for.
        ratio: radius as a share of λ/2 (for ``depth-two`` of the critical radius), or None.
        radius: the radius itself, or None.
        width: widest layer of ``blocks``, or None.
        limit: only the first so many points, or None.
        prove: whether the verifier proves all balls; None: if that takes seconds.
    """

    construction: str
    data: str
    out: Path | None
    ratio: Fraction | None
    radius: Fraction | None
    width: int | None
    limit: int | None
    prove: bool | None = None

    def check_target(self) -> None:
        """Find out before the work, not after it, that the network has no place to go.

        Raises:
            ExportError: the folder is missing, or the name is a folder.
        """
        if self.out is None:
            return
        if not self.out.absolute().parent.is_dir():
            raise ExportError(f"{self.out}: the folder {self.out.absolute().parent} does not exist")
        if self.out.is_dir():
            raise ExportError(f"{self.out}: is a folder, expected a file")

    def read(self) -> DataSet:
        """The points."""
        data = load_dataset(self.data)
        return data if self.limit is None else data.subset(slice(0, self.limit))

    def build(self, data: DataSet) -> Construction:
        """The network with its claims.

        Raises:
            DataError: see the constructions.
        """
        if self.construction in _AT_EVERY_RADIUS:
            return _AT_EVERY_RADIUS[self.construction](data)
        if self.construction == "memorize-depth2":
            return dyadic(data).built
        if self.construction == "memorize-sqrt":
            return vardi(data).built
        share = DEFAULT_RATIO if self.ratio is None else self.ratio
        if self.construction == "depth-two":
            with Reporter(1) as reporter:
                reporter.begin(data.name)
                return depth_two(
                    data,
                    self.radius,
                    share=share,
                    progress=lambda done: reporter.update("splits", done),
                )
        radius = self.radius
        if radius is None:
            radius = share * positive_separation(data).lam / 2
        if self.construction in _OF_BOXES:
            with Reporter(1) as reporter:
                reporter.begin(data.name)
                return _OF_BOXES[self.construction](
                    data,
                    radius,
                    every=self.radius is None,
                    progress=lambda done: reporter.update("boxes", done),
                )
        if self.width is None:
            return _AT_ONE_RADIUS[self.construction](data, radius)
        d = data.dimension
        if self.width < 3 * d + 2:
            raise DataError(
                f"{data.name}: --width must be at least 3d + 2 = {3 * d + 2}, got {self.width}"
            )
        return blocks(data, radius, ((self.width - 2) // d - 1) // 2)


def run(request: Request, as_json: bool) -> None:
    """Build, write, read back, check, and print.

    Raises:
        DataError: the data allow no such network.
        ExportError: it cannot be written.
    """
    started = time.monotonic()
    request.check_target()
    data = request.read()
    note_compilation()
    try:
        built = request.build(data)
    except RadiusError as problem:
        print("\n".join(midpoint_lines(data, problem)), file=sys.stderr, end="")
        raise
    file, claims = Written(), built.claims
    if request.out is not None:
        file = write(built, request.out, built.decision(data))
    if file.path is not None:
        claims += read_back(built.network, file.path)
    claims += built.closest_claims(data)
    proof = _proof(request, built, data)
    if proof is not None:
        claims += proof.claims(built.network.name)
    claims.check()
    seconds = time.monotonic() - started
    if as_json:
        answer = record(request, data, built, claims, file, seconds)
        answer["balls"] = None if proof is None else proof.record()
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join([*summary(request, data, built, file), "", *claims.table()]))
        print(f"built and checked in {seconds:.1f} s", file=sys.stderr)
    if file.refusal is not None:
        raise file.refusal


def _proof(request: Request, built: Construction, data: DataSet) -> BallProof | None:
    """The verifier's proof of all balls, or a note on stderr why it is not complete."""
    if request.prove is False:
        return None
    if request.prove is None and not is_cheap(built, data):
        print("note: --prove lets the verifier prove all balls", file=sys.stderr)
        return None
    with Reporter(1) as reporter:
        reporter.begin(f"{data.name}: proof")
        proof = prove(built, data, reporter)
    if proof is None:
        print("note: the verifier does not read such outputs or numbers", file=sys.stderr)
    elif proof.proved < proof.points:
        print(
            f"note: the interval pass proves {proof.proved} of {proof.points} balls; "
            "relucid certify decides the others",
            file=sys.stderr,
        )
    return proof


def midpoint_lines(data: DataSet, problem: RadiusError) -> list[str]:
    """The point that lies in both balls, as a picture between the two samples if they are some."""
    i, j = problem.pair
    first, second = data.sample(i), data.sample(j)
    left = text_grid(first, problem.midpoint, data.shape, (f"point {i}", "midpoint", "change"))
    right = text_grid(second, problem.midpoint, data.shape, (f"point {j}", "midpoint", "change"))
    return [*left, "", *right, ""] if left else []


@dataclass(frozen=True)
class Written:
    """What became of the file.

    Args:
        path: where it is, or None.
        kind: float32 or float64, or None.
        refusal: why no file holds the network's numbers, if that is so.
    """

    path: Path | None = None
    kind: str | None = None
    refusal: ExportError | None = None

    @property
    def size(self) -> int | None:
        """Bytes of the file."""
        return None if self.path is None else self.path.stat().st_size

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.path}, {self.kind}, {self.size} bytes"
        return (
            "none, --out names one"
            if self.refusal is None
            else "none: float64 does not hold its numbers"
        )


def write(built: Construction, path: Path, decision: Decision | None = None) -> Written:
    """Write the network, if an ONNX file holds its numbers.

    Exact numbers that no float holds are no reason to keep the rest of the answer back.

    Raises:
        ExportError: it is too large, or cannot be written.
    """
    try:
        return Written(path, export_onnx(built.network, path, decision=decision))
    except ExportError as problem:
        if built.network.is_float:
            raise
        return Written(refusal=problem)


def read_back(network: Network, path: Path) -> Claims:
    """The same sizes, and the same numbers, in the file.

    Args:
        network: what was written.
        path: where.

    Raises:
        ModelError: the file cannot be read.
    """
    read = read_gemm_chain(path)
    sizes = network_claims(
        network.name,
        read,
        "read back from the file",
        width=network.width,
        depth=network.depth,
        nonzeros=network.nonzeros,
    )
    dense = Claim.equal(
        "dense parameters", dense_size(network), dense_size(read), "read back from the file"
    )
    same = Claim.true("same numbers", _same(network, read), "every weight, read back from the file")
    return sizes + Claims(network.name, (dense, same))


def _same(first: Network, second: Network) -> bool:
    """Whether all weights, biases and ReLUs are equal."""
    if first.depth != second.depth:
        return False
    return all(
        a.weight.shape == b.weight.shape
        and np.array_equal(a.relu, b.relu)
        and np.array_equal(a.bias, b.bias)
        and _equal(a.weight, b.weight)
        for a, b in zip(first.layers, second.layers, strict=True)
    )


def _equal(first: Any, second: Any) -> bool:
    """Whether two matrices are equal, without making a large one dense."""
    if sp.issparse(first) and sp.issparse(second):
        return (first != second).nnz == 0
    dense = [m.toarray() if sp.issparse(m) else m for m in (first, second)]
    return np.array_equal(*dense)


def summary(request: Request, data: DataSet, built: Construction, file: Written) -> list[str]:
    """What was built, for a person."""
    i, j = built.closest.pair
    network, bound = built.network, "below " if built.open_radius else ""
    ratio = "" if built.open_radius else f", ρ = {approximate(built.ratio)}".replace("= ≈", "≈ ")
    lines = [
        f"{request.construction} of {data.name}: N = {len(data)}, d = {data.dimension}, "
        f"m = {len(built.labels)}",
        f"separation   λ = {built.separation}, points {i} and {j}",
        f"radius       {bound}{built.radius}{ratio}",
    ]
    if built.lipschitz is not None:
        lines.append(f"slope        at most {approximate(built.lipschitz)} in ℓ∞")
    lines += [
        f"network      depth {network.depth}, width {network.width}, {network.n_relu} ReLUs",
        f"parameters   {network.nonzeros} nonzeros; {built.dense_parameters} written densely",
        f"labels       {_labels(data, built)}",
        f"file         {file}",
    ]
    if not network.is_float:
        lines.insert(-1, f"numbers      up to {largest_bits(network)} bits, exact")
    return lines


def _labels(data: DataSet, built: Construction) -> str:
    """What each label of the network stands for."""
    if built.network.n_outputs > 1:
        keys = [f"output {k}" for k in range(len(built.labels))]
    elif built.lipschitz is not None:
        keys = ["−1", "+1"]
    else:
        keys = [str(built.label_step * (k + 1)) for k in range(len(built.labels))]
    words = [
        f"{key} = {data.label_name(label)}" for key, label in zip(keys, built.labels, strict=True)
    ]
    more = f", … ({len(words)} in all)" if len(words) > 12 else ""
    return ", ".join(words[:12]) + more


def record(
    request: Request,
    data: DataSet,
    built: Construction,
    claims: Claims,
    file: Written,
    seconds: float,
) -> dict[str, Any]:
    """The same for JSON; exact rationals are strings."""
    network = built.network
    return {
        "construction": request.construction,
        "data": data.name,
        "points": len(data),
        "dimension": data.dimension,
        "labels": [data.label_name(label) for label in built.labels],
        "label_step": built.label_step,
        "separation": str(built.separation),
        "closest_pair": list(built.closest.pair),
        "radius": str(built.radius),
        "radius_attained": not built.open_radius,
        "lipschitz": None if built.lipschitz is None else str(built.lipschitz),
        "width": network.width,
        "depth": network.depth,
        "relus": network.n_relu,
        "nonzeros": network.nonzeros,
        "dense_parameters": built.dense_parameters,
        "bits": None if network.is_float else largest_bits(network),
        "model": None if file.path is None else str(file.path),
        "type": file.kind,
        "bytes": file.size,
        "claims": claims.record(),
        "seconds": round(seconds, 3),
    }
