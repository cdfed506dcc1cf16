"""``relucid theorem np-hardness``: what is shown, and that false steps are noticed."""

import pytest

from constructions import np_hardness
from constructions.claims import ClaimError
from constructions.graphs import fano, load_graph
from constructions.hardness import ColouringProblem
from constructions.hardness_decision import Undecided
from constructions.np_hardness import demonstrate, question
from relucid.theorem import ask


def test_both_answers_are_shown():
    shown = demonstrate()
    assert shown.values["petersen"] == shown.values["fano_3_colouring"] == "yes"
    assert shown.values["moser"] == shown.values["fano_splitting"] == "no"
    claims = " ".join(item.claim for item in shown.shown)
    for word in ("petersen", "fano", "Moser spindle", "cannot be split", "49/100 λ"):
        assert word in claims
    assert [len(q.properties) for q in shown.questions] == [25, 14]


def test_the_verifier_notices_the_colouring_of_another_graph():
    colours = (0, 1, 2, 0, 0)
    bull, house = (ColouringProblem.of(load_graph(name)) for name in ("bull", "house"))
    assert house.graph.monochromatic(colours) is not None
    made = bull.network(colours)
    assert "all 10 balls" in ask(question(bull, made)).claim
    with pytest.raises(ClaimError, match="refuted"):
        ask(question(house, made))


def test_what_cannot_be_shown_is_an_error(monkeypatch):
    monkeypatch.setattr(np_hardness, "decide", lambda problem: Undecided("no time"))
    with pytest.raises(ClaimError, match="no network was found"):
        demonstrate()
    monkeypatch.setattr(np_hardness, "weak_colouring", lambda graph, colours: None)
    with pytest.raises(ClaimError, match="no weak 3-colouring"):
        demonstrate()
    with pytest.raises(ClaimError, match="no proof was found"):
        np_hardness._none(ColouringProblem.of(fano()))
