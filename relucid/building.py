"""What ``relucid build`` does once its arguments are understood."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from constructions.bias_boxes import bias
from constructions.claims import Claims
from constructions.compact import compact
from constructions.construction import Construction
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
from relucid.places import require_file
from relucid.progress import Reporter
from relucid.proving import BallProof, is_cheap, prove
from relucid.written import Written, read_back, write
from verifier.core.errors import DataError

_DEFAULT_RATIO = Fraction(99, 100)

Built = TypeVar("Built")

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
            ExportError: the folder is missing or unwritable, or the name is a folder.
        """
        if self.out is not None:
            require_file(self.out)

    def read(self) -> DataSet:
        """The points."""
        data = load_dataset(self.data)
        return data if self.limit is None else data.subset(slice(0, self.limit))

    @property
    def share(self) -> Fraction:
        """The ratio, or its default."""
        return _DEFAULT_RATIO if self.ratio is None else self.ratio

    def radius_of(self, data: DataSet) -> Fraction:
        """The radius itself, or the share of λ/2.

        Raises:
            DataError: λ = 0.
        """
        if self.radius is not None:
            return self.radius
        return self.share * positive_separation(data).lam / 2

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
        if self.construction == "depth-two":
            with Reporter(1) as reporter:
                reporter.begin(data.name)
                return depth_two(
                    data,
                    self.radius,
                    share=self.share,
                    progress=lambda done: reporter.update("splits", done),
                )
        radius = self.radius_of(data)
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


def begin(request: Request, build: Callable[[DataSet], Built]) -> tuple[DataSet, Built]:
    """Look at the place to write to, read the points, and build.

    Args:
        request: what is asked.
        build: makes the network with its claims from the points.

    Raises:
        DataError: the data allow no such network; a radius that is too large is shown on stderr by
            the point that lies in two balls.
        ExportError: there is no place to write to.
    """
    request.check_target()
    data = request.read()
    note_compilation()
    try:
        return data, build(data)
    except RadiusError as problem:
        print("\n".join(_midpoint_lines(data, problem)), file=sys.stderr, end="")
        raise


def run(request: Request, as_json: bool) -> None:
    """Build, write, read back, check, and print.

    Raises:
        DataError: the data allow no such network.
        ExportError: it cannot be written.
    """
    started = time.monotonic()
    data, built = begin(request, request.build)
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


def _midpoint_lines(data: DataSet, problem: RadiusError) -> list[str]:
    """The point that lies in both balls, as a picture between the two samples if they are some."""
    i, j = problem.pair
    first, second = data.sample(i), data.sample(j)
    left = text_grid(first, problem.midpoint, data.shape, (f"point {i}", "midpoint", "change"))
    right = text_grid(second, problem.midpoint, data.shape, (f"point {j}", "midpoint", "change"))
    return [*left, "", *right, ""] if left else []


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
