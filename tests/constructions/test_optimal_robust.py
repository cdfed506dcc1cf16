"""The theorem's demonstration: sizes by hand, files read back, questions with their answers."""

from dataclasses import replace
from fractions import Fraction

import pytest

from constructions.claims import ClaimError
from constructions.optimal_robust import (
    BUILD,
    RATIOS,
    ball,
    demonstrate,
    example,
    file_claims,
    promised,
)
from constructions.separation import positive_separation
from relucid.theorem import ask


def test_the_sizes_by_hand():
    """N = 7, d = 2, classes of 2, 2 and 3 points; λ = 3/8."""
    assert positive_separation(example()).lam == Fraction(3, 8)
    assert promised(example()) == {
        "optimal-robust": (7, 15),
        "class-sum": (8, 16),
        "blocks": (12, 10),
        "shallow": (None, 4),
    }


@pytest.mark.parametrize("name", BUILD)
def test_files_are_compared_with_the_promise(name):
    built = BUILD[name](example(), Fraction(1, 8))
    width, depth = promised(example())[name]
    assert len(file_claims(name, built, width, depth)) == (4 if width else 3)
    for wrong in ((width, depth + 1), (built.network.width + 1, depth)):
        with pytest.raises(ClaimError, match="should be"):
            file_claims(name, built, *wrong)


def test_every_construction_and_every_radius_is_asked():
    shown = demonstrate()
    assert len(shown.shown) == len(BUILD) + 1
    assert len(shown.questions) == len(BUILD) * (len(RATIOS) + 1)
    assert sum(q.refuted for q in shown.questions) == len(BUILD)
    assert all(len(q.properties) == (1 if q.refuted else 7) for q in shown.questions)
    assert "(3/16, 1/16) lies in the balls of points 0 and 1" in shown.shown[-1].certificate


def test_a_wrong_answer_is_an_error():
    question = demonstrate().questions[0]
    with pytest.raises(ClaimError, match="should say refuted"):
        ask(replace(question, refuted=True))
    data = example()
    too_large = tuple(ball(data, i, Fraction(1, 2)) for i in range(len(data)))
    with pytest.raises(ClaimError, match="should say proved"):
        ask(replace(question, properties=too_large))
