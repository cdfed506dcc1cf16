"""The depth-2 network of a data set, or the exact reason why there is none (THEORY 4).

The labels are 1..m in the order of the classes that occur; the decision is about these numbers. The
network's output is q times the label, where q is 1 unless the steps of the ramps need a common
denominator that is no power of two: then no float network has the label itself as its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from constructions.claims import Claim, Claims, network_claims
from constructions.construction import Construction, dense_size, ranked_labels
from constructions.dataset import DataSet
from constructions.depth_two import MAX_POINTS, CriticalRadius, Progress, critical_radius
from constructions.depth_two_check import check_impossibility, check_memorizes, check_splits
from constructions.radius import require_radius
from constructions.rational_points import RationalPoints
from constructions.separation import positive_separation
from verifier.core.errors import CertificateError, DataError
from verifier.core.network import Network


def depth_two(
    data: DataSet,
    radius: Fraction | None,
    *,
    share: Fraction = Fraction(99, 100),
    progress: Progress | None = None,
) -> Construction:
    """A depth-2 network that is right on all balls of a radius below the critical one, μ_2(D).

    Width 2 · splits, of which there are at most N − 1.

    Args:
        data: at most ``MAX_POINTS`` points.
        radius: μ; None for a share of μ_2.
        share: in [0, 1).
        progress: called now and then with the share of the search that is done.

    Raises:
        DataError: λ = 0, one class only, too many points, a search that was given up, a radius from
            λ/2 on, or one from μ_2 on, which no depth-2 network of any width has.
    """
    if len(data) > MAX_POINTS:
        raise DataError(
            f"{data.name}: {len(data)} points: the exact depth-2 decision takes at most "
            f"{MAX_POINTS}; choose fewer"
        )
    labels, present = ranked_labels(data)
    closest = positive_separation(data)
    if radius is not None:
        require_radius(data, radius, closest)
    points = RationalPoints(
        tuple(data.sample(i) for i in range(len(data))), tuple(int(y) for y in labels)
    )
    try:
        critical = critical_radius(points, progress=progress)
    except DataError as problem:
        raise DataError(f"{data.name}: {problem}") from problem
    mu = share * critical.radius if radius is None else radius
    if mu >= critical.radius:
        raise DataError(_refusal(data, mu, critical))
    step = _common_step(critical)
    network = _times(critical, step).network(mu)
    return Construction(
        network,
        _claims(network, critical, mu, step),
        mu,
        closest,
        present,
        dense_size(network),
        label_step=step,
    )


def _refusal(data: DataSet, mu: Fraction, critical: CriticalRadius) -> str:
    """Why there is no network of radius mu, checked."""
    half = critical.data.separation / 2
    known = f"the critical radius of depth 2 is exactly {critical.radius} (λ/2 = {half})"
    if mu == critical.radius:
        return f"{data.name}: radius {mu}: {known}, where the theorem is silent; take a smaller one"
    check_impossibility(critical.data, critical.radius, critical.impossibility)
    count = len(critical.impossibility.blockers)
    return (
        f"{data.name}: no depth-2 network of any width is right on all balls of radius {mu}: "
        f"{known}, by a checked proof of {count} pairs of convex combinations"
    )


def _common_step(critical: CriticalRadius) -> int:
    """The smallest odd q ≥ 1 that makes q times every step of a ramp a finite binary fraction."""
    steps = [critical.constant, *(s.step for s in critical.separators)]
    common = math.lcm(*(v.denominator for v in steps))
    return common // (common & -common)


def _times(critical: CriticalRadius, factor: int) -> CriticalRadius:
    """The same decision about labels multiplied by a positive number."""
    data = critical.data
    return replace(
        critical,
        data=replace(data, labels=tuple(factor * y for y in data.labels)),
        constant=factor * critical.constant,
        separators=tuple(replace(s, step=factor * s.step) for s in critical.separators),
    )


def _claims(network: Network, critical: CriticalRadius, mu: Fraction, step: int) -> Claims:
    """The sizes, and both directions of the theorem by checkers that know nothing of the search."""
    data, splits = critical.data, len(critical.separators)
    source = "2 neurons a split"
    sizes = network_claims(
        "depth-two",
        network,
        source,
        n_inputs=data.dimension,
        n_outputs=1,
        width=2 * splits,
        depth=2,
    )
    scaled: RationalPoints = _times(critical, step).data
    return sizes + Claims(
        "depth-two",
        (
            Claim.at_most("splits", len(data) - 1, splits, "independent of each other and of 1"),
            Claim.at_most("radius", critical.radius, mu, "below the critical radius"),
            Claim.true(
                f"label on all {len(data)} balls",
                _passes(lambda: check_memorizes(network, scaled, mu)),
                "each neuron on or off on each ball, exactly",
            ),
            Claim.true(
                "every smaller radius",
                _passes(
                    lambda: check_splits(
                        data, critical.radius, critical.constant, critical.separators
                    )
                ),
                "the labels are a sum of splits that wide, exactly",
            ),
            Claim.true(
                "no larger radius",
                _passes(lambda: check_impossibility(data, critical.radius, critical.impossibility)),
                f"{len(critical.impossibility.blockers)} pairs of convex combinations, exactly",
            ),
        ),
    )


def _passes(check: Callable[[], None]) -> bool:
    """Whether a checker accepts."""
    try:
        check()
    except CertificateError:
        return False
    return True
