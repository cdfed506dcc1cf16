"""Pairs are found where everything cancels, and rows stay the same functions."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given

from tests.strategies import generators
from verifier.bounds import pairs
from verifier.bounds.pairs import cancelling, combined, paired


def csr(matrix):
    m = sp.csr_array(matrix)
    return m.indptr.astype(np.int64), m.indices.astype(np.int64), m.data


def random_layer(rng):
    """A sparse layer with small integers, so that rows cancel now and then."""
    n, columns = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    matrix = rng.integers(-1, 2, (n, columns)).astype(float) * rng.choice([1.0, 2.0], (n, 1))
    return matrix, rng.random(n) < 0.7


def pairs_of(matrix, relu):
    start, r, t = cancelling(*csr(matrix), matrix.shape[1], relu)
    p = np.repeat(np.arange(len(matrix)), np.diff(start))
    return list(zip(p.tolist(), r.tolist(), t.tolist(), strict=True))


@given(generators())
def test_exactly_the_pairs_that_cancel(rng):
    matrix, relu = random_layer(rng)
    expected = set()
    for p, row in enumerate(matrix):
        for r, other in enumerate(matrix):
            for t in (1, -1):
                where = row != 0
                if p != r and relu[r] and where.any() and not (row + t * other)[where].any():
                    expected.add((p, r, t))
    found = pairs_of(matrix, relu)
    assert len(set(found)) == len(found)
    assert set(found) <= expected
    for p, r, t in expected - set(found):  # only mirror images are left out
        assert t == 1
        assert relu[p]
        assert (r, p, 1) in found


@given(generators())
def test_rows_with_pairs_are_the_same_functions(rng):
    matrix, relu = random_layer(rng)
    n = len(matrix)
    readers = rng.integers(-1, 2, (int(rng.integers(1, 5)), n)).astype(float)
    *rows, p, r, t = paired(*csr(readers), n, *cancelling(*csr(matrix), matrix.shape[1], relu))
    known = set(pairs_of(matrix, relu))
    assert all(pair in known for pair in zip(p.tolist(), r.tolist(), t.tolist(), strict=True))
    wide = sp.csr_array((rows[2], rows[1], rows[0]), shape=(len(readers), n + len(p))).toarray()
    expand = np.vstack([np.eye(n), np.eye(n)[p] + t[:, None] * np.eye(n)[r]])
    assert np.array_equal(wide @ expand, readers)
    both = sp.csr_array(combined_matrix(matrix, p, r, t))
    assert np.array_equal(both.toarray(), np.vstack([matrix, matrix[p] + t[:, None] * matrix[r]]))


def combined_matrix(matrix, p, r, t):
    indptr, indices, data = combined(*csr(matrix), p, r, t)
    return sp.csr_array((data, indices, indptr), shape=(len(indptr) - 1, matrix.shape[1]))


@pytest.mark.parametrize(
    "row",
    [
        [1 + 2.0**-52, -1, 0],  # one coefficient differs in its last bit
        [1, 1, 0],  # one has the other sign
        [0, -1, 1],  # one is missing
        [0, 0, 1],
    ],
)
def test_what_does_not_cancel_is_no_pair(row):
    relu = np.array([True, True])
    assert pairs_of(np.array([[-1.0, 1.0, 0.0], [1.0, -1.0, 5.0]]), relu) == [(0, 1, 1)]
    assert pairs_of(np.array([[-1.0, 1.0, 0.0], row]), relu) == []


def test_the_second_of_a_pair_needs_its_relu():
    matrix = np.array([[1.0, 0.0], [-1.0, 1.0]])
    assert pairs_of(matrix, np.array([False, True])) == [(0, 1, 1)]
    assert pairs_of(matrix, np.array([True, False])) == []


def test_readers_with_unequal_coefficients_read_no_pair():
    found = cancelling(*csr(np.array([[1.0, 0.0], [-1.0, 1.0]])), 2, np.array([True, True]))
    for row, count in (([2.0, 2.0], 1), ([2.0, -2.0], 0), ([2.0, 3.0], 0), ([2.0, 0.0], 0)):
        assert len(paired(*csr(np.array([row])), 2, *found)[3]) == count


def test_too_many_candidates_are_left_alone(monkeypatch):
    ones = np.ones((40, 1))
    assert len(pairs_of(ones, np.ones(40, bool))) == 40 * 39
    monkeypatch.setattr(pairs, "MOST", 100)
    start, r, t = cancelling(*csr(ones), 1, np.ones(40, bool))
    assert not start.any()
    assert len(r) == len(t) == 0
