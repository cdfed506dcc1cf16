"""Optimal robust memorization on a concrete set: four networks for every radius below λ/2.

The constructions are in ``constructions.robust`` (THEORY, section 1). Here their sizes are read
back from the files that they are exported to, and the verifier is asked about every ball.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from constructions.claims import Claim, Claims, network_claims
from constructions.construction import Construction
from constructions.dataset import DataSet
from constructions.demonstration import Demonstration, Question, Shown
from constructions.radius import RadiusError
from constructions.robust import blocks, class_sum, running_maximum, shallow
from constructions.separation import positive_separation
from verifier.core.property import Box, Property
from verifier.io.gemm_chain import read_gemm_chain
from verifier.io.onnx_export import export_onnx

RATIOS = (Fraction(1, 2), Fraction(99, 100), Fraction(999, 1000))
_BLOCK = 2

BUILD: dict[str, Callable[[DataSet, Fraction], Construction]] = {
    "optimal-robust": running_maximum,
    "class-sum": class_sum,
    "blocks": lambda data, radius: blocks(data, radius, _BLOCK),
    "shallow": shallow,
}


def example() -> DataSet:
    """Seven points of the plane in three classes; λ = 3/8."""
    points = np.array([[0, 0], [3, 1], [1, 4], [6, 2], [7, 6], [3, 8], [4, 5]])
    labels = np.array([0, 1, 0, 2, 1, 2, 2])
    return DataSet(points, labels, (2,), 3, "seven points", Fraction(1, 8))


def promised(data: DataSet) -> dict[str, tuple[int | None, int]]:
    """Width and depth that the theorem gives each network; None where sharing decides the width."""
    n, d = len(data), data.dimension
    counts = np.bincount(data.labels)
    pieces = sum(-(-int(count) // _BLOCK) for count in counts)
    width = (2 * min(_BLOCK, int(counts.max())) + 1) * d + 2
    return {
        "optimal-robust": (3 * d + 1, 2 * n + 1),
        "class-sum": (3 * d + 2, 2 * n + 2),
        "blocks": (width, 2 * pieces + 2),
        "shallow": (None, 4),
    }


def file_claims(name: str, built: Construction, width: int | None, depth: int) -> Claims:
    """The promised sizes, read from the file that the network is exported to.

    Raises:
        ExportError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        export_onnx(built.network, path)
        read = read_gemm_chain(path)
    claims = network_claims(name, read, "read back", width=width, depth=depth, n_outputs=1)
    same = Claim.equal("nonzeros", built.network.nonzeros, read.nonzeros, "read back")
    return (claims + Claims(name, (same,))).check()


def ball(data: DataSet, i: int, radius: Fraction) -> Property:
    """The whole ball around a sample has its label 1..m."""
    box = Box.ball(data.sample(i), radius)
    return Property.near(box, int(data.labels[i]) + 1, f"ball of radius {radius} around point {i}")


def demonstrate() -> Demonstration:
    """Four constructions at three radii, every ball proved; at λ/2 every network fails."""
    data = example()
    closest = positive_separation(data)
    shown, questions, sizes = [], [], {}
    for name, build in BUILD.items():
        width, depth = promised(data)[name]
        for ratio in RATIOS:
            radius = ratio * closest.lam / 2
            built = build(data, radius)
            claims = file_claims(name, built, width, depth)
            balls = tuple(ball(data, i, radius) for i in range(len(data)))
            claim = f"{name} at ρ = {float(ratio):g} is right on all balls of radius {radius}"
            questions.append(Question(claim, built.network, balls))
        network = built.network
        sizes[name] = {
            "width": network.width,
            "depth": network.depth,
            "nonzeros": network.nonzeros,
            "dense_parameters": built.dense_parameters,
        }
        shown.append(
            Shown(
                f"{name}: width {network.width}, depth {network.depth}, {network.nonzeros} nonzero "
                f"of {built.dense_parameters} parameters",
                f"{len(claims)} sizes read back from the exported file, at each of "
                f"{len(RATIOS)} radii",
            )
        )
        questions.append(_too_far(name, built, data))
    shown.append(_refused(data, closest.lam / 2))
    return Demonstration(
        "For every data set D and every radius μ < λ(D)/2 there is a network of width 3d + 1 and "
        "depth 2N + 1 whose value is the label on the whole ℓ∞ ball of radius μ around every "
        "sample; other shapes trade width for depth. From λ/2 on there is no such function.",
        f"{len(data)} points of the plane in {data.n_classes} classes, d = {data.dimension}, "
        f"λ = {closest.lam}, attained by points {closest.pair[0]} and {closest.pair[1]}",
        tuple(shown),
        {
            "separation": str(closest.lam),
            "ratios": [str(ratio) for ratio in RATIOS],
            "networks": sizes,
        },
        tuple(questions),
    )


def _too_far(name: str, built: Construction, data: DataSet) -> Question:
    """At λ/2 the balls of the closest pair share a point, so one of the two labels is wrong."""
    half = built.separation / 2
    cases = tuple(case for i in built.closest.pair for case in ball(data, i, half).cases)
    both = Property(cases, data.dimension, 1, f"both balls of radius {half}")
    return Question(
        f"{name}, built for {built.radius}, is wrong on a ball of radius λ/2 = {half}",
        built.network,
        (both,),
        refuted=True,
    )


def _refused(data: DataSet, half: Fraction) -> Shown:
    """What building at λ/2 answers."""
    try:
        running_maximum(data, half)
    except RadiusError as problem:
        point, (i, j) = problem.midpoint, problem.pair
        for k in (i, j):
            if not Box.ball(data.sample(k), half).contains(point):
                raise
        where = ", ".join(str(v) for v in point)
        return Shown(
            f"no function at all is right on all balls of radius λ/2 = {half}",
            f"the point ({where}) lies in the balls of points {i} and {j}, whose labels differ",
        )
    raise ValueError(f"a network of radius {half} = λ/2 cannot exist")
