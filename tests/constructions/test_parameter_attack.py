"""The demonstration of T10."""

from fractions import Fraction

import pytest

from constructions.idle_attack import largest_change
from constructions.memorize_depth2 import staircase
from constructions.parameter_attack import demonstrate, exclusive_or, require, shaken
from verifier.core.errors import CertificateError


def test_the_demonstration():
    shown = demonstrate()
    attacks = shown.values["idle_attacks"]
    # A = 3 + 27/32, h = 9/16: 4·4·(⌊A/(hδ²)⌋ + 1).
    assert [attack["idle"] for attack in attacks] == [448, 1760]
    assert shown.values["deep"]["idle"][0] > 5 * shown.values["deep"]["idle"][1]
    assert shown.values["last_layer"]["flat"] == "0"
    assert [question.refuted for question in shown.questions] == [False, True, False]


def test_every_number_moves_by_delta():
    network = staircase(exclusive_or(), one_hot=True).built.network
    delta = Fraction(1, 128)
    moved = shaken(network, delta, seed=3)
    assert largest_change(network, moved) == delta
    for before, after in zip(network.layers, moved.layers, strict=True):
        assert (abs(after.dense - before.dense) == float(delta)).all()
        assert (abs(after.bias - before.bias) == float(delta)).all()


def test_what_is_not_true_is_not_shown():
    with pytest.raises(CertificateError, match="falsehood"):
        require(False, "falsehood")
