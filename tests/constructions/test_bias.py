"""The demonstration of T8, and the cover of the unit square."""

from fractions import Fraction

import pytest

from constructions.bias import demonstrate, require, unit_square
from verifier.core.errors import CertificateError


@pytest.mark.parametrize("cells", [3, 8, 16])
def test_the_square_is_filled_but_for_a_strip(cells):
    cover, area = unit_square(cells)
    assert area == 1 - Fraction(2 * cells - 1, cells**2)
    assert cover.separation == Fraction(1, cells)
    for box, label in zip(cover.boxes, cover.labels, strict=True):
        assert sum(box.upper) <= 1 if label == 0 else sum(box.lower) >= 1


def test_the_demonstration():
    shown = demonstrate()
    assert shown.values["safety"]["three_classes"] == ["3/4", "3/4"]
    assert shown.values["square"]["area"] == "225/256"
    assert not shown.questions[0].refuted
    assert len(shown.questions[0].properties) == shown.values["square"]["boxes"]


def test_what_is_not_true_is_not_shown():
    with pytest.raises(CertificateError, match="falsehood"):
        require(False, "falsehood")
