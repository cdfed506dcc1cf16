"""Optimal robust memorization of a large set, held as its samples (THEORY, section 1).

The running-maximum network of ``constructions.robust`` with N = 60000 and d = 784 has 376 million
weights in 120 001 layers. All its blocks have one form, so it is kept, written and run as a loop
over the samples: ``verifier.core.scan``. The layers are those of ``running_maximum``, weight by
weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from constructions.claims import Claim, Claims
from constructions.construction import closest_claims, ranked_labels, scalar_label
from constructions.dataset import DataSet
from constructions.radius import require_radius
from constructions.safe_rounding import ceil_log2, robust_faces
from constructions.separation import Separation, positive_separation
from verifier.core.scan import ScanNetwork


@dataclass(frozen=True, eq=False)
class ScanConstruction:
    """The network with what its theorem promises; see ``constructions.construction``.

    Args:
        network: the loop.
        claims: promised sizes beside its own.
        radius: μ.
        closest: λ(D) and the pair of samples that attains it.
        labels: which class of the data set each of the labels 1..m is.
        values: the distinct coordinates of the samples, ascending, which network.which counts.
    """

    network: ScanNetwork
    claims: Claims
    radius: Fraction
    closest: Separation
    labels: tuple[int, ...]
    values: tuple[Fraction, ...]

    def closest_claims(self, data: DataSet) -> Claims:
        """The labels where the closest two balls nearly touch, exactly."""
        return closest_claims(
            self.claims.construction,
            data,
            self.closest,
            self.radius,
            lambda point: scalar_label(self.network.exact(point)[0], self.labels),
        )


def running_maximum_scan(data: DataSet, radius: Fraction) -> ScanConstruction:
    """The running-maximum network as a loop: width 3d + 1, depth 2N + 1.

    Args:
        data: the samples.
        radius: μ.

    Raises:
        RadiusError: radius ≥ λ/2.
        DataError: one class only, λ = 0, or more than 53 bits.
    """
    ranks, labels = ranked_labels(data)
    closest = positive_separation(data)
    require_radius(data, radius, closest)
    values, which = _indexed(data.points)
    distinct = _values_only(data, values)
    faces = robust_faces(distinct, radius, closest.lam)
    n, d = data.points.shape
    network = ScanNetwork(
        which,
        faces.value(faces.high[:, 0] + faces.shift),
        faces.value(faces.low[:, 0] + faces.shift),
        ranks.astype(np.float64),
        float(faces.value(faces.shift)),
        math.ldexp(1.0, ceil_log2(len(labels) / faces.gap)),
        data.shape,
        "optimal-robust",
    )
    source = "THEORY 1"
    claims = Claims(
        "optimal-robust",
        (
            Claim.equal("width", 3 * d + 1, network.width, f"3d + 1, {source}"),
            Claim.equal("depth", 2 * n + 1, network.depth, f"2N + 1, {source}"),
            Claim.at_most("nonzeros", n * (8 * d + 5), network.nonzeros, f"≤ N (8d + 5), {source}"),
            Claim.at_least("K · gap", len(labels), Fraction(network.slope) * faces.gap, source),
        ),
    ).check()
    exact = tuple(distinct.sample(k)[0] for k in range(len(values)))
    return ScanConstruction(network, claims, radius, closest, labels, exact)


def _indexed(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, ascending, and which of them each coordinate has, in few bytes."""
    values = np.unique(points)
    kind = next(t for t in (np.uint8, np.uint16, np.uint32) if len(values) <= np.iinfo(t).max + 1)
    which = np.empty(points.shape, dtype=kind)
    for i, row in enumerate(points):
        which[i] = np.searchsorted(values, row)
    return values, which


def _values_only(data: DataSet, values: np.ndarray) -> DataSet:
    """The values as points of one coordinate: faces depend on nothing else."""
    none = np.zeros(len(values), dtype=np.int64)
    return DataSet(values[:, None], none, (1,), 1, data.name, data.scale)
