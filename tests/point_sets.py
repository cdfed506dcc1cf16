"""Small labelled point sets with exact coordinates, for tests."""

from fractions import Fraction

from constructions.rational_points import RationalPoints


def grid_points(rng, *, max_points=7, classes=3):
    """Points of a coarse grid (duplicates and points in hulls are frequent), labels by place."""
    while True:
        n, d = int(rng.integers(2, max_points + 1)), int(rng.integers(1, 4))
        points = rng.integers(-3, 4, (n, d))
        q = int(rng.choice([1, 3, 4]))
        labels = {tuple(x): int(rng.integers(0, classes)) for x in points.tolist()}
        y = tuple(labels[tuple(x)] for x in points.tolist())
        if len(set(y)) > 1:
            return RationalPoints(
                tuple(tuple(Fraction(v, q) for v in x) for x in points.tolist()), y
            )


def scattered_points(rng, n, d, classes=3):
    """Random points of the unit cube in thousandths, labels at random; at least two classes."""
    points = tuple(tuple(Fraction(int(v), 1000) for v in x) for x in rng.integers(0, 1001, (n, d)))
    labels = (0, 1, *(int(v) for v in rng.integers(0, classes, n - 2)))
    return RationalPoints(points, labels)
