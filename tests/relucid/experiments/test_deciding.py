"""Attack, search and bounds beside each other; contradictions stop the command."""

from dataclasses import replace
from fractions import Fraction

import pytest

pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from relucid.experiments.deciding import Attacked, Decided, counted, standing

#: wrong itself; broken; refuted by the verifier only; unknown; proved by search; by bounds.
ATTACKS = [
    Attacked(0, False, True, False, 0),
    Attacked(1, True, True, False, 1),
    Attacked(2, True, False, False, 0),
    Attacked(3, True, False, False, 2),
    Attacked(4, True, False, False, 0),
    Attacked(5, True, False, False, 0),
]
VERDICTS = [
    Decided(0, "refuted", 0.0, False, False),
    Decided(1, "unknown", 1.0, False, False),
    Decided(2, "refuted", 0.5, False, False),
    Decided(3, "unknown", 1.0, False, False),
    Decided(4, "proved", 0.1, False, False),
    Decided(5, "unknown", 1.0, False, True),
]


def test_counts():
    count = counted(ATTACKS, VERDICTS)
    assert (count.points, count.right, count.standing) == (6, 5, 4)
    assert (count.not_refuted, count.proved, count.undecided) == (3, 2, 1)
    assert (count.certified, count.backward, count.intervals) == (1, 1, 0)
    assert (count.missed, count.claims, count.outside) == (1, 3, 0)
    assert count.share(count.standing) == standing(ATTACKS) == Fraction(2, 3)


@pytest.mark.parametrize(
    ("row", "attack", "verdict", "message"),
    [
        (4, {"broken": True}, {}, "proved by the search"),
        (5, {"broken": True}, {}, "proved by bounds"),
        (2, {}, {"backward": True}, "proved by bounds"),
        (1, {"outside": True}, {}, "outside of its ball"),
    ],
)
def test_contradictions_are_not_counted(row, attack, verdict, message):
    attacks, verdicts = list(ATTACKS), list(VERDICTS)
    attacks[row] = replace(attacks[row], **attack)
    verdicts[row] = replace(verdicts[row], **verdict)
    with pytest.raises(RuntimeError, match=message):
        counted(attacks, verdicts)


def test_rows_of_other_points_are_refused():
    with pytest.raises(ValueError, match="beside"):
        counted(ATTACKS[:1], VERDICTS[1:2])
