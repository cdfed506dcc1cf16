"""Which radius a data set allows: μ < λ/2, and the witness when it is not."""

from __future__ import annotations

from fractions import Fraction

from constructions.dataset import DataSet
from constructions.rational_points import midpoint
from constructions.separation import Separation
from verifier.core.errors import DataError

_SHOWN = 8


class RadiusError(DataError):
    """μ ≥ λ/2: one point lies in the balls of two samples of different labels.

    Args:
        message: the one line for the user.
        midpoint: that point, exactly.
        pair: the indices of the two samples.
    """

    def __init__(self, message: str, midpoint: tuple[Fraction, ...], pair: tuple[int, int]) -> None:
        super().__init__(message)
        self.midpoint, self.pair = midpoint, pair


def _shown(
    first: tuple[Fraction, ...], second: tuple[Fraction, ...], point: tuple[Fraction, ...]
) -> str:
    """The midpoint, or of a long one the coordinate in which the two samples differ most."""
    if len(point) <= _SHOWN:
        return f" ({', '.join(str(v) for v in point)})"
    k = max(range(len(point)), key=lambda j: abs(first[j] - second[j]))
    return f" ({point[k]} at coordinate {k}, between {first[k]} and {second[k]})"


def require_radius(data: DataSet, radius: Fraction, closest: Separation) -> None:
    """Refuse a radius that no network can have.

    Raises:
        DataError: a negative radius.
        RadiusError: radius ≥ λ/2.
    """
    if radius < 0:
        raise DataError(f"{data.name}: the radius must be at least 0, got {radius}")
    half = closest.lam / 2
    if radius < half:
        return
    i, j = closest.pair
    point = midpoint(data.sample(i), data.sample(j))
    shown = _shown(data.sample(i), data.sample(j), point)
    raise RadiusError(
        f"{data.name}: radius {radius} is not below λ/2 = {half}: the midpoint{shown} of points "
        f"{i} (label {data.label_name(int(data.labels[i]))}) and "
        f"{j} (label {data.label_name(int(data.labels[j]))}) lies in both balls",
        point,
        (i, j),
    )
