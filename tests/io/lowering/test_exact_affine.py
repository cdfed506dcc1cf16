"""Sums and products are exact, or None: checked against Fractions."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from verifier.io.lowering.exact_affine import (
    add_matrices,
    affine_image,
    compose,
    csr_from_rows,
    exact_add,
    exact_product,
    exact_sums,
    low_bits,
    significant_bits,
)

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.one_of(
    FLOATS,
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-8, 8).map(float),
    st.sampled_from([2.0**k for k in (-1074, -1022, -500, -1, 0, 1, 52, 1023)]),
)
ARRAYS = st.lists(PLAIN, min_size=1, max_size=6).map(lambda v: np.array(v, dtype=np.float64))


@given(ARRAYS)
def test_low_bits_and_significant_bits(values: np.ndarray) -> None:
    for value, low, bits in zip(values, low_bits(values), significant_bits(values), strict=True):
        if value == 0:
            assert bits == 0
            continue
        scaled = abs(Fraction(float(value))) / Fraction(2) ** int(low)
        assert scaled.denominator == 1
        assert scaled.numerator % 2 == 1
        assert scaled.numerator.bit_length() == bits


@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=5))
def test_products_and_sums_of_pairs_are_exact_or_refused(pairs: list[tuple[float, float]]) -> None:
    left, right = (np.array(v) for v in zip(*pairs, strict=True))
    product, total = exact_product(left, right), exact_add(left, right)
    if product is not None:
        for (a, b), p in zip(pairs, product, strict=True):
            assert Fraction(float(p)) == Fraction(a) * Fraction(b)
    if total is not None:
        for (a, b), s in zip(pairs, total, strict=True):
            assert Fraction(float(s)) == Fraction(a) + Fraction(b)


@given(st.lists(st.tuples(st.integers(0, 2), PLAIN), min_size=1, max_size=8))
def test_sums_by_key_are_exact_or_refused(items: list[tuple[int, float]]) -> None:
    keys = np.array([k for k, _ in items], dtype=np.int64)
    found = exact_sums(keys, np.array([v for _, v in items]))
    if found is None:
        return
    assert found[0].tolist() == sorted(set(keys.tolist()))
    for key, total in zip(*found, strict=True):
        assert Fraction(float(total)) == sum(Fraction(v) for k, v in items if k == key)


@pytest.mark.parametrize(
    ("left", "right", "fits"),
    [
        (1.0 + 2.0**-23, 1.0 - 2.0**-24, True),  # two float32 numbers
        (1.0 / 3.0, 0.5, True),  # a power of two
        (0.0, 1.0 / 3.0, True),
        (1.0 / 3.0, 3.0, False),  # 53 + 2 bits
        (2.0**-1074, 0.5, False),  # underflow
        (2.0**1023, 2.0, False),  # overflow
        (2.0**-600 * 3.0, 2.0**-480, False),  # loses its low bit below 2^-1074
    ],
)
def test_which_products_are_accepted(left: float, right: float, fits: bool) -> None:
    assert (exact_product(np.array([left]), np.array([right])) is not None) == fits


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ([1.0, 2.0**-52], True),
        ([1.0, 2.0**-53], False),
        ([2.0**53, 1.0, -(2.0**53)], False),  # exact as a whole, not in every order
        ([0.1, -0.1], True),
        ([0.0, 0.0], True),
        ([1e308, 1e308], False),
    ],
)
def test_which_sums_are_accepted(values: list[float], fits: bool) -> None:
    keys = np.zeros(len(values), dtype=np.int64)
    assert (exact_sums(keys, np.array(values)) is not None) == fits


def _random_csr(rng: np.random.Generator, rows: int, columns: int, kind: str) -> sp.csr_array:
    dense = rng.integers(-5, 6, (rows, columns)).astype(np.float64)
    if kind == "single":
        dense = dense * rng.standard_normal((rows, columns)).astype(np.float32)
    elif kind == "double":
        dense = dense * rng.standard_normal((rows, columns))
    return sp.csr_array(np.where(rng.random((rows, columns)) < 0.4, dense, 0.0))


def _exact(matrix: np.ndarray) -> np.ndarray:
    return np.vectorize(Fraction, otypes=[object])(matrix)


@pytest.mark.parametrize("kind", ["integer", "single", "double"])
@pytest.mark.parametrize("seed", range(10))
def test_matrix_operations_are_exact_or_refused(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = _random_csr(rng, 5, 6, kind), _random_csr(rng, 6, 4, kind)
    point, offset = rng.integers(-3, 4, 6) * 1.0, rng.integers(-3, 4, 5) * 1.0
    checks = [
        (compose(a, b, 1000), _exact(a.toarray()) @ _exact(b.toarray())),
        (add_matrices(a, a[::-1]), _exact(a.toarray()) + _exact(a[::-1].toarray())),
        (affine_image(a, point, offset), _exact(a.toarray()) @ _exact(point) + _exact(offset)),
    ]
    for found, expected in checks:
        if kind == "integer":
            assert found is not None
        if found is not None:
            dense = found.toarray() if sp.issparse(found) else found
            assert (_exact(dense) == expected).all()


def test_a_composition_that_fills_in_too_much_is_refused() -> None:
    full = sp.csr_array(np.ones((8, 8)))
    assert compose(full, full, 511) is None
    assert compose(full, full, 512) is not None


def test_a_selection_only_moves_entries() -> None:
    third = sp.csr_array(np.array([[1 / 3, 0.0, 2 / 3]]))
    selection = sp.csr_array(np.eye(5)[[4, 0, 1]])
    before = third.toarray()
    found = compose(third, selection, 10)
    assert (third.toarray() == before).all()
    assert found is not None
    assert found.toarray().tolist() == [[0.0, 2 / 3, 0.0, 0.0, 1 / 3]]
    # Two rows that read the same entry would have to be added.
    assert (
        compose(sp.csr_array(np.array([[1 / 3, 1e-30]])), sp.csr_array(np.eye(2)[[0, 0]]), 9)
        is None
    )


def test_rows_to_csr_drops_what_lies_outside() -> None:
    matrix = csr_from_rows(np.array([[2, -1, 0], [-1, -1, -1]]), np.array([[1.0, 5.0, 3.0]]), 3)
    assert matrix.toarray().tolist() == [[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert matrix.nnz == 2
