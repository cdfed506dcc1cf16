"""Pictures show the pixels where they are."""

from fractions import Fraction

import pytest

from relucid.pictures import planes, png, text_grid

WHITE, BLACK = Fraction(1), Fraction(0)


def test_a_grid_shows_shades_and_the_direction_of_change():
    before = [WHITE, BLACK, Fraction(1, 2), BLACK]
    after = [Fraction(3, 4), BLACK, Fraction(1, 2), Fraction(1, 8)]
    assert text_grid(before, after, (2, 2)) == [
        "orig   witn   chan",
        "@@     ##     −−",
        "++     ++..     ··",
    ]


def test_wide_pictures_take_one_character_a_pixel():
    lines = text_grid([BLACK] * 784, [WHITE] * 784, (1, 28, 28))
    assert len(lines) == 29
    assert lines[1] == " " * 28 + "   " + "@" * 28 + "   " + "+" * 28


def test_colours_are_averaged():
    lines = text_grid([BLACK] * 3, [WHITE, BLACK, BLACK], (3, 1, 1))
    assert lines[1].split() == ["@@", "++"]


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (1, 1, 2, 2), (1, 33)])
def test_what_is_no_picture_or_too_wide_gives_no_grid(shape):
    size = 1
    for n in shape:
        size *= n
    assert text_grid([BLACK] * size, [WHITE] * size, shape) == []


def test_planes():
    assert planes((28, 28)) == (1, 28, 28)
    assert planes((3, 32, 32)) == (3, 32, 32)
    assert planes((7,)) is None
    assert planes((5, 2, 2)) is None


@pytest.mark.parametrize("shape", [(2, 2), (1, 2, 2), (3, 2, 2)])
def test_png(shape):
    size = 4 * (3 if shape[0] == 3 else 1)
    data = png([BLACK] * size, [Fraction(1, 4)] * size, shape, ["a", "b", "c"])
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 1000


def test_png_of_what_is_no_picture():
    with pytest.raises(ValueError, match="are no pictures"):
        png([BLACK], [WHITE], (1,), ["a", "b", "c"])
