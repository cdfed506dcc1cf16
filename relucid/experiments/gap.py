"""Three numbers of one robust network: accuracy under attack ≥ exact ≥ certified."""

from __future__ import annotations

from fractions import Fraction

from relucid.experiments.deciding import Count, attacked, counted, decided
from relucid.experiments.findings import Cell, Findings, Table, lines
from relucid.experiments.workshop import Workshop

EPS = 0.1
RADII = (Fraction(1, 20), Fraction(1, 10), Fraction(3, 20), Fraction(1, 5))
POINTS = 100
_HEADS = (
    "radius", "accuracy", "under attack", "exact, at most", "exact, at least", "certified",
    "certified by intervals", "points", "broken by attacks", "refuted by the verifier only",
    "undecided", "outside the ball", "wrong in floats only",
)  # fmt: skip


def run(shop: Workshop) -> Findings:
    """Train a small network by certified training and count three ways at four radii.

    Raises:
        DataError: the points are no pictures that the network takes.
        RuntimeError: the order is violated, or a witness lies outside of its ball.
        OSError: a folder cannot be written to.
    """
    model = shop.trained("certified", architecture="small-cnn", eps=EPS)
    count = shop.limit or POINTS
    counts = [
        counted(attacked(shop, model, eps, count), decided(shop, model, eps, count))
        for eps in RADII
    ]
    rows = [_row(eps, c) for eps, c in zip(RADII, counts, strict=True)]
    used = f"{model.recipe.architecture} on {shop.data.title}"
    title = f"{used}: under attack ≥ exact ≥ certified"
    series = {
        "under attack": [c.share(c.standing) for c in counts],
        "exact, at most": [c.share(c.not_refuted) for c in counts],
        "exact, at least": [c.share(c.proved) for c in counts],
        "certified by bounds": [c.share(c.certified) for c in counts],
    }
    png = lines([float(eps) for eps in RADII], series, title, "ℓ∞ radius", "of the points")
    notes = (
        f"The first {counts[0].points} held-out points; recipe {model.recipe.name}, radius "
        f"{EPS:g}, {model.recipe.epochs} epochs, {model.seconds:.0f} s of training. Balls around "
        "the float32 values, cut to [0, 1] for pictures.",
        "under attack: what the ensemble `auto` leaves; every success is inside its ball and wrong "
        "in exact arithmetic. exact: the verifier, "
        f"{shop.timeout:g} s a point; at most: no counterexample is known; at least: proved. "
        "certified: interval or backward linear bounds, without a search. Attack and verifier do "
        "not know of each other; a point that one refutes and another proves stops the command.",
    )
    return Findings(title, (Table("Accuracies", _HEADS, tuple(rows)),), notes, {"": png})


def _row(eps: Fraction, c: Count) -> tuple[Cell, ...]:
    """One radius, after a last look at the order.

    Raises:
        RuntimeError: it is violated.
    """
    order = (c.standing, c.not_refuted, c.proved, c.certified)
    if list(order) != sorted(order, reverse=True) or c.outside:
        raise RuntimeError(f"under attack ≥ exact ≥ certified is violated at {eps}: {order}")
    shares = (c.right, *order, c.intervals)
    return (
        float(eps), *map(c.share, shares), c.points, c.right - c.standing, c.missed, c.undecided,
        c.outside, c.claims,
    )  # fmt: skip
