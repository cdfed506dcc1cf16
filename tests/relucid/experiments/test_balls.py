"""Balls for attacks and for the verifier, and smaller questions made of a data set."""

from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an extra, and is not installed")

from constructions.dataset import DataSet
from relucid.experiments.balls import Balls
from relucid.experiments.two_classes import of_parity, pooled
from relucid.experiments.workshop import Data
from verifier.core.errors import DataError


def test_corners_lie_in_the_exact_balls():
    data = Data.of("digits", None).held_out
    radius = Fraction(1, 10)
    balls = Balls.around(data, range(5), radius)
    assert len(balls) == 5
    random = np.random.default_rng(0)
    signs = random.integers(-1, 2, balls.x.shape)
    moved = balls.corners(signs)
    assert moved.dtype == np.float32
    for i in range(5):
        assert balls.box(i).contains(moved[i].tolist())
        assert balls.box(i).contains(data.sample(i))
        exact = [min(max(Fraction(v) + int(s) * radius, Fraction(0)), Fraction(1))
                 for v, s in zip(balls.x[i].tolist(), signs[i], strict=True)]  # fmt: skip
        assert np.allclose(moved[i], [float(v) for v in exact], atol=1e-7)
        assert (moved[i] == balls.x[i])[signs[i] == 0].all()
    free = DataSet(np.array([[0.5, -3.0]]), np.zeros(1, int), (2,), 1)
    assert Balls.around(free, [0], Fraction(1)).lower.tolist() == [[-0.5, -4.0]]


def test_parity_and_blocks_are_exact():
    data = Data.of("digits", None)
    pair = of_parity(data)
    assert pair.held_out.n_classes == 2
    assert (pair.learnt.labels == data.learnt.labels % 2).all()
    assert pair.held_out_points.described() != data.held_out_points.described()
    small = pooled(pair, 2, 4)
    assert small.held_out.dimension == 8
    assert small.held_out_points.shape == (1, 2, 4)
    picture = np.array(data.held_out.sample(3), dtype=object).reshape(8, 8)
    blocks = [picture[4 * r : 4 * r + 4, 2 * c : 2 * c + 2] for r in (0, 1) for c in range(4)]
    expected = [block.mean() for block in blocks]
    assert list(small.held_out.sample(3)) == expected
    assert small.held_out.is_image


def test_blocks_must_cover_the_picture():
    data = Data.of("digits", None)
    with pytest.raises(DataError, match="3 × 4 blocks"):
        pooled(data, 3, 4)
