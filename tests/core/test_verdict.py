"""A verdict carries its evidence, cannot be changed, and has one word."""

from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest

from verifier.core.verdict import Proved, Refuted, Replay, Unknown, Witness, word

WITNESS = Witness((Fraction(1, 3),), (Fraction(2),), 0, 1)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [(Proved("tree"), "proved"), (Refuted(WITNESS), "refuted"), (Unknown("late"), "unknown")],
)
def test_every_verdict_has_its_word(verdict, expected):
    assert word(verdict) == expected


def test_no_verdict_without_its_evidence():
    for kind in (Proved, Refuted, Unknown):
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            kind()


@pytest.mark.parametrize(
    ("verdict", "field"),
    [(Proved("tree"), "evidence"), (Refuted(WITNESS), "witness"), (Unknown("late"), "reason")],
)
def test_a_verdict_stays_as_it_is(verdict, field):
    with pytest.raises(FrozenInstanceError):
        setattr(verdict, field, None)


def test_verdicts_do_not_share_their_statistics():
    first, second = Unknown("a"), Unknown("a")
    assert first == second
    first.statistics["nodes"] = 1.0
    assert second.statistics == {}


def test_a_witness_knows_where_it_belongs():
    assert (WITNESS.case, WITNESS.clause, WITNESS.replay) == (0, 1, None)
    replay = Replay((0.3333,), (2.0,), True)
    assert Witness(WITNESS.x, WITNESS.y, 0, 1, replay).replay == replay
