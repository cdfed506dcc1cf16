"""The demonstration of T9; the figures themselves are checked in test_game_solve."""

from fractions import Fraction

import pytest

from constructions.game import demonstrate, require
from verifier.core.errors import CertificateError


def test_the_demonstration():
    shown = demonstrate()
    assert shown.values["A"]["value"] == "-13/3"
    assert shown.values["A"]["AA"] == "1/3"
    assert shown.values["A'"] == {
        "value": "-5",
        "equilibrium": ["-2", "1", "-1", "2"],
        "AA": "2/3",
        "better": ["-1/2", "1", "-1", "2"],
    }
    assert shown.values["A truncated"]["value"] == "-148/57"
    assert shown.values["order_of_play"] == [1, 0]
    assert Fraction(shown.values["A scaled"]["factor"]) == Fraction(12, 7)
    assert [question.refuted for question in shown.questions] == [True, False, False]


def test_what_is_not_true_is_not_shown():
    require(True, "truth")
    with pytest.raises(CertificateError, match="falsehood"):
        require(False, "falsehood")
