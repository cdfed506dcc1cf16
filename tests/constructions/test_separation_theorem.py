"""The separation theorem's demonstration."""

import numpy as np

from constructions.dataset import load_dataset
from constructions.separation_theorem import demonstrate, square


def test_the_chessboard_attains_it_everywhere():
    data = square()
    gaps = np.abs(data.points[:, None] - data.points[None]).max(axis=2)
    enemies = data.labels[:, None] != data.labels
    assert ((gaps == 1) & enemies).sum() // 2 == 12
    assert gaps[enemies].min() == 1


def test_the_digits_against_all_pairs():
    shown = demonstrate()
    data = load_dataset("digits")
    points = data.points.astype(np.int16)
    gaps = np.array([np.abs(points - x).max(axis=1) for x in points])
    gaps[data.labels[:, None] == data.labels] = 99
    first = divmod(int(gaps.argmin()), len(data))
    assert shown.values["digits"] == {
        "lambda": f"{gaps.min()}/16",
        "pair": list(first),
        "quick_pair": list(first),
        "attained": int((gaps.min(axis=1) == gaps.min()).sum()),
    }
    assert str(int((gaps < 99).sum()) // 2) in shown.shown[2].certificate
    (question,) = shown.questions
    assert len(question.properties) == len(square())
