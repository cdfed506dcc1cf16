"""Accuracy against adversarial accuracy as two bi-level problems, over the radius of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from relucid.experiments.deciding import Count, attacked, counted, decided
from relucid.experiments.findings import Cell, Findings, Table, lines
from relucid.experiments.workshop import Trained, Workshop

#: Radii of training, and the radius that robustness is measured at.
TRAINED = ("0", "0.02", "0.05", "0.1", "0.2", "0.3")
EPS = Fraction(1, 10)
POINTS = 100
_HEADS = (
    "trained at", "accuracy", "under attack", "exact, at least", "exact, at most", "undecided",
    "points", "epochs", "seconds",
)  # fmt: skip
_PROBLEM_HEADS = ("problem", "trained at", "accuracy", "exact, at least", "exact, at most")


@dataclass(frozen=True, eq=False)
class _Player:
    """A classifier's move.

    Args:
        radius: of its training.
        model: what came of it.
        count: its points.
    """

    radius: str
    model: Trained
    count: Count

    @property
    def accuracy(self) -> Fraction:
        """Of the points that are decided, exactly."""
        return self.count.share(self.count.right)

    @property
    def robust(self) -> tuple[Fraction, Fraction]:
        """Bounds of the adversarial accuracy."""
        return self.count.share(self.count.proved), self.count.share(self.count.not_refuted)


def run(shop: Workshop) -> Findings:
    """Train a small network at several radii, and decide the same points for each.

    Raises:
        RuntimeError: attack and verifier contradict each other.
        OSError: a folder cannot be written to.
    """
    players = [_player(shop, radius) for radius in TRAINED]
    rows = tuple(_row(player) for player in players)
    used = f"{players[0].model.recipe.architecture} on {shop.data.title}"
    title = f"{used}: accuracy against adversarial accuracy at {EPS}"
    series = {
        "accuracy": [p.accuracy for p in players],
        "under attack": [p.count.share(p.count.standing) for p in players],
        "exact, at most": [p.robust[1] for p in players],
        "exact, at least": [p.robust[0] for p in players],
    }
    png = lines([float(r) for r in TRAINED], series, title, "radius of training", "of the points")
    notes = (
        f"Adversarial training (cross-entropy) at each radius, normal training at 0; the first "
        f"{players[0].count.points} held-out points, robustness at ℓ∞ radius {EPS}. accuracy and "
        f"the bounds are exact, {shop.timeout:g} s a point; under attack is the ensemble `auto`.",
        "The two bi-level problems over these networks: accuracy first takes, among those with "
        "the largest accuracy, one that is most robust; robustness first takes, among those whose "
        "robustness may be the largest, one that is most accurate. Over all parameters of a class "
        "`relucid theorem game` solves both exactly, for a network with one parameter.",
    )
    tables = (
        Table("Over the radius of training", _HEADS, rows),
        Table("The two problems", _PROBLEM_HEADS, _problems(players), "problems"),
    )
    return Findings(title, tables, notes, {"": png})


def _player(shop: Workshop, radius: str) -> _Player:
    """Train, attack, decide."""
    if float(radius):
        model = shop.trained("adversarial", architecture="mlp", eps=float(radius))
    else:
        model = shop.trained("normal", architecture="mlp")
    count = shop.limit or POINTS
    return _Player(
        radius,
        model,
        counted(attacked(shop, model, EPS, count), decided(shop, model, EPS, count)),
    )


def _row(player: _Player) -> tuple[Cell, ...]:
    c = player.count
    return (
        player.radius, player.accuracy, c.share(c.standing), *player.robust, c.undecided, c.points,
        player.model.recipe.epochs, round(player.model.seconds),
    )  # fmt: skip


def _problems(players: Sequence[_Player]) -> tuple[tuple[Cell, ...], ...]:
    """Accuracy first and robustness first.

    Where bounds of the adversarial accuracy overlap, every network whose upper bound reaches the
    largest lower bound may be the most robust one.
    """
    top = max(p.accuracy for p in players)
    accurate = max((p for p in players if p.accuracy == top), key=lambda p: p.robust)
    floor = max(p.robust[0] for p in players)
    robust = max((p for p in players if p.robust[1] >= floor), key=lambda p: (p.accuracy, p.robust))
    return tuple(
        (name, p.radius, p.accuracy, *p.robust)
        for name, p in (("accuracy first", accurate), ("robustness first", robust))
    )
