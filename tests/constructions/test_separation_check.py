"""The separation's certificate is accepted, and rejected with any part of it changed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from constructions.dataset import DataSet
from constructions.rational_points import midpoint
from constructions.separation import separation
from constructions.separation_check import check_meeting, check_separation
from verifier.core.errors import CertificateError


def random_set(seed, high=9, n=30):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, high, (n, 3), dtype=np.int16)
    return DataSet(points, rng.integers(0, 3, n), (3,), 3, "d", Fraction(1, 7))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("nearest", [False, True])
def test_answers_of_the_search_are_accepted(seed, nearest):
    data = random_set(seed, high=9 if seed % 2 else 200)
    labels = data.labels.tolist()
    pairs = sum(labels[i] != labels[j] for i in range(len(data)) for j in range(i))
    assert check_separation(data, separation(data, nearest=nearest)) == pairs


def wrong_answers(data, found):
    """The answer with each of its parts changed."""
    i, j = found.pair
    yield replace(found, lam=found.lam + data.scale)
    yield replace(found, lam=found.lam - data.scale)
    yield replace(found, lam=found.lam + Fraction(1, 10**9))
    yield replace(found, pair=(j, i))
    yield replace(found, pair=(i, (j + 1) % len(data)))
    yield replace(found, labels=found.labels[::-1])
    near = found.nearest
    for k in (0, len(data) - 1):
        for other in range(len(data)):
            same = data.labels[other] == data.labels[k]
            farther = np.abs(data.points[other].astype(int) - data.points[k]).max() > near.steps[k]
            if same or farther:
                enemy = near.enemy.copy()
                enemy[k] = other
                yield replace(found, nearest=replace(near, enemy=enemy))
        steps = near.steps.copy()
        steps[k] += np.uint64(1)
        yield replace(found, nearest=replace(near, steps=steps))
    short = replace(near, enemy=near.enemy[:-1], steps=near.steps[:-1])
    yield replace(found, nearest=short)
    yield replace(found, nearest=replace(near, unit=2 * near.unit))


@pytest.mark.parametrize("seed", range(3))
def test_wrong_answers_are_rejected(seed):
    data = random_set(seed)
    wrong = list(wrong_answers(data, separation(data, nearest=True)))
    assert len(wrong) > 30
    for claim in wrong:
        with pytest.raises(CertificateError):
            check_separation(data, claim)


def test_another_pair_at_the_same_distance_is_not_the_first():
    points = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    data = DataSet(points, np.array([0, 1, 1, 0]), (2,), 2)
    found = separation(data)
    assert found.pair == (0, 1)
    for pair in ((0, 2), (1, 3), (2, 3)):
        labels = tuple(int(data.labels[i]) for i in pair)
        with pytest.raises(CertificateError, match=r"first attained by \(0, 1\)"):
            check_separation(data, replace(found, pair=pair, labels=labels))


def test_values_that_are_not_compared():
    line = DataSet(np.array([[0.5], [1.5]]), np.array([0, 1]), (1,), 2)
    with pytest.raises(CertificateError, match="floats"):
        check_separation(line, separation(line))
    wide = DataSet(np.array([[0], [2**62]]), np.array([0, 1]), (1,), 2)
    with pytest.raises(CertificateError, match="62 bits"):
        check_separation(wide, separation(wide))


def test_where_two_balls_meet():
    data = random_set(1)
    i, j = separation(data).pair
    half = separation(data).lam / 2
    point = midpoint(data.sample(i), data.sample(j))
    check_meeting(data, (i, j), half, point)
    tiny = Fraction(1, 10**9)
    same = int(np.flatnonzero(data.labels == data.labels[i])[-1])
    with pytest.raises(CertificateError, match="not"):
        check_meeting(data, (i, j), half - tiny, point)
    with pytest.raises(CertificateError, match="same label"):
        check_meeting(data, (i, same), 100 * half, point)
    with pytest.raises(CertificateError, match=r"from \d+, not"):
        check_meeting(data, (i, j), half, (point[0] + 3 * half, *point[1:]))
