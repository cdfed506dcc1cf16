"""Faces that floats hold: balls stay inside, enemies stay out, bits stay few."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import separation, small_sets

from constructions.dataset import DataSet
from constructions.safe_rounding import ceil_log2, robust_faces, sample_faces, unit
from verifier.core.errors import DataError

ratios = st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(999, 1000), 1 - Fraction(1, 10**6)])


@given(data=small_sets(), ratio=ratios)
def test_balls_stay_inside_and_enemies_outside(data, ratio):
    lam = separation(data)
    radius = ratio * lam / 2
    faces = robust_faces(data, radius, lam)
    step = unit(faces.grid)
    assert faces.gap >= lam / 2 - radius > 0
    centres = [data.sample(i) for i in range(len(data))]
    low = [[int(v) * step for v in row] for row in faces.low]
    high = [[int(v) * step for v in row] for row in faces.high]
    for x, below, above in zip(centres, low, high, strict=True):
        for c, a, b in zip(x, below, above, strict=True):
            assert c - radius - step < a <= c - radius
            assert c + radius <= b < c + radius + step
            assert c - radius + faces.shift * step >= 0
    for i, k in itertools.permutations(range(len(data)), 2):
        if data.labels[i] != data.labels[k]:
            beyond = [
                max(c - radius - b, a - c - radius)
                for c, a, b in zip(centres[k], low[i], high[i], strict=True)
            ]
            assert max(beyond) >= faces.gap


@given(data=small_sets(), bits=st.sampled_from([24, 53]))
def test_samples_stay_inside_their_boxes(data, bits):
    lam = separation(data)
    faces = sample_faces(data, lam, bits=bits)
    step = unit(faces.grid)
    assert lam - step <= faces.gap <= lam
    for i in range(len(data)):
        for c, a, b in zip(data.sample(i), faces.low[i], faces.high[i], strict=True):
            assert int(a) * step <= c <= int(b) * step
            assert int(b) - int(a) <= 1
            assert c - lam / 2 + faces.shift * step >= 0
    for units in (faces.low, faces.high, faces.high + faces.shift):
        values = faces.value(units)
        assert [Fraction(v) for v in values.ravel()] == [int(u) * step for u in units.ravel()]
        if bits == 24:
            assert (values.astype(np.float32) == values).all()


@given(n=st.integers(1, 10**9), q=st.integers(1, 10**9))
def test_power_of_two(n, q):
    e = ceil_log2(Fraction(n, q))
    assert Fraction(2) ** (e - 1) < Fraction(n, q) <= Fraction(2) ** e


@pytest.mark.parametrize("bits", [24, 53])
def test_points_that_the_bits_cannot_tell_apart(bits):
    top = 2**bits
    data = DataSet(np.array([[top], [top + 1]]), np.array([0, 1]), (1,), 2, "far")
    with pytest.raises(DataError, match="far: "):
        sample_faces(data, Fraction(1), bits=bits)
